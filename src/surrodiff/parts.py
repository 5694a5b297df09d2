"""Arrays that are made in batches of rows, by one process or several, and go on after an interruption."""

from pathlib import Path

import numpy as np

from surrodiff import distributed


class PartFiles:
    """Rows 0, ..., total - 1 of an array, each of the given dtype and shape; every process appends its own to a file.

    A row lies beside its number, so what is missing is known however many processes made the rest, and a row that was
    cut off is made again.
    """

    def __init__(self, folder: Path, name: str, total: int, dtype, shape: tuple[int, ...]):
        self.folder, self.name, self.total = folder, name, total
        self.dtype = np.dtype([("index", np.int64), ("row", dtype, shape)])
        self.own = folder / f"{name}-{distributed.rank()}.part"
        with open(self.own, "ab") as file:
            file.truncate(file.tell() // self.dtype.itemsize * self.dtype.itemsize)
        numbers = self._read()["index"] if distributed.rank() == 0 else ()
        # As the first process sees it, before any goes on: all split the same rows.
        self.missing = distributed.from_first(np.setdiff1d(np.arange(total), numbers))

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"{self.name}-*.part"))

    def _read(self) -> np.ndarray:
        return np.concatenate([np.fromfile(file, self.dtype) for file in self._files()])

    def batches(self, most: int) -> tuple[int, list[np.ndarray]]:
        """The numbers of missing rows that this process is to make, int64, in batches of at most `most`; and how many
        all batches have but the last, which may have fewer.

        Batches hold the same rows whatever the number of processes, because a network's rounding may depend on them.
        """
        count = -(-len(self.missing) // min(distributed.from_all(most)))
        size = -(-len(self.missing) // max(1, count))
        firsts = range(0, len(self.missing), max(1, size))
        parts = [self.missing[first : first + size] for first in firsts]
        return size, parts[distributed.rank() :: distributed.world()]

    def add(self, numbers: np.ndarray, rows: np.ndarray):
        """Keep rows that are made."""
        made = np.empty(len(numbers), self.dtype)
        made["index"], made["row"] = numbers, rows
        with open(self.own, "ab") as file:
            file.write(made.tobytes())

    def collected(self) -> np.ndarray | None:
        """All rows (total, *shape), once all processes have made theirs; None on all processes but the first."""
        distributed.from_all(None)
        if distributed.rank() > 0:
            return None
        made = self._read()
        array = np.empty((self.total, *made["row"].shape[1:]), made["row"].dtype)
        array[made["index"]] = made["row"]
        return array

    def remove(self):
        """Delete the files: the array is kept elsewhere."""
        for file in self._files():
            file.unlink()
