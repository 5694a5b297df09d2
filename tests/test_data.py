"""Pictures from every source: what is read, how it is split and resized, and what is told when it cannot be."""

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from surrodiff import data
from surrodiff.errors import UserError
from surrodiff.plan import Run
from surrodiff.runs import sha256

DIGITS = {"source": "digits", "path": None, "image_size": 8, "channels": 1, "held_out": 0.2, "seed": 0, "revision": 1}


def prepared(results, **changes) -> tuple[dict[str, torch.Tensor], dict]:
    """Arrays and record of a data run that differs from the digits' by the given keys."""
    run = Run("data", "mine", {**DIGITS, **changes})
    data.prepare(run, results)
    return data.load(results, run.id)


def picture(path, size=(8, 8), mode="RGB", seed=0, **options):
    """Write a picture of random pixels; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "RGBA": 4, "LA": 2}.get(mode, 3)
    pixels = rng.integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = Image.fromarray(pixels if channels > 1 else pixels[..., 0])
    (image if image.mode == mode else image.convert(mode)).save(path, **options)
    return path


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- values and sizes


def test_all_256_values_survive_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    floats = data.to_float(values)
    assert (floats[0], floats[255]) == (-1, 1)
    assert torch.equal(data.to_uint8(floats), values)


def test_values_are_clipped_and_rounded_to_the_nearest():
    step = 2 / 255
    values = torch.tensor([-3.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 1 - 0.6 * step, 1 - 0.4 * step, 1.0, 7.0])
    assert data.to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]


def test_a_halving_is_the_triangle_filter():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # Antialiased bilinear halving weighs the four nearest pixels of a line 1, 3, 3, 1; outside there is nothing.
    line = torch.zeros(4, 8)
    for i in range(4):
        for j, weight in zip(range(2 * i - 1, 2 * i + 3), (1.0, 3.0, 3.0, 1.0), strict=True):
            if 0 <= j < 8:
                line[i, j] = weight
    line /= line.sum(1, keepdim=True)
    torch.testing.assert_close(data.resize(x, 4), torch.einsum("ij,bcjk,lk->bcil", line, x, line))


def test_a_halving_is_close_to_the_mean_of_squares_where_the_picture_is_smooth():
    ramp = torch.linspace(-1, 1, 32)
    x = (ramp[:, None] * 0.5 + ramp[None] * 0.5).expand(1, 1, 32, 32)
    means = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(data.resize(x, 16)[..., 1:-1, 1:-1], means[..., 1:-1, 1:-1], atol=1e-5, rtol=0)
    assert (data.resize(x, 16) - means).abs().max() < 0.02


@pytest.mark.parametrize(("before", "after"), [(8, 4), (32, 16), (20, 8), (8, 16), (4, 8), (5, 32)])
def test_resizing_is_pil_s_bilinear(before, after):
    x = torch.rand(before, before, generator=torch.Generator().manual_seed(1))
    if after < before:
        expected = np.asarray(Image.fromarray(x.numpy()).resize((after, after), Image.Resampling.BILINEAR))
    else:  # PIL's and torch's bilinear enlargements agree, too
        expected = torchvision.transforms.functional.resize(x[None], [after, after], antialias=False)[0].numpy()
    np.testing.assert_allclose(data.resize(x[None, None], after)[0, 0].numpy(), expected, atol=1e-5)


@given(st.integers(1, 16), st.integers(1, 16), st.floats(-1, 1, width=32))
def test_a_plain_picture_stays_plain(before, after, value):
    x = torch.full((1, 2, before, before), value)
    torch.testing.assert_close(data.resize(x, after), torch.full((1, 2, after, after), value))


def test_the_right_size_is_left_alone():
    x = torch.rand(1, 1, 8, 8)
    assert data.resize(x, 8) is x


# --- digits


def test_digits_are_scikit_learn_s():
    images, labels = data.read_digits()
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (1797, 1, 8, 8))
    assert (int(images.min()), int(images.max())) == (0, 255)
    original = load_digits()
    np.testing.assert_array_equal(np.round(images[:, 0].numpy() / 255 * 16), original.images)
    np.testing.assert_array_equal(labels.numpy(), original.target)


def test_digits_are_split_into_all_of_training_and_held_out(tmp_path):
    arrays, record = prepared(tmp_path)
    assert len(arrays["held_out_images"]) == record["held_out_images"] == 360  # a fifth of 1,797, rounded up
    assert len(arrays["train_images"]) == record["train_images"] == 1437
    assert record["source"] == "digits"
    images, labels = data.read_digits()

    def pairs(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images.numpy(), labels, strict=True))

    split = pairs(arrays["train_images"], arrays["train_labels"]) + pairs(
        arrays["held_out_images"], arrays["held_out_labels"]
    )
    assert sorted(split) == pairs(images, labels)  # so none is in both, and each has its label


def test_the_split_depends_on_the_seed_alone(tmp_path):
    first, _ = prepared(tmp_path / "1")
    again, _ = prepared(tmp_path / "2")
    other, _ = prepared(tmp_path / "1", seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["held_out_images"], other["held_out_images"])


def test_the_split_is_shuffled(tmp_path):
    arrays, _ = prepared(tmp_path)
    assert set(arrays["held_out_labels"].tolist()) == set(range(10))
    _, labels = data.read_digits()
    assert not torch.equal(arrays["held_out_labels"], labels[:360])


def test_digits_can_be_enlarged(tmp_path):
    arrays, _ = prepared(tmp_path, image_size=16)
    small, _ = prepared(tmp_path)
    assert arrays["train_images"].shape[1:] == (1, 16, 16)
    assert arrays["train_images"].dtype == torch.uint8
    mean = small["train_images"].float().mean((1, 2, 3))
    torch.testing.assert_close(arrays["train_images"].float().mean((1, 2, 3)), mean, atol=1.5, rtol=0)


def test_prepared_data_is_found_and_not_made_again(tmp_path):
    run = Run("data", "mine", DIGITS)
    record = data.prepare(run, tmp_path)
    file = tmp_path / "data" / run.id / data.IMAGES
    before = file.stat().st_mtime_ns
    assert data.prepare(run, tmp_path) == record
    assert file.stat().st_mtime_ns == before


def test_damaged_data_is_told_when_it_is_read(tmp_path):
    run = Run("data", "mine", DIGITS)
    data.prepare(run, tmp_path)
    file = tmp_path / "data" / run.id / data.IMAGES
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(data.load, tmp_path, run.id).startswith(f"{file}: truncated or altered")


# --- CIFAR-10


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch file in the original's format: rows of 1,024 red, then green, then blue values."""
    batch = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": labels}
    return pickle.dumps({**batch, "batch_label": "batch", "filenames": [f"{n}.png" for n in range(len(images))]})


