"""Run folders: one writer at a time, one configuration for ever, whole or not there.

A run is made in `results/<preset>/work/<stage>/<run id>/`: `config.json` (written first), the artefacts, and
`record.json` (written last: what was made, by what, with a SHA-256 of each file). Then all of it appears at once in
`results/<preset>/<stage>/<run id>/`, where it is read, and where the workflow's marker, `done.json`, lies.

DVC tracks the second folder, and its checkouts delete what is not recorded there; the workflow deletes markers. The
work folder belongs to neither: what is unfinished lies only there, and what is finished stays there too, as hard links,
so that a run which was taken away comes back from it and is not made again.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from surrodiff.errors import UserError
from surrodiff.planning.measures import CONFIGS
from surrodiff.planning.runs import Config, Run, canonical
from surrodiff.runtime import distributed
from surrodiff.runtime.locks import try_lock

CONFIG, RECORD, DONE, LOCK = "config.json", "record.json", "done.json", ".lock"
STALLED_SECONDS = 1200  # a holder that shows no progress for so long has none; its longest step may take minutes
POLL_SECONDS = 1.0


def cache_folder() -> Path:
    """Where downloaded weights and compiled code are kept: $XDG_CACHE_HOME/surrodiff or ~/.cache/surrodiff.

    Raises UserError if there is no home directory, as for a container's unknown user.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surrodiff"
    except RuntimeError:
        raise UserError(
            "no home directory: set XDG_CACHE_HOME to a folder for downloads and compiled code, or HOME"
        ) from None


@contextmanager
def replacing(path: Path):
    """Yield a temporary path beside `path`; on success it is flushed to the disk and takes the name, else it goes.

    So a file under its final name is always whole, whatever kills the process or fills the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without the file's name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str):
    """Write a text file in one step (see replacing)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value):
    """Write a value as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _finite(text: str) -> float:
    """A number of a JSON file; the NaN that Python reads, and 1e999, are none."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number of ours")
    return number


def read_json(path: Path):
    """Read a JSON file of ours; raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the step that makes it, or `snakemake --cores all`") from None
    # A ValueError is no JSON (which has no NaN), not UTF-8, or a number of thousands of digits.
    except (ValueError, RecursionError, IsADirectoryError):
        raise UserError(f"{path}: damaged; {_remedy(path.parent)}") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shared(results: Path) -> Path:
    """Where the work on runs of a results folder lies, and its logs: there.

    But an experiment of `dvc exp run --temp` lives in a copy of the repository that goes with it, so its work lies with
    the repository that began it: each resumes what the other's interruption left, and finds what the other has made.
    """
    parts = Path(os.path.abspath(results)).parts
    for i in range(len(parts) - 3):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            for j in range(i + 4, len(parts)):
                if Path(*parts[:j], ".dvc").is_dir():
                    return Path(*parts[:i], *parts[j:])
    return results


def work_folder(results: Path, stage: str, run_id: str) -> Path:
    """Where a run is made, and stays when it is finished (see above)."""
    return shared(results) / "work" / stage / run_id


def _remedy(path: Path) -> str:
    """What to do about a damaged run folder."""
    if path.parent.parent.name == "work":
        return f"restore it, or delete {path} to make the run anew"
    work = work_folder(path.parent.parent, path.parent.name, path.name)
    outcome = f"the run comes back from {work}" if (work / RECORD).exists() else "the run is made anew"
    return f"restore it (`dvc checkout`), or delete {path} and run the workflow again: {outcome}"


class RunFolder:
    """An open run folder, locked while it is not complete; `record` is None until then.

    path: the folder to write into. Of a job's processes only the first completes the run.
    """

    def __init__(self, path: Path, final: Path, record: dict | None, lock: TextIO | None = None):
        self.path, self.record = path, record
        self._final, self._lock = final, lock

    def check(self):
        """Raise UserError if the folder was taken away or replaced while this job writes into it."""
        if self._lock is None:
            return
        locked_inode = os.fstat(self._lock.fileno()).st_ino
        try:
            is_ours = os.stat(self.path / LOCK).st_ino == locked_inode and (self.path / CONFIG).exists()
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            raise UserError(
                f"{self.path}: its files were deleted or replaced while this job was writing them, so it ends here; "
                "run the same command again: it resumes from the last checkpoint that is left, or begins anew"
            )

    def finish(self, record: dict, files: list[str]):
        """Complete the run: write the record, which lists the given files of the folder with their checksums, and let
        the whole appear where it is read.

        Raises UserError if a file was taken away meanwhile.
        """
        if distributed.rank() > 0:
            return
        self.check()
        for name in files:
            if not (self.path / name).exists():
                raise UserError(f"{self.path / name}: was deleted while the run was made; {_remedy(self.path)}")
        checksums = {
            name: {"sha256": sha256(self.path / name), "bytes": (self.path / name).stat().st_size} for name in files
        }
        record = {"run": self.path.name, "files": checksums, **record}
        write_json(self.path / RECORD, record | {"digest": _digest(record)})
        _publish(self.path, self._final, record)
        self.record = record

    def mark_done(self):
        """Tell the workflow that the run is complete."""
        if distributed.rank() == 0:
            write_json(self._final / DONE, {"run": self._final.name})


def _digest(record: dict) -> str:
    return hashlib.sha256(canonical(record).encode()).hexdigest()


def give_name(source: Path, target: Path):
    """Let a file have a second name, or a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with open(target, "rb+") as file:
            os.fsync(file.fileno())


