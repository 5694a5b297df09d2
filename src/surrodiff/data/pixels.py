"""What an array of images has to be, for those who take images from outside."""

import numpy as np
import torch
import torch.nn.functional as F

from surrodiff.errors import UserError


def require_uint8(images: torch.Tensor | np.ndarray, what: str, channels: tuple[int, ...] = (1, 3)):
    """Raise UserError, which names `what`, unless images are uint8 (N, C, H, W) with one of the numbers of channels.

    Floats are refused whatever their range: nothing in an array says whether its white is 1 or 255.
    """
    if images.dtype not in (torch.uint8, np.uint8):
        raise UserError(
            f"{what}: images must be uint8 from 0 to 255, not {str(images.dtype).removeprefix('torch.')}; "
            "convert floats in [-1, 1] with surrodiff.data.to_uint8"
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] not in channels or 0 in shape[2:]:
        numbers = " or ".join(map(str, channels))
        raise UserError(f"{what}: images must be (number, {numbers} channels, height, width), not {shape}")


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float images in [-1, 1] (clipped) to uint8, rounded to the nearest."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Float images (B, C, H, W) to (B, C, size, size), bilinear; antialiased when shrinking."""
    if images.shape[-1] == size == images.shape[-2]:
        return images
    shrinks = size < images.shape[-1]
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)


def resize_uint8(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images (N, C, H, W) to (N, C, size, size), in parts: as floats, all of them would take much memory."""
    if images.shape[-2:] == (size, size):
        return images
    return torch.cat([to_uint8(resize(to_float(part), size)) for part in images.split(1000)])
