"""Images as arrays: values and sizes, the digits, CIFAR-10, and what is reported when they cannot be read."""

import gzip
import hashlib
import io
import math
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from data_runs import DIGITS, prepare, prepared, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from surrodiff.data import pixels, sources
from surrodiff.planning.runs import Run
from surrodiff.runtime import noise
from surrodiff.store.runs import sha256

# --- values and sizes


def test_all_256_values_survive_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    floats = pixels.to_float(values)
    assert (floats[0], floats[255]) == (-1, 1)
    assert torch.equal(pixels.to_uint8(floats), values)


def test_values_are_clipped_and_rounded_to_the_nearest():
    step = 2 / 255
    values = torch.tensor([-3.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 1 - 0.6 * step, 1 - 0.4 * step, 1.0, 7.0])
    assert pixels.to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]


def test_a_halving_is_the_triangle_filter():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # Antialiased bilinear halving weighs the four nearest pixels of a line 1, 3, 3, 1; outside there is nothing.
    line = torch.zeros(4, 8)
    for i in range(4):
        for j, weight in zip(range(2 * i - 1, 2 * i + 3), (1.0, 3.0, 3.0, 1.0), strict=True):
            if 0 <= j < 8:
                line[i, j] = weight
    line /= line.sum(1, keepdim=True)
    torch.testing.assert_close(pixels.resize(x, 4), torch.einsum("ij,bcjk,lk->bcil", line, x, line))


def test_a_halving_is_close_to_the_mean_of_squares_where_the_image_is_smooth():
    ramp = torch.linspace(-1, 1, 32)
    x = (ramp[:, None] * 0.5 + ramp[None] * 0.5).expand(1, 1, 32, 32)
    means = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(pixels.resize(x, 16)[..., 1:-1, 1:-1], means[..., 1:-1, 1:-1], atol=1e-5, rtol=0)
    assert (pixels.resize(x, 16) - means).abs().max() < 0.02


@pytest.mark.parametrize(("before", "after"), [(8, 4), (32, 16), (20, 8), (8, 16), (4, 8), (5, 32)])
def test_resizing_is_pil_s_bilinear(before, after):
    x = torch.rand(before, before, generator=torch.Generator().manual_seed(1))
    if after < before:
        expected = np.asarray(Image.fromarray(x.numpy()).resize((after, after), Image.Resampling.BILINEAR))
    else:  # PIL's and torch's bilinear enlargements agree, too
        expected = torchvision.transforms.functional.resize(x[None], [after, after], antialias=False)[0].numpy()
    np.testing.assert_allclose(pixels.resize(x[None, None], after)[0, 0].numpy(), expected, atol=1e-5)


@given(st.integers(1, 16), st.integers(1, 16), st.floats(-1, 1, width=32))
def test_a_plain_image_stays_plain(before, after, value):
    x = torch.full((1, 2, before, before), value)
    torch.testing.assert_close(pixels.resize(x, after), torch.full((1, 2, after, after), value))


def test_the_right_size_is_left_alone():
    x = torch.rand(1, 1, 8, 8)
    assert pixels.resize(x, 8) is x


# --- digits


def test_digits_are_scikit_learn_s():
    images, labels = sources.read_digits()
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
    images, labels = sources.read_digits()

    def pairs(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images.numpy(), labels, strict=True))

    split = pairs(arrays["train_images"], arrays["train_labels"]) + pairs(
        arrays["held_out_images"], arrays["held_out_labels"]
    )
    assert sorted(split) == pairs(images, labels)  # so none is in both, and each has its label


def test_the_split_depends_on_the_seed_alone(tmp_path):
    first, _ = prepared(tmp_path / "1")
    repeated, _ = prepared(tmp_path / "2")
    other, _ = prepared(tmp_path / "1", seed=1)
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert not torch.equal(first["held_out_images"], other["held_out_images"])


