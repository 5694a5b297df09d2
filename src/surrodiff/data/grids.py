"""Many images as one image, in rows and columns."""

from pathlib import Path

import numpy as np

from surrodiff.data.pixels import require_uint8
from surrodiff.store.runs import replacing


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 images (N, C, H, W) in rows of `columns`, white where the last row is short: (rows H, columns W, C)."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    blank = np.full((rows * columns - n, channels, height, width), 255, np.uint8)
    cells = np.concatenate([images, blank]).reshape(rows, columns, channels, height, width)
    return cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)


def save_grid(path: Path, images: np.ndarray, columns: int = 8):
    """A PNG of uint8 images (N, C, S, S), white lines between them, small ones enlarged unsmoothed.

    Raises UserError for images that are not uint8.
    """
    from PIL import Image

    require_uint8(images, str(path))
    scale = max(1, 32 // images.shape[-1])
    framed = np.pad(images.repeat(scale, 2).repeat(scale, 3), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=255)
    with replacing(path) as temporary:
        Image.fromarray(tile(framed, columns).squeeze()).save(temporary, format="png")
