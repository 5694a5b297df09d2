"""Images of a surrogate that is no network: those of a folder, or low-resolution copies of the training set."""

from pathlib import Path

import numpy as np
import torch

from surrodiff.config.surrogates import Folder, Upsampled
from surrodiff.data import identity
from surrodiff.data.listing import list_files
from surrodiff.data.pixels import resize_uint8
from surrodiff.errors import UserError, printable
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.devices import Progress
from surrodiff.runtime.noise import Stream


def upsampled(source: Upsampled, images: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """So many of uint8 images (N, C, S, S) in a random order, again and again if they are fewer, resized to the
    source's size and back."""
    order = noise.permutation(seed, Stream.GIVEN, 0, len(images))
    chosen = images[order[torch.arange(count) % len(images)]]
    return resize_uint8(resize_uint8(chosen, source.image_size), images.shape[-1])


def of_folder(source: Folder, count: int, size: int, channels: int, seed: int) -> torch.Tensor:
    """So many images of a folder at any depth, in a random order, fitted to uint8 (count, channels, size, size) as
    those of a data set are.

    Raises UserError if the folder is not what it was when the samples were planned, or holds a broken image.
    """
    from surrodiff.data import image_files

    root = Path(source.path)
    listing = list_files(root, "surrogates.*.path")
    if source.fingerprint not in (None, identity.fingerprint(listing)):
        raise UserError(
            f"{printable(source.path)}: its images have changed since these samples were planned; run the same command "
            "again: it makes new ones"
        )
    order = noise.permutation(seed, Stream.GIVEN, 0, len(listing.files))[:count]
    files = [root / listing.files[i].path for i in order.tolist()]
    report = image_files.check(root, files, channels)
    for what, number in report["converted"].items():
        distributed.print_rank0(f"{printable(source.path)}: converted: {number} ({what})")
    pixels = np.empty((count, channels, size, size), np.uint8)
    progress = Progress(f"read {printable(root.name)}", count, "images")
    for number, file in enumerate(files):
        pixels[number], _ = image_files.square(file, size, channels, source.padding)
        progress.advance(1)
    progress.close()
    return torch.from_numpy(pixels)
