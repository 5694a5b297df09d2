"""What an array of images has to be, for those who take images from outside."""

import numpy as np
import torch

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
