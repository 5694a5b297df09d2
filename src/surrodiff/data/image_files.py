"""Image files, read by Pillow: what their headers say, and the pixels of one as a square."""

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from surrodiff.errors import UserError, printable
from surrodiff.runtime.devices import Progress

BACKGROUND = 255  # white: behind transparent pixels, and at the sides of what is padded
ORIENTATION = 0x0112  # EXIF's tag
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Modes of 8 bits or less a channel, which convert to RGB without loss.
CONVERTED = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"}


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever goes wrong with it meanwhile becomes a UserError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that nothing here reads
            with Image.open(file) as image:
                yield image
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers let out whatever they meet in a broken file
        if isinstance(error, UnidentifiedImageError):
            reason = "no format that Pillow reads" if os.path.getsize(file) else "empty"
        else:
            reason = printable(str(error) or type(error).__name__)
        raise UserError(f"{printable(str(file))}: cannot be read as an image ({reason}); repair or remove it") from None


def _mode(image: Image.Image) -> str:
    """Pillow's name of how pixels are stored, with the 16 bits a channel that Pillow would cut to 8 unasked."""
    for tile in image.tile:
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        is_raw_16_bit = any(isinstance(argument, str) and ";16" in argument for argument in arguments)
        largest = arguments[-1] if tile.codec_name.startswith("ppm") else None  # value, of a portable pixmap
        is_deep_pixmap = isinstance(largest, int) and largest > 255
        if (is_raw_16_bit or is_deep_pixmap or tile.codec_name == "SGI16") and image.mode in CONVERTED:
            return f"{image.mode};16"
    return image.mode


def check(root: Path, files: list[Path], channels: int) -> dict:
    """Read the headers of all files, and no pixels; returns how many images are converted from which mode (`converted`)
    and how many files hold several (`first_of_several`).

    Raises UserError if a file is no image, or if one's mode does not convert without loss.
    """
    example: dict[str, Path] = {}
    modes, multi_image = Counter(), 0
    progress = Progress(f"headers of {printable(root.name)}", len(files), "images")
    for file in files:
        with _opened(file) as image:
            mode = _mode(image)
            multi_image += bool(getattr(image, "is_animated", False))
        example.setdefault(mode, file)
        modes[mode] += 1
        progress.advance(1)
    progress.close()
    # Without other modes among them, all are converted alike.
    allowed = {"CMYK"} if set(modes) == {"CMYK"} else CONVERTED
    if refused := [mode for mode in modes if mode not in allowed]:
        kinds = ", ".join(f"{modes[mode]} of mode {mode} (such as {printable(str(example[mode]))})" for mode in refused)
        other_count = len(files) - sum(modes[mode] for mode in refused)
        among = f" among {other_count} others" if other_count else ""
        raise UserError(
            f"{printable(str(root))}: {kinds}{among}: they do not convert to 8 bits of RGB or grey without loss; "
            "convert them to RGB or L yourself"
        )
    target = "RGB" if channels == 3 else "L"
    return {
        "converted": {f"{mode} to {target}": count for mode, count in sorted(modes.items()) if mode != target},
        "first_of_several": multi_image,
    }


def _turned(image: Image.Image) -> Image.Image:
    """The image as EXIF says that it is to be shown; as it is where that cannot be read."""
    try:
        turn = TURNED.get(image.getexif().get(ORIENTATION))
    except Exception:  # a malformed tag raises whatever Pillow's reader meets in it
        turn = None
    return image if turn is None else image.transpose(turn)


def _flattened(image: Image.Image, mode: str) -> tuple[Image.Image, bool]:
    """An image in mode RGB or L, transparency laid over the background; whether any pixel was transparent."""
    if not image.has_transparency_data:
        return image.convert(mode), False
    layer = image.convert("RGBA")
    backdrop = Image.new("RGBA", layer.size, (BACKGROUND,) * 3 + (255,))
    backdrop.alpha_composite(layer)
    return backdrop.convert(mode), layer.getextrema()[3][0] < 255


def _cropped(image: Image.Image, size: int, mode: str) -> tuple[Image.Image, bool]:
    """The shorter side resized to `size` and the middle kept, as torchvision's resize and center_crop do, but of the
    part that is kept alone: the rest of a wide image is neither converted nor resized."""
    shorter = min(image.size)
    edges, box = [], []
    for side in image.size:
        resized = int(size * side / shorter)
        start, scale = round((resized - size) / 2), side / resized
        first, last = start * scale, min(float(side), (start + size) * scale)
        reach = math.ceil(max(scale, 1)) + 1  # how far the filter looks beyond the edges
        low, high = max(0, math.floor(first) - reach), min(side, math.ceil(last) + reach)
        box.append((low, high))
        edges.append((first - low, last - low))
    (left, right), (top, bottom) = box
    flat, transparent = _flattened(image.crop((left, top, right, bottom)), mode)
    (x0, x1), (y0, y1) = edges
    return flat.resize((size, size), Image.Resampling.BILINEAR, (x0, y0, x1, y1)), transparent


def _padded(image: Image.Image, size: int, mode: str) -> tuple[Image.Image, bool]:
    """The longer side resized to `size`, in the middle of a square of the background's colour."""
    longer = max(image.size)
    width, height = (max(1, round(size * side / longer)) for side in image.size)
    flat, transparent = _flattened(image, mode)
    square = Image.new(mode, (size, size), (BACKGROUND,) * 3 if mode == "RGB" else BACKGROUND)
    resized = flat.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square, transparent


def square(file: Path, size: int, channels: int, padding: str) -> tuple[np.ndarray, bool]:
    """An image as uint8 (channels, size, size), turned as EXIF says, and whether it had transparent pixels; of a file
    with several, the first. padding: `crop` to the middle, or `pad` the shorter side.

    Raises UserError if the file is broken.
    """
    mode = "RGB" if channels == 3 else "L"
    with _opened(file) as image:
        image.load()
        fit = {"crop": _cropped, "pad": _padded}[padding]
        fitted, transparent = fit(_turned(image), size, mode)
    return np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1), transparent
