"""A copy of the project in a folder of its own, in which the real workflow runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from small_studies import all_columns

ABSENT = object()
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

    def snakemake(self, *arguments: str, config: tuple[str, ...] = ()) -> str:
        """Run Snakemake to success; returns what it printed."""
        process = self.run("snakemake", "--cores", "2", *arguments, "--config", f"preset={self.preset}", *config)
        assert process.returncode == 0, process.stdout
        return process.stdout

    @property
    def work(self) -> Path:
        """Where runs are made."""
        return self.results / "work"

    def surrodiff(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("surrodiff.cli", *arguments, "--preset", self.preset)

    def change(self, *keys: str, value):
        """Set one value of params.yaml, or remove it (ABSENT); returns the old one."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        block = params
        for key in keys[:-1]:
            block = block.setdefault(key, {})
        old = block.pop(keys[-1], ABSENT)
        if value is not ABSENT:
            block[keys[-1]] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))
        return old

    def write_studies(self, studies: dict[str, dict]):
        """Replace the project's studies, which all presets then make."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for preset in params["presets"].values():
            preset["groups"] = []
        file.write_text(yaml.safe_dump(params, sort_keys=False))
        shutil.rmtree(self.path / "workflow/studies")
        for name, study in studies.items():
            self.write_study(name, study)

    def write_study(self, name: str, study: dict):
        """Write a study among the others."""
        file = self.path / f"workflow/studies/{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True))

    def made(self, stage: str) -> dict[str, int]:
        """When each complete run of a stage was made: a run that is made again has another time."""
        return {f.parent.name: f.stat().st_mtime_ns for f in self.results.glob(f"{stage}/*/record.json")}

    def outputs(self) -> dict[str, bytes]:
        """Tables, figures and claims by file name."""
        return {f.name: f.read_bytes() for f in self.results.glob("*") if f.is_file()} | {
            f.name: f.read_bytes() for folder in ("tables", "figures") for f in self.results.glob(f"{folder}/*")
        }


class Repository(Project):
    """A git repository with DVC in it; `test` is its preset, with fewer rows."""

    @classmethod
    def start(cls, path: Path, remote: Path) -> "Repository":
        """A new one, as if cloned from the project, with a DVC remote in a folder."""
        project = cls(path)
        shutil.copytree(ROOT / "generators", path / "generators")
        for name in (".gitattributes", ".gitignore", ".dvcignore", "dvc.yaml"):
            shutil.copy(ROOT / name, path / name)
        (path / ".dvc").mkdir()
        for name in ("config", ".gitignore", "plots.html"):
            shutil.copy(ROOT / ".dvc" / name, path / ".dvc" / name)
        shutil.copytree(ROOT / ".dvc" / "plots", path / ".dvc" / "plots")
        project.change("preset", value="test")
        project.change("device", value="cpu")
        project.write_studies(all_columns())
        project.change("presets", "test", "seeds", value={"calibration": [0]})
        project.change(*LEARNING_RATE, value=0.002)  # Default's, said again, so that `dvc exp run -S` finds the key
        project.git("init", "--quiet", "--initial-branch", "main")
        project.succeed("dvc", "remote", "add", "--default", "storage", str(remote))
        project.commit("Start")
        return project

    @classmethod
    def clone(cls, origin: "Repository", path: Path, *options: str) -> "Repository":
        """A fresh clone, made with more of git's options, with all of DVC's files."""
        subprocess.run(["git", "clone", "--quiet", *options, str(origin.path), str(path)], check=True)
        cloned = cls.at(path)
        cloned.succeed("dvc", "pull")
        return cloned

    @classmethod
    def at(cls, path: Path) -> "Repository":
        """One that is there."""
        there = cls.__new__(cls)
        there.path, there.preset = path, "test"
        return there

    def environment(self) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**super().environment(), **who, "PATH": path}

    def succeed(self, *command: str) -> str:
        """Run a Python module's command line to success; returns what it printed."""
        process = self.run(*command)
        assert process.returncode == 0, process.stdout
        return process.stdout

    def git(self, *arguments: str):
        subprocess.run(["git", *arguments], cwd=self.path, env=self.environment(), check=True, capture_output=True)

    def commit(self, message: str):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def assert_clean(self):
        """Neither tool finds anything to do."""
        assert "Data and pipelines are up to date" in self.succeed("dvc", "status")
        assert "Nothing to be done" in self.succeed("snakemake", "--cores", "2", "--dry-run")


LEARNING_RATE = ("presets", "test", "models", "DeepRes1", "training", "learning_rate")


def trained(printed: str) -> list[str]:
    """The names of the models that Snakemake had trained, from what it printed."""
    return re.findall(r"Job \d+: train (\w+)-[0-9a-f]{8}", printed)
