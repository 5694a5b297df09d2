"""Arrays that are made in batches of rows, by one process or several, and resume after an interruption."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from surrodiff.errors import UserError
from surrodiff.runtime import distributed
from surrodiff.runtime.stopping import Stopped

CHECKSUM_BYTES = 8


def _checksum(index: int, row: np.ndarray) -> bytes:
    return hashlib.blake2b(index.to_bytes(8, "little") + row.tobytes(), digest_size=CHECKSUM_BYTES).digest()


class PartFiles:
    """Rows 0, ..., total - 1 of an array, each of the given dtype and shape; every process appends its own to a file.

    A row lies beside its number and a checksum of both, so what is missing is known however many processes made the
    rest, and a row that was cut off or damaged is made again.
    """

    def __init__(self, folder: Path, name: str, total: int, dtype, shape: tuple[int, ...]):
        self.folder, self.name, self.total = folder, name, total
        self.dtype = np.dtype([("checksum", f"V{CHECKSUM_BYTES}"), ("index", np.int64), ("row", dtype, shape)])
        self.file = folder / f"{name}-{distributed.rank()}.part"
        with open(self.file, "ab") as file:
            file.truncate(file.tell() // self.dtype.itemsize * self.dtype.itemsize)
        numbers = self._read()["index"] if distributed.rank() == 0 else ()
        # As the first process sees it, before any continues: all split the same rows.
        self.missing = distributed.broadcast(np.setdiff1d(np.arange(total), numbers))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-*.part"))

    def _read(self) -> np.ndarray:
        """The rows that are there and whole, each number once."""
        entries = np.concatenate([np.empty(0, self.dtype), *(np.fromfile(file, self.dtype) for file in self._files())])
        is_whole = [
            0 <= entry["index"] < self.total
            and entry["checksum"].tobytes() == _checksum(int(entry["index"]), entry["row"])
            for entry in entries
        ]
        entries = entries[np.array(is_whole, bool)]
        return entries[np.unique(entries["index"], return_index=True)[1]]

    def batches(self, most: int) -> tuple[int, list[np.ndarray]]:
        """The numbers of missing rows that this process is to make, int64, in batches of at most `most`; and how many
        all batches have but the last, which may have fewer.

        Batches hold the same rows whatever the number of processes, because a network's rounding may depend on them.
        """
        count = -(-len(self.missing) // min(distributed.all_gather(most)))
        size = -(-len(self.missing) // max(1, count))
        starts = range(0, len(self.missing), max(1, size))
        parts = [self.missing[start : start + size] for start in starts]
        return size, parts[distributed.rank() :: distributed.world()]

    def add(self, numbers: np.ndarray, rows: np.ndarray):
        """Keep rows that are made: when this returns, they are on the disk."""
        entries = np.empty(len(numbers), self.dtype)
        entries["index"], entries["row"] = numbers, rows
        entries["checksum"] = [
            np.void(_checksum(int(number), row)) for number, row in zip(numbers, entries["row"], strict=True)
        ]
        with open(self.file, "ab") as file:
            file.write(entries.tobytes())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def counted(self, unit: str) -> Iterator[None]:
        """Let a signal that ends the work within it say how many rows are kept."""
        try:
            yield
        except Stopped as stop:
            count = len(self._read())
            raise Stopped(stop.number, f"{count} of {self.total} {unit} are kept; the same command resumes") from None

    def collected(self) -> np.ndarray | None:
        """All rows (total, *shape), once all processes have made theirs; None on all processes but the first.

        Raises UserError if the disk lost or altered some since they were made.
        """
        distributed.all_gather(None)
        if distributed.rank() > 0:
            return None
        entries = self._read()
        if len(entries) < self.total:
            raise UserError(
                f"{self.folder}: {self.total - len(entries)} rows of {self.name} were damaged on the disk; run the "
                "same command again to make them anew"
            )
        array = np.empty((self.total, *entries["row"].shape[1:]), entries["row"].dtype)
        array[entries["index"]] = entries["row"]
        return array
