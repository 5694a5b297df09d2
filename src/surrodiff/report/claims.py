"""What a source says of a study's rows (`claims`), judged by our numbers with intervals and by those that it prints."""

import math
from dataclasses import dataclass

import pandas as pd

from surrodiff.config.columns import METRICS
from surrodiff.config.studies import OTHERS
from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe
from surrodiff.report.columns import printed
from surrodiff.report.records import Records
from surrodiff.report.rows import OVER_IMAGES, REFINEMENTS, Values
from surrodiff.scoring.uncertainty import Estimate, difference, student_95

ALMOST = 0.1  # values that differ by at most this share of the larger are almost equal
COLUMNS = ["table", "claim", "verdict", "in_the_papers_numbers", "comparisons", "quote", "note"]
HOLDS, FAILS, UNDECIDED, UNKNOWN = "holds", "fails", "undecided", "not measured"


@dataclass(frozen=True)
class Quantity:
    """A row's value, half of its 95 % interval (0 for what is exact) and the paper's value; None where there is none.

    estimate: of what varies with the training, its values by training seed; images: of one training what each image
    gives, by its number.
    """

    name: str
    value: float | None = None
    interval: float | None = None
    paper: float | None = None
    estimate: Estimate | None = None
    images: pd.Series | None = None


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
        elif left.images is not None and right.images is not None and {*left.images.index} == {*right.images.index}:
            differences = left.images - right.images  # of the same images, pair by pair
            interval = student_95(len(differences) - 1) * differences.sem()
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
        """Both in words; that of the paper only where it prints both numbers."""
        papers = f", in the paper's numbers {self.paper_verdict}"
        return self.verdict + papers * (self.paper_verdict != UNKNOWN)


def _paper_value(row: Row, metric: str) -> float | None:
    """The paper's number of a row, of `8.67 ± 0.11` the first."""
    cells = (row.line.paper[column] for column in METRICS[metric][1] if column in row.line.paper)
    return next((numbers[0] for cell in cells if (numbers := printed(cell))), None)


def _is_default(row: Row, default: Row) -> bool:
    """Whether a row shows Default after its last step, whatever it is called and with however many seeds."""
    is_plain = (row.line.surrogate, row.line.sampler, row.line.seeds) == (None, "ancestral", None)
    is_plain = is_plain and row.evaluations == default.evaluations
    return is_plain and row.runs[0].model == default.runs[0].model and row.step == row.of_steps


