"""What DVC has recorded of the results: record what is there, and find what nothing asks for any more."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from surrodiff.config.asked import mistakes
from surrodiff.config.whole import Params
from surrodiff.data.identity import identified
from surrodiff.errors import UserError
from surrodiff.planning import plan
from surrodiff.runtime.locks import try_lock
from surrodiff.store.runs import LOCK, load_run, verified

STAGES = ("data", "models", "references", "samples", "scores", "refinements", "likelihoods", "diagnoses", "timings")


def _output(*command: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    text = process.stdout + process.stderr
    if process.returncode:
        raise UserError(f"{' '.join(command)}: failed:\n{text.strip()}")
    return text


def record(params: Params):
    """Record the selected preset's finished results in DVC, as `dvc repro` would have.

    `dvc commit` by itself takes whatever is there. Raises UserError if Snakemake still has something to do, or if a
    file of a run is missing, truncated or altered.
    """
    dry_run = _output("snakemake", "--dry-run", "--cores", "1", "--config", f"preset={params.preset}")
    if "Nothing to be done" not in dry_run:
        raise UserError(
            f"results/{params.preset}: not up to date with params.yaml, so nothing was recorded; "
            f"run `snakemake --cores all` first (`snakemake --dry-run` lists what is missing)"
        )
    results = Path("results") / params.preset
    for run_id, run in plan.build(identified(params)).runs.items():
        if run.stage != "samples":  # DVC does not keep them: they come back from models and seeds
            path, _, run_record = load_run(results, run.stage, run_id)
            for name in run_record["files"]:
                verified(path, run_record, name)
    _output("surrodiff.cli", "resolve", "--preset", params.preset)
    _output("dvc", "commit", "--force")


@dataclass(frozen=True)
class Leftover:
    """A run that no preset asks for, in its folders: where it is read, and where it was made (see runs).

    recorded: a commit of git and DVC's cache hold all of it.
    """

    paths: list[Path]
    size: int
    recorded: bool

    def delete(self):
        """Delete its folders, that of the work first, so that no half of it is taken for a finished run."""
        for path in reversed(self.paths):
            shutil.rmtree(path)


def leftovers(params: Params) -> list[Leftover]:
    """Runs below results/ that no preset of params.yaml asks for, whichever groups of studies it makes; those being
    written are not among them."""
    # Others may be about folders or files that are elsewhere.
    presets = [name for name in params.presets if (Path("results") / name).is_dir()]
    wanted = {run for name in presets for run in _wanted(params, name)}
    unwanted = []
    for preset in presets:
        for stage in STAGES:
            final, work = Path("results") / preset / stage, Path("results") / preset / "work" / stage
            run_ids = {path.name for folder in (final, work) for path in folder.glob("*-????????")} - wanted
            for run_id in sorted(run_ids):
                paths = [path for path in (final / run_id, work / run_id) if path.exists()]
                if not _being_written(work / run_id / LOCK):
                    unwanted.append(Leftover(paths, _size(paths), all(map(_recorded, paths))))
    return unwanted


def _wanted(params: Params, name: str) -> Iterator[str]:
    """The runs of a preset's own groups of studies, and of each other group that it could make."""
    preset = params.presets[name]
    groups = {study.group for study in params.studies.values()} - {None, *preset.groups}
    for asked in (preset.groups, *([group] for group in groups)):
        presets = params.presets | {name: preset.model_copy(update={"groups": asked})}
        changed = params.model_copy(update={"preset": name, "presets": presets})
        if asked is preset.groups or not any(mistakes(changed)):
            yield from plan.build(identified(changed)).runs


def _size(paths: list[Path]) -> int:
    """Bytes on the disk: a file under two names counts once."""
    files = [file.stat() for path in paths for file in path.rglob("*") if file.is_file()]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())


def _being_written(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        lock = try_lock(path)
    except PermissionError:  # whoever may not lock it may not delete it either
        return False
    if lock is None:
        return True
    lock.close()
    return False


@cache
def _cache_folder() -> Path:
    return Path(_output("dvc", "cache", "dir").strip()) / "files" / "md5"


def _object(md5: str) -> Path:
    return _cache_folder() / md5[:2] / md5[2:]


@cache
def _committed(folder: Path) -> dict[str, str]:
    """MD5 of every file below a tracked folder, by its relative path, as HEAD's dvc.lock has them."""
    try:
        lock_file = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError:
        raise UserError("git: not found; it says what a commit has recorded, so install it") from None
    with suppress(
        OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError
    ):  # then nothing is recorded
        for stage in yaml.safe_load(lock_file.stdout)["stages"].values():
            for out in stage.get("outs", []):
                if Path(out["path"]) == folder:
                    listing = json.loads(_object(out["md5"]).read_text(encoding="utf-8"))
                    return {entry["relpath"]: entry["md5"] for entry in listing}
    return {}


def _recorded(path: Path) -> bool:
    """Whether a commit and DVC's cache hold all files of a run's folder, or of that of its work."""
    stage = path.parent
    committed = _committed(stage.parent.parent / stage.name if stage.parent.name == "work" else stage)
    for file in path.rglob("*"):
        if file.is_file() and file.name != LOCK:
            md5 = committed.get(file.relative_to(stage).as_posix())
            if md5 is None or not _object(md5).exists() or md5 != _md5(file):
                return False
    return True


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