def _publish(work: Path, final: Path, record: dict):
    """Let a finished run appear as a whole in `final`, and keep it in `work` where DVC's checkouts could delete it."""
    files = [CONFIG, RECORD, *record["files"]]
    for leftover in work.iterdir():  # checkpoints of parts, and what a killed writer left
        if leftover.name not in (*files, LOCK) and leftover.is_file():
            leftover.unlink()
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name in files:
            give_name(work / name, temporary / name)
        if not (final / RECORD).exists():  # a checkout may have brought it meanwhile
            shutil.rmtree(final, ignore_errors=True)  # made by Snakemake for its marker, or emptied by a checkout
            os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if final.parent.name == "samples":  # not in DVC: whoever deletes them, because they are large, means it
        for name in files:
            (work / name).unlink()


def _adopt(final: Path, work: Path):
    """Take over what lies in `final` without a record: by an earlier version, or what a checkout left of a run."""
    for file in final.iterdir() if final.is_dir() else ():
        if file.is_file() and file.name not in (DONE, LOCK) and not (work / file.name).exists():
            shutil.move(file, work / file.name)


def _check_config(path: Path, run: Run):
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != canonical(run.config.json_value()):
        raise UserError(f"{path}: belongs to another configuration; move {path.parent} away and run this again")


@contextmanager
def _locked(work: Path):
    """Hold the lock of a work folder; wait for another holder for as long as that makes progress."""
    path = work / LOCK
    reported, last_beat, last_change = None, None, time.monotonic()
    while (lock := try_lock(path)) is None:
        time.sleep(POLL_SECONDS)  # at first also for a holder that has just got the lock to write who it is
        holder = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
        if holder != reported:
            reported = holder
            print(f"{work}: waiting for {holder}, which is making it", file=sys.stderr, flush=True)
        beat = path.stat().st_mtime_ns
        if beat != last_beat:
            last_beat, last_change = beat, time.monotonic()
        if time.monotonic() - last_change > STALLED_SECONDS:
            raise UserError(
                f"{work}: {holder} holds it and has made no progress for {STALLED_SECONDS / 60:.0f} minutes; end that "
                "process, then run this again: it resumes where that one stopped"
            )
    with lock:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield lock


