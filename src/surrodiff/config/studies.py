"""A study: what a table asks, in one file that is the same for every preset (`workflow/studies/*.yaml`).

Rows, columns, the numbers that a paper prints beside them, what it claims of them, figures. Shares instead of steps:
`steps` of a training, `t_mid` of a diffusion's length. docs/studies.md explains every key.
"""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from surrodiff.config import documents, refusals
from surrodiff.config.columns import AXES, GROUPS, METRICS
from surrodiff.config.fields import Block, Distinct, Name, Share, Text, as_share
from surrodiff.config.training import SampledTraining
from surrodiff.errors import UserError, printable

MOST_ROWS = 1_000  # of one study
OTHERS = "others"  # in a claim: all other rows that have the paper's number
KINDS = ("pairs", "sweep", "curves", "scatter", "terms", "diagnoses")
RULE = "a study's file has a name of letters (a to z), digits or _, beginning with a letter,"
SWEPT = ("model", "surrogate", "sampler", "steps", "t_mid", "evaluations", "handover")


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, or text, that every file can hold."""
    if type(value) is str:
        return value.encode(errors="ignore").decode() == value  # no half characters
    return type(value) in (int, float) and math.isfinite(value)


def _cell(value: Any) -> Any:
    if value is not None and not _is_plain(value):
        raise PydanticCustomError("cell", "must be a number or text")
    return value


def _compared(value: Any) -> Any:
    if not _is_plain(value):
        raise PydanticCustomError("compared", "must be text or a number")
    return value


def _listed(value: Any) -> Any:
    """A value alone as a list of it: one row."""
    if value == []:
        raise PydanticCustomError("empty", "an empty list makes no row; remove the row, or write a value")
    return value if isinstance(value, list) else [value]


def _column(value: Any) -> Any:
    if not isinstance(value, str) or value not in GROUPS:
        text = f"unknown column {refusals.shown(value)}; there are {', '.join(GROUPS)}"
        raise PydanticCustomError("unknown_column", "{text}", {"text": text})
    return value


Cell = Annotated[Any, BeforeValidator(_cell)]
Compared = Annotated[Any, BeforeValidator(_compared)]
# Of one of several rows; a configuration that went through Snakemake has null for an empty text.
Note = Annotated[str, Field(max_length=1_000), BeforeValidator(lambda value: "" if value is None else value)]
OneOrMore = BeforeValidator(_listed)


class Row(Block):
    """One row of a table, or one for each combination of what it gives as lists, the first of them slowest.

    It is about a `model`, after a share of its `steps`; or about a `surrogate` and the diffusion that takes over at
    `t_mid` (`model`, Default if not given); or about the `real` images; or all rows of another `study`; or only what a
    paper quotes. evaluations: of the diffusion's network for an image, as a share of the diffusion's length.
    """

    label: Annotated[list[Text], OneOrMore] | None = None
    name: Name | None = None  # what claims call it
    model: Annotated[list[Name], Distinct, OneOrMore] | None = None
    surrogate: Annotated[list[Name], Distinct, OneOrMore] | None = None
    sampler: Annotated[list[Name], Distinct, OneOrMore] | None = None
    steps: Annotated[list[Share], Distinct, OneOrMore] | None = None
    t_mid: Annotated[list[Share], Distinct, OneOrMore] | None = None
    evaluations: Annotated[list[Share], Distinct, OneOrMore] | None = None
    handover: Annotated[list[Literal["x0", "x_t"]], Distinct, OneOrMore] | None = None
    seeds: Literal["calibration"] | None = None
    images: Literal["real"] | None = None
    study: Name | None = None
    paper: dict[Name, Annotated[list[Cell], OneOrMore]] = Field(default={})
    note: Annotated[list[Note], OneOrMore] | None = None
    swept: tuple[str, ...] = Field(default=(), exclude=True)  # what is written as lists, in that order

    @model_validator(mode="before")
    @classmethod
    def _remember_order(cls, raw: Any):
        if not isinstance(raw, dict):
            return raw
        if "swept" in raw:
            raise ValueError("swept: unknown key")
        return {**raw, "swept": tuple(key for key, value in raw.items() if key in SWEPT and isinstance(value, list))}

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Callable) -> dict:
        """What is given, so that it is read as it was written."""
        given = {key: value for key, value in handler(self).items() if value not in (None, {})}
        scalars = {key: given[key][0] for key in SWEPT if key in given and key not in self.swept}
        return {key: given[key] for key in self.swept} | given | scalars

    @model_validator(mode="after")
    def _check(self):
        subjects = [key for key in ("images", "study") if getattr(self, key)]
        subjects += ["model"] * bool(self.model or self.surrogate)
        if len(subjects) > 1:
            raise ValueError(f"{subjects[1]}: a row is about one thing, and {subjects[0]} is given; make it two rows")
        if not subjects and not (self.paper and self.label):
            raise ValueError("model: missing (or surrogate, or for a row that only quotes: label and paper)")
        if subjects != ["model"]:
            for key in (*SWEPT, "seeds", *(("label", "name", "paper", "note") if subjects else ())):
                if getattr(self, key):
                    raise ValueError(f"{key}: only for a row about a model or a surrogate; remove it")
        if bool(self.surrogate) != (self.t_mid is not None):
            problem = "missing; the share of the diffusion's length at which it takes over"
            raise ValueError(f"t_mid: {problem if self.surrogate else 'only for a row with a surrogate; remove it'}")
        if self.handover and not self.surrogate:
            raise ValueError("handover: only for a row with a surrogate; remove it")
        for key in ("steps", "evaluations"):
            if 0 in map(as_share, getattr(self, key) or []):
                raise ValueError(f"{key}: must be more than 0")
        count = math.prod(len(getattr(self, key)) for key in self.swept)
        if count > MOST_ROWS:
            raise ValueError(f"{self.swept[0]}: with the other lists {count:,} rows; at most {MOST_ROWS:,}")
        lists = {"label": self.label, "note": self.note}
        for key, values in (lists | {f"paper.{key}": cells for key, cells in self.paper.items()}).items():
            if values and len(values) not in (1, count):
                raise ValueError(f"{key}: {len(values)} values for {count} rows; write one, or as many as rows")
        return self

    def lines(self) -> list["Line"]:
        """The table's rows that this one stands for; none of one that stands for another study's."""
        if self.study:
            return []
        fixed = {key: (getattr(self, key) or [None])[0] for key in SWEPT}
        # What is swept tells rows apart, but for the model, where their name begins with it.
        marking = [key for key in self.swept if self.name or key != ("surrogate" if self.surrogate else "model")]
        lines = []
        for number, values in enumerate(itertools.product(*(getattr(self, key) for key in self.swept))):
            settings = fixed | dict(zip(self.swept, values, strict=True))

            def pick(values: list | None, number=number):
                return values and values[number % len(values)]

            subject = settings["surrogate"] or settings["model"] or ""
            lines.append(
                Line(
                    label=pick(self.label) or subject,
                    name=(self.name or subject) + "".join(f"@{settings[key]}" for key in marking),
                    model=settings["model"] or ("Default" if self.surrogate else None),
                    surrogate=settings["surrogate"],
                    sampler=settings["sampler"] or "ancestral",
                    steps=settings["steps"] or 1,
                    t_mid=settings["t_mid"],
                    evaluations=settings["evaluations"],
                    handover=settings["handover"] or "x0",
                    seeds=self.seeds,
                    images=self.images,
                    paper={key: value for key, values in self.paper.items() if (value := pick(values)) is not None},
                    note=pick(self.note) or "",
                )
            )
        return lines


@dataclass(frozen=True)
class Line:
    """One row of a table, without lists, for any preset. name: what claims call it; model: None where only a paper
    is quoted, or for the real images."""

    label: str
    name: str
    model: str | None
    surrogate: str | None
    sampler: str
    steps: str | int | float
    t_mid: str | int | float | None
    evaluations: str | int | float | None
    handover: Literal["x0", "x_t"]
    seeds: Literal["calibration"] | None
    images: Literal["real"] | None
    paper: dict[str, Any]
    note: str

    @property
    def subject(self) -> str | None:
        """The model that the row is about."""
        return self.surrogate or self.model

    @property
    def is_refined(self) -> bool:
        """Whether a diffusion takes over from a surrogate."""
        return bool(self.surrogate and as_share(self.t_mid))


class Claim(Block):
    """A sentence that compares rows: comparisons that must all hold, each of a metric, a row, `<`, `>` or `=` (almost
    the same), and another row, `others` or a number."""

    claim: Text
    quote: Text | None = None
    note: Text | None = None
    comparisons: Annotated[list[list[Compared]], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self):
        for number, comparison in enumerate(self.comparisons):
            where = f"comparisons.{number}"
            if len(comparison) != 4:
                raise ValueError(f"{where}: must be [metric, row, relation, row], got {len(comparison)} values")
            metric, left, relation, _ = comparison
            if metric not in METRICS:
                raise ValueError(f"{where}: unknown metric {metric!r}; there are {', '.join(METRICS)}")
            if relation not in ("<", ">", "="):
                raise ValueError(f"{where}: the relation must be <, > or =, got {relation!r}")
            if not isinstance(left, str):
                raise ValueError(f"{where}: begins with a row's name, got {left!r}")
        return self


class Pairs(Block):
    """A surrogate's samples and what the diffusion makes of them, side by side."""

    kind: Literal["pairs"]
    name: Name
    row: str