class _Rows:
    """The rows of a study by the names that claims use, and Default's last row if it lacks that."""

    def __init__(self, recipe: Recipe, table: str, records: Records):
        self.values = Values(recipe, records)
        all_rows = recipe.tables[table].rows
        rows = [row for row in all_rows if row.runs]
        # Default stands in several tables: of equal rows of other studies the first is meant, and so it is of rows that
        # are called the same.
        self.distinct: dict[str, Row] = {}
        for row in rows:
            if not any(row.runs == other.runs and row.timings == other.timings for other in self.distinct.values()):
                several = sum(row.line.name == other.line.name for other in self.distinct.values())
                self.distinct[row.line.name + f" ({several + 1})" * bool(several)] = row
        self.named = {row.line.name: row for row in reversed(all_rows) if row.line.name} | self.distinct
        if "Default" not in self.named and recipe.default:
            default = next((row for row in rows if _is_default(row, recipe.default)), recipe.default)
            self.named["Default"] = default
        self.quantities: dict[tuple[str, str], Quantity] = {}

    def quantity(self, metric: str, key: str | float) -> Quantity:
        if not isinstance(key, str):
            return Quantity(f"{key:g}", key, 0.0, key)
        if (metric, key) not in self.quantities:
            self.quantities[metric, key] = self._quantity(metric, key)
        return self.quantities[metric, key]

    def _quantity(self, metric: str, key: str) -> Quantity:
        row = self.named[key]
        paper = _paper_value(row, metric)
        if not row.runs:  # it only quotes
            return Quantity(key, paper=paper)
        match metric:
            case "parameters" | "loss_variance" if row.runs[0].model is None:  # of images that no model made
                return Quantity(key, paper=paper)
            case "parameters":
                return Quantity(key, self.values.records.trained(row.runs[0].model).parameters, 0.0, paper)
            case "sampling_speed" | "train_time":
                timed = self.values.speed(row) if metric == "sampling_speed" else self.values.train_time(row)
                return Quantity(key, timed and timed.ratio, timed and timed.interval, paper)
            case "bits_per_dim" | "nll" | "bound_rise" if row.runs[0].likelihood is None:
                return Quantity(key, paper=paper)  # Default, in a study without it
            case "nll" if not self.values.has_nats(row):
                return Quantity(key, paper=paper)
            case "bound_rise" if not self.values.has_rises(row):
                return Quantity(key, paper=paper)
            case _ if metric in REFINEMENTS and not row.line.is_refined:  # one of the others
                return Quantity(key, paper=paper)
            case _ if metric in OVER_IMAGES:
                value, interval = self.values.estimate(metric, row).value, self.values.interval(metric, row)
                images = self.values.nats_of_images(row) if metric == "nll" and len(row.seeds) == 1 else None
                return Quantity(key, value, interval, paper, images=images)
            case _:
                estimate = self.values.estimate(metric, row)
                return Quantity(key, estimate.value, estimate.interval, paper, estimate)

    def comparisons(self, metric: str, left: str, relation: str, right: str | float) -> list[Comparison]:
        keys = [right]
        if right == OTHERS:
            left_row = self.named[left]
            keys = [key for key, row in self.distinct.items() if row.runs != left_row.runs and not row.oracle]
            if left_row.line.paper:  # what a paper says of all rows is about its own
                keys = [key for key in keys if self.distinct[key].line.paper]
        left_quantity = self.quantity(metric, left)
        right_quantities = [self.quantity(metric, key) for key in keys] or [Quantity(OTHERS)]
        return [Comparison(left_quantity, relation, right_quantity) for right_quantity in right_quantities]


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
    our_verdicts = [
        f"{comparison.verdict} for {_text(comparison.right)}"
        for comparison in comparisons
        if comparison.verdict != HOLDS
    ]
    paper_verdicts = [
        f"{_printed(comparison.paper_verdict)} for {comparison.right.name}"
        for comparison in comparisons
        if comparison.paper_verdict != HOLDS
    ]
    verdicts = f"{', '.join(our_verdicts) or HOLDS}, in the paper's numbers {', '.join(paper_verdicts) or HOLDS}"
    return f"{_text(first.left)} {first.relation} the {len(comparisons)} others ({verdicts})"


def judge(recipe: Recipe, records: Records) -> pd.DataFrame:
    """One line for each claim of a recipe's studies: the verdict, the numbers, the verdict on the paper's own.

    holds, fails: the difference is larger than its 95 % interval; undecided: it is not, or the interval is unknown, as
    one seed is all there is; not measured: a row is missing. A claim holds if all of its comparisons do. The paper's
    numbers are taken without intervals. `comparisons` is a list of texts.
    """
    lines = []
    for name, table in recipe.tables.items():
        rows = _Rows(recipe, name, records)
        for claim in table.study.claims:
            all_comparisons, texts = [], []
            for metric, left, relation, right in claim.comparisons:
                comparisons = rows.comparisons(metric, left, relation, right)
                texts.append(f"{_called(metric, rows.values)}: {_sentence(comparisons)}")
                all_comparisons += comparisons
            lines.append(
                {
                    "table": name,
                    "claim": claim.claim,
                    "verdict": conclusion([comparison.verdict for comparison in all_comparisons]),
                    "in_the_papers_numbers": conclusion([comparison.paper_verdict for comparison in all_comparisons]),
                    "comparisons": texts,
                    "quote": claim.quote or "",
                    "note": claim.note or "",
                }
            )
    return pd.DataFrame(lines, columns=COLUMNS)


def _called(metric: str, values: Values) -> str:
    """A metric's name in a table."""
    return getattr(values.names, metric) if metric in ("distance", "score") else metric


def what_they_rest_on(recipe: Recipe, records: Records) -> dict:
    """Columns that say what the claims of a recipe rest on."""
    seeds = min((len(row.seeds) for table in recipe.tables.values() for row in table.rows if row.runs), default=0)
    if recipe.reference is None:
        return {"seeds": seeds}
    score = records.score(recipe.default.runs[0].score)
    return {
        "features": score.features,
        "data": records.reference(recipe.reference).data,
        "num_samples": score.num_samples,
        "train_steps": recipe.default.of_steps,
        "seeds": seeds,
        "seeds_of_default": len(recipe.default.seeds),
    }
