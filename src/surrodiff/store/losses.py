"""`losses.csv` of a training: one row every few steps, written as it goes and read for tables and figures."""

import math
from pathlib import Path

from surrodiff.errors import UserError
from surrodiff.store.runs import load_run, verified, write_text

LOSSES = "losses.csv"


class LossLog:
    """The log that is being written; `columns` and `rows` are what a checkpoint keeps of it.

    The file is begun anew from those, so that whatever happened to it since cannot reach a table.
    """

    def __init__(self, path: Path, columns: list[str], rows: list[list[float]]):
        self.path, self.columns, self.rows = path, columns, rows
        if rows:
            write_text(path, "".join(map(self._line, [columns, *rows])))
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _line(cells: list) -> str:
        step, *rest = cells
        return ",".join([str(step if isinstance(step, str) else int(step)), *map(str, rest)]) + "\n"

    def add(self, row: dict[str, float]):
        """Write a row through, so that a killed training leaves what it saw; the first column is the step. A log that
        an earlier version began keeps its columns."""
        is_first = not self.rows
        if is_first:
            self.columns = list(row)
        self.rows.append([float(row[column]) for column in self.columns])
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._line(self.columns) * is_first + self._line(self.rows[-1]))


def parse(path: Path, until: float = math.inf) -> tuple[list[str], list[list[float]]]:
    """Columns and rows of a log, the first column being the step, up to that of step `until`.

    Raises UserError if there is anything in them but finite numbers at growing steps.
    """
    columns: list[str] = []
    rows: list[list[float]] = []
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        columns = header.split(",")
        for line in lines:
            step, _, rest = line.partition(",")
            if float(step) > until:
                break
            rows.append([float(step), *map(float, rest.split(","))])
            is_complete = len(rows[-1]) == len(columns) and all(map(math.isfinite, rows[-1]))
            if not is_complete or (len(rows) > 1 and rows[-1][0] <= rows[-2][0]):
                raise ValueError
    except FileNotFoundError:
        raise UserError(f"{path}: missing; restore it, or delete {path.parent} to make the run anew") from None
    except ValueError:
        raise UserError(
            f"{path}: damaged (row {len(rows)} is not one of {len(columns)} finite numbers at a later step); restore "
            f"it, or delete {path.parent} to make the run anew"
        ) from None
    if columns[:1] != ["step"] or "loss" not in columns:
        raise UserError(f"{path}: damaged (its first line names no step and loss); restore it or delete {path.parent}")
    return columns, rows


def training_losses(results: Path, model_id: str):
    """The log of a trained model as a DataFrame; raises UserError if it is missing, altered or damaged."""
    import pandas as pd

    path, _, record = load_run(results, "models", model_id)
    file = verified(path, record, LOSSES) if LOSSES in record["files"] else path / LOSSES  # an earlier version's
    parse(file)
    return pd.read_csv(file)
