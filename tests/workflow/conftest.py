"""A copy of the project in a folder of its own, in which the real workflow runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A copy of the project's files; `preset` is the one that its commands use."""

    def __init__(self, path: Path, preset: str = "test"):
        self.path, self.preset = path, preset
        for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, path / name)

    @property
    def results(self) -> Path:
        return self.path / "results" / self.preset

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.path / "src"), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run a Python module's command line in the copy; output and errors come together."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.path,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )

    def snakemake(self, *arguments: str) -> str:
        """Run Snakemake to success; returns what it printed."""
        done = self.run("snakemake", "--cores", "2", *arguments, "--config", f"preset={self.preset}")
        assert done.returncode == 0, done.stdout
        return done.stdout

    def surrodiff(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("surrodiff.cli", *arguments, "--preset", self.preset)

    def change(self, *keys: str, value):
        """Set one value of params.yaml; returns the old one."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        block = params
        for key in keys[:-1]:
            block = block.setdefault(key, {})
        old = block.get(keys[-1])
        block[keys[-1]] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))
        return old

    def made(self, stage: str) -> dict[str, int]:
        """When each complete run of a stage was made: a run that is made again has another time."""
        return {f.parent.name: f.stat().st_mtime_ns for f in self.results.glob(f"{stage}/*/record.json")}

    def outputs(self) -> dict[str, bytes]:
        """Tables and figures by file name."""
        return {f.name: f.read_bytes() for f in [*self.results.glob("tables/*"), *self.results.glob("figures/*")]}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The copy lies under a path with a space, as users' folders do."""
    path = tmp_path_factory.mktemp("a project")
    return Project(path)