def is_made(results: Path, run: Run) -> bool:
    """Whether a run was finished, here or where it was made."""
    folders = (results / run.stage / run.id, work_folder(results, run.stage, run.id))
    return any((folder / RECORD).exists() for folder in folders)


@contextmanager
def open_run(results: Path, run: Run):
    """Yield the RunFolder of a run: complete, or locked to be made; waits while another job is making it.

    All processes of a job must call this, and the first has the lock. Where the first makes the run alone, the others
    wait for it where they open the next one.
    Raises UserError if the job that holds it makes no progress, if it belongs to another configuration, or if its
    finished files are damaged.
    """
    final, work = results / run.stage / run.id, work_folder(results, run.stage, run.id)
    if distributed.rank() > 0:
        yield RunFolder(work, final, distributed.broadcast())
        return
    if (final / RECORD).exists():
        yield RunFolder(work, final, distributed.broadcast(_checked_record(final, run)))
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(final.parent, os.W_OK):  # found out now, and not when the work is done
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(final.parent))
    work.mkdir(parents=True, exist_ok=True)
    with _locked(work) as lock:
        if (final / RECORD).exists():  # the other job has finished it
            yield RunFolder(work, final, distributed.broadcast(_checked_record(final, run)))
            return
        for leftover in work.glob(".*.tmp"):  # by a writer that was killed
            leftover.unlink()
        if not (work / RECORD).exists():
            _adopt(final, work)
        record = None
        if (work / RECORD).exists():
            record = _checked_record(work, run)
            for name in record["files"]:
                verified(work, record, name)
            _publish(work, final, record)
        elif (work / CONFIG).exists():
            _check_config(work / CONFIG, run)
        else:
            write_text(work / CONFIG, canonical(run.config.json_value()))
        yield RunFolder(work, final, distributed.broadcast(record), lock)


def _checked_record(path: Path, run: Run) -> dict:
    """The record of a run's folder, which must be of its configuration."""
    _check_config(path / CONFIG, run)
    return read_record(path)


def read_record(path: Path) -> dict:
    """The record of the complete run in a folder; raises UserError if it is missing, damaged or another run's."""
    record = read_json(path / RECORD)
    is_record = isinstance(record, dict) and record.get("run") == path.name and isinstance(record.get("files"), dict)
    digest = record.pop("digest", None) if is_record else None  # earlier versions wrote none
    if not is_record or digest not in (None, _digest(record)):
        raise UserError(f"{path / RECORD}: altered (not the record of {path.name} as written); {_remedy(path)}")
    return record


def load_run(results: Path, stage: str, run_id: str) -> tuple[Path, Config, dict]:
    """The folder, typed configuration and record of a run that must be complete; raises UserError if it is not, or if
    this version has no such configuration."""
    path = results / stage / run_id
    value = read_json(path / CONFIG)
    if not run_id.endswith(hashlib.sha256(canonical(value).encode()).hexdigest()[:8]):
        raise UserError(f"{path / CONFIG}: altered (its checksum is not that of {run_id}); {_remedy(path)}")
    try:
        config = CONFIGS[stage].model_validate(value)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "text"
        raise UserError(
            f"{path / CONFIG}: not a configuration of this version (see its {where}); move {path} away, or use the "
            "version that wrote it"
        ) from None
    return path, config, read_record(path)


def verified(path: Path, record: dict, name: str) -> Path:
    """The path of a file of a complete run; raises UserError if it is missing or its checksum is another."""
    file = path / name
    if name not in record["files"]:
        raise UserError(f"{path}: its record lists no {name}; there are {', '.join(record['files'])}")
    if not file.exists():
        raise UserError(f"{file}: missing though the run is complete; {_remedy(path)}")
    if file.stat().st_size != record["files"][name]["bytes"] or sha256(file) != record["files"][name]["sha256"]:
        raise UserError(f"{file}: truncated or altered (SHA-256 differs from record.json); {_remedy(path)}")
    return file
