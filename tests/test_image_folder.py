"""A user's own pictures: what is read, how it is split and fitted, and what is told when it cannot be."""

import numpy as np
import pytest
import torch
from data_runs import picture, prepared, refusal
from PIL import Image

from surrodiff import data


def test_class_folders_give_labels(tmp_path):
    for number, name in enumerate(("cat/1.png", "cat/deep/2.png", "ant/1.png", "bee/3.jpg", "bee/4.JPEG")):
        picture(tmp_path / name, seed=number)
    (images, labels), held_out = data.read_image_folder(tmp_path, 8, 3)
    assert held_out is None
    assert tuple(images.shape) == (5, 3, 8, 8)
    assert labels.tolist() == [0, 1, 1, 2, 2]  # ant, bee, bee, cat, cat
    np.testing.assert_array_equal(images[0].permute(1, 2, 0), np.asarray(Image.open(tmp_path / "ant/1.png")))


def test_a_flat_folder_gives_label_0(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "notes.txt").write_text("no picture")
    (images, labels), _ = data.read_image_folder(tmp_path, 8, 3)
    assert (len(images), labels.tolist()) == (3, [0, 0, 0])


def test_train_and_test_folders_are_the_splits(tmp_path):
    for number in range(5):
        picture(
            tmp_path / "pics" / ("train" if number < 3 else "test") / f"{number % 2}" / f"{number}.png", seed=number
        )
    arrays, record = prepared(tmp_path, source="image_folder", path=str(tmp_path / "pics"), channels=3)
    assert (record["train_images"], record["held_out_images"]) == (3, 2)
    assert arrays["train_labels"].tolist() == [0, 0, 1]
    fifth = np.asarray(Image.open(tmp_path / "pics/test/0/4.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(arrays["held_out_images"][0], fifth)


def test_a_folder_without_a_test_split_is_split(tmp_path):
    for number in range(10):
        picture(tmp_path / "pics" / f"{number % 2}" / f"{number}.png", seed=number)
    arrays, record = prepared(tmp_path, source="image_folder", path=str(tmp_path / "pics"), channels=3, held_out=0.25)
    assert (record["train_images"], record["held_out_images"]) == (7, 3)
    everything = torch.cat([arrays["train_images"], arrays["held_out_images"]])
    assert len({image.numpy().tobytes() for image in everything}) == 10


def test_pictures_of_all_sizes_are_fitted(tmp_path):
    for number, size in enumerate([(8, 8), (64, 20), (20, 64), (3, 5), (1, 1), (300, 8)]):
        picture(tmp_path / f"{number}.png", size, seed=number)
    (images, _), _ = data.read_image_folder(tmp_path, 8, 3)
    assert tuple(images.shape) == (6, 3, 8, 8)


def test_the_middle_of_a_wide_picture_is_kept(tmp_path):
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = np.arange(64).reshape(8, 8)
    pixels[:, :8], pixels[:, 16:] = 100, 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.T.copy()).save(tmp_path / "x_tall.png")
    (images, _), _ = data.read_image_folder(tmp_path, 8, 1)
    np.testing.assert_array_equal(images[0, 0], np.arange(64).reshape(8, 8))
    np.testing.assert_array_equal(images[1, 0], np.arange(64).reshape(8, 8).T)


def test_a_camera_s_rotation_is_applied(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (images, _), _ = data.read_image_folder(tmp_path, 8, 1)
    np.testing.assert_array_equal(images[0, 0], np.rot90(pixels, -1))


def test_grey_pictures_become_one_channel_or_three(tmp_path):
    file = picture(tmp_path / "a.png", mode="L")
    (one, _), _ = data.read_image_folder(tmp_path, 8, 1)
    (three, _), _ = data.read_image_folder(tmp_path, 8, 3)
    np.testing.assert_array_equal(one[0, 0], np.asarray(Image.open(file)))
    assert torch.equal(three, one.expand(-1, 3, -1, -1))


def test_colour_pictures_become_grey_where_one_channel_is_asked_for(tmp_path):
    file = picture(tmp_path / "a.png")
    (images, _), _ = data.read_image_folder(tmp_path, 8, 1)
    np.testing.assert_array_equal(images[0, 0], np.asarray(Image.open(file).convert("L")))


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1"])
def test_modes_with_8_bits_or_less_are_converted(tmp_path, mode):
    file = picture(tmp_path / "a.png", mode=mode)
    (images, _), _ = data.read_image_folder(tmp_path, 8, 3)
    np.testing.assert_array_equal(images[0].permute(1, 2, 0), np.asarray(Image.open(file).convert("RGB")))


def test_a_palette_picture_shows_its_colours(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 250, 20, 3] + [0] * 762)
    image.save(tmp_path / "a.png")
    (images, _), _ = data.read_image_folder(tmp_path, 8, 3)
    assert images[0, :, 0, 0].tolist() == [250, 20, 3]


def test_sixteen_bits_a_channel_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "a.png")
    message = refusal(data.read_image_folder, tmp_path, 8, 1)
    assert message.startswith(f"{tmp_path / 'a.png'}: ")
    assert "8 bits" in message


def test_a_missing_folder_is_told(tmp_path):
    assert refusal(data.read_image_folder, tmp_path / "none", 8, 3).startswith(f"{tmp_path / 'none'}: no such folder")
    assert "no such folder" in refusal(data.read_image_folder, picture(tmp_path / "a.png"), 8, 3)


def test_a_folder_without_pictures_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    assert refusal(data.read_image_folder, tmp_path, 8, 3).startswith(f"{tmp_path}: holds no pictures")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.ppm", "a.tiff", "a.webp"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.8])
def test_a_truncated_picture_is_named(tmp_path, name, share):
    picture(tmp_path / "0.png", (24, 24))
    file = picture(tmp_path / name, (24, 24))
    blob = file.read_bytes()
    file.write_bytes(blob[: int(share * len(blob))])
    assert refusal(data.read_image_folder, tmp_path, 8, 3).startswith(f"{file}: cannot be read as a picture")


def test_a_file_that_is_no_picture_is_named(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"this is text\n" * 20)
    assert refusal(data.read_image_folder, tmp_path, 8, 3).startswith(f"{file}: cannot be read as a picture")


def test_mixed_modes_are_told_with_one_example_each(tmp_path):
    grey, colour = picture(tmp_path / "a.png", mode="L"), picture(tmp_path / "b.png")
    message = refusal(data.read_image_folder, tmp_path, 8, 3)
    assert message.startswith(f"{tmp_path}: pictures of mixed modes")
    assert str(grey) in message
    assert str(colour) in message


def test_too_few_pictures_are_told(tmp_path):
    for number in range(2):
        picture(tmp_path / "pics" / f"{number}.png", seed=number)
    message = refusal(lambda: prepared(tmp_path, source="image_folder", path=str(tmp_path / "pics"), channels=3))
    assert "at least two" in message


def test_a_broken_source_leaves_no_data_behind(tmp_path):
    for number in range(6):
        picture(tmp_path / "pics" / f"{number}.png", seed=number)
    changes = {"source": "image_folder", "path": str(tmp_path / "pics"), "channels": 3}
    broken = tmp_path / "pics" / "5.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    assert str(broken) in refusal(lambda: prepared(tmp_path, **changes))
    assert not list(tmp_path.rglob(data.IMAGES))
    assert not list(tmp_path.rglob("done.json"))
    broken.write_bytes(whole)
    assert prepared(tmp_path, **changes)[1]["train_images"] == 4
