"""What a table or figure is made from. Cheap outputs keep plain names, so what was written beside them when they were
made tells whether they are still what the parameters ask for."""

import hashlib
from pathlib import Path

from surrodiff.plan import Plan, canonical


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def recipe(plan: Plan, output: str) -> dict:
    """What an output is made from: runs by their ids, code by its checksum."""
    folder = Path(__file__).parent
    code = {name: _checksum(folder / name) for name in ("tables.py", "paper.csv")}
    if output in plan.figures:
        code["figures.py"] = _checksum(folder / "figures.py")
        return {"output": output, "code": code, **plan.figures[output]}
    if output == "summary":
        code["summary.py"] = _checksum(folder / "summary.py")
        tables = [rows for table, rows in plan.tables.items() if table != "calibration"]
        rows = [row for rows in tables for row in rows]
    else:
        rows = plan.tables[output]
    return {
        "output": output,
        "code": code,
        "reference": plan.reference,
        "rows": rows,
        "seeds": plan.tables["calibration"],
    }


def samples(output: dict) -> list[str]:
    """The ids of the sample runs whose images a recipe reads, and not only their scores."""
    return [output[key]["sample"] for key in ("surrogate", "refined") if key in output]


def sources(output: dict) -> list[tuple[str, str]]:
    """The (stage, id) of every run that a recipe reads."""
    found = [("references", output["reference"])] if "reference" in output else []
    found += [("scores", output[key]["score"]) for key in ("surrogate", "refined") if key in output]
    for row in output.get("rows", []) + output.get("seeds", []):
        keys = {"score": "scores", "timing": "timings", "default_timing": "timings"}
        found += [(stage, row[key]) for key, stage in keys.items() if key in row]
        found.append(("models", row["run"]))
    return list(dict.fromkeys(found))


def sidecar(output: dict, results: Path) -> str | None:
    """The text to keep beside an output: its recipe, and the checksum of the record of every run in it, so that a run
    that was made anew under its old id counts as changed too. None while a record is missing."""
    records = {f"{stage}/{run}": results / stage / run / "record.json" for stage, run in sources(output)}
    if not all(path.exists() for path in records.values()):
        return None
    return canonical({**output, "records": {name: _checksum(path) for name, path in records.items()}}) + "\n"
