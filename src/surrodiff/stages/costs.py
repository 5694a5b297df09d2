"""What the runs of a preset cost: how much work each is, and how long a unit of work takes, by what is already there.

The seconds of a unit come from finished runs, running ones and kept measurements (see time.unit_seconds). No torch
here: the workflow shows the time left when it starts a job. That is never worth an error: what cannot be read is left
out.
"""

import csv
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from surrodiff.planning import units
from surrodiff.planning.plan import Plan
from surrodiff.planning.runs import ModelConfig, RealImages, Rows, Run
from surrodiff.planning.units import Unit
from surrodiff.scoring.severities import images_scored
from surrodiff.store.runs import work_folder, write_json

KEPT = Path("logs/costs.json")  # measured seconds of units, of one machine, so beside its logs
MOST = 1e15  # of any number in a record: more is damage
# What reading a file raises that is not there, or that holds something else than what we wrote.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error)


@dataclass(frozen=True)
class Rate:
    """Seconds of a unit, and how they are known."""

    seconds: float
    basis: str


@dataclass(frozen=True)
class Cost:
    """A run's whole seconds, None where a unit's are unknown, the share of it that is done, and how that is known."""

    run: Run
    seconds: float | None
    done: float
    basis: str

    @property
    def left(self) -> float:
        return (1 - self.done) * (self.seconds or 0)


def _number(value) -> float:
    """A number of a record as a float; raises ValueError or OverflowError for what is none of ours."""
    if type(value) not in (int, float) or not 0 <= float(value) < MOST:
        raise ValueError("no number from 0")
    return float(value)


class Costs:
    """The costs of a plan's runs under `results`; of records only those of `machine` count, if one is given.

    damaged: the files that are there and cannot be read; their runs count as not made.
    """

    def __init__(self, plan: Plan, results: Path, machine: str | None = None):
        self.plan, self.results, self.machine = plan, results, machine
        self.damaged: list[Path] = []
        self.records = {
            run_id: record for run_id, run in plan.runs.items() if (record := self._record(run)) is not None
        }
        self.scored: dict[str, dict] = {}  # by the id of a sample run, the record of its score
        for run_id in plan.of_stage("scores"):
            if run_id in self.records:
                self.scored.setdefault(plan.runs[run_id].config.sample, self.records[run_id])
        self.rates = self._kept_rates() | self._recorded()

    def _record(self, run: Run) -> dict | None:
        file = self.results / run.stage / run.id / "record.json"
        record = self._read(file)
        if record is not None and not isinstance(record, dict):
            self.damaged.append(file)
            return None
        return record

    def _read(self, file: Path):
        """A JSON file's value, or None."""
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UNREADABLE:
            self.damaged.append(file)
            return None

    def _kept_rates(self) -> dict[Unit, Rate]:
        file = self.results / KEPT
        document = self._read(file)
        if document is None:
            return {}
        try:
            if self.machine not in (None, document["machine"]):
                return {}
            return {units.parse(text): Rate(_number(seconds), str(basis)) for text, seconds, basis in document["units"]}
        except UNREADABLE:
            self.damaged.append(file)
            return {}

    def work(self, run: Run) -> Counter[Unit] | None:
        """How many of which units a run is made of; None while the number of images is unknown."""
        images = self._images()
        return run.config.work(self.plan.runs, images and RealImages(images[0], images_scored(*images)))

    def _images(self) -> tuple[int, int] | None:
        record = self.records.get(self.plan.data, {})
        with suppress(*UNREADABLE):
            return int(_number(record["train_images"])), int(_number(record["held_out_images"]))
        return self.plan.runs[self.plan.data].config.splits

    def _recorded(self) -> dict[Unit, Rate]:
        """Rates of finished and running runs; what comes later here, or was finished later, counts."""
        rates: dict[Unit, Rate] = {}
        for stage in ("timings", "likelihoods", "samples", "references", "scores", "models"):
            records = [(run_id, self.records[run_id]) for run_id in self.plan.of_stage(stage) if run_id in self.records]
            for run_id, record in sorted(records, key=lambda item: _provenance(item[1], "finished")):
                if self.machine in (None, _provenance(record, "device")):
                    with suppress(*UNREADABLE):
                        run = self.plan.runs[run_id]
                        unit_seconds = run.config.rates(self.work(run) or Counter(), record)
                        rates |= {
                            unit: Rate(_number(seconds), "finished runs") for unit, seconds in unit_seconds.items()
                        }
        for run_id in self.plan.of_stage("models"):
            step, seconds = (0, 0.0) if run_id in self.records else self._trained(self.plan.runs[run_id])
            if step:
                (unit,) = self.work(self.plan.runs[run_id])
                rates.setdefault(unit, Rate(seconds / step, "its own steps so far"))
        return rates

    def _trained(self, run: Run) -> tuple[int, float]:
        """The last logged step of an unfinished training and its seconds so far."""
        try:
            with open(work_folder(self.results, run.stage, run.id) / "losses.csv", newline="") as file:
                *_, last = csv.DictReader(file)
            return int(_number(int(last["step"]))), _number(float(last["seconds"]))
        except UNREADABLE:  # none yet, or cut in the middle of a line
            return 0, 0.0

    def _share(self, run: Run) -> float:
        """How much of a run is done."""
        if run.id in self.records:
            return 1.0
        if run.id in self.scored:
            return 1.0  # and may be deleted
        if isinstance(run.config, ModelConfig):
            return min(1.0, self._trained(run)[0] / run.config.model.training.steps)
        if rows := run.config.rows(self.plan.runs):
            return min(1.0, _rows_made(work_folder(self.results, run.stage, run.id), rows) / rows.total)
        return 0.0

    def _seconds_taken(self, run: Run) -> float | None:
        """The seconds that a finished run took, where its record says."""
        record = self.records.get(run.id) or self.scored.get(run.id, {})
        with suppress(*UNREADABLE):
            return _number(record[run.config.seconds])
        return None

    def cost(self, run: Run) -> Cost:
        """What a run takes, or took if it is finished."""
        share, measured = self._share(run), self._seconds_taken(run)
        if measured is not None:
            return Cost(run, measured, share, "took")
        work = self.work(run)
        if work is None or not work.keys() <= self.rates.keys():
            return Cost(run, None, share, "unknown")
        seconds = math.fsum(count * self.rates[unit].seconds for unit, count in work.items())
        return Cost(run, seconds, share, ", ".join(dict.fromkeys(self.rates[unit].basis for unit in work)))

    def all(self) -> list[Cost]:
        """Of every run but the data's, which is reading files."""
        return [self.cost(run) for run in self.plan.runs.values() if run.stage != "data"]

    def keep(self, unit: Unit, rate: Rate):
        """Keep a measured rate, for later and for the workflow's messages."""
        rates = {**self._kept_rates(), unit: rate}
        rows = [[unit.text, rate.seconds, rate.basis] for unit, rate in rates.items()]
        write_json(self.results / KEPT, {"machine": self.machine, "units": rows})
        self.rates[unit] = rate

    def unknown(self) -> list[Unit]:
        """Units of unfinished runs whose seconds nothing shows yet."""
        needed = [unit for cost in self.all() if cost.done < 1 for unit in self.work(cost.run) or ()]
        return [unit for unit in dict.fromkeys(needed) if unit not in self.rates]


