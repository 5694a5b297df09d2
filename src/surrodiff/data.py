"""The pictures: read from a source, resized, split into training and held-out, kept as uint8 arrays."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from surrodiff import noise, provenance, tensors
from surrodiff.devices import Progress
from surrodiff.errors import UserError
from surrodiff.plan import Run
from surrodiff.runs import RunFolder, complete, opened, sha256, verified

IMAGES = "images.safetensors"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
Split = tuple[torch.Tensor, torch.Tensor]  # images uint8 (N, C, S, S), labels int64 (N,)


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


def read_digits() -> Split:
    """scikit-learn's 1,797 scans of digits, 8x8 (Alpaydin and Kaynak, 1998); no download."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images / 16 * 255).round().to(torch.uint8)
    return images[:, None], torch.from_numpy(digits.target).long()


def read_cifar10(folder: Path, dataset=None, archive_sha256: str = CIFAR10_SHA256) -> tuple[Split, Split]:
    """CIFAR-10's training and test split from the official archive in `folder`, downloaded if it is not there.

    `dataset` is torchvision's CIFAR10 or a class like it. Raises UserError if the archive cannot be had or is altered.
    """
    import torchvision

    dataset = dataset or torchvision.datasets.CIFAR10
    archive = folder / dataset.filename
    if not archive.exists():
        try:
            torchvision.datasets.utils.download_url(dataset.url, str(folder), dataset.filename, dataset.tgz_md5)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{archive}: not there and cannot be downloaded ({error}); fetch {dataset.url} elsewhere and put it "
                f"there; its SHA-256 is {archive_sha256}"
            ) from None
    if sha256(archive) != archive_sha256:
        raise UserError(f"{archive}: truncated or altered (SHA-256 is not {archive_sha256}); delete it and run again")
    splits = []
    for train in (True, False):
        split = dataset(str(folder), train=train, download=True)  # unpacks the archive that was just checked
        splits.append((torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)))
    return splits[0], splits[1]


def _pictures(root: Path) -> tuple[list[Path], list[int]]:
    """The picture files below `root` and their labels: the rank of their top folder, 0 in a flat folder."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMG_EXTENSIONS and p.is_file())
    tops = [f.relative_to(root).parts[0] if f.parent != root else "" for f in files]
    rank = {top: number for number, top in enumerate(sorted(set(tops)))}
    return files, [rank[top] for top in tops]


def _read_pictures(root: Path, size: int, channels: int) -> Split:
    from PIL import Image, ImageOps
    from torchvision.transforms import functional as tv

    files, labels = _pictures(root)
    if not files:
        raise UserError(f"{root}: holds no pictures; data.path must be a folder of pictures or of class folders")
    images = np.empty((len(files), size, size, channels), np.uint8)
    modes: dict[str, Path] = {}
    counts: Counter = Counter()
    progress = Progress(f"read {root.name}", len(files), "images")
    for number, file in enumerate(files):
        try:
            with Image.open(file) as opened:
                picture = ImageOps.exif_transpose(opened)
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{file}: cannot be read as a picture ({error}); repair or remove it") from None
        modes.setdefault(picture.mode, file)
        counts[picture.mode] += 1
        if len(modes) > 1:
            # One colour picture in a grey set, or one with transparency, would be learned as what it is not.
            kinds = ", ".join(f"{mode} (e.g. {modes[mode]})" for mode in modes)
            raise UserError(f"{root}: pictures of mixed modes: {kinds}; convert them all to one mode")
        if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
            raise UserError(
                f"{file}: pictures of mode {picture.mode} have no 8 bits a channel; convert them to RGB or L"
            )
        picture = picture.convert("RGB" if channels == 3 else "L")
        if picture.size != (size, size):
            picture = tv.center_crop(tv.resize(picture, size, antialias=True), size)
        images[number] = np.asarray(picture).reshape(size, size, channels)
        progress.advance(1)
    progress.close()
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def read_image_folder(folder: Path, size: int, channels: int) -> tuple[Split, Split | None]:
    """Pictures of any format and size, shorter side resized to `size` and the middle kept.

    Class folders give labels; a flat folder gives label 0. `folder/train` beside `folder/test` are the two splits,
    else the second is None. Raises UserError if the folder is missing or empty, a picture is broken, or modes mix.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; data.path must name a folder of pictures")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _read_pictures(folder / "train", size, channels), _read_pictures(folder / "test", size, channels)
    return _read_pictures(folder, size, channels), None


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"data.path: {text!r} names no home directory here; write the whole path") from None


def prepare(run: Run, results: Path) -> dict:
    """Make a data run's `images.safetensors`, or find it made; returns its record.

    Raises UserError if the source is missing, broken or not what the configuration says.
    """
    with opened(results, run, together=False) as folder:
        if folder.record is None:
            _read(run.config, folder)
        folder.mark_done()
        return folder.record


def _read(config: dict, folder: RunFolder):
    size, held_out = config["image_size"], None
    path = _path(config["path"]) if config["path"] else None
    match config["source"]:
        case "digits":
            train = read_digits()
        case "cifar10":
            train, held_out = read_cifar10(path)
        case "image_folder":
            train, held_out = read_image_folder(path, size, config["channels"])
    if held_out is None:
        order = noise.permutation(config["seed"], noise.Stream.SPLIT, 0, len(train[0]))
        count = math.ceil(config["held_out"] * len(order))
        train, held_out = (
            tuple(part[order[count:]] for part in train),
            tuple(part[order[:count]] for part in train),
        )
    if min(len(train[0]), len(held_out[0])) < 2:
        raise UserError(f"{config['source']}: {len(train[0])} training pictures; at least two of each split are needed")
    arrays = {}
    for name, (images, labels) in {"train": train, "held_out": held_out}.items():
        arrays[f"{name}_images"] = resize_uint8(images, size)
        arrays[f"{name}_labels"] = labels
    tensors.save(folder.path / IMAGES, arrays)
    name = config["source"] + (f" {path.name}" if config["source"] == "image_folder" else "")
    record = {"source": name, "train_images": len(train[0]), "held_out_images": len(held_out[0])}
    folder.finish(record | {"revision": provenance.revision()}, [IMAGES])


def load(results: Path, data_id: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The arrays of a data run (`train_images`, `held_out_images`, `..._labels`) and its record, checksums verified."""
    path, _, record = complete(results, "data", data_id)
    arrays, _ = tensors.load(verified(path, record, IMAGES))
    return arrays, record