class Sweep(Block):
    """A row of images for each sample: the `surrogate`'s, then what the diffusion makes of it in each of the table's
    rows of that surrogate, from the smallest t_mid to the largest."""

    kind: Literal["sweep"]
    name: Name
    surrogate: Name


class Curves(Block):
    """The training losses of the rows' models."""

    kind: Literal["curves"]
    name: Name


class Scatter(Block):
    """The Frechet distance against columns, ours beside the paper's where it has them.

    fit: draw the least-squares line through the rows with standard blocks; join: draw a line through the rows of each
    label; log: the columns' axes are logarithmic; front: draw the Pareto front, of the points that no other one is
    better than in both, and label its points.
    """

    kind: Literal["scatter"]
    name: Name
    x: Annotated[list[Literal[tuple(AXES)]], Field(min_length=1, max_length=6), Distinct]
    fit: Literal["standard"] | None = None
    join: bool = False
    log: bool = False
    front: bool = False


class Terms(Block):
    """By timestep, of the rows' likelihoods: each term of the bound (`bits_per_dim`), or where a learned variance lies
    between its ends (`v`)."""

    kind: Literal["terms"]
    name: Name
    of: Literal["bits_per_dim", "v"]


class Diagnoses(Block):
    """By timestep, of the rows' objectives: the effective sample size of the weights of their noises, the variance of
    their gradients, or their mean losses."""

    kind: Literal["diagnoses"]
    name: Name
    of: Literal["effective_sample_size", "gradient_variance", "loss"]


