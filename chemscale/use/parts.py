"""A long output in parts, each whole or absent, so that a killed command goes on where it was.

Layout beside the output FILE, removed when it is done:

    FILE.parts/lock              held by the one process that works at it
    FILE.parts/request.json      what is asked for; parts of another request are thrown away
    FILE.parts/000000.parquet …  tables of the same columns, in order
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.records.place import LocalPlace, read_parquet


class Parts:
    """The parts of one output file that are there.

    Raises:
        ValueError: another process works at the same file.
    """

    def __init__(self, out: str | Path, request: Mapping[str, Any]) -> None:
        self.out = Path(out)
        folder = self.out.with_name(self.out.name + ".parts")
        self.place = LocalPlace(str(folder))
        self._asked = json.dumps(request, sort_keys=True).encode()
        self._release: Callable[[], object] | None = None
        if folder.exists():
            self._claim()
            if self._found() != self._asked:
                self._remove()
        self.done = 0
        while self.place.exists(_name(self.done)):
            self.done += 1

    def _found(self) -> bytes | None:
        """What was asked for when the parts were made; None where nothing says so."""
        if (file := self.place.open("request.json")) is None:
            return None
        with file:
            return file.read()

    def _claim(self) -> None:
        """Hold the lock as long as this object lives: two that write the same file would take it from each other."""
        if self._release is not None:
            return
        self.place.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.place.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        self._release = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ValueError(
                f"--out {str(self.out)!r} is being written by another process; wait for it, or give another file."
            ) from None

    def _remove(self) -> None:
        shutil.rmtree(self.place.path)
        if self._release is not None:
            self._release()
            self._release = None

    def add(self, table: pa.Table) -> None:
        """Keep the next part; the first brings what is asked for along."""
        self._claim()
        if not self.done:
            self.place.write("request.json", lambda file: file.write(self._asked))
        self.place.write(_name(self.done), lambda file: pq.write_table(table, file))
        self.done += 1

    def tables(self) -> Iterator[pa.Table]:
        """All parts in order, one at a time."""
        for number in range(self.done):
            file = self.place.open(_name(number))
            assert file is not None
            with file:
                yield read_parquet(file)

    def finish(self, write: Callable[[Iterator[pa.Table], Path], None]) -> None:
        """Write the output from all parts among them, give it its name, and remove them: the word of what they are of
        first, so that those which a kill leaves are never taken for another request's.
        """
        write_whole(write, self.tables(), self.out, Path(self.place.url, "whole"))
        self.place.remove("request.json")
        self._remove()


def write_whole(
    write: Callable[[Iterator[pa.Table], Path], None],
    tables: Iterator[pa.Table],
    out: str | Path,
    through: Path | None = None,
) -> None:
    """Write a file whole or not at all, by one of `WRITERS`.

    Args:
        through: the temporary file, on the same disk; None takes a hidden one beside `out`.

    Raises:
        OSError: it cannot be written; with the name of the file.
    """
    out = Path(out)
    through = through or out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        write(tables, through)
        os.replace(through, out)
    except OSError as error:  # a full disk names no file
        raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error), str(out)) from error
    finally:
        through.unlink(missing_ok=True)


def write_parquet(tables: Iterator[pa.Table], path: Path) -> None:
    """One Parquet file with a row group for each table."""
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
        file.write_table(first)
        for table in tables:
            file.write_table(table)


def write_csv(tables: Iterator[pa.Table], path: Path) -> None:
    """One CSV file with a header; null is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, table in enumerate(tables):
            if not number:
                writer.writerow(table.column_names)
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def write_smiles(tables: Iterator[pa.Table], path: Path) -> None:
    """One line for each molecule: its SMILES, a tab and its log-likelihood; what is no molecule is left out."""
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.write(smiles_lines(table))


def smiles_lines(table: pa.Table) -> str:
    """Lines of SMILES (of proteins: sequence) and log-likelihood of the molecules in a table of a sample."""
    lines = io.StringIO()
    for text, nats in zip(table.column(0).to_pylist(), table["log_likelihood"].to_pylist(), strict=True):
        if text:
            lines.write(f"{text}\t{nats:.4f}\n")
    return lines.getvalue()


WRITERS: dict[str, Callable[[Iterator[pa.Table], Path], None]] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".smi": write_smiles,
    ".txt": write_smiles,
}


def writer_of(out: str) -> Callable[[Iterator[pa.Table], Path], None]:
    """What writes a file of this ending.

    Raises:
        ValueError: it has another ending.
    """
    ending = Path(out).suffix.lower()
    if ending not in WRITERS:
        raise ValueError(f"--out {out!r} ends in {ending!r}; use one of {', '.join(WRITERS)}.")
    return WRITERS[ending]


def _name(number: int) -> str:
    return f"{number:06d}.parquet"