@pytest.fixture
def cifar(tmp_path):
    """A tiny archive in CIFAR-10's format: its folder, torchvision's class for it, its SHA-256, and what is in it."""
    import hashlib

    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar"
    folder.mkdir()
    files, images, labels = {}, [], []
    for name in [*[f"data_batch_{n}" for n in range(1, 6)], "test_batch"]:
        images.append(rng.integers(0, 256, (4, 32, 32, 3), np.uint8))
        labels.append(rng.integers(0, 10, 4).tolist())
        files[name] = cifar_batch(images[-1], labels[-1])
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {n}" for n in range(10)]})
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, blob in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))

    def md5(blob: bytes) -> str:
        return hashlib.md5(blob).hexdigest()

    class Tiny(torchvision.datasets.CIFAR10):
        url = "http://127.0.0.1:9/x"
        tgz_md5 = md5(archive.read_bytes())
        train_list = [[f"data_batch_{n}", md5(files[f"data_batch_{n}"])] for n in range(1, 6)]  # noqa: RUF012
        test_list = [["test_batch", md5(files["test_batch"])]]  # noqa: RUF012
        meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(files["batches.meta"])}  # noqa: RUF012

    return folder, Tiny, sha256(archive), (np.concatenate(images), np.concatenate(labels).tolist())


def test_cifar10_is_read_from_its_archive(cifar):
    folder, dataset, checksum, (images, labels) = cifar
    train, test = data.read_cifar10(folder, dataset, checksum)
    assert (train[0].dtype, tuple(train[0].shape), tuple(test[0].shape)) == (
        torch.uint8,
        (20, 3, 32, 32),
        (4, 3, 32, 32),
    )
    np.testing.assert_array_equal(torch.cat([train[0], test[0]]).numpy(), images.transpose(0, 3, 1, 2))
    assert train[1].tolist() + test[1].tolist() == labels
    assert train[1].dtype == torch.int64


def test_cifar10_that_is_unpacked_already_is_read_again(cifar):
    folder, dataset, checksum, _ = cifar
    first = data.read_cifar10(folder, dataset, checksum)
    batch = folder / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:100])
    again = data.read_cifar10(folder, dataset, checksum)
    assert torch.equal(first[0][0], again[0][0])


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_truncated_cifar10_archive_is_told(cifar, keep):
    folder, dataset, checksum, _ = cifar
    archive = folder / dataset.filename
    archive.write_bytes(archive.read_bytes()[:keep])
    message = refusal(data.read_cifar10, folder, dataset, checksum)
    assert message.startswith(f"{archive}: truncated or altered")
    assert checksum in message


def test_cifar10_that_cannot_be_downloaded_says_where_to_put_it(cifar, no_network):
    folder, dataset, checksum, _ = cifar
    archive = folder / dataset.filename
    archive.unlink()
    message = refusal(data.read_cifar10, folder, dataset, checksum)
    assert message.startswith(f"{archive}: ")
    assert "put it there" in message
    assert dataset.url in message
    assert checksum in message


def test_a_data_run_asks_for_the_official_archive(tmp_path, no_network):
    folder = tmp_path / "empty"
    message = refusal(lambda: prepared(tmp_path, source="cifar10", path=str(folder), image_size=32, channels=3))
    assert data.CIFAR10_SHA256 in message
    assert str(folder) in message


# --- picture folders


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
