"""The images: read from a source, resized, split into training and held-out, kept as uint8 arrays."""

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from surrodiff.config.presets import Data
from surrodiff.data import identity, image_folders
from surrodiff.data.image_folders import ImageFolder
from surrodiff.data.listing import Listing, list_files
from surrodiff.errors import UserError, printable
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.devices import Progress
from surrodiff.store import tensors
from surrodiff.store.runs import load_run, sha256, verified

IMAGES = "images.safetensors"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# Of the four files, in the order of torchvision's list: training images and labels, test images and labels.
MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
SPLITS = ("train", "held_out")
Split = tuple[torch.Tensor, torch.Tensor]  # images uint8 (N, C, S, S), labels int64 (N,)


def read_digits() -> Split:
    """scikit-learn's 1,797 scans of digits, 8x8 (Alpaydin and Kaynak, 1998); no download."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images / 16 * 255).round().to(torch.uint8)
    return images[:, None], torch.from_numpy(digits.target).long()


def read_cifar10(folder: Path, dataset=None, archive_sha256: str = CIFAR10_SHA256) -> tuple[Split, Split]:
    """CIFAR-10's training and test split from the official archive in `folder`, downloaded if it is not there.

    `dataset` is torchvision's CIFAR10 or a class like it. Raises UserError if the archive cannot be had or is altered.
    """
    import torchvision

    dataset = dataset or torchvision.datasets.CIFAR10
    _fetch(folder / dataset.filename, [dataset.url], dataset.tgz_md5, archive_sha256)
    splits = []
    for train in (True, False):
        split = dataset(str(folder), train=train, download=True)  # unpacks the archive that was just checked
        splits.append((torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)))
    return splits[0], splits[1]


def _fetch(file: Path, urls: list[str], md5: str, checksum: str):
    """Download a file if it is not there, from the first of several places that has it. Raises UserError if none has,
    or if the file is not the one with a SHA-256."""
    from torchvision.datasets.utils import download_url

    problem = None
    for url in urls:
        if file.exists():
            break
        try:
            download_url(url, str(file.parent), file.name, md5)
        except (OSError, RuntimeError) as error:
            problem = error
    if not file.exists():
        raise UserError(
            f"{file}: not there and cannot be downloaded ({problem}); fetch {urls[0]} elsewhere and put it there; its "
            f"SHA-256 is {checksum}"
        )
    if sha256(file) != checksum:
        raise UserError(f"{file}: truncated or altered (SHA-256 is not {checksum}); delete it and run again")


def read_mnist(folder: Path, dataset=None, checksums: tuple[str, ...] = MNIST_SHA256) -> tuple[Split, Split]:
    """MNIST's training and test split, 28x28, from its four official files in `folder`, downloaded if they are not
    there.

    `dataset` is torchvision's MNIST or a class like it. Raises UserError if a file cannot be had or is altered.
    """
    import torchvision

    dataset, arrays = dataset or torchvision.datasets.MNIST, []
    for (name, md5), checksum in zip(dataset.resources, checksums, strict=True):
        _fetch(folder / name, [mirror + name for mirror in dataset.mirrors], md5, checksum)
        # Two bytes of 0, one of the type, one of how many sizes follow, of four bytes each; then the values.
        content = gzip.decompress((folder / name).read_bytes())
        sizes = np.frombuffer(content, ">i4", content[3], 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)
        arrays.append(torch.from_numpy(values.copy()))
    train_images, train_labels, test_images, test_labels = arrays
    return (train_images[:, None], train_labels.long()), (test_images[:, None], test_labels.long())


def read_image_folder(folder: ImageFolder, size: int, channels: int, padding: str) -> tuple[dict[str, Split], dict]:
    """The images of each split of a folder as squares (see image_files.square), and how many were converted from which
    mode (`converted`), had transparent pixels (`transparent`), or are the first of several in a file
    (`first_of_several`).

    Raises UserError if an image is broken, or has a mode that does not convert without loss: by the headers of all
    files before the pixels of the first are read.
    """
    from surrodiff.data import image_files

    root = folder.listing.root
    report = image_files.check(root, [root / path for images in folder.splits.values() for path, _ in images], channels)
    report["transparent"] = 0
    splits = {}
    for split, images in folder.splits.items():
        pixels = np.empty((len(images), channels, size, size), np.uint8)
        progress = Progress(f"read {printable(root.name)} ({split})", len(images), "images")
        for number, (path, _) in enumerate(images):
            pixels[number], transparent = image_files.square(root / path, size, channels, padding)
            report["transparent"] += transparent
            progress.advance(1)
        progress.close()
        splits[split] = (torch.from_numpy(pixels), torch.tensor([label for _, label in images]))
    return splits, report


def read_planned_folder(config: Data) -> tuple[dict[str, Split], dict]:
    """The splits of a data run's image folder, and what its record says of it. Raises UserError if the folder is not
    what it was when the run was planned."""
    folder = image_folders.find(Path(config.path))
    distributed.print_rank0(folder.description())
    _check_unchanged(folder.listing, config.fingerprint)
    splits, report = read_image_folder(folder, config.image_size, config.channels, config.padding)
    _check_unchanged(list_files(folder.listing.root), config.fingerprint)
    folder_name = printable(config.path)
    for what, count in report["converted"].items():
        distributed.print_rank0(f"{folder_name}: converted: {count} ({what})")
    if report["first_of_several"]:
        distributed.print_rank0(
            f"{folder_name}: {report['first_of_several']} files hold several images: the first is used"
        )
    if report["transparent"]:
        distributed.print_rank0(
            f"{folder_name}: {report['transparent']} images have transparent pixels: white was laid below them"
        )
    return splits, {"classes": folder.counts(), "ignored": folder.ignored(), **report}


def _check_unchanged(listing: Listing, planned: str | None):
    if planned not in (None, identity.fingerprint(listing)):
        raise UserError(
            f"{printable(str(listing.root))}: its images have changed since this run was planned; run the "
            "same command again: it makes a new data set of them"
        )


def stratified(labels: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the images to train on and of those held out, each in random order: of all, `share` rounded up is held
    out, and of each class its part of that, rounded up or down.

    labels: int64 (N,), from 0.
    """
    order = noise.permutation(seed, noise.Stream.SPLIT, 0, len(labels))
    sizes = torch.bincount(labels)
    exact_counts = share * sizes.double()
    counts = exact_counts.floor().long()
    # The classes that lose most by rounding down get one more each, until all together have their number.
    remaining = math.ceil(share * len(labels)) - int(counts.sum())
    counts[torch.argsort(counts - exact_counts, stable=True)[:remaining]] += 1
    by_class = torch.argsort(labels[order], stable=True)
    rank = torch.empty_like(order)  # of each image within its class
    rank[by_class] = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[labels[order][by_class]]
    is_held_out = rank < counts[labels[order]]
    return order[~is_held_out], order[is_held_out]


def load(results: Path, data_id: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The arrays of a data run (`train_images`, `held_out_images`, `..._labels`) and its record, checksums verified."""
    path, _, record = load_run(results, "data", data_id)
    arrays, _ = tensors.load(verified(path, record, IMAGES))
    return arrays, record