Figure = Annotated[Pairs | Sweep | Curves | Scatter | Terms | Diagnoses, Field(discriminator="kind")]
_NEEDED = {"curves": "", "terms": "likelihood", "diagnoses": "diagnosis"}  # by figures, where they do not need scores


class Study(Block):
    """A table with its claims and figures. source: of the numbers under `paper`, and what these rest on; subject: the
    heading of the rows' labels; group: what a preset's `groups` may name, None: always made."""

    title: Text
    source: Text | None = None
    source_rests_on: Text | None = None
    group: Name | None = None
    subject: Name = "model"
    rows: Annotated[list[Row], Field(min_length=1)]
    columns: Annotated[list[Annotated[str, BeforeValidator(_column)]], Field(min_length=1), Distinct]
    claims: list[Claim] = Field(default=[])
    figures: list[Figure] = Field(default=[])

    def needs(self) -> set[str]:
        """The kinds of runs that columns, claims and figures need of the rows: score, timing, likelihood, refinement,
        diagnosis."""
        metrics = [METRICS[comparison[0]][0] for claim in self.claims for comparison in claim.comparisons]
        figures = [_NEEDED.get(figure.kind, "score") for figure in self.figures]
        return {*(GROUPS[column].needs for column in self.columns), *metrics, *figures} - {""}

    def compares(self) -> bool:
        """Whether something of it is compared with Default, or with how Default's trainings vary."""
        words = {
            *self.columns,
            *(word for claim in self.claims for comparison in claim.comparisons for word in comparison),
        }
        return bool({"score", "timing"} & self.needs() or {"loss_variance", "Default"} & words)

    @model_validator(mode="after")
    def _check(self):
        real_rows = [number for number, row in enumerate(self.rows) if row.images]
        if real_rows and "scores" not in self.columns:
            raise ValueError(f"rows.{real_rows[0]}.images: real images are scored; add `scores` to `columns`")
        reserved = ("train_steps", "note", "seeds", "data", "num_samples", "num_images", "against_default")
        if self.subject in reserved:
            raise ValueError(f"subject: {self.subject!r} is the heading of another column; give another one")
        known = {name for column in self.columns for name in GROUPS[column].names}
        for number, row in enumerate(self.rows):
            for key in row.paper:
                if key not in known:
                    names = ", ".join(sorted(known)) or "none"
                    raise ValueError(f"rows.{number}.paper.{key}: no column of this table; it has {names}")
        for number, figure in enumerate(self.figures):
            for x in getattr(figure, "x", ()):
                if AXES[x] not in self.columns:
                    raise ValueError(f"figures.{number}.x: {x} needs the columns `{AXES[x]}`; add them to `columns`")
        return self