def _rows_made(folder: Path, rows: Rows) -> int:
    """How many rows of an array are in its part files (see store.parts), each beside its number and its checksum."""
    total = 0
    for file in folder.glob(f"{rows.name}-*.part"):
        with suppress(OSError):  # the job that writes them may just have put them together
            total += file.stat().st_size
    return total // (8 + 8 + rows.row_bytes)


def _provenance(record: dict, key: str) -> str:
    """What a record says of where and when it was made; empty if it does not."""
    with suppress(*UNREADABLE):
        return str(record["provenance"][key])
    return ""


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3.4 h, 5.2 days."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds / size < most:
            return f"{seconds / size:.{int(unit == 'h')}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def report(costs: list[Cost]) -> str:
    """All runs as a table, and the sums of each stage."""
    import pandas as pd

    runs = [
        {
            "stage": cost.run.stage,
            "run": cost.run.id,
            "done": f"{cost.done:.0%}" if cost.done else "",
            "time": "unknown" if cost.seconds is None else duration(cost.seconds),
            "by": cost.basis,
        }
        for cost in costs
    ]
    stages = {cost.run.stage: [c for c in costs if c.run.stage == cost.run.stage] for cost in costs} | {"all": costs}
    totals = [
        {
            "stage": stage,
            "runs": len(part),
            "done": sum(cost.done == 1 for cost in part),
            "of unknown time": sum(cost.seconds is None for cost in part),
            "time": duration(sum(cost.seconds or 0 for cost in part)),
            "left": duration(sum(cost.left for cost in part)),
        }
        for stage, part in stages.items()
    ]
    return "\n\n".join(pd.DataFrame(rows).to_string(index=False) for rows in (runs, totals))


def time_left(plan: Plan, results: Path) -> str:
    """How much of the preset is left, in one line, by what is there and without measuring anything."""
    costs = Costs(plan, results).all()
    unfinished = [cost for cost in costs if cost.done < 1]
    unknown = sum(cost.seconds is None for cost in unfinished)
    finished, remaining = len(costs) - len(unfinished), duration(sum(cost.left for cost in unfinished))
    text = f"{finished} of {len(costs)} runs done"
    if unknown < len(unfinished) or not unfinished:
        text += f", about {remaining} of work left"
    return text + (f", {unknown} runs of unknown time: see `surrodiff plan`" if unknown else "")


class TimeLeft:
    """The text of `time_left` for a workflow's messages: formatted when it is shown.

    An estimate reads every record. So that messages cost a small share of a workflow's time however many runs it has,
    the text stays the same until 20 times as long has passed as the last estimate took.
    """

    def __init__(self, plan: Plan, results: Path, clock: Callable[[], float] = time.monotonic):
        self._plan, self._results, self._clock = plan, results, clock
        self._text, self._valid_until = "", -math.inf

    def __str__(self) -> str:
        start = self._clock()
        if start >= self._valid_until:
            self._text = time_left(self._plan, self._results)
            end = self._clock()
            self._valid_until = end + 20 * (end - start)
        return self._text

    def __repr__(self) -> str:  # what Snakemake keeps of a parameter must not change
        return "TimeLeft()"
