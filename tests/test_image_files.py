"""Image files as squares: sizes, orientation, transparency, modes, and what cannot be read."""

import io
import resource
import sys

import numpy as np
import pytest
import torch
from data_runs import read, refusal, write_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as torchvision

from surrodiff.data import image_files


def square(file, size=8, channels=3, padding="crop") -> np.ndarray:
    """An image file's pixels as (size, size, channels)."""
    return image_files.square(file, size, channels, padding)[0].transpose(1, 2, 0)


# --- sizes


@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40), channels=st.sampled_from([1, 3]))
def test_the_middle_is_torchvision_s_to_within_rounding(tmp_path, width, height, size, channels):
    file = write_image(tmp_path / "a.png", (width, height), seed=width + height)
    original = Image.open(file).convert("RGB" if channels == 3 else "L")
    expected = np.asarray(torchvision.center_crop(torchvision.resize(original, size, antialias=True), size))
    difference = square(file, size, channels).astype(int) - expected.reshape(size, size, channels)
    assert abs(difference).max() <= 1


def test_the_middle_of_a_wide_image_is_kept(tmp_path):
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = np.arange(64).reshape(8, 8)
    pixels[:, :8], pixels[:, 16:] = 100, 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.T.copy()).save(tmp_path / "tall.png")
    np.testing.assert_array_equal(square(tmp_path / "wide.png", 8, 1)[..., 0], np.arange(64).reshape(8, 8))
    np.testing.assert_array_equal(square(tmp_path / "tall.png", 8, 1)[..., 0], np.arange(64).reshape(8, 8).T)


