"""Real images corrupted step by step: what a score should see, in the order in which it should see it."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from surrodiff.data.pixels import require_uint8, to_float, to_uint8
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.scoring.severities import BLUR, CLASSES, NOISE


def noised(images: torch.Tensor, deviation: float) -> torch.Tensor:
    """uint8 images (N, C, H, W) with Gaussian noise of a standard deviation in units of 255.

    Raises UserError for images that are not uint8; so do the others here.
    """
    require_uint8(images, "noise")
    eps = noise.normal(0, Stream.DAMAGE, 0, torch.arange(len(images)), images.shape[1:])
    return to_uint8(to_float(images) + 2 * deviation / 255 * eps)


def blurred(images: torch.Tensor, deviation: float) -> torch.Tensor:
    """uint8 images (N, C, H, W) under a Gaussian blur of a standard deviation in pixels."""
    require_uint8(images, "blur")
    reach = min(round(4 * deviation + 0.5), min(images.shape[-2:]) - 1)  # mirrored at the edges, so within the image
    profile = torch.exp(-0.5 * (torch.linspace(-reach, reach, 2 * reach + 1) / deviation).pow(2))
    profile /= profile.sum()
    kernel = torch.outer(profile, profile).expand(images.shape[1], 1, -1, -1)
    mirrored = F.pad(images.float(), [reach] * 4, mode="reflect")
    return F.conv2d(mirrored, kernel, groups=len(kernel)).round().to(torch.uint8)


def copies(images: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[str, float, torch.Tensor]]:
    """(kind, amount, uint8 images) for growing amounts of each kind of corruption of images with labels int64 (N,).

    Of the classes that occur, the first few are left out, where there are two or more.
    """
    require_uint8(images, "corruption")
    for deviation in NOISE:
        yield "noise", deviation, noised(images, deviation)
    for deviation in BLUR:
        yield "blur", deviation, blurred(images, deviation)
    classes = labels.unique()  # sorted
    for count in sorted({max(1, round(share * len(classes))) for share in CLASSES} if len(classes) > 1 else ()):
        yield "classes left out", count, images[labels >= classes[count]]
