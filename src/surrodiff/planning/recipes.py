"""What a table or figure is made from. Cheap outputs keep plain names, so what was written beside them when they were
made tells whether they are still what the parameters ask for."""

import hashlib
from pathlib import Path

from surrodiff.planning.plan import Plan
from surrodiff.planning.runs import canonical

# Below the package's folder. A change of one of these makes tables anew.
TABLE_CODE = (
    *("report/claims.py", "report/claims.yaml", "report/paper.csv", "report/rows.py", "report/tables.py"),
    "scoring/uncertainty.py",
)
_PACKAGE = Path(__file__).parents[1]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def recipe(plan: Plan, output: str) -> dict:
    """What an output is made from: runs by their ids, code by its checksum."""
    more = "report/figures.py" if output in plan.figures else "report/summary.py" if output == "summary" else None
    files = [*TABLE_CODE, more] if more else TABLE_CODE
    made = {"output": output, "code": {name: _checksum(_PACKAGE / name) for name in files}}
    if output in plan.figures:
        return made | plan.figures[output]
    made |= {"reference": plan.reference, "default": plan.default}
    if output in plan.tables:
        return made | {"rows": plan.tables[output]}
    return made | {"tables": {name: rows for name, rows in plan.tables.items() if name.startswith("table_")}}


def samples(output: dict) -> list[str]:
    """The ids of the sample runs whose images a recipe reads, and not only their scores."""
    return [output[key]["sample"] for key in ("surrogate", "refined") if key in output]


def rows(output: dict) -> list[dict]:
    """All rows of a recipe: its own, those of its tables, and those that they are compared with."""
    tables = [row for table in output.get("tables", {}).values() for row in table]
    default = [output["default"]] if "default" in output else []
    return output.get("rows", []) + tables + default


def sources(output: dict) -> list[tuple[str, str]]:
    """The (stage, id) of every run that a recipe reads."""
    found = [("references", output["reference"])] if "reference" in output else []
    found += [("scores", output[key]["score"]) for key in ("surrogate", "refined") if key in output]
    stages = {"run": "models", "score": "scores", "likelihood": "likelihoods"}
    for row in rows(output):
        found += [("timings", row[key]) for key in ("timing", "default_timing") if key in row]
        found += [(stage, run[key]) for run in row["runs"] for key, stage in stages.items() if key in run]
    return list(dict.fromkeys(found))


def sidecar(output: dict, results: Path) -> str | None:
    """The text to keep beside an output: its recipe, and the checksum of the record of every run in it, so that a run
    that was made anew under its old id counts as changed too. None while a record is missing or cannot be read."""
    try:
        records = {f"{stage}/{run}": _checksum(results / stage / run / "record.json") for stage, run in sources(output)}
    except OSError:
        return None
    return canonical({**output, "records": records}) + "\n"


def is_current(beside: Path, output: dict, results: Path) -> bool:
    """Whether what lies beside an output says that it was made from this recipe and from today's records."""
    text = sidecar(output, results)
    try:
        return text is not None and beside.read_bytes() == text.encode()
    except OSError:  # not there, or it cannot be read
        return False