def timestep(t_mid: str | int | float, T: int) -> int:
    """The timestep nearest to a share of T: 0 and T for the shares 0 and 1 alone."""
    share = as_share(t_mid)
    return math.floor(share * T + Fraction(1, 2)) if share in (0, 1) else _nearest(share * T, T - 1)


def evaluations(share: str | int | float, T: int) -> int:
    """The count nearest to a share of T."""
    return _nearest(as_share(share) * T, T)


def snapshot(steps: str | int | float, training: SampledTraining) -> int:
    """The step nearest to a share of a training after which its weights are kept."""
    every = training.snapshot_every
    return every * _nearest(as_share(steps) * training.steps / every, training.steps // every)


def _nearest(value: Fraction, most: int) -> int:
    return min(most, max(1, math.floor(value + Fraction(1, 2))))


def read(folder: Path) -> dict[str, Study]:
    """The studies of a folder by their files' names, without `.yaml`, in alphabetical order.

    Raises UserError, a line for each mistake with the file and the key, or if the folder holds none.
    """
    files = sorted(path for path in folder.glob("*.y*ml") if not path.name.startswith("."))
    if not files:
        raise UserError(
            f"{printable(str(folder))}: no studies (*.yaml) here; run this in the folder that holds params.yaml"
        )
    studies = {}
    for file in files:
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,59}", file.stem) or file.suffix != ".yaml":
            raise UserError(f"{printable(str(file))}: {RULE} and the ending .yaml; it becomes the table's name")
        studies[file.stem] = parse(documents.read(file), printable(str(file)))
    return studies


def parse(raw: Any, source: str) -> Study:
    """The study that a loaded document says. Raises UserError with one line for each mistake."""
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise refusals.refusal(
            error, raw, KINDS, lambda detail, keys: f"{source}: {refusals.message(detail, keys)}"
        ) from None
