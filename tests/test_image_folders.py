"""A user's own folder of images: what is read, of which split and class, what is ignored, and what cannot be told."""

import os
import shutil
import unicodedata

import pytest
import torch
from configs import changed
from data_runs import DIGITS, folder_data, prepare, prepared, read, refusal, write_image
from PIL import Image

from surrodiff.data import image_folders, listing, sources
from surrodiff.planning.runs import Run


def classes(root, names=("cat", "dog"), count=3, suffix=".png"):
    """Write class folders of images, each with its own pixels."""
    for number, name in enumerate(names):
        for i in range(count):
            write_image(root / name / f"{i:03}{suffix}", seed=100 * number + i)
    return root


def counts(root) -> dict:
    return image_folders.find(root).counts()


def prepared_folder(results, root, **changes):
    return prepared(results, **folder_data(root, **changes))


# --- classes and splits


def test_class_folders_give_labels(tmp_path):
    for number, name in enumerate(("cat/1.png", "cat/deep/2.png", "ant/1.png", "bee/3.jpg", "bee/4.JPEG")):
        write_image(tmp_path / name, seed=number)
    images, labels, _ = read(tmp_path)
    assert tuple(images.shape) == (5, 3, 8, 8)
    assert labels.tolist() == [0, 1, 1, 2, 2]  # ant, bee, bee, cat, cat
    ant = Image.open(tmp_path / "ant/1.png")
    assert images[0].permute(1, 2, 0).flatten().tolist() == list(ant.tobytes())


