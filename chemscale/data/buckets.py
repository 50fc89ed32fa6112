"""Records sorted into files by a number: how more of them than fit into memory are joined and put into order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Buckets:
    """Numbered files of records of one type, to be filled bit by bit and read back one file at a time.

    What is read is what was added, in the order of the calls.
    """

    def __init__(self, folder: Path, fields: Sequence[tuple[str, Any]], count: int) -> None:
        self.folder, self.count = folder, count
        self.dtype = np.dtype(list(fields))
        folder.mkdir(parents=True)

    def add(self, bucket: np.ndarray, **columns: np.ndarray) -> None:
        """Add records.

        Args:
            bucket: (records,) number of the file that each one goes to.
            columns: (records,) each, by name of the field.
        """
        records = np.empty(len(bucket), dtype=self.dtype)
        order = np.argsort(bucket, kind="stable")
        for name, values in columns.items():
            records[name] = values[order]
        edges = np.searchsorted(bucket[order], np.arange(self.count + 1))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            with self._file(number).open("ab") as handle:
                records[edges[number] : edges[number + 1]].tofile(handle)

    def read(self, number: int) -> np.ndarray:
        """The records of one file; empty where nothing was added to it."""
        file = self._file(number)
        return np.fromfile(file, dtype=self.dtype) if file.is_file() else np.empty(0, dtype=self.dtype)

    def take(self, number: int) -> np.ndarray:
        """The records of one file, which is deleted."""
        records = self.read(number)
        self._file(number).unlink(missing_ok=True)
        return records

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


def bucket_of(digests: np.ndarray, count: int) -> np.ndarray:
    """(n,) int64: which of `count` equal ranges of 64-bit words each digest falls into; larger words never into an
    earlier one.
    """
    return ((digests >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)
