"""A workflow under random signals: the same command until it ends well, compared with an uninterrupted run."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from workflow.project import Project

from reliability.commands import TRACEBACK
from reliability.comparison import contents, differences, temporary
from reliability.processes import Tree, role, send

UNFINISHED = ("*.part", "checkpoint.safetensors", "weights-*.safetensors", ".*.tmp", "losses.csv", "samples.npy")
ATTEMPT_SECONDS = 900
REFUSALS = 200  # at most: a process that outlives Snakemake works for seconds
PAUSE = 1.0


@dataclass
class Outcome:
    """What a run saw. It is good if `problems` is empty."""

    seed: int
    attempts: int = 0
    refused: int = 0
    signals: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        signals = ", ".join(f"{count} {what}" for what, count in sorted(self.signals.items()))
        verdict = "equal" if not self.problems else f"{len(self.problems)} PROBLEMS"
        return (
            f"seed {self.seed}: {self.signals.total()} signals ({signals}), {self.attempts} attempts, "
            f"{self.refused} of them refused, {self.seconds:.0f} s: {verdict}"
        )


@dataclass(frozen=True)
class Workflow:
    """The command that is interrupted: Snakemake's arguments; `processes` is how many a job has."""

    arguments: tuple[str, ...] = ("--cores", "2")
    processes: int = 1

    @property
    def command(self) -> list[str]:
        return ["snakemake", *self.arguments]


def soak(project: Project, workflow: Workflow, uninterrupted: Path, seed: int, signals: int) -> Outcome:
    """Run the workflow in a fresh project under so many signals, and compare with the uninterrupted results."""
    run = _Run(project, workflow, seed)
    began = time.monotonic()
    try:
        run.to_the_end(signals)
        if not run.outcome.problems:
            run.outcome.problems += run.compare(uninterrupted)
    finally:
        run.tree.kill_all()
    run.outcome.problems += tracebacks(project) if workflow.processes == 1 else []
    run.outcome.seconds = time.monotonic() - began
    return run.outcome


class _Run:
    def __init__(self, project: Project, workflow: Workflow, seed: int):
        self.project, self.workflow = project, workflow
        self.chance, self.outcome = random.Random(seed), Outcome(seed)
        self.tree = Tree(project.path, project.environment())
        self.finished: dict[Path, tuple[int, int]] = {}

    def to_the_end(self, signals: int):
        """The same command again and again; in each of the first attempts, a signal to something."""
        while True:
            sent, survivors = self.outcome.signals.total(), bool(self.tree.alive())
            code, output = self._attempt(interrupt=sent < signals)
            self._check_finished_weights()
            if code == 0 or self.outcome.problems:
                break
            if self.outcome.signals.total() > sent:
                continue
            if not survivors:
                self.outcome.problems.append(f"attempt {self.outcome.attempts} failed by itself with {code}:\n{output}")
                break
            self.outcome.refused += 1
            if self.outcome.refused > REFUSALS:
                self.outcome.problems.append(f"still refused after {REFUSALS} times:\n{output}")
                break
            time.sleep(PAUSE)
        if not self.outcome.problems:
            self.outcome.problems += [f"left at the end: {process}" for process in self.tree.wait_until_gone(60)]

    def _attempt(self, interrupt: bool) -> tuple[int, str]:
        self.outcome.attempts += 1
        log = self.project.path / f"attempt-{self.outcome.attempts}.log"
        process = self.tree.start(self.workflow.command, log)
        if interrupt:
            self._interrupt(process)
        try:
            code = process.wait(ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            self.outcome.problems.append(f"attempt {self.outcome.attempts} hangs")
            self.tree.kill_all()
            code = process.wait()
        return code, log.read_text(errors="replace")

    def _interrupt(self, process: subprocess.Popen):
        """Send a signal to a random process or to all, at a random moment or soon after unfinished work was written."""
        if self.chance.random() < 0.75:
            self._wait_for_work(process)
            delay = self.chance.uniform(0, 0.5)
        else:
            delay = self.chance.uniform(0, 8)
        _sleep(delay, process)
        if process.poll() is not None or not (alive := self.tree.alive()):
            return
        number = self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        kind = self.chance.choice(["all", "snakemake", "job", "job", "job", "any"])
        chosen = [target for target in alive if role(target) == kind] or [self.chance.choice(alive)]
        chosen = alive if kind == "all" else [self.chance.choice(chosen)]
        name = "all" if kind == "all" else role(chosen[0])
        if sum(send(target, number) for target in chosen):
            self.outcome.signals[f"{name} {number.name}"] += 1

    def _wait_for_work(self, process: subprocess.Popen):
        before = self._unfinished()
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end and not self._unfinished() - before:
            time.sleep(0.02)

    def _unfinished(self) -> set[tuple[Path, int]]:
        """Files of unfinished work and their times: a new element is new work."""
        # os.walk passes over folders that vanish meanwhile, as a run's does that appears in its place.
        files = (Path(folder, name) for folder, _, names in os.walk(self.project.results) for name in names)
        unfinished = [path for path in files if any(path.match(pattern) for pattern in UNFINISHED)]
        return {(path, stat.st_mtime_ns) for path in unfinished if (stat := _stat(path))}

    def _check_finished_weights(self):
        """No model is trained twice: the files of a finished one stay the same files for ever."""
        for record in self.project.results.glob("models/[!.]*/record.json"):
            for path in record.parent.glob("weights-*.safetensors"):
                stat = path.stat()
                identity = (stat.st_ino, stat.st_mtime_ns)
                if self.finished.setdefault(path, identity) != identity:
                    self.outcome.problems.append(f"{path}: written again after its model was finished")
                    self.finished[path] = identity
        self.outcome.problems += [f"{path}: gone" for path in self.finished if not path.exists()]

    def compare(self, uninterrupted: Path) -> list[str]:
        """Differences from the uninterrupted results; tables are made again from those's speeds first."""
        results = self.project.results
        if (results / "tables").exists():
            shutil.rmtree(results / "timings")
            shutil.copytree(uninterrupted / "timings", results / "timings")
        process = self.project.run(*self.workflow.command)
        dry_run = self.project.run(*self.workflow.command, "--dry-run")
        problems = [] if process.returncode == 0 else [f"the same command failed at the end:\n{process.stdout}"]
        if "Nothing to be done" not in dry_run.stdout:
            problems.append(f"something is left to do at the end:\n{dry_run.stdout}")
        problems += [f"left at the end: {name}" for name in temporary(results)]
        return problems + differences(contents(uninterrupted), contents(results))


def tracebacks(project: Project) -> list[str]:
    """A line for each log and output with a traceback in it: its last line, which says what was raised."""
    logs = [*project.path.glob("attempt-*.log"), *project.path.rglob("logs/**/*.log")]
    problems = []
    for log in logs:
        for part in log.read_text(errors="replace").split(TRACEBACK)[1:]:
            raised = re.search(r"^\S.*$", part.lstrip(":\n"), re.MULTILINE)
            problems.append(
                f"{log.relative_to(project.path)}: a traceback: {raised.group() if raised else part[-200:]}"
            )
    return problems


def _sleep(seconds: float, process: subprocess.Popen):
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(min(0.02, seconds))


def _stat(path: Path):
    try:
        return path.stat()
    except OSError:
        return None
