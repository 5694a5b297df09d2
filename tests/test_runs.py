"""Run folders: whole files only, one writer, one configuration, and checksums that notice everything."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
from configs import RUN
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.errors import UserError
from surrodiff.planning.runs import Config, ModelConfig, Run, canonical
from surrodiff.store.runs import (
    load_run,
    open_run,
    read_json,
    read_record,
    replacing,
    sha256,
    verified,
    write_json,
    write_text,
)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_replacing_gives_the_file_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "folder" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == {"a.txt"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OSError])
def test_replacing_keeps_the_old_file_if_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_replacing_leaves_nothing_if_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == set()


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path, root):
    script = (
        "import os, pathlib, signal\nfrom surrodiff.store.runs import replacing\n"
        "with replacing(pathlib.Path('a.txt')) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    process = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=False)
    assert process.returncode == -9
    assert "a.txt" not in names(tmp_path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_comes_back_as_it_was(tmp_path, value):
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_not_a_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"fid": float("nan")})
    assert names(tmp_path) == set()


DAMAGED = [b"", b"NaN", b"1e999", b'{"fid": Infinity}', b'{"run": "Mi', b"\xff\xfe", b"[" * 100_000, b"1" * 5000]
OF_ANOTHER_SHAPE = [b"{}", b"[]", b"3", b"null", b'"text"', b'{"run": []}', b'{"run": "Mine-00000000", "files": {}}']


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:6]))
def test_damaged_json_is_told(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json: damaged"):
        read_json(path)


@pytest.mark.parametrize("content", [*DAMAGED, *OF_ANOTHER_SHAPE], ids=lambda content: repr(content[:20]))
@pytest.mark.parametrize("name", ["record.json", "config.json"])
def test_a_record_or_configuration_that_is_not_as_written_is_told(tmp_path, name, content):
    path, _ = finished(tmp_path)
    (path / name).unlink()
    (path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: (damaged|altered)") as caught:
        load_run(tmp_path, "models", RUN.id)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "work/models" / RUN.id) in str(caught.value), "where it comes back from"


@given(st.data())
def test_no_changed_byte_of_a_record_or_configuration_is_believed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("changed")
    path, record = finished(folder)
    file = path / data.draw(st.sampled_from(["record.json", "config.json"]))
    blob = file.read_bytes()
    position, bit = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(0, 7))
    file.write_bytes(blob[:position] + bytes([blob[position] ^ 1 << bit]) + blob[position + 1 :])
    with suppress(UserError):
        _, config, read = load_run(folder, "models", RUN.id)
        # What is let through is white space, or the name of the checksum itself.
        assert {key: read[key] for key in record} == record
        assert config == RUN.config


def test_a_record_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path):
    path, record = finished(tmp_path)
    write_json(path / "record.json", record)
    assert load_run(tmp_path, "models", RUN.id)[2] == record


def test_what_a_killed_writer_left_goes_when_the_folder_is_opened_again(tmp_path):
    with open_run(tmp_path, RUN) as folder:
        path = folder.path
    (path / ".checkpoint.safetensors.123.tmp").write_bytes(b"half")
    (path / "checkpoint.safetensors").write_bytes(b"whole")
    with open_run(tmp_path, RUN):
        assert {file.name for file in path.iterdir()} == {".lock", "config.json", "checkpoint.safetensors"}


def test_a_folder_holds_one_configuration_for_ever(tmp_path):
    with open_run(tmp_path, RUN) as folder:
        config = folder.path / "config.json"
    assert json.loads(config.read_text()) == RUN.config.json_value()
    write_json(config, {**RUN.config.json_value(), "seed": 4})
    with pytest.raises(UserError, match=r"config\.json: belongs to another configuration"), open_run(tmp_path, RUN):
        pass


def test_the_order_of_keys_is_no_other_configuration(tmp_path):
    with open_run(tmp_path, RUN) as folder:
        folder.finish({}, [])
    reordered = ModelConfig.model_validate(dict(reversed(RUN.config.json_value().items())))
    with open_run(tmp_path, Run("Mine", reordered)) as folder:
        assert folder.record is not None


def finished(tmp_path) -> tuple:
    """The folder and record of RUN with a file, as the workflow leaves it."""
    with open_run(tmp_path, RUN) as folder:
        (folder.path / "a.bin").write_bytes(b"0123456789")
        (folder.path / "half.part").write_bytes(b"01234")
        assert not (tmp_path / "models" / RUN.id).exists(), "an unfinished run is not where DVC and readers look"
        folder.finish({"answer": 42}, ["a.bin"])
    return tmp_path / "models" / RUN.id, folder.record


def test_a_finished_run_is_found_with_its_record(tmp_path):
    path, record = finished(tmp_path)
    assert record["run"] == RUN.id
    assert record["files"] == {"a.bin": {"sha256": sha256(path / "a.bin"), "bytes": 10}}
    assert load_run(tmp_path, "models", RUN.id) == (path, RUN.config, record)
    with open_run(tmp_path, RUN) as folder:
        assert folder.record == record
    assert verified(path, record, "a.bin") == path / "a.bin"
    assert names(path) == {"config.json", "record.json", "a.bin"}
    assert names(tmp_path / "work/models" / RUN.id) == {".lock", "config.json", "record.json", "a.bin"}


@pytest.mark.parametrize("taken", ["the files", "the folder", "a part of it"])
def test_a_finished_run_that_was_taken_away_comes_back_and_takes_no_room(tmp_path, taken):
    """As DVC's checkouts take away what they do not know."""
    path, record = finished(tmp_path)
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    match taken:
        case "the files":
            for file in path.iterdir():
                file.unlink()
        case "the folder":
            shutil.rmtree(path)
        case "a part of it":
            (path / "record.json").unlink()
    with open_run(tmp_path, RUN) as folder:
        assert folder.record == record
        folder.mark_done()
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != "done.json"} == contents
    assert (path / "done.json").exists()
    assert (path / "a.bin").samefile(tmp_path / "work/models" / RUN.id / "a.bin")


