"""The paper's sentences that compare rows (`claims.yaml`), judged by our numbers with intervals and by its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from surrodiff.report.rows import Uncertainty, number, paper_row, score_names, scores_of, speeds, train_times
from surrodiff.scoring.uncertainty import Estimate, difference
from surrodiff.store.runs import load_run

ALL = "all"  # the table of claims that compare rows of several tables
ALMOST = 0.1  # values that differ by at most this share of the larger are almost equal
HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "fails", "undecided", "not measured"


def _parameters(row: dict, results: Path) -> tuple[float, float]:
    return load_run(results, "models", row["runs"][0]["run"])[2]["parameters"], 0.0


def _sampling_speed(row: dict, results: Path) -> tuple[float | None, float | None]:
    found = speeds(row, results)
    return found["sampling_speed_ratio"], found["sampling_speed_ratio_interval"]


def _train_time(row: dict, results: Path) -> tuple[float | None, float | None]:
    if "timing" not in row:
        return None, None
    found = train_times(row, results)
    return found["train_time_ratio"], found["train_time_ratio_interval"]


# Of what does not vary with the training: a row's value and half of its 95 % interval. The other metrics are estimates.
_FIXED: dict[str, Callable[[dict, Path], tuple[float | None, float | None]]] = {
    "parameters": _parameters,
    "sampling_speed": _sampling_speed,
    "train_time": _train_time,
}
# Every metric with the paper's columns for it.
METRICS = {
    "distance": ("fid",),
    "score": ("is_mean",),
    "parameters": ("parameters_m",),
    "sampling_speed": ("samples_per_second",),
    "train_time": ("train_hours", "train_time_ratio"),
    "loss_variance": (),
}


@dataclass(frozen=True)
class Quantity:
    """A row's value, half of its 95 % interval (0 for what is exact) and the paper's value; None where there is none.

    estimate: of what varies with the training, its values by training seed.
    """

    name: str
    value: float | None = None
    interval: float | None = None
    paper: float | None = None
    estimate: Estimate | None = None


def compare(left: float | None, relation: str, right: float | None, interval: float | None) -> str:
    """Whether left < right, left > right, or left = right (almost) for every difference within its 95 % interval, which
    has the given half width; undecided where that is unknown."""
    if left is None or right is None:
        return UNKNOWN
    if interval is None:
        return UNDECIDED
    # How far the relation holds: by how much it is fulfilled, negative if it is not.
    match relation:
        case "<":
            margin = right - left
        case ">":
            margin = left - right
        case "=":
            margin = ALMOST * max(abs(left), abs(right)) - abs(left - right)
    return HOLDS if margin > interval else FAILS if margin < -interval else UNDECIDED


def conclusion(verdicts: list[str]) -> str:
    """That of a claim from those of its comparisons: it fails with one, and holds only with all."""
    return next((verdict for verdict in (FAILS, UNKNOWN, UNDECIDED) if verdict in verdicts), HOLDS)


@dataclass(frozen=True)
class Comparison:
    """`left relation right` in one metric, with both verdicts."""

    left: Quantity
    relation: str
    right: Quantity

    @property
    def verdict(self) -> str:
        """By our numbers."""
        left, right = self.left, self.right
        if left.estimate and right.estimate:
            _, interval = difference(left.estimate, right.estimate)
        elif left.interval is None or right.interval is None:
            interval = None
        else:
            interval = math.hypot(left.interval, right.interval)
        return compare(left.value, self.relation, right.value, interval)

    @property
    def paper_verdict(self) -> str:
        """By the paper's printed numbers, without intervals."""
        return compare(self.left.paper, self.relation, self.right.paper, 0)

    @property
    def verdicts(self) -> str:
        """Both in words."""
        return f"{self.verdict}, in the paper's numbers {_printed(self.paper_verdict)}"


class _Rows:
    """The rows of one or more tables by the names that claims use, and Default's last row where they lack it."""

    def __init__(self, recipe: dict, tables: dict[str, list[dict]], results: Path):
        self.results, self.uncertainty = results, Uncertainty(recipe, results)
        self.found: dict[str, tuple[str, dict]] = {}
        self.quantities: dict[tuple[str, str], Quantity] = {}
        samples = set()
        for table, rows in tables.items():
            for row in rows:
                # Default stands in several tables.
                if row["runs"][0]["score"] not in samples:
                    samples.add(row["runs"][0]["score"])
                    self.found[_key(table, row)] = (table, row)
        if recipe["default"]["runs"][0]["score"] not in samples:
            self.found["Default"] = ("table_4_1", recipe["default"])
        score = scores_of(recipe["default"], results)[0]
        self.names = score_names(score["features"], score["num_samples"])

    def quantity(self, metric: str, key: str | float) -> Quantity:
        if not isinstance(key, str):
            return Quantity(f"{key:g}", key, 0.0, key)
        if (metric, key) not in self.quantities:
            self.quantities[metric, key] = self._quantity(metric, key)
        return self.quantities[metric, key]

    def _quantity(self, metric: str, key: str) -> Quantity:
        if key not in self.found:
            return Quantity(key)
        table, row = self.found[key]
        line = paper_row(table, row)
        paper = next((number(line[column]) for column in METRICS[metric] if line[column]), None)
        if metric in _FIXED:
            return Quantity(key, *_FIXED[metric](row, self.results), paper)
        estimate = self.uncertainty.estimate(metric, row)
        return Quantity(key, estimate.value, estimate.interval, paper, estimate)

    def comparisons(self, metric: str, left: str, relation: str, right: str | float) -> list[Comparison]:
        keys = [right]
        if right == "others":  # the paper's: what it says of all models is not about a user's own
            keys = [key for key, (table, row) in self.found.items() if key != left and paper_row(table, row)["fid"]]
        one = self.quantity(metric, left)
        return [Comparison(one, relation, self.quantity(metric, key)) for key in keys]


