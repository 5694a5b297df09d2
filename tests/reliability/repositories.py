"""A finished workflow in a git repository with DVC: files damaged there, and the commands that look at all of them."""

import random
import shutil
from pathlib import Path

from workflow.project import ROOT, Project, Repository

from reliability import corruptions
from reliability.commands import complaint, output
from reliability.findings import Finding
from reliability.projects import PRESET
from reliability.states import RESULTS

# Damage to these must not stay unseen when results are recorded.
RECORDED = ("data", "models", "references", "scores", "refinements", "likelihoods", "timings")


def repository(folder: Path, finished: Path) -> Repository:
    """The results of `finished` in a repository of their own, nothing committed yet."""
    folder.mkdir()
    copy = Repository(folder, PRESET)
    shutil.copy(finished / "params.yaml", folder)
    shutil.copytree(finished / "results", folder / "results")
    for name in (".gitignore", ".dvcignore", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    copy.git("init", "--quiet", "--initial-branch", "main")
    code, printed = output(copy, ["snakemake", "--cores", "1", "--dry-run"])
    if code or "Nothing to be done" not in printed:
        raise RuntimeError(f"something is left to do without any damage:\n{printed}")
    return copy


def check(seed: int, case: int, finished: Path, folder: Path) -> list[Finding]:
    """Damage a file of a finished workflow, and let Snakemake plan, or `surrodiff record` record."""
    chance = random.Random(f"{seed} {case} in a repository")
    copy = repository(folder, finished)
    try:
        words = chance.choice([["snakemake", "--cores", "1", "--dry-run"], ["surrodiff.cli", "record"]])
        files = [path for path in sorted((folder / RESULTS).rglob("*")) if path.is_file() and path.name != ".lock"]
        path = chance.choice([file for file in files if "logs" not in file.parts or file.name == "costs.json"])
        before, corruption = path.read_bytes(), corruptions.choose(chance, path)
        corruption(chance, path)
        changed = not path.is_file() or path.read_bytes() != before
        what = f"{' '.join(words)}, {path.relative_to(folder / RESULTS)} {corruption.__name__}"
        return [Finding(case, kind, what, seen) for kind, seen in _wrong(copy, words, path, changed)]
    finally:
        shutil.rmtree(folder)


def _wrong(copy: Project, words: list[str], path: Path, changed: bool) -> list[tuple[str, str]]:
    code, printed = output(copy, words)
    if how := complaint(code, printed):
        return [(f"{how[0]} of {' '.join(words)}", how[1])]
    of_a_run = path.parent.parent.name in RECORDED and path.name != "done.json" and "work" not in path.parts
    if words[-1] == "record" and code == 0 and changed and of_a_run:
        return [("recorded though damaged", printed.strip()[-200:])]
    return []