def test_every_class_has_its_share_of_the_held_out_digits(tmp_path):
    arrays, _ = prepared(tmp_path)
    sizes = torch.bincount(sources.read_digits()[1])
    held_out = torch.bincount(arrays["held_out_labels"])
    assert ((held_out - 0.2 * sizes).abs() < 1).all()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_stratified_split_is_of_all_images_and_within_one_of_each_class_s_share(labels, share, seed):
    labels = torch.tensor(labels)
    train, held_out = sources.stratified(labels, share, seed)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    assert len(held_out) == math.ceil(share * len(labels))
    sizes = torch.bincount(labels)
    counts = torch.bincount(labels[held_out], minlength=len(sizes))
    assert ((counts - share * sizes).abs() < 1).all()


def test_images_of_one_class_are_split_as_a_permutation_says():
    train, held_out = sources.stratified(torch.zeros(50, dtype=torch.long), 0.3, 7)
    order = noise.permutation(7, noise.Stream.SPLIT, 0, 50)
    assert set(held_out.tolist()) == set(order[:15].tolist())
    assert torch.equal(torch.cat([held_out, train]), order)


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_a_split_too_small_is_reported_with_its_key(tmp_path, share):
    run = Run("mine", DIGITS.model_copy(update={"held_out": share}))  # which params.yaml may not ask for
    message = refusal(prepare, run, tmp_path)
    assert message.startswith(f"data.held_out: {share} of 1797 images: ")
    assert ("held_out split has too few (1)" if share < 0.5 else "train split has too few (0)") in message


def test_the_split_is_shuffled(tmp_path):
    arrays, _ = prepared(tmp_path)
    assert set(arrays["held_out_labels"].tolist()) == set(range(10))
    _, labels = sources.read_digits()
    assert not torch.equal(arrays["held_out_labels"], labels[:360])


def test_digits_can_be_enlarged(tmp_path):
    arrays, _ = prepared(tmp_path, image_size=16)
    small, _ = prepared(tmp_path)
    assert arrays["train_images"].shape[1:] == (1, 16, 16)
    assert arrays["train_images"].dtype == torch.uint8
    mean = small["train_images"].float().mean((1, 2, 3))
    torch.testing.assert_close(arrays["train_images"].float().mean((1, 2, 3)), mean, atol=1.5, rtol=0)


def test_prepared_data_is_found_and_not_made_again(tmp_path):
    run = Run("mine", DIGITS)
    record = prepare(run, tmp_path)
    file = tmp_path / "data" / run.id / sources.IMAGES
    before = file.stat().st_mtime_ns
    assert prepare(run, tmp_path) == record
    assert file.stat().st_mtime_ns == before


def test_damaged_data_is_told_when_it_is_read(tmp_path):
    run = Run("mine", DIGITS)
    prepare(run, tmp_path)
    file = tmp_path / "data" / run.id / sources.IMAGES
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(sources.load, tmp_path, run.id).startswith(f"{file}: truncated or altered")


# --- CIFAR-10


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch file in the original's format: rows of 1,024 red, then green, then blue values."""
    batch = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": labels}
    return pickle.dumps({**batch, "batch_label": "batch", "filenames": [f"{n}.png" for n in range(len(images))]})


@pytest.fixture
def cifar(tmp_path):
    """A tiny archive in CIFAR-10's format: its folder, torchvision's class for it, its SHA-256, and what is in it."""
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
    train, test = sources.read_cifar10(folder, dataset, checksum)
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
    first = sources.read_cifar10(folder, dataset, checksum)
    batch = folder / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:100])
    repeated = sources.read_cifar10(folder, dataset, checksum)
    assert torch.equal(first[0][0], repeated[0][0])


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_truncated_cifar10_archive_is_told(cifar, keep):
    folder, dataset, checksum, _ = cifar
    archive = folder / dataset.filename
    archive.write_bytes(archive.read_bytes()[:keep])
    message = refusal(sources.read_cifar10, folder, dataset, checksum)
    assert message.startswith(f"{archive}: truncated or altered")
    assert checksum in message