def _key(table: str, row: dict) -> str:
    line = paper_row(table, row)
    if table in ("table_4_1", "table_4_2"):
        return f"{row['model']}@{line['train_steps']}"
    return row["model"] if row.get("t_mid") is None else f"{row['model']}@t{line['t_mid']}"


def _text(quantity: Quantity) -> str:
    if quantity.value is None:
        return f"{quantity.name} ?"
    if quantity.name == f"{quantity.value:g}":
        return quantity.name
    if quantity.value >= 1e4:
        return f"{quantity.name} {quantity.value:.0f}"
    spread = " ± ?" if quantity.interval is None else f" ± {quantity.interval:.2g}" if quantity.interval else ""
    return f"{quantity.name} {quantity.value:.4g}{spread}"


def _printed(verdict: str) -> str:
    return "not printed" if verdict == UNKNOWN else verdict


def _sentence(comparisons: list[Comparison]) -> str:
    """A comparison in words with its verdicts; of one with several rows, those for which it does not hold."""
    first = comparisons[0]
    if len(comparisons) == 1:
        return f"{_text(first.left)} {first.relation} {_text(first.right)} ({first.verdicts})"
    ours = [f"{one.verdict} for {_text(one.right)}" for one in comparisons if one.verdict != HOLDS]
    papers = [
        f"{_printed(one.paper_verdict)} for {one.right.name}" for one in comparisons if one.paper_verdict != HOLDS
    ]
    said = f"{', '.join(ours) or HOLDS}, in the paper's numbers {', '.join(papers) or HOLDS}"
    return f"{_text(first.left)} {first.relation} the {len(comparisons)} others ({said})"


def judge(recipe: dict, results: Path) -> pd.DataFrame:
    """One line for each claim about the tables of a recipe: the verdict, the numbers, the verdict on the paper's own.

    holds, fails: the difference is larger than its 95 % interval; undecided: it is not, or the interval is unknown, as
    one seed is all there is; not measured: a row is missing. A claim holds if all of its comparisons do. The paper's
    numbers are taken without intervals. `comparisons` is a list of texts. Claims about all tables are judged only by
    a recipe that has them.
    """
    tables = recipe.get("tables") or {recipe["output"]: recipe["rows"]}
    one_table = {name: _Rows(recipe, {name: rows}, results) for name, rows in tables.items()}
    lines = []
    for claim in yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")):
        if claim["table"] == ALL and "tables" in recipe:
            rows = _Rows(recipe, tables, results)
        elif claim["table"] in one_table:
            rows = one_table[claim["table"]]
        else:
            continue
        judged, texts = [], []
        for metric, left, relation, right in claim["comparisons"]:
            found = rows.comparisons(metric, left, relation, right)
            texts.append(f"{rows.names.get(metric, metric)}: {_sentence(found)}")
            judged += found
        lines.append(
            {
                "table": claim["table"],
                "claim": claim["claim"],
                "verdict": conclusion([one.verdict for one in judged]),
                "in_the_papers_numbers": conclusion([one.paper_verdict for one in judged]),
                "comparisons": texts,
                "quote": claim.get("quote", ""),
                "note": claim.get("note", ""),
            }
        )
    return pd.DataFrame(lines)


def what_they_rest_on(recipe: dict, results: Path) -> dict:
    """Columns that say what a table's claims rest on."""
    score = scores_of(recipe["default"], results)[0]
    reference = load_run(results, "references", recipe["reference"])[2]
    rows = [row for table in recipe["tables"].values() for row in table]
    return {
        "features": score["features"],
        "data": reference["data"],
        "num_samples": score["num_samples"],
        "train_steps": recipe["default"]["of_steps"],
        "seeds": min(len({run["seed"] for run in row["runs"]}) for row in rows),
        "seeds_of_default": len({run["seed"] for run in recipe["default"]["runs"]}),
    }
