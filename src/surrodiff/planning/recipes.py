"""What a table or figure is made from. Cheap outputs keep plain names, so what was written beside them when they were
made tells whether they are still what the parameters and the studies ask for."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from surrodiff.config.studies import Study
from surrodiff.planning.measures import CONFIGS
from surrodiff.planning.plan import Drawing, Plan, Row, Table
from surrodiff.planning.runs import canonical

# Below the package's folder. A change of one of these makes tables anew.
TABLE_CODE = (
    *("report/claims.py", "report/columns.py", "report/records.py", "report/rows.py", "report/tables.py"),
    "scoring/uncertainty.py",
)
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Recipe:
    """What an output is made from: tables, the row that others are compared with, and the reference of all scores; the
    last two None where nothing is compared, and where no score enters."""

    output: str
    code: tuple[str, ...]
    tables: dict[str, Table]
    default: Row | None
    reference: str | None
    drawing: Drawing | None = None

    @property
    def table(self) -> Table:
        """Its only table."""
        (table,) = self.tables.values()
        return table

    def rows(self) -> list[Row]:
        """All rows: those of its tables, and those that they are compared with."""
        shown = self.drawing.shown if self.drawing else ()
        return [*(row for table in self.tables.values() for row in table.rows), *shown, *filter(None, [self.default])]

    def sources(self) -> list[tuple[str, str]]:
        """The (stage, id) of every run that it reads; the samples of `samples` apart."""
        return list(dict.fromkeys(self._sources()))

    def _sources(self) -> Iterator[tuple[str, str]]:
        if self.reference:
            yield "references", self.reference
        for row in self.rows():
            yield from (("timings", timing) for timing, _ in row.timings)
            for run in row.runs:
                found = (
                    *(("models", run.model), ("scores", run.score), ("likelihoods", run.likelihood)),
                    *(("refinements", run.refinement), ("diagnoses", run.diagnosis)),
                )
                yield from ((stage, run_id) for stage, run_id in found if run_id)

    def samples(self) -> list[str]:
        """The ids of the sample runs whose images it shows, and not only their scores."""
        return [row.runs[0].sample for row in (self.drawing.shown if self.drawing else ())]

    def content(self) -> dict:
        """All of it as plain values: what is kept beside the output."""
        return {
            "output": self.output,
            "code": {name: _checksum(_PACKAGE / name) for name in self.code},
            "tables": {
                name: {
                    "study": table.study.model_dump(mode="json", exclude={"group", "rows"}),
                    "rows": [asdict(row) for row in table.rows],
                }
                for name, table in self.tables.items()
            },
            "default": self.default and asdict(self.default),
            "reference": self.reference,
            "shown": [asdict(row) for row in (self.drawing.shown if self.drawing else ())],
        }


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _only(row: Row, needs: set[str]) -> Row:
    """A row without the runs that are not needed."""
    kinds = {"sample": "score", "score": "score"}
    kinds |= {need: need for need in ("likelihood", "refinement", "diagnosis")}
    less = {field: None for field, need in kinds.items() if need not in needs}
    timings, trainings = (row.timings, row.trainings) if "timing" in needs else ((), ())
    return replace(row, timings=timings, trainings=trainings, runs=tuple(replace(run, **less) for run in row.runs))


def _compared_with(plan: Plan, studies: list[Study], needs: set[str]) -> Row | None:
    """Default's row with what the studies need of it, and all of its trainings where these show how trainings vary;
    None where nothing is compared with it."""
    if not any(study.compares() for study in studies):
        return None
    metrics = {comparison[0] for study in studies for claim in study.claims for comparison in claim.comparisons}
    varies = "score" in needs or "loss_variance" in metrics.union(*(study.columns for study in studies))
    return _only(plan.default if varies else replace(plan.default, runs=plan.default.runs[:1]), needs)


def _recipe(plan: Plan, output: str, tables: dict[str, Table], *more: str, drawing: Drawing | None = None) -> Recipe:
    # Diagnoses are in figures of their own alone.
    needs = {need for table in tables.values() for need in table.study.needs()} - {"diagnosis"}
    tables = {
        name: replace(table, rows=tuple(_only(row, needs) for row in table.rows)) for name, table in tables.items()
    }
    studies = [table.study for table in tables.values()]
    default, reference = _compared_with(plan, studies, needs), plan.reference if "score" in needs else None
    return Recipe(output, (*TABLE_CODE, *more), tables, default, reference, drawing)


def table(plan: Plan, name: str) -> Recipe:
    """What a table is made from."""
    return _recipe(plan, name, {name: plan.tables[name]})


def figure(plan: Plan, name: str) -> Recipe:
    """What a figure is made from."""
    drawing = plan.figures[name]
    code = tuple(f"report/{module}.py" for module in ("figures", "by_timestep", "pictures", "points"))
    whole = plan.tables[drawing.table]
    if drawing.figure.kind == "scatter":
        return _recipe(plan, name, {drawing.table: whole}, *code, drawing=drawing)
    # The others show models, their bounds, diagnoses or images, whatever else the table has of them.
    needs = {"terms": {"likelihood"}, "diagnoses": {"diagnosis"}}.get(drawing.figure.kind, set())
    rows = tuple(_only(replace(row, runs=row.runs[:1]), needs) for row in whole.rows)
    if drawing.shown:
        rows, drawing = (), replace(drawing, shown=tuple(_only(row, {"score"}) for row in drawing.shown))
    return Recipe(name, (*TABLE_CODE, *code), {drawing.table: replace(whole, rows=rows)}, None, None, drawing)


def claims(plan: Plan) -> Recipe:
    """What the verdicts on all claims are made from."""
    return _recipe(plan, "claims", {name: found for name, found in plan.tables.items() if found.study.claims})


def summary(plan: Plan) -> Recipe:
    """What the summary of all rows is made from."""
    return _recipe(plan, "summary", plan.tables, "report/summary.py")


def resolved(plan: Plan) -> dict:
    """What a preset asks for, as plain values: of each stage the number of its runs and a checksum of their ids, and
    the studies."""
    runs = {}
    for stage in CONFIGS:
        ids = sorted(plan.of_stage(stage))
        runs[stage] = f"{len(ids)} runs, {hashlib.sha256(canonical(ids).encode()).hexdigest()[:16]}"
    return {"runs": runs, "studies": {name: found.study.model_dump(mode="json") for name, found in plan.tables.items()}}


def sidecar(recipe: Recipe, results: Path) -> str | None:
    """The text to keep beside an output: its recipe, and the checksum of the record of every run in it, so that a run
    that was made anew under its old id counts as changed too. None while a record is missing or cannot be read."""
    try:
        records = {
            f"{stage}/{run}": _checksum(results / stage / run / "record.json") for stage, run in recipe.sources()
        }
    except OSError:
        return None
    return canonical({**recipe.content(), "records": records}) + "\n"


def is_current(beside: Path, recipe: Recipe, results: Path) -> bool:
    """Whether what lies beside an output says that it was made from this recipe and from today's records."""
    text = sidecar(recipe, results)
    try:
        return text is not None and beside.read_bytes() == text.encode()
    except OSError:  # not there, or it cannot be read
        return False
