"""Resizing as feature networks want it, by named rules, for many images at once.

Every rule is linear and separable: a matrix for each axis, which is what the rule's library makes of the unit matrix.
"""

from functools import cache

import numpy as np
import torch

from surrodiff.data.pixels import require_uint8


def _tf1_bilinear(unit: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """TensorFlow 1's, without half-pixel centres: the 2015 Inception's own."""
    # late: it loads all of torchvision
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(unit[None, None], shape, align_corners=False)[0, 0]


def _clean(unit: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """PIL's bicubic on floats: clean-fid's (Parmar et al., 2022)."""
    from PIL import Image

    resized = Image.fromarray(unit.numpy()).resize(shape[::-1], Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized))


RULES = {"tf1_bilinear": _tf1_bilinear, "clean": _clean}


@cache
def _matrix(rule: str, size_in: int, size_out: int, device: torch.device) -> torch.Tensor:
    """(size_out, size_in): what the rule makes of a column of pixels."""
    return RULES[rule](torch.eye(size_in), (size_out, size_in)).to(device)


def resize(images: torch.Tensor, size: int, rule: str) -> torch.Tensor:
    """uint8 images (B, C, H, W) to float32 (B, C, size, size) in [0, 255]; raises UserError if they are not uint8."""
    require_uint8(images, f"resizing by {rule}")
    rows, columns = (_matrix(rule, length, size, images.device) for length in images.shape[-2:])
    return (rows @ (images.float() @ columns.T)).clamp_(0, 255)  # a bicubic kernel overshoots at edges
