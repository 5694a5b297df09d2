"""Files that the program reads, damaged: made again or refused in a line that names them, never believed."""

import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from small_studies import several

from reliability import corruptions, repositories
from reliability.comparison import comparable, differences
from reliability.findings import Finding, Report
from reliability.limits import Ended
from reliability.states import OUTPUTS, RESULTS, Interruption, command, finished, interrupted, succeed

LAST = "Default_12"  # Default's samples after all of its steps
RECORDS = ("record.json", "config.json")


@dataclass(frozen=True)
class Scenario:
    """Damage one of `read`, run one of `commands`, compare `made` with what the undamaged files give.

    read, made: patterns below the results folder; unfinished runs lie in their stages or below `work`.
    interrupted: the run that is half made; removed: what is made anew.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    read: tuple[str, ...]
    made: tuple[str, ...] = ()
    interrupted: Interruption | None = None
    removed: tuple[str, ...] = ()

    def prepared(self, finished: Path, folder: Path) -> Path:
        """The folder that each case starts from."""
        shutil.copytree(finished, folder)
        for pattern in self.removed:
            for path in [*(folder / RESULTS).glob(pattern), *(folder / RESULTS / "work").glob(pattern)]:
                shutil.rmtree(path)
        if self.interrupted:
            interrupted(folder, self.interrupted)
        return folder

    def files(self, folder: Path) -> list[Path]:
        """What may be damaged."""
        paths = {path for pattern in self.read for path in (folder / RESULTS).glob(pattern) if path.is_file()}
        return sorted(path for path in paths if path.name != ".lock")

    def contents(self, folder: Path) -> dict[str, bytes]:
        """What is compared."""
        paths = {path for pattern in self.made for path in (folder / RESULTS).glob(pattern) if path.is_file()}
        return {str(path.relative_to(folder)): comparable(path) for path in paths if path.name != ".lock"}


def _records(*stages: str) -> tuple[str, ...]:
    return tuple(f"{stage}/*/{name}" for stage in stages for name in RECORDS)


SCENARIOS = (
    Scenario(
        "resume a training",
        (("train", "Default"),),
        ("**/models/Default-*/*", "**/models/Default-*/*", "data/*/*"),
        ("models/Default-*/*",),
        Interruption("models/Default", ("train", "Default"), "os.rename", "checkpoint.safetensors", 8),
    ),
    Scenario(
        "resume SNGAN's training",
        (("train", "SNGAN"),),
        ("**/models/SNGAN-*/*", "data/*/*"),
        ("models/SNGAN-*/*",),
        Interruption("models/SNGAN", ("train", "SNGAN"), "os.rename", "checkpoint.safetensors", 8),
    ),
    Scenario(
        "resume sampling",
        (("sample", LAST),),
        (f"**/samples/{LAST}-*/*", f"models/Default-*/weights-{LAST.split('_')[1]}*", "models/Default-*/*.json"),
        (f"samples/{LAST}-*/*",),
        Interruption(f"samples/{LAST}", ("sample", LAST), "open", ".part", 4),
    ),
    Scenario(
        "resume a likelihood",
        (("likelihood", "Default"),),
        ("**/likelihoods/Default-*/*", "models/Default-*/*.json", "data/*/*"),
        ("likelihoods/Default-*/*",),
        Interruption("likelihoods/Default", ("likelihood", "Default"), "open", ".part", 4),
    ),
    Scenario(
        "score",
        (("score", LAST),),
        (f"samples/{LAST}-*/*", "references/*/*", "models/classifier-*/*", "models/Default-*/*.json"),
        (f"scores/{LAST}-*/*",),
        removed=(f"scores/{LAST}-*",),
    ),
    Scenario(
        "reference",
        (("reference", "classifier"),),
        ("data/*/*", "models/classifier-*/*"),
        ("references/*/*",),
        removed=("references/*",),
    ),
    *(
        Scenario(
            " ".join(words),
            (words,),
            (*_records("models", "references", "scores", "likelihoods", "timings"), "models/*/losses.csv"),
            {"table": (f"tables/{words[-1]}.*",), "figure": (f"figures/{words[-1]}.*",)}.get(
                words[0], (f"{words[0]}.*", f"{words[0]}/*")
            ),
            removed=("tables", "figures", "summary"),
        )
        for words in OUTPUTS
    ),
    Scenario(
        "find it finished",
        (("train", "Default"), ("sample", LAST), ("score", LAST), ("likelihood", "Default"), ("data", "digits")),
        ("*/Default*/*.json", "data/*/*.json"),
    ),
    Scenario(
        "list and estimate",
        (("plan", "--left"), ("plan",), ("prune",)),
        ("*/*/*.json", "logs/costs.json", "**/losses.csv", "**/*.part"),
        interrupted=Interruption("models/Default", ("train", "Default"), "os.rename", "checkpoint.safetensors", 8),
    ),
)


class Files:
    """The states that the cases start from, made once in a folder."""

    def __init__(self, folder: Path, scenarios: tuple[Scenario, ...] = SCENARIOS, studies: dict | None = None):
        self.folder, self.scenarios = folder, scenarios
        self.whole = finished(folder / "finished", studies or several())
        self.starts: dict[str, Path] = {}

    def start(self, scenario: Scenario) -> Path:
        """The folder of a scenario; that it ends well without any damage is seen first."""
        if scenario.name not in self.starts:
            start = self._runnable(scenario)
            self.starts[scenario.name] = start
        return self.starts[scenario.name]

    def _runnable(self, scenario: Scenario) -> Path:
        number = len(self.starts)
        start = scenario.prepared(self.whole, self.folder / f"scenario {number}")
        undamaged = Path(shutil.copytree(start, self.folder / f"undamaged {number}"))
        for words in scenario.commands:
            succeed(undamaged, words)
        if different := differences(scenario.contents(self.whole), scenario.contents(undamaged)):
            raise RuntimeError(f"{scenario.name}: without any damage, another result: {different}")
        shutil.rmtree(undamaged)
        return start

    def check(self, seed: int, case: int) -> tuple[str, list[Finding]]:
        """Run a case; returns how it ended, and what should not be."""
        chance = random.Random(f"{seed} {case}")
        scenario = chance.choice(self.scenarios)
        folder = Path(shutil.copytree(self.start(scenario), self.folder / f"case {case}"))
        try:
            path = chance.choice(scenario.files(folder))
            corruption = corruptions.choose(chance, path)
            before = path.read_bytes()
            corruption(chance, path)
            words = chance.choice(scenario.commands)
            what = f"{scenario.name} ({' '.join(words)}), {path.relative_to(folder / RESULTS)} {corruption.__name__}"
            if path.is_file() and path.read_bytes() == before:
                return "nothing damaged", []
            outcome, details = judged(command(folder, words), path)
            if outcome == "ended well" and (details := self._wrong(scenario, folder)):
                outcome = f"SILENTLY DIFFERENT: {scenario.name.split()[0]}, {path.parent.parent.name}/{path.name}"
            return outcome.split(":")[0], [Finding(case, outcome, what, detail) for detail in details]
        finally:
            shutil.rmtree(folder)

    def _wrong(self, scenario: Scenario, folder: Path) -> list[str]:
        return differences(scenario.contents(self.whole), scenario.contents(folder))[:1]


def judged(ended: Ended, path: Path) -> tuple[str, list[str]]:
    """How a command ended after a file was damaged, and a line for what should not be."""
    if ended.how != "returned":
        return f"{ended.how} in {ended.where}", [str(ended.value)]
    code, printed = ended.value
    if code == 0:
        return "ended well", []
    message = "surrodiff: " + printed.rpartition("surrodiff: ")[2].rstrip("\n")
    if "\n" in message or "surrodiff: " not in printed:
        return "refused in no single line", [message[-500:]]
    if path.name not in message and path.parent.name not in message:
        return "refused without naming the file", [message]
    return "refused", []


def fuzz(cases: Iterable[int], seed: int, real: int) -> Report:
    """Run cases in a temporary folder, the first so many also in a repository, with Snakemake and DVC."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        files = Files(Path(folder))
        for case in cases:
            report.add(*files.check(seed, case))
        for case in list(cases)[:real]:
            found = repositories.check(seed, case, files.whole, Path(folder) / f"repository {case}")
            report.add("in a repository", found)
    return report
