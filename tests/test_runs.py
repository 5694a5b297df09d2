"""Run folders: whole files only, one writer, one configuration, and checksums that notice everything."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrodiff import stages
from surrodiff.errors import UserError
from surrodiff.plan import Run
from surrodiff.runs import complete, opened, read_json, replacing, sha256, verified, write_json, write_text

RUN = Run("models", "Mine", {"steps": 3, "rate": 0.5})
HOLDER = """
import pathlib, sys
from surrodiff.plan import Run
from surrodiff.runs import opened
with opened(pathlib.Path(sys.argv[1]), Run("models", "Mine", {"steps": 3, "rate": 0.5})):
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(results, root):
    """Another process that holds RUN until it is told to go or killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(results)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


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
        "import os, pathlib, signal\nfrom surrodiff.runs import replacing\n"
        "with replacing(pathlib.Path('a.txt')) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=False)
    assert done.returncode == -9
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


@pytest.mark.parametrize("content", [b"", b'{"run": "Mi', b"\xff\xfe"])
def test_damaged_json_is_told(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json: damaged"):
        read_json(path)


def test_a_second_process_is_refused_and_told_who_is_first(tmp_path, root):
    with held_elsewhere(tmp_path, root) as holder:
        with pytest.raises(UserError) as caught, opened(tmp_path, RUN):
            pass
        message = str(caught.value)
        assert f"process {holder.pid} on " in message
        assert str(tmp_path / "models" / RUN.id) in message
        assert "\n" not in message
        with opened(tmp_path, Run("models", "Mine", {"steps": 4})) as other:
            assert other.record is None
        holder.stdin.close()
        holder.wait()
        with opened(tmp_path, RUN) as folder:
            assert folder.record is None


def test_a_killed_holder_holds_no_longer(tmp_path, root):
    with held_elsewhere(tmp_path, root) as holder:
        holder.kill()
        holder.wait()
        with opened(tmp_path, RUN) as folder:
            assert folder.path == tmp_path / "models" / RUN.id


def test_what_a_killed_writer_left_goes_when_the_folder_is_opened_again(tmp_path):
    run = Run("models", "one", {"a": 1})
    with opened(tmp_path, run) as folder:
        path = folder.path
    (path / ".checkpoint.safetensors.123.tmp").write_bytes(b"half")
    (path / "checkpoint.safetensors").write_bytes(b"whole")
    with opened(tmp_path, run):
        assert {file.name for file in path.iterdir()} == {".lock", "config.json", "checkpoint.safetensors"}


def test_a_folder_holds_one_configuration_for_ever(tmp_path):
    with opened(tmp_path, RUN) as folder:
        config = folder.path / "config.json"
    assert json.loads(config.read_text()) == RUN.config
    write_json(config, {**RUN.config, "steps": 4})
    with pytest.raises(UserError, match=r"config\.json: belongs to another configuration"), opened(tmp_path, RUN):
        pass


def test_the_order_of_keys_is_no_other_configuration(tmp_path):
    with opened(tmp_path, RUN) as folder:
        folder.finish({}, [])
    with opened(tmp_path, Run("models", "Mine", dict(reversed(RUN.config.items())))) as folder:
        assert folder.record is not None


def finished(tmp_path) -> tuple:
    with opened(tmp_path, RUN) as folder:
        (folder.path / "a.bin").write_bytes(b"0123456789")
        folder.finish({"answer": 42}, ["a.bin"])
    return folder.path, folder.record


def test_a_finished_run_is_found_with_its_record(tmp_path):
    path, record = finished(tmp_path)
    assert record["run"] == RUN.id
    assert record["files"] == {"a.bin": {"sha256": sha256(path / "a.bin"), "bytes": 10}}
    assert complete(tmp_path, "models", RUN.id) == (path, RUN.config, record)
    with opened(tmp_path, RUN) as folder:
        assert folder.record == record
    assert verified(path, record, "a.bin") == path / "a.bin"


def test_a_run_that_is_not_finished_is_not_complete(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: missing; run the step"):
        complete(tmp_path, "models", RUN.id)
    with opened(tmp_path, RUN):
        pass
    with pytest.raises(UserError, match=r"record\.json: missing; run the step"):
        complete(tmp_path, "models", RUN.id)


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
def test_a_deleted_marker_comes_back_and_nothing_is_made_again(own_results, run_named, execution, cpu, stage, name):
    run = run_named(stage, name)
    path = own_results / stage / run.id
    (path / "done.json").unlink()
    before = {
        file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir() if file.name != ".lock"
    }
    record = stages.make(run, own_results, cpu, execution)
    assert read_json(path / "done.json") == {"run": run.id}
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir() if file.name != ".lock"}
    assert {file: after[file] for file in before} == before
    assert set(after) - set(before) == {"done.json"}
    assert record == read_json(path / "record.json")


def test_every_artefact_is_listed_and_verifies(results):
    for record_file in results.glob("*/*/record.json"):
        record = read_json(record_file)
        for name in record["files"]:
            verified(record_file.parent, record, name)


def test_no_temporary_file_is_left(results):
    assert not list(results.rglob("*.tmp"))
    assert not list(results.rglob("*.part"))


def test_an_unknown_stage_is_no_stage(tmp_path, cpu, execution):
    with pytest.raises(ValueError, match="no stage 'paint'"):
        stages.make(Run("paint", "Mine", {}), tmp_path, cpu, execution)
