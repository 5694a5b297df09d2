"""Run folders: one writer at a time, one configuration for ever, complete or not there.

`results/<preset>/<stage>/<run id>/` holds `config.json` (written first), the artefacts, `record.json` (written last:
what was made, by what, with a SHA-256 of each file) and `done.json`, the workflow's marker. The workflow may delete the
marker, as Snakemake does with outputs of failed or forced jobs; what it stands for stays, and is never made twice.
"""

import fcntl
import hashlib
import json
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

from surrodiff import distributed
from surrodiff.errors import UserError
from surrodiff.plan import Run, canonical


def cache_folder() -> Path:
    """Where downloaded weights and compiled code are kept: $XDG_CACHE_HOME/surrodiff or ~/.cache/surrodiff."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surrodiff"


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
        error.filename = str(path)  # a full disk is told without the file's name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str):
    """Write a text file in one step (see replacing)."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value):
    """Write a value as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path):
    """Read a JSON file of ours; raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the step that makes it, or `snakemake --cores all`") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: damaged; delete its folder and run the workflow again to make it anew") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """An open, locked run folder; `record` is None until the run is complete.

    Of a job's processes only the first completes it.
    """

    def __init__(self, path: Path, record: dict | None):
        self.path, self.record = path, record

    def finish(self, record: dict, files: list[str]):
        """Complete the run: write the record, which lists the given files of the folder with their checksums."""
        if distributed.rank() > 0:
            return
        sums = {
            name: {"sha256": sha256(self.path / name), "bytes": (self.path / name).stat().st_size} for name in files
        }
        self.record = {"run": self.path.name, "files": sums, **record}
        write_json(self.path / "record.json", self.record)

    def mark_done(self):
        """Tell the workflow that the run is complete."""
        if distributed.rank() == 0:
            write_json(self.path / "done.json", {"run": self.path.name})


@contextmanager
def opened(results: Path, run: Run, together: bool = True):
    """Lock and yield the RunFolder of a run.

    All processes of a job must call this, and the first has the lock. If not `together`, the others find the run
    complete: the first makes it alone, and they wait for it where they open the next one.
    Raises UserError if another job is writing it, or if it belongs to another configuration.
    """
    path = results / run.stage / run.id
    if distributed.rank() > 0:
        record = distributed.from_first()
        yield RunFolder(path, record if together else {})
        return
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.5)  # for a holder that has just got the lock to write who it is
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise UserError(f"{path}: being written by {holder}; wait for it to end, then run this again") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        for left in path.glob(".*.tmp"):  # by a writer that was killed
            left.unlink()
        config = path / "config.json"
        if not config.exists():
            write_text(config, canonical(run.config))
        elif config.read_text() != canonical(run.config):
            raise UserError(f"{config}: belongs to another configuration; move {path} away and run this again")
        record = read_json(path / "record.json") if (path / "record.json").exists() else None
        yield RunFolder(path, distributed.from_first(record))


def complete(results: Path, stage: str, run_id: str) -> tuple[Path, dict, dict]:
    """The folder, configuration and record of a run that must be complete; raises UserError if it is not."""
    path = results / stage / run_id
    return path, read_json(path / "config.json"), read_json(path / "record.json")


def verified(path: Path, record: dict, name: str) -> Path:
    """The path of a file of a complete run; raises UserError if it is missing or its checksum is another."""
    file = path / name
    if name not in record["files"]:
        raise UserError(f"{path}: its record lists no {name}; there are {', '.join(record['files'])}")
    if not file.exists():
        raise UserError(f"{file}: missing though the run is complete; restore it, or delete {path} to make it anew")
    if file.stat().st_size != record["files"][name]["bytes"] or sha256(file) != record["files"][name]["sha256"]:
        raise UserError(
            f"{file}: truncated or altered (SHA-256 differs from record.json); restore it, or delete {path}"
        )
    return file