def test_cifar10_that_cannot_be_downloaded_says_where_to_put_it(cifar, no_network):
    folder, dataset, checksum, _ = cifar
    archive = folder / dataset.filename
    archive.unlink()
    message = refusal(sources.read_cifar10, folder, dataset, checksum)
    assert message.startswith(f"{archive}: ")
    assert "put it there" in message
    assert dataset.url in message
    assert checksum in message


def test_a_data_run_asks_for_the_official_archive(tmp_path, no_network):
    folder = tmp_path / "empty"
    message = refusal(lambda: prepared(tmp_path, source="cifar10", path=str(folder), image_size=32, channels=3))
    assert sources.CIFAR10_SHA256 in message
    assert str(folder) in message


# --- MNIST


@pytest.fixture
def mnist(tmp_path):
    """Tiny files in MNIST's format: their folder, torchvision's class for them, their SHA-256, and what is in them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    arrays = [rng.integers(0, 256, shape, np.uint8) for shape in ((5, 28, 28), (5,), (3, 28, 28), (3,))]
    arrays[1] %= 10
    arrays[3] %= 10
    checksums, files = [], []
    for (name, _), array in zip(torchvision.datasets.MNIST.resources, arrays, strict=True):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / name).write_bytes(gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))
        checksums.append(sha256(folder / name))
        files.append((name, hashlib.md5((folder / name).read_bytes()).hexdigest()))

    class Tiny(torchvision.datasets.MNIST):
        mirrors = ("http://127.0.0.1:9/first/", "http://127.0.0.1:9/second/")
        resources = tuple(files)

    return folder, Tiny, tuple(checksums), arrays


def test_mnist_is_read_from_its_files(mnist):
    folder, dataset, checksums, arrays = mnist
    train, test = sources.read_mnist(folder, dataset, checksums)
    for (images, labels), (pixels_there, labels_there) in zip((train, test), (arrays[:2], arrays[2:]), strict=True):
        assert (images.dtype, labels.dtype, images.shape[1:]) == (torch.uint8, torch.int64, (1, 28, 28))
        np.testing.assert_array_equal(images[:, 0].numpy(), pixels_there)
        assert labels.tolist() == labels_there.tolist()


def test_mnist_is_what_torchvision_reads(mnist):
    """By its own reader of the unpacked files."""
    folder, dataset, checksums, _ = mnist
    splits = sources.read_mnist(folder, dataset, checksums)
    raw = folder / "Tiny" / "raw"
    raw.mkdir(parents=True)
    for name, _ in dataset.resources:
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((folder / name).read_bytes()))
    for (images, labels), train in zip(splits, (True, False), strict=True):
        theirs = dataset(str(folder), train=train)
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)


@pytest.mark.parametrize("number", range(4))
def test_a_truncated_file_of_mnist_is_told(mnist, number):
    folder, dataset, checksums, _ = mnist
    file = folder / dataset.resources[number][0]
    file.write_bytes(file.read_bytes()[:-1])
    message = refusal(sources.read_mnist, folder, dataset, checksums)
    assert message.startswith(f"{file}: truncated or altered")
    assert checksums[number] in message


def test_mnist_that_cannot_be_downloaded_says_where_to_put_it(mnist, no_network):
    folder, dataset, checksums, _ = mnist
    file = folder / dataset.resources[2][0]
    file.unlink()
    message = refusal(sources.read_mnist, folder, dataset, checksums)
    assert message.startswith(f"{file}: not there and cannot be downloaded")
    assert dataset.mirrors[0] + file.name in message
    assert checksums[2] in message


def test_a_data_run_asks_for_the_official_files_of_mnist(tmp_path, no_network):
    folder = tmp_path / "empty"
    message = refusal(lambda: prepared(tmp_path, source="mnist", path=str(folder), image_size=28))
    assert sources.MNIST_SHA256[0] in message
    assert str(folder) in message


def test_a_home_directory_that_there_is_not_is_reported(tmp_path):
    message = refusal(lambda: prepared(tmp_path, source="cifar10", path="~nobody-of-this-name/images", channels=3))
    assert message.startswith("data.path: '~nobody-of-this-name/images' names no home directory")
