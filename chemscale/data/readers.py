"""Strings out of files: lines, CSV, Parquet and zipped text, each with the line that it stood on."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

COLUMNS = ("smiles", "SMILES", "Smiles", "canonical_smiles")
_TEXT = (".smi", ".txt", ".csv")
_ENCRYPTED = 0x1  # flag bit of a zip member

_DAMAGE = (  # what a file raises that is not what its name says, or is cut short
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    UnicodeDecodeError,
    csv.Error,
    NotImplementedError,  # a zip archive with a compression that Python does not know
)

Line = tuple[int, str]


def read_strings(path: Path) -> Iterator[Line]:
    """Each record of the file as (line from 1, string); of a Parquet file, (row from 1, string).

    A `.smi` or `.txt` line is read up to its first blank; a `.csv` by its column `smiles`, or its only
    column. A first line that names the column is skipped. An empty line is a record with an empty
    string.

    Raises:
        ValueError: the file has no such column, a zip archive not exactly one text file, or the file is
            damaged or not of the kind that its name says.
    """
    if path.name.lower().endswith(".parquet"):
        yield from _parquet(path)
        return
    with _opened(path) as (name, handle):
        yield from _csv(path, handle) if name.endswith(".csv") else _lines(handle)


def count_lines(path: Path) -> int:
    """Lines of the file, or rows of a Parquet file; for a progress bar."""
    if path.name.lower().endswith(".parquet"):
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows
    with _opened(path) as (_, handle):
        blocks = iter(lambda: bytes(handle.buffer.read(1 << 20)), b"")
        return sum(block.count(b"\n") for block in blocks)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[str, io.TextIOWrapper]]:
    """The text inside a plain, gzipped or zipped file, and the lower-case name that tells its kind."""
    name = path.name.lower()
    with path.open("rb") as raw, _told(path):
        if name.endswith(".gz"):
            yield name.removesuffix(".gz"), _text(gzip.GzipFile(fileobj=raw))
        elif name.endswith(".zip"):
            with zipfile.ZipFile(raw) as archive:
                member = _only_text(path, archive)
                if archive.getinfo(member).flag_bits & _ENCRYPTED:
                    raise zipfile.BadZipFile(f"{member} is locked with a password")
                yield member.lower(), _text(archive.open(member))
        else:
            yield name, _text(raw)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one sentence that names the file and the next step."""
    try:
        yield
    except _DAMAGE as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        kind = {".gz": "gzip file", ".zip": "zip archive", ".csv": "CSV file"}.get(path.suffix.lower(), "text file")
        packed = "" if kind.endswith(("CSV file", "text file")) else ", or the unpacked text"
        raise ValueError(
            f"Data.source={str(path)!r} cannot be read as a {kind}: {why}; give a whole {kind}{packed}."
        ) from error


def _text(handle: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="")


def _only_text(path: Path, archive: zipfile.ZipFile) -> str:
    members = [m for m in archive.namelist() if m.lower().endswith(_TEXT) and not m.startswith("__MACOSX")]
    if len(members) != 1:
        found = ", ".join(archive.namelist()[:5]) or "nothing"
        raise ValueError(
            f"{path} must hold exactly one .smi, .txt or .csv file, and holds {found}; pack that file alone."
        )
    return members[0]


def _lines(handle: IO[str]) -> Iterator[Line]:
    for number, line in enumerate(handle, start=1):
        words = line.split(maxsplit=1)
        first = words[0] if words else ""
        if not (number == 1 and first in COLUMNS):
            yield number, first


def _csv(path: Path, handle: IO[str]) -> Iterator[Line]:
    rows = csv.reader(handle)
    head = next(rows, [])
    column = _column(path, [cell.strip() for cell in head])
    if head and column is None:
        yield 1, head[0].strip()
    for row in rows:
        place = column or 0
        yield rows.line_num, row[place].strip() if len(row) > place else ""


def _column(path: Path, head: list[str]) -> int | None:
    """Which column to read; None for a single column without a name."""
    for name in COLUMNS:
        if name in head:
            return head.index(name)
    if len(head) <= 1:
        return None
    raise ValueError(f"{path} has the columns {', '.join(head[:8])}; name the one with molecules 'smiles'.")


def _parquet(path: Path) -> Iterator[Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    column = names[0] if len(names) == 1 else next((c for c in COLUMNS if c in names), None)
    if column is None:
        raise ValueError(f"{path} has the columns {', '.join(names[:8])}; name the one with molecules 'smiles'.")
    number = 0
    try:
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield number, "" if value is None else str(value).strip()
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"Data.source={str(path)!r} is a damaged Parquet file: {why}; give a whole one.") from error
