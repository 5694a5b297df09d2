"""Folders of small results, finished and interrupted, that the program's commands made in processes of their own."""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from reliability.limits import Ended, limited
from reliability.projects import PRESET, parameters
from surrodiff import cli
from surrodiff.config import params
from surrodiff.planning import plan
from surrodiff.report import figures, summary, tables
from surrodiff.stages import data, likelihood, reference, registry, sample, score, time, train

# Read here once, and not by each forked process.
READ = (data, figures, likelihood, reference, registry, sample, score, summary, tables, time, train)
torch.set_num_threads(1)
STEPS = 12
RESULTS = Path("results") / PRESET
SECONDS = 120.0
OUTPUTS = (
    *(("table", f"table_4_{number}") for number in range(1, 6)),
    ("table", "calibration"),
    ("table", "likelihood"),
    ("figure", "figure_4_2"),
    ("figure", "figure_4_3"),
    ("figure", "figure_4_4"),
    ("claims",),
    ("summary",),
)
COMMANDS = {
    "data": "data",
    "models": "train",
    "references": "reference",
    "samples": "sample",
    "scores": "score",
    "refinements": "refinement",
    "likelihoods": "likelihood",
    "timings": "time",
}


def command(folder: Path, words: tuple[str, ...], before: Callable[[], object] = lambda: None) -> Ended:
    """A command of `surrodiff` in a folder: what it returned is its exit code and what it printed."""

    def call() -> list:
        os.chdir(folder)
        before()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                code = cli.main([*words, *(["--preset", PRESET] if words[0] not in ("prune", "record") else [])])
            except SystemExit as error:
                code = error.code
        return [code, printed.getvalue()[-20_000:]]

    return limited(call, SECONDS, 4 * 2**30)


def succeed(folder: Path, words: tuple[str, ...]):
    """A command that must succeed: the state rests on it."""
    ended = command(folder, words)
    if ended.how != "returned" or ended.value[0] != 0:
        raise RuntimeError(f"{' '.join(words)} failed without any damage: {ended}")


def finished(folder: Path, studies: dict) -> Path:
    """Everything that the tables of a small plan need, made; without SNGAN in them there is no Figure 4.4."""
    folder.mkdir(parents=True)
    document = parameters(studies, steps=STEPS, samples=48, images=48, batch=8)
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    planned = plan.build(params.load(folder / "params.yaml"))
    for stage, word in COMMANDS.items():
        for run in planned.of_stage(stage):
            succeed(folder, (word, run))
    for words in OUTPUTS:
        if words[0] != "figure" or words[1] in planned.figures:
            succeed(folder, words)
    return folder


@dataclass(frozen=True)
class Interruption:
    """A run that a command makes until its process dies as by SIGKILL: before it opens a file of such a name for
    writing (`open`), or gives a file such a name (`os.rename`), for the `count`-th time. Python reports both events."""

    run: str
    words: tuple[str, ...]
    event: str
    name: str
    count: int

    def await_(self):
        """Let this process die then."""
        countdown = self.count

        def hook(event: str, arguments: tuple):
            nonlocal countdown
            if event == self.event and self._matches(*arguments):
                countdown -= 1
                if countdown == 0:
                    os._exit(9)

        sys.addaudithook(hook)

    def _matches(self, first, second, *_) -> bool:
        renames = self.event == "os.rename"
        path, writes = (second, True) if renames else (first, isinstance(second, str) and second[0] in "aw")
        return writes and isinstance(path, str | os.PathLike) and str(path).endswith(self.name)


def interrupted(folder: Path, interruption: Interruption):
    """Remove a finished run, and make it again until its process dies."""
    for run_folder in folders(folder, interruption.run):
        shutil.rmtree(run_folder)
    ended = command(folder, interruption.words, interruption.await_)
    if ended.how != "crash" or not folders(folder, interruption.run):
        raise RuntimeError(f"not interrupted: {interruption}: {ended}")


def folders(folder: Path, run: str) -> list[Path]:
    """The folders of a run such as models/Default, wherever unfinished ones lie below the results."""
    stage, name = run.split("/")
    return [path for path in sorted((folder / RESULTS).rglob(f"{stage}/{name}-????????")) if path.is_dir()]
