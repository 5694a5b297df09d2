"""A copy of the code that can be extended, and what CONTRIBUTING says of the files that this touches."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import yaml

CODE = "src/surrodiff/"
EXTENSIONS = Path(__file__).parent / "extensions"  # new files, at their places below src/surrodiff


class Copy:
    """A copy of all that the table's paths may touch."""

    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("src/surrodiff", "workflow/studies", "generators"):
            shutil.copytree(root / name, folder / name, ignore=ignored)
        shutil.copy(root / "params.yaml", folder)

    def edit(self, path: str, *changes: tuple[str, str]):
        """Replace texts of a file, each of which is there once."""
        text = (self.folder / path).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{path} has {text.count(old)} times: {old}"
            text = text.replace(old, new)
        (self.folder / path).write_text(text)

    def write(self, path: str, text: str):
        """A new file."""
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text)

    def extend(self, *paths: str):
        """The new files of tests/extensions."""
        for path in paths:
            self.write(CODE + path, (EXTENSIONS / path).read_text())

    def touched(self) -> set[str]:
        """The files that are new here, or other than in the repository."""
        files = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        originals = {path: self.root / path for path in files if "__pycache__" not in path}
        return {
            path
            for path, original in originals.items()
            if not original.exists() or original.read_bytes() != (self.folder / path).read_bytes()
        }

    def run(self, code: str, params: dict | None = None):
        """What code prints as JSON that runs with the copy, in a folder with these parameters or the copy's own."""
        folder = self.folder
        if params:
            folder = self.folder.parent / "project"
            folder.mkdir()
            (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        environment = {"PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])


def listed(root: Path, what: str) -> tuple[int, list[str]]:
    """The number of files in a row of the table, and a pattern for each that the row names."""
    table = (root / "CONTRIBUTING.md").read_text().partition("## To add something")[2].partition("\n## ")[0]
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {what}"))
    number, _, files = row.split("|")[2].strip().partition(": ")
    patterns = []
    for part in files.split("; "):
        (name,) = re.findall(r"`([^`]*(?:/|\.py|\.yaml)[^`]*)`", part) or ["workflow/studies/" * ("study" in part)]
        name = name.replace("NAME", "*") + "*" * name.endswith("/")
        patterns.append(name if (root / name.partition("*")[0]).exists() else CODE + name)
    return int(number), patterns


def assert_as_listed(copy: Copy, what: str):
    """The files that were touched are those of the table's row, one for each that it names."""
    number, patterns = listed(copy.root, what)
    touched = copy.touched()
    assert len(touched) == number == len(patterns), touched
    for pattern in sorted(patterns, key=lambda pattern: "*" in pattern):
        matches = [path for path in touched if fnmatch(path, pattern)]
        assert len(matches) == 1, (pattern, touched)
        touched -= {*matches}
