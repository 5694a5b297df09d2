"""What an image folder is known by: the same folder by any spelling, and another data set once its images change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from data_runs import refusal, write_image

from surrodiff.config import params
from surrodiff.config.whole import Params
from surrodiff.data import identity
from surrodiff.planning import plan
from surrodiff.planning.frozen import freeze


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory with a folder of images in it."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        write_image(tmp_path / "images" / ["cat", "dog"][number % 2] / f"{number}.bmp", seed=number)
    return tmp_path


@pytest.fixture
def asked(raw):
    """Parameters of the preset `test` with an image folder at a path."""

    def of(path="images", **changes) -> Params:
        raw["presets"]["test"]["data"].update(source="image_folder", path=str(path), channels=1, **changes)
        return params.parse(raw)

    return of


def data_id(asked: Params, here=Path()) -> str:
    return plan.build(identity.identified(asked, here)).data


def test_a_folder_is_the_same_however_it_is_spelt(project, asked, monkeypatch):
    monkeypatch.setenv("HOME", str(project))
    (project / "link").symlink_to("images")
    spellings = ["images", "./images", "images/", "images/cat/..", "../" + project.name + "/images", "~/images", "link"]
    assert len({data_id(asked(path)) for path in [*spellings, project / "images"]}) == 1
    shutil.copytree(project / "images", project / "copy")
    assert data_id(asked("copy")) != data_id(asked("images"))


def test_a_project_that_is_moved_keeps_its_data(project, asked, monkeypatch):
    (project / "here").mkdir()
    shutil.move(project / "images", project / "here" / "images")
    monkeypatch.chdir(project / "here")
    before = data_id(asked())
    monkeypatch.chdir(project)
    (project / "here").rename(project / "there")
    monkeypatch.chdir(project / "there")
    assert data_id(asked()) == before


def test_a_folder_elsewhere_is_known_by_its_whole_path(project, asked):
    (project / "work").mkdir()
    params = identity.identified(asked("../images"), project / "work")
    assert params.selected.data.path == str(project / "images")


def test_a_name_that_begins_with_a_tilde_is_no_home(project, asked):
    shutil.copytree(project / "images", project / "~images")
    once = identity.identified(asked("./~images"))
    assert once.selected.data.path == "./~images"
    assert identity.identified(once) == once


@pytest.mark.parametrize("change", ["content", "size", "name", "more", "fewer", "class"])
def test_changed_images_are_a_new_data_set(project, asked, change):
    before, file = data_id(asked()), project / "images/cat/0.bmp"
    match change:
        case "content":
            size = file.stat().st_size
            write_image(file, seed=99)
            assert file.stat().st_size == size
        case "size":
            write_image(file, (9, 9))
        case "name":
            file.rename(file.with_name("zero.bmp"))
        case "more":
            write_image(file.with_name("more.bmp"))
        case "fewer":
            file.unlink()
        case "class":
            file.rename(project / "images/dog/0.bmp")
    assert data_id(asked()) != before


def test_what_is_no_image_changes_nothing(project, asked):
    before = data_id(asked())
    for name in (".DS_Store", "Thumbs.db", "cat/notes.txt"):
        (project / "images" / name).write_text("no image")
    assert data_id(asked()) == before


def test_padding_is_another_data_set_and_only_of_image_folders(project, asked, raw):
    assert data_id(asked(padding="pad")) != data_id(asked(padding="crop"))
    raw["presets"]["test"]["data"].update(source="digits", path=None, padding="pad")
    assert ".data.padding: only for source image_folder" in _refusal_lines(raw)
    raw["presets"]["test"]["data"].update(padding="crop")
    unpadded = plan.build(params.parse(raw)).data
    del raw["presets"]["test"]["data"]["padding"]
    assert plan.build(params.parse(raw)).data == unpadded


def _refusal_lines(raw) -> str:
    with pytest.raises(params.UserError) as caught:
        params.parse(raw)
    return str(caught.value)


def test_jobs_use_what_was_planned(project, asked):
    planned = identity.identified(asked())
    frozen = freeze(planned, project / "state")
    write_image(project / "images/cat/more.bmp")
    assert identity.identified(params.load(frozen)).selected == planned.selected
    shutil.rmtree(project / "images")
    assert data_id(params.load(frozen)) == plan.build(planned).data
    assert vars(plan.build(params.load(frozen))) == vars(plan.build(planned))


def test_a_missing_or_unclear_folder_is_reported_before_anything_is_planned(project, asked):
    assert refusal(identity.identified, asked("none")).startswith("none: no such folder; data.path must name")
    write_image(project / "images" / "loose.png")
    assert "images (loose.png) beside class folders" in refusal(identity.identified, asked())
    home = refusal(identity.identified, asked("~nobody-of-this-name/images"))
    assert home == "data.path: '~nobody-of-this-name/images' names no home directory here; write the whole path"


@pytest.mark.parametrize("command", [("models",), ("plan", "--left"), ("data", "image_folder")])
def test_commands_report_a_missing_folder_in_one_line(project, asked, raw, command):
    asked("gone")
    (project / "params.yaml").write_text(yaml.safe_dump(raw))
    process = subprocess.run([sys.executable, "-m", "surrodiff.cli", *command], capture_output=True, text=True)
    lines = [line for line in process.stderr.splitlines() if ": warning: " not in line]
    assert lines == ["surrodiff: gone: no such folder; data.path must name a folder of images or of class folders"]
    assert (process.returncode, process.stdout) == (1, "")


# --- folders that DVC tracks


@pytest.fixture
def tracked(project) -> Path:
    """The project with the marks that `dvc add images` leaves."""
    (project / ".dvc").mkdir()
    (project / "images.dvc").write_text("outs:\n- path: images\n")
    return project


def test_a_checkout_that_sets_times_anew_is_the_same_data_set(tracked, asked):
    before = data_id(asked())
    for number, file in enumerate(sorted(tracked.rglob("*.bmp"))):
        os.utime(file, (10**9 + number, 10**9 + number))
    assert data_id(asked()) == before
    write_image(tracked / "images/cat/0.bmp", seed=99)
    assert data_id(asked()) != before
    write_image(tracked / "images/cat/0.bmp", seed=0)
    assert data_id(asked()) == before


def test_times_count_where_dvc_tracks_nothing(project, asked):
    before = data_id(asked())
    os.utime(project / "images/cat/0.bmp", (10**9, 10**9))
    assert data_id(asked()) != before


def test_contents_are_read_again_only_after_a_change(tracked, asked):
    before = data_id(asked())
    (kept,) = (tracked / ".dvc/tmp/surrodiff").iterdir()
    written = kept.stat().st_mtime_ns
    assert data_id(asked()) == before
    assert kept.stat().st_mtime_ns == written
    kept.write_text("damaged")
    assert data_id(asked()) == before


def test_a_folder_that_lies_in_a_tracked_one_is_tracked(tracked, asked):
    before = data_id(asked("images/cat"))
    os.utime(tracked / "images/cat/0.bmp", (10**9, 10**9))
    assert data_id(asked("images/cat")) == before


def test_a_tracked_folder_must_be_a_dependency_of_the_stages(tracked, asked, root):
    text = (root / "dvc.yaml").read_text()
    (tracked / "dvc.yaml").write_text(text)
    (tracked / ".dvcignore").touch()
    message = refusal(identity.identified, asked())
    assert message.startswith("images: tracked by images.dvc, and DVC's stages do not depend on it; write")
    assert "`image_folder: images` under `vars` in dvc.yaml" in message
    (tracked / "dvc.yaml").write_text(text.replace("image_folder: .dvcignore", "image_folder: images"))
    assert data_id(asked("images/cat")) != data_id(asked())
    (tracked / "dvc.yaml").write_text("stages: {}\n")  # another project's
    data_id(asked())