def test_a_finished_run_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path, record = finished(tmp_path)
    assert verified(path, record, "a.bin").read_bytes() == b"0123456789"


def test_a_damaged_copy_does_not_come_back(tmp_path):
    path, _ = finished(tmp_path)
    shutil.rmtree(path)
    (tmp_path / "work/models" / RUN.id / "a.bin").write_bytes(b"0123456780")
    with (
        pytest.raises(UserError, match=r"work/models/.*a\.bin: truncated or altered") as caught,
        open_run(tmp_path, RUN),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert not path.exists()


def test_what_an_earlier_version_left_unfinished_is_taken_over(tmp_path):
    old = tmp_path / "models" / RUN.id
    write_text(old / "config.json", canonical(RUN.config.json_value()))
    (old / "checkpoint.safetensors").write_bytes(b"state")
    with open_run(tmp_path, RUN) as folder:
        assert (folder.path / "checkpoint.safetensors").read_bytes() == b"state"
        folder.finish({}, ["checkpoint.safetensors"])
    assert names(old) == {"config.json", "record.json", "checkpoint.safetensors"}


@pytest.mark.parametrize("what", ["the folder", "the configuration", "the lock", "another's folder"])
def test_a_run_whose_folder_is_taken_away_under_it_fails_and_says_so(tmp_path, what):
    with open_run(tmp_path, RUN) as folder:
        folder.check()
        match what:
            case "the folder" | "another's folder":
                shutil.rmtree(folder.path)
            case "the configuration":
                (folder.path / "config.json").unlink()
            case "the lock":
                (folder.path / ".lock").unlink()
        if what == "another's folder":
            with open_run(tmp_path, RUN) as second:
                second.check()
        for act in (folder.check, lambda: folder.finish({}, [])):
            with pytest.raises(UserError, match="deleted or replaced while this job was writing") as caught:
                act()
            assert str(folder.path) in str(caught.value)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "models" / RUN.id).exists()


def test_a_file_that_was_taken_away_under_a_run_is_told(tmp_path):
    with (
        open_run(tmp_path, RUN) as folder,
        pytest.raises(UserError, match=r"a\.bin: was deleted while the run was made"),
    ):
        folder.finish({}, ["a.bin"])
    assert not (tmp_path / "models" / RUN.id).exists()


