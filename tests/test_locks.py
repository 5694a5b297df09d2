"""Locks: one process writes a run, others wait for it and say for whom, and whoever is killed holds none."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from configs import RUN, changed

from surrodiff.errors import UserError
from surrodiff.planning.runs import Run
from surrodiff.runtime import devices, locks
from surrodiff.store import runs
from surrodiff.store.runs import (
    open_run,
    work_folder,
)

HOLDER = """
import pathlib, sys
from configs import RUN
from surrodiff.store.runs import open_run
with open_run(pathlib.Path(sys.argv[1]), RUN):
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
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}"},
    )
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_process_waits_for_the_first_and_says_for_whom(tmp_path, root, capsys):
    with held_elsewhere(tmp_path, root) as holder:
        with open_run(tmp_path, Run("Mine", changed(RUN.config, seed=4))) as other:
            assert other.record is None
        threading.Timer(3, holder.stdin.close).start()
        with open_run(tmp_path, RUN) as folder:
            assert folder.record is None
        holder.wait()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'work' / 'models' / RUN.id}: waiting for process {holder.pid} on ")


def test_waiting_ends_when_the_holder_makes_no_progress_and_not_before(tmp_path, root, monkeypatch):
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(runs, "STALLED_SECONDS", 2)
    lock = work_folder(tmp_path, "models", RUN.id) / ".lock"
    with held_elsewhere(tmp_path, root) as holder:
        beats = [threading.Timer(n / 2, os.utime, [lock]) for n in range(8)]
        began = time.monotonic()
        for beat in beats:
            beat.start()
        with pytest.raises(UserError) as caught, open_run(tmp_path, RUN):
            pass
        assert time.monotonic() - began > 3.5 + 2  # the last beat, and then as long as it may be silent
        message = str(caught.value)
        assert f"process {holder.pid} on " in message
        assert "has made no progress" in message
        assert "\n" not in message
        assert holder.poll() is None


def test_progress_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0)
    with open_run(tmp_path, RUN) as folder:
        os.utime(folder.path / ".lock", (1, 1))
        devices.Progress("train", 10, "steps").advance(1)
        assert time.time() - (folder.path / ".lock").stat().st_mtime < 60


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_with_the_file_and_a_remedy(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"\.lock: cannot be locked.*mount this file system with locks") as caught:
        locks.try_lock(tmp_path / ".lock")
    assert "\n" not in str(caught.value)


def test_the_file_of_a_lock_is_open_for_writing_as_nfs_wants(tmp_path):
    with locks.try_lock(tmp_path / ".lock") as lock:
        assert fcntl.fcntl(lock, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def test_a_killed_holder_holds_no_longer(tmp_path, root):
    with held_elsewhere(tmp_path, root) as holder:
        holder.kill()
        holder.wait()
        with open_run(tmp_path, RUN) as folder:
            assert folder.path == tmp_path / "work" / "models" / RUN.id