def test_padding_keeps_the_whole_image_on_white(tmp_path):
    pixels = np.arange(32, dtype=np.uint8).reshape(4, 8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    padded = square(tmp_path / "wide.png", 8, 1, "pad")[..., 0]
    np.testing.assert_array_equal(padded[2:6], pixels)
    assert (np.delete(padded, slice(2, 6), axis=0) == 255).all()
    Image.new("RGB", (1, 500)).save(tmp_path / "thin.png")
    thin = square(tmp_path / "thin.png", 16, 3, "pad")
    assert (thin == 0).all(axis=(0, 2)).sum() == 1  # a column at least
    square_file = write_image(tmp_path / "square.png", (20, 20))
    np.testing.assert_array_equal(square(square_file, 8, 3, "pad"), square(square_file, 8, 3, "crop"))


@pytest.mark.parametrize("padding", ["crop", "pad"])
def test_memory_does_not_grow_with_the_widest_image(tmp_path, padding):
    """Resized as a whole, one of these would take 384 MB."""
    for number in range(3):
        Image.fromarray(np.full((1, 500_000, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images, _, _ = read(tmp_path, 16, padding=padding)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 60e6
    assert [int(image.min()) for image in images] == [0, 1, 2]


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_s_orientation_is_applied(tmp_path, orientation):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = [pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1]]
    turned += [pixels.T, np.rot90(pixels, -1), pixels[::-1, ::-1].T, np.rot90(pixels)]
    np.testing.assert_array_equal(square(tmp_path / "a.png", 8, 1)[..., 0], turned[orientation - 1])


def _malformed_resolution(exif: bytes) -> bytes:
    """A rational number's tag with the type of a text."""
    return exif.replace(b"\x01\x1a\0\x05", b"\x01\x1a\0\x02").replace(b"\x1a\x01\x05\0", b"\x1a\x01\x02\0")


@pytest.mark.parametrize(
    "damage", [_malformed_resolution, lambda exif: exif[:20], lambda exif: exif[:6] + b"\xff" * 40]
)
def test_a_malformed_tag_does_not_end_the_reading(tmp_path, damage):
    exif = Image.Exif()
    exif[0x112], exif[0x11A] = 6, 72.0
    content = io.BytesIO()
    Image.new("RGB", (9, 9), (200, 30, 40)).save(content, "JPEG", exif=damage(exif.tobytes()))
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    assert abs(square(tmp_path / "a.jpg").astype(int) - [200, 30, 40]).max() < 4


def test_an_orientation_that_there_is_not_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    file = write_image(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(square(file), np.asarray(Image.open(file)))


# --- transparency


def half_transparent() -> Image.Image:
    """A black square on transparent pixels whose hidden colour is red."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[2:6, 2:6] = (0, 0, 0, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff"])
def test_transparent_pixels_are_white_and_counted(tmp_path, name):
    half_transparent().save(tmp_path / name, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    images, _, report = read(tmp_path)
    expected = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    expected[:, 2:6, 2:6] = 0
    assert torch.equal(images[0], expected)
    assert (report["transparent"], report["converted"]) == (1, {"RGBA to RGB": 1})
    assert read(tmp_path, channels=1)[0].unique().tolist() == [0, 255]


def test_a_palette_s_transparent_colour_is_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 250, 20, 3])
    image.paste(0, (2, 2, 6, 6))
    for name in ("a.png", "b.gif"):
        image.save(tmp_path / name, transparency=1)
    images, _, report = read(tmp_path)
    for read_image in images:
        assert read_image[:, 0, 0].tolist() == [255, 255, 255]
        assert read_image[:, 3, 3].tolist() == [0, 0, 0]
    assert report["transparent"] == 2


def test_a_colour_that_stands_for_transparency_is_white(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = (9, 8, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(9, 8, 7))
    assert square(tmp_path / "a.png")[..., 0].tolist() == [[255] * 8] * 4 + [[0] * 8] * 4


def test_half_a_transparency_is_half_of_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 100, 200, 128)).save(tmp_path / "a.png")
    expected = [round(c * 128 / 255 + 255 * 127 / 255) for c in (0, 100, 200)]
    assert abs(square(tmp_path / "a.png").astype(int) - expected).max() <= 1


# --- modes


def test_grey_images_become_one_channel_or_three(tmp_path):
    file = write_image(tmp_path / "a.png", mode="L")
    np.testing.assert_array_equal(square(file, channels=1)[..., 0], np.asarray(Image.open(file)))
    np.testing.assert_array_equal(square(file), np.stack([np.asarray(Image.open(file))] * 3, -1))


def test_colour_images_become_grey_where_one_channel_is_asked_for(tmp_path):
    file = write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", mode="L")
    images, _, report = read(tmp_path, channels=1)
    np.testing.assert_array_equal(images[0, 0], np.asarray(Image.open(file).convert("L")))
    assert report["converted"] == {"RGB to L": 1}


def test_modes_that_convert_without_loss_are_mixed_and_counted(tmp_path, capsys):
    for number, mode in enumerate(["RGB", "RGB", "L", "L", "P", "1"]):
        write_image(tmp_path / f"{number}.png", mode=mode, seed=number)
    opaque = Image.open(tmp_path / "0.png").convert("RGBA")
    opaque.save(tmp_path / "6.png")
    images, _, report = read(tmp_path)
    for number in range(7):
        expected = np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGB"))
        np.testing.assert_array_equal(images[number].permute(1, 2, 0), expected)
    assert report["converted"] == {"1 to RGB": 1, "L to RGB": 2, "P to RGB": 1, "RGBA to RGB": 1}
    assert report["transparent"] == 0


@pytest.mark.parametrize("head", [b"P1 8 8\n", b"P2 8 8 1\n"])
def test_portable_bitmaps_as_text_are_read(tmp_path, head):
    (tmp_path / "a.pbm").write_bytes(head + b"1 0 1 0 1 0 1 0\n" * 8)
    black = head.startswith(b"P1")
    assert square(tmp_path / "a.pbm", 8, 1)[0, :2, 0].tolist() == ([0, 255] if black else [255, 0])


def deep_grey(path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(path)


def deep_colour(path):
    """A portable pixmap of 16 bits a channel, which Pillow opens as RGB."""
    path.write_bytes(b"P6 8 8 65535\n" + bytes(8 * 8 * 3 * 2))


def deep_colour_png(path):
    """A PNG file of 16 bits a channel, which Pillow opens as RGB."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + bytes(8 * 6)) * 8)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def floating(path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(path)


def inks(path):
    Image.new("CMYK", (8, 8)).save(path)


@pytest.mark.parametrize(
    ("write", "name", "mode"),
    [
        (deep_grey, "a.png", "I;16"),
        (deep_colour, "a.ppm", "RGB;16"),
        (deep_colour_png, "a.png", "RGB;16"),
        (floating, "a.tiff", "F"),
        (inks, "a.jpg", "CMYK"),
    ],
)
def test_modes_that_lose_are_refused_before_any_pixel_is_read(tmp_path, write, name, mode):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", seed=number)
    broken = tmp_path / "0.png"
    broken.write_bytes(broken.read_bytes()[:-40])  # which the pass over the headers does not see
    write(tmp_path / name)
    message = refusal(read, tmp_path)
    assert message.startswith(f"{tmp_path}: 1 of mode {mode} (such as {tmp_path / name}) among 3 others: ")
    assert message.endswith("convert them to RGB or L yourself")


def test_inks_alone_are_converted_and_counted(tmp_path):
    for number in range(2):
        inks(tmp_path / f"{number}.jpg")
    images, _, report = read(tmp_path)
    assert (len(images), report["converted"]) == (2, {"CMYK to RGB": 2})


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.webp", "a.png"])
def test_the_first_of_several_images_in_a_file_is_read_and_counted(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("black", "white", "red")]
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    images, _, report = read(tmp_path)
    assert images.unique().tolist() == [0]
    assert report["first_of_several"] == 1


# --- what cannot be read


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.ppm", "a.tiff", "a.webp"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.8])
def test_a_truncated_image_is_named(tmp_path, name, share):
    write_image(tmp_path / "0.png", (24, 24))
    file = write_image(tmp_path / name, (24, 24))
    blob = file.read_bytes()
    file.write_bytes(blob[: int(share * len(blob))])
    message = refusal(read, tmp_path)
    assert message.startswith(f"{file}: cannot be read as an image (")
    assert ("(empty)" in message) == (share == 0)


def test_a_file_that_is_no_image_is_named(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"this is text\n" * 20)
    expected = f"{file}: cannot be read as an image (no format that Pillow reads); repair or remove it"
    assert refusal(read, tmp_path) == expected


def test_an_image_of_too_many_pixels_is_named(tmp_path):
    file = tmp_path / "a.png"
    Image.new("1", (20_000, 20_000)).save(file)
    assert refusal(read, tmp_path).startswith(f"{file}: cannot be read as an image (Image size (400000000 pixels)")