@pytest.mark.parametrize("below", ["standalone/tmp1", "tmp2"])
def test_an_experiment_beside_the_workspace_works_with_the_repository_that_began_it(tmp_path, below):
    experiment = tmp_path / "repository/.dvc/tmp/exps" / below
    (experiment / ".dvc").mkdir(parents=True)
    results = experiment / "results/test"
    with open_run(results, RUN) as folder:
        assert folder.path == tmp_path / "repository/results/test/work/models" / RUN.id
        folder.finish({}, [])
    assert (results / "models" / RUN.id / "record.json").exists()
    shutil.rmtree(experiment)
    with open_run(tmp_path / "repository/results/test", RUN) as folder:
        assert folder.record["run"] == RUN.id


def test_a_run_that_is_not_finished_is_not_complete(tmp_path):
    for _ in range(2):
        with pytest.raises(UserError, match=r"config\.json: missing; run the step"):
            load_run(tmp_path, "models", RUN.id)
        with open_run(tmp_path, RUN):
            pass


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"012345678", "truncated or altered"),
        (b"", "truncated or altered"),
        (b"0123456788", "truncated or altered"),
        (b"01234567890", "truncated or altered"),
        (None, "missing"),
    ],
)
def test_a_damaged_file_is_noticed(tmp_path, content, says):
    path, record = finished(tmp_path)
    (path / "a.bin").unlink()
    if content is not None:
        (path / "a.bin").write_bytes(content)
    with pytest.raises(UserError) as caught:
        verified(path, record, "a.bin")
    assert str(caught.value).startswith(f"{path / 'a.bin'}: {says}")
    assert "\n" not in str(caught.value)


def test_a_file_that_the_record_does_not_list_is_told(tmp_path):
    path, record = finished(tmp_path)
    with pytest.raises(UserError, match=r"lists no b\.bin; there are a\.bin"):
        verified(path, record, "b.bin")


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("data", "digits"),
        ("models", "Default"),
        ("models", "SNGAN"),
        ("references", "classifier"),
        ("samples", "Default_6"),
        ("scores", "Default_6"),
    ],
)
def test_a_deleted_marker_comes_back_and_nothing_is_made_again(own_results, run_named, stage, name, make):
    run = run_named(stage, name)
    path = own_results / stage / run.id
    (path / "done.json").unlink()
    before = {
        file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir() if file.name != ".lock"
    }
    record = make(run, own_results)
    assert read_json(path / "done.json") == {"run": run.id}
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir() if file.name != ".lock"}
    assert {file: after[file] for file in before} == before
    assert set(after) - set(before) == {"done.json"}
    assert record == read_record(path)


def test_every_artefact_is_listed_and_verifies(results):
    for record_file in results.glob("*/*/record.json"):
        record = read_json(record_file)
        for name in record["files"]:
            verified(record_file.parent, record, name)


def test_no_temporary_file_is_left(results):
    assert not list(results.rglob("*.tmp"))
    assert not list(results.rglob("*.part"))


def test_an_unknown_stage_is_no_stage(tmp_path, make):
    class PaintConfig(Config):
        stage = "paint"

    with pytest.raises(ValueError, match="no stage 'paint'"):
        make(Run("Mine", PaintConfig()), tmp_path)


@pytest.mark.parametrize(
    ("change", "where"), [({"steps": 3}, "steps"), ({"model": {"kind": "vae"}}, "model"), ({"seed": "0"}, "seed")]
)
def test_a_configuration_of_another_version_is_told(tmp_path, change, where):
    """Its checksum is as it should be, so that nobody has altered it."""
    text = canonical(RUN.config.json_value() | change)
    run_id = f"Mine-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    write_text(tmp_path / "models" / run_id / "config.json", text)
    with pytest.raises(UserError, match=rf"config\.json: not a configuration .* its {where}") as caught:
        load_run(tmp_path, "models", run_id)
    assert "\n" not in str(caught.value)