def test_a_flat_folder_gives_label_0(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", seed=number)
    images, labels, _ = read(tmp_path)
    assert (len(images), labels.tolist(), image_folders.find(tmp_path).classes) == (3, [0, 0, 0], [])


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN_SET"])
@pytest.mark.parametrize("held_out", ["test", "val", "Validation", "held_out", "Held-Out", "dev", "EVAL", "hold out"])
def test_splits_are_recognised_by_their_usual_names(tmp_path, train, held_out):
    classes(tmp_path / train, count=3)
    classes(tmp_path / held_out, count=2)
    assert counts(tmp_path) == {name: {"train": 3, "held_out": 2} for name in ("cat", "dog")}


def test_labels_mean_the_same_in_both_splits(tmp_path):
    classes(tmp_path / "images" / "train", ("b", "c", "d"), 4)
    classes(tmp_path / "images" / "test", ("a", "c", "d"), 2)
    arrays, record = prepared_folder(tmp_path, tmp_path / "images")
    assert arrays["train_labels"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert arrays["held_out_labels"].tolist() == [0, 0, 2, 2, 3, 3]
    assert record["classes"] == {
        "a": {"train": 0, "held_out": 2},
        "b": {"train": 4, "held_out": 0},
        "c": {"train": 4, "held_out": 2},
        "d": {"train": 4, "held_out": 2},
    }


def test_flat_splits_are_read(tmp_path):
    for number in range(5):
        write_image(tmp_path / "images" / ("train" if number < 3 else "val") / f"{number}.png", seed=number)
    arrays, record = prepared_folder(tmp_path, tmp_path / "images")
    assert (record["train_images"], record["held_out_images"], record["classes"]) == (3, 2, {})
    fifth = Image.open(tmp_path / "images/val/4.png")
    assert arrays["held_out_images"][1].permute(1, 2, 0).flatten().tolist() == list(fifth.tobytes())


def test_a_training_split_alone_is_no_class_and_is_split_by_class(tmp_path):
    classes(tmp_path / "images" / "train", ("cat", "dog"), 10)
    arrays, record = prepared_folder(tmp_path, tmp_path / "images", held_out=0.2)
    assert (record["train_images"], record["held_out_images"]) == (16, 4)
    assert torch.bincount(arrays["held_out_labels"]).tolist() == [2, 2]
    everything = torch.cat([arrays["train_images"], arrays["held_out_images"]])
    assert len({image.numpy().tobytes() for image in everything}) == 20


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["cat/1.png", "dog/1.png", "loose.png"], "images (loose.png) beside class folders (cat, dog)"),
        (["train/a/1.png", "test/a/1.png", "val/a/1.png"], "several held-out splits (test, val)"),
        (["train/a/1.png", "Train/a/1.png"], "several training splits (Train, train)"),
        (["train/a/1.png", "test/a/1.png", "a/1.png"], "train, test, named like a split, beside class folders (a)"),
        (["train/a/1.png", "1.png"], "train, named like a split, beside loose images (1.png)"),
        (["bus/1.png", "car/1.png", "train/1.png"], "train, named like a split, beside class folders (bus, car)"),
        (["val/a/1.png"], "a held-out split (val) and no training split beside it"),
        (["train/a/1.png", "test/notes.txt"], "/test: this split holds no images"),
        (["train/a/1.png", "train/2.png", "test/a/1.png"], "/train: images (2.png) beside class folders (a)"),
        (["train/a/1.png", "test/2.png"], "one split has class folders and the other has none"),
        (
            ["cat/train/1.png", "cat/test/1.png", "dog/train/1.png"],
            "cat/test, cat/train, dog/train, named like a split",
        ),
        (["zip/train/a/1.png", "zip/test/a/1.png"], "zip/test, zip/train, named like a split, where class folders"),
        (["zip/cat/1.png", "zip/dog/1.png"], "holds one folder (zip), which holds only folders (cat, dog)"),
        (["train/Cat/1.png", "test/cat/1.png"], "class folders Cat, cat differ only in upper and lower case"),
        (["notes.txt", ".hidden.png"], "holds no images (ignored: 1 (hidden), 1 (suffix .txt))"),
        ([], "holds no images; data.path must name"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_stops_with_what_is_there(tmp_path, files, says):
    for name in files:
        path = tmp_path / name
        if path.suffix == ".png":
            write_image(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("no image")
    message = refusal(image_folders.find, tmp_path)
    assert message.startswith(str(tmp_path))
    assert says in message


def test_a_name_typed_on_another_system_is_the_same_class(tmp_path):
    name = "cafe\u0301"
    write_image(tmp_path / "train" / name / "1.png")
    write_image(tmp_path / "test" / unicodedata.normalize("NFC", name) / "1.png")
    assert counts(tmp_path) == {"caf\u00e9": {"train": 1, "held_out": 1}}


def test_names_of_any_bytes_are_read(tmp_path):
    root = classes(tmp_path / "images", ("cat",))
    shutil.copytree(root / "cat", os.fsdecode(os.fsencode(root) + b"/cl\xffss"))
    write_image(root / "cat" / "two\nlines.png")
    _, record = prepared_folder(tmp_path, root, held_out=0.3)
    assert record["classes"] == {"cat": {"train": 4}, "cl\\udcffss": {"train": 3}}


# --- what is ignored, and what is not


def test_hidden_files_and_folders_are_ignored_and_named(tmp_path):
    root = classes(tmp_path / "images")
    shutil.copytree(root / "cat", root / ".ipynb_checkpoints")
    shutil.copytree(root / "cat", root / "__MACOSX")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "cat/._000.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    _, record = prepared_folder(tmp_path, root, held_out=0.3)
    assert record["train_images"] + record["held_out_images"] == 6
    assert list(record["classes"]) == ["cat", "dog"]
    named = [".DS_Store", ".ipynb_checkpoints", "__MACOSX"]
    assert record["ignored"] == {"hidden": {"count": 4, "such_as": named}}


def test_what_is_left_out_is_counted_with_its_reason(tmp_path, capsys):
    root = classes(tmp_path / "images", count=4)
    for name in ("a.txt", "cat/b.TXT", "cat/labels", "c.csv"):
        (root / name).write_text("no image")
    (root / "empty" / "deep").mkdir(parents=True)
    os.mkfifo(root / "pipe.png")
    _, record = prepared_folder(tmp_path, root)
    assert {reason: ignored["count"] for reason, ignored in record["ignored"].items()} == {
        "suffix .txt": 2,
        "suffix .csv": 1,
        "no suffix": 1,
        "folder without images": 2,
        "neither file nor folder": 1,
    }
    assert list(record["classes"]) == ["cat", "dog"]  # a folder without images is no class
    log = capsys.readouterr().err
    assert f"{root}: train: 8 images" in log
    assert f"{root}: 2 classes: cat (4), dog (4)" in log
    assert f"{root}: ignored: 2 (suffix .txt), such as a.txt, cat/b.TXT" in log
    assert f"{root}: ignored: 1 (neither file nor folder), such as pipe.png" in log


def test_links_are_followed(tmp_path):
    elsewhere = classes(tmp_path / "elsewhere", ("bird",))
    root = classes(tmp_path / "images")
    (root / "bird").symlink_to(elsewhere / "bird")
    (root / "cat" / "one more.png").symlink_to(elsewhere / "bird" / "000.png")
    assert counts(root) == {"bird": {"train": 3}, "cat": {"train": 4}, "dog": {"train": 3}}


@pytest.mark.parametrize("name", ["cat/003.png", "bird"])
def test_a_link_to_nothing_is_named(tmp_path, name):
    root = classes(tmp_path)
    (root / name).symlink_to("gone")
    assert refusal(image_folders.find, root).startswith(f"{root / name}: a link to what is not there")


@pytest.mark.parametrize(("name", "to"), [("cat/up", ".."), ("here", "."), ("cat/own", "own")])
def test_a_link_in_a_circle_is_named(tmp_path, name, to):
    root = classes(tmp_path)
    (root / name).symlink_to(to)
    assert refusal(image_folders.find, root).startswith(f"{root / name}: ")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = classes(tmp_path)
    denied = root / "cat"
    denied.chmod(0)
    try:
        if os.access(denied, os.R_OK):  # for root no folder is closed
            scandir = os.scandir

            def refuse(path):
                if str(path) == str(denied):
                    raise PermissionError(13, "Permission denied", str(path))
                return scandir(path)

            monkeypatch.setattr(os, "scandir", refuse)
        assert refusal(image_folders.find, root).startswith(f"{denied}: cannot be read (Permission denied)")
    finally:
        denied.chmod(0o755)


def test_every_suffix_of_a_format_that_pillow_reads_is_known():
    known = listing.suffixes()
    assert {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".gif", ".bmp", ".webp", ".avif", ".tif", ".jp2", ".ppm"} <= known
    assert {".tga", ".ico", ".qoi", ".dds", ".psd", ".apng"} <= known
    assert not {".pdf", ".txt", ".h5", ".mpg", ".mp4", ".svg", ".eps", ""} & known


@pytest.mark.parametrize("suffix", [".gif", ".GIF", ".Jpg", ".bmp", ".tga", ".webp", ".ppm", ".apng", ".qoi"])
def test_suffixes_count_in_any_case(tmp_path, suffix):
    write_image(tmp_path / f"1{suffix}")
    assert len(read(tmp_path)[0]) == 1


def test_a_missing_folder_a_file_and_an_archive_are_reported(tmp_path):
    assert refusal(image_folders.find, tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such folder; data.path")
    assert "a file, and no folder" in refusal(image_folders.find, write_image(tmp_path / "a.png"))
    archive = tmp_path / "images.zip"
    archive.write_bytes(b"PK")
    assert refusal(image_folders.find, archive).startswith(f"{archive}: an archive; unpack it")
    (tmp_path / "kept.dvc").write_text("outs: []")
    assert "`dvc pull` brings it" in refusal(image_folders.find, tmp_path / "kept")


# --- data runs


def test_a_small_split_is_reported_with_its_folder_or_key(tmp_path):
    classes(tmp_path / "both" / "train", count=3)
    write_image(tmp_path / "both" / "val" / "cat" / "1.png")
    message = refusal(lambda: prepared_folder(tmp_path, tmp_path / "both"))
    assert message == f"{tmp_path}/both: the held_out split has too few (1); have at least two in each split"
    write_image(tmp_path / "few" / "1.png")
    write_image(tmp_path / "few" / "2.png")
    message = refusal(lambda: prepared_folder(tmp_path, tmp_path / "few", revision=2))
    assert message.startswith("data.held_out: 0.2 of 2 images: the train split has too few (1)")


def test_a_folder_that_changes_after_it_was_planned_is_refused(tmp_path):
    root = classes(tmp_path / "images", count=5)
    planned = listing.list_files(root).fingerprint()
    _, record = prepared_folder(tmp_path / "1", root, fingerprint=planned)
    assert record["train_images"] == 8
    write_image(root / "cat" / "new.png")
    message = refusal(lambda: prepared_folder(tmp_path / "2", root, fingerprint=planned))
    assert message.startswith(f"{root}: its images have changed since this run was planned")
    assert not list((tmp_path / "2").rglob("done.json"))


def test_a_broken_source_leaves_no_data_behind(tmp_path):
    for number in range(6):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
    broken = tmp_path / "images" / "5.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    assert str(broken) in refusal(lambda: prepared_folder(tmp_path, tmp_path / "images"))
    assert not list(tmp_path.rglob(sources.IMAGES))
    assert not list(tmp_path.rglob("done.json"))
    broken.write_bytes(content)
    assert prepared_folder(tmp_path, tmp_path / "images")[1]["train_images"] == 4


def test_a_finished_run_needs_no_folder(tmp_path):
    root = classes(tmp_path / "images")
    run = Run("mine", changed(DIGITS, **folder_data(root)))
    record = prepare(run, tmp_path)
    shutil.rmtree(root)
    assert prepare(run, tmp_path) == record
