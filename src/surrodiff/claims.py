"""The paper's sentences that compare rows (`claims.yaml`), judged by our numbers with intervals and by its own."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from surrodiff import rows
from surrodiff.runs import complete

# Of each metric: our column, or None where it is named for the features, and the paper's columns in its tables.
METRICS = {
    "distance": (None, ("paper_fid",)),
    "score": (None, ("paper_is_mean",)),
    "parameters": ("parameters", ("paper_parameters_m",)),
    "sampling_speed": ("sampling_speed_ratio", ("paper_samples_per_second",)),
    "train_time": ("train_time_ratio", ("paper_train_hours", "paper_train_time_ratio")),
    "loss_variance": ("loss_variance", ()),
}
ALMOST = 0.1  # values that differ by at most this share of the larger are almost equal
HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "fails", "undecided", "not measured"


@dataclass(frozen=True)
class Quantity:
    """A value, half of its 95 % interval (0 for what is exact), and the paper's value; None where there is none."""

    name: str
    value: float | None
    interval: float
    paper: float | None


def compare(left: float | None, relation: str, right: float | None, interval: float) -> str:
    """Whether left < right, left > right, or left = right (almost) for every difference within its 95 % interval, which
    has the given half width."""
    if left is None or right is None:
        return UNKNOWN
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


class _Rows:
    """The rows of a table by the names that claims use, with Default's last row from elsewhere where it has none."""

    def __init__(self, recipe: dict, results: Path):
        frame = rows.frame(recipe, results)
        self.found = {}
        for row, (_, cells) in zip(recipe["rows"], frame.iterrows(), strict=False):
            key = row["model"]
            if recipe["output"] in ("table_4_1", "table_4_2"):
                key += f"@{cells['paper_train_steps']}"
            elif row.get("t_mid") is not None:
                key += f"@t{cells['paper_t_mid']}"
            self.found[key] = cells
        if "Default" not in self.found:
            elsewhere = {**recipe, "output": "table_4_1", "rows": [recipe["default"]]}
            self.found["Default"] = rows.frame(elsewhere, results).iloc[0]
        score = rows.scores_of(recipe["default"], results)[0]
        self.names = rows.score_names(score["features"], score["num_samples"])

    def quantity(self, metric: str, key: str | float) -> Quantity:
        if not isinstance(key, str):
            return Quantity(f"{key:g}", key, 0, key)
        column, papers = METRICS[metric]
        if column is None:
            column = self.names[metric]
        own = f"{column}_mean" if metric == "score" else column
        cells = self.found.get(key, pd.Series(dtype=object)).dropna()
        paper = next((float(cells[name]) for name in papers if name in cells), None)
        return Quantity(key, cells.get(own), cells.get(f"{column}_interval", 0), paper)

    def pairs(self, metric: str, left: str, right: str | float) -> list[tuple[Quantity, Quantity]]:
        keys = [key for key in self.found if key != left] if right == "others" else [right]
        return [(self.quantity(metric, left), self.quantity(metric, key)) for key in keys]


def _text(quantity: Quantity) -> str:
    if quantity.value is None:
        return f"{quantity.name} ?"
    if quantity.name == f"{quantity.value:g}":
        return quantity.name
    spread = f" ± {quantity.interval:.2g}" if quantity.interval else ""
    return (
        f"{quantity.name} {quantity.value:.4g}{spread}"
        if quantity.value < 1e4
        else f"{quantity.name} {quantity.value:.0f}"
    )


def _verdict(left: Quantity, relation: str, right: Quantity) -> str:
    return compare(left.value, relation, right.value, math.hypot(left.interval, right.interval))


def _sentence(relation: str, pairs: list[tuple[Quantity, Quantity]]) -> str:
    """One comparison in words with its verdict; of one with all other rows, those for which it does not hold."""
    left = pairs[0][0]
    if len(pairs) == 1:
        return f"{_text(left)} {relation} {_text(pairs[0][1])} ({_verdict(left, relation, pairs[0][1])})"
    doubts = [
        f"{verdict} for {_text(right)}" for _, right in pairs if (verdict := _verdict(left, relation, right)) != HOLDS
    ]
    return f"{_text(left)} {relation} all others ({', '.join(doubts) or HOLDS})"


def judge(recipe: dict, results: Path) -> pd.DataFrame:
    """One line for each claim about the table of a recipe: the verdict, the numbers, the verdict on the paper's own.

    holds, fails: the difference is larger than its 95 % interval; undecided: it is not; not measured: a row is missing.
    A claim holds if all of its comparisons do. The paper's numbers are taken without intervals.
    """
    found = _Rows(recipe, results)
    lines = []
    for claim in yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")):
        if claim["table"] != recipe["output"]:
            continue
        ours, papers, texts = [], [], []
        for metric, left, relation, right in claim["comparisons"]:
            pairs = found.pairs(metric, left, right)
            texts.append(f"{found.names.get(metric, metric)}: {_sentence(relation, pairs)}")
            for a, b in pairs:
                ours.append(_verdict(a, relation, b))
                papers.append(compare(a.paper, relation, b.paper, 0))
        lines.append(
            {
                "table": claim["table"],
                "claim": claim["claim"],
                "verdict": conclusion(ours),
                "in_the_papers_numbers": conclusion(papers),
                "comparisons": "; ".join(texts),
                "quote": claim["quote"],
            }
        )
    return pd.DataFrame(lines)


def what_they_rest_on(recipe: dict, results: Path) -> dict:
    """Columns that say what a table's claims rest on."""
    score = rows.scores_of(recipe["default"], results)[0]
    reference = complete(results, "references", recipe["reference"])[2]
    return {
        "features": score["features"],
        "data": reference["data"],
        "num_samples": score["num_samples"],
        "train_steps": recipe["default"]["of_steps"],
        "seeds": len(recipe["default"]["runs"]),
    }
