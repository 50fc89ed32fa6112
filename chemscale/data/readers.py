"""Strings out of files: lines, tables and FASTA, each with the line that it stood on, its group and its split.

Files are read as they come, a record at a time, so that one of any size can be read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chemscale.data import fasta
from chemscale.data.files import FASTA_SUFFIXES, kind_of, opened
from chemscale.data.tokens import SMILES_TOKEN
from chemscale.spec import Reading

COLUMNS = {  # names of the column with the strings, by notation
    "smiles": ("smiles", "SMILES", "Smiles", "canonical_smiles"),
    "selfies": ("selfies", "SELFIES", "Selfies"),
    "protein": ("sequence", "Sequence", "seq"),
}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_STRINGS = {  # what may be one, good or bad: no name of a column is, since it holds letters of none of these
    "smiles": re.compile(f"{SMILES_TOKEN}*"),
    "selfies": re.compile(r"(\[[^\[\]]+\]|\.)*"),
    "protein": re.compile(f"[{fasta.AMINO_ACIDS}*-]*|[{fasta.AMINO_ACIDS.lower()}*-]{{20,}}"),  # shorter: "peptide"
}

Record = tuple[int, str, str | None, str | None]  # line from 1 (row of a Parquet file), string, group, split


@dataclass(frozen=True)
class Layout:
    """Where a file keeps its strings.

    Attributes:
        kind: its suffix, of the packed file where it is packed.
        notation: "smiles", "selfies" or "protein".
        names: columns that the strings may stand in, the first one found is taken.
        groups: column, key of a FASTA header, or None.
        splits: column or key of a FASTA header that says which split a record belongs to, or None.
        members: group of each id, where a table of its own says so.
    """

    kind: str
    notation: str
    names: tuple[str, ...]
    groups: str | None = None
    splits: str | None = None
    members: fasta.Members | None = None


def layout_of(path: Path, reading: Reading, representation: str) -> Layout:
    """How to read a file for a representation.

    Raises:
        ValueError: the file cannot be written in this representation, or has no groups of the name asked for.
    """
    kind = kind_of(path)
    notation = reading.notation or _notation(path, kind, representation)
    if (notation == "protein") != (representation == "protein"):
        what = "proteins" if notation == "protein" else f"molecules ({notation})"
        allowed = "'protein'" if notation == "protein" else "'selfies' or 'smiles'"
        raise ValueError(
            f"Data.representation={representation!r} does not suit {path.name}, which holds {what}; use {allowed}."
        )
    names = COLUMNS[notation] if reading.column is None else (reading.column,)
    if reading.groups is not None and Path(reading.groups).expanduser().is_file():
        if kind not in FASTA_SUFFIXES:
            raise ValueError(f"Reading.groups={reading.groups!r} is a table for FASTA; name a column of {path.name}.")
        members = fasta.read_members(Path(reading.groups).expanduser())
        return Layout(kind, notation, names, None, reading.splits, members)
    for field, asked in (("groups", reading.groups), ("splits", reading.splits)):
        if asked is not None and kind in (".smi", ".txt"):
            raise ValueError(
                f"Reading.{field}={asked!r} needs columns, and {path.name} has none; give a table (.csv, .tsv, "
                ".parquet) or FASTA."
            )
    return Layout(kind, notation, names, reading.groups, reading.splits)


def read_records(path: Path, layout: Layout) -> Iterator[Record]:
    """Each record of the file.

    A `.smi` or `.txt` line is read up to its first blank; a table by its column of strings, or its only column. A
    first line that names the column is skipped; of a table with one column, a first line that cannot be a string of
    this notation. An empty line is a record with an empty string, unless a table begins with it.

    Raises:
        ValueError: the file has no such column, a zip archive not exactly one text file, or the file is damaged or not
            of the kind that its name says.
    """
    if layout.kind == ".parquet":
        yield from _parquet(path, layout)
        return
    with opened(path) as (_, handle):
        if layout.kind in _DELIMITERS:
            yield from _table(path, handle, layout)
        elif layout.kind in FASTA_SUFFIXES:
            yield from fasta.read(path, handle, layout.groups, layout.members, layout.splits)
        else:
            yield from _lines(handle, layout)


def read_strings(path: Path, notation: str | None = "smiles") -> Iterator[tuple[int, str]]:
    """(line, string) of each record of the file, out of a column named as those of this notation are (`COLUMNS`), None
    being whichever of molecules is there; see `read_records`."""
    representation = "protein" if notation == "protein" else "smiles"
    for line, text, *_ in read_records(path, layout_of(path, Reading(notation=notation), representation)):
        yield line, text


def _notation(path: Path, kind: str, representation: str) -> str:
    if kind in FASTA_SUFFIXES or representation == "protein":
        return "protein"
    names = _column_names(path, kind)
    has_selfies = any(name in names for name in COLUMNS["selfies"])
    return "selfies" if has_selfies and not any(name in names for name in COLUMNS["smiles"]) else "smiles"


def _column_names(path: Path, kind: str) -> list[str]:
    if kind == ".parquet":
        with _parquet_told(path) as pq:
            return list(pq.read_schema(path).names)
    with opened(path) as (_, handle):
        return _head(csv.reader(handle, delimiter=_DELIMITERS.get(kind, " ")))


def _head(rows: Iterator[list[str]]) -> list[str]:
    """The first row that is not blank."""
    return next((cells for row in rows if any(cells := [cell.strip() for cell in row])), [])


def _lines(handle: IO[str], layout: Layout) -> Iterator[Record]:
    for number, line in enumerate(handle, start=1):
        words = line.split(maxsplit=1)
        first = words[0] if words else ""
        if not (number == 1 and first in layout.names):
            yield number, first, None, None


def _table(path: Path, handle: IO[str], layout: Layout) -> Iterator[Record]:
    rows = csv.reader(handle, delimiter=_DELIMITERS[layout.kind])
    head = _head(rows)
    column = _column(path, head, layout)
    if head and column is None and _STRINGS[layout.notation].fullmatch(head[0]):
        yield rows.line_num, head[0], None, None
    place = column or 0
    group, split = (_beside(path, head, name, getattr(layout, name)) for name in ("groups", "splits"))
    for row in rows:
        yield rows.line_num, _cell(row, place) or "", _cell(row, group), _cell(row, split)


def _cell(row: list[str], place: int | None) -> str | None:
    """What stands there; None where nothing does."""
    return (row[place].strip() or None) if place is not None and len(row) > place else None


def _column(path: Path, head: list[str], layout: Layout) -> int | None:
    """Which column to read; None for a single column without a name of ours."""
    for name in layout.names:
        if name in head:
            return head.index(name)
    if len(head) <= 1 and layout.groups is None and layout.splits is None:
        return None
    raise ValueError(_no_column(path, head, layout))


def _no_column(path: Path, head: list[str], layout: Layout) -> str:
    what = "proteins" if layout.notation == "protein" else "molecules"
    return (
        f"{path} has the columns {', '.join(head[:8])}; name the one with {what} {layout.names[0]!r}, or say which it "
        "is by Reading.column (`data build` and `data report`: --column)."
    )


def _beside(path: Path, head: list[str], field: str, asked: str | None) -> int | None:
    """The column of a name that was asked for."""
    if asked is None:
        return None
    if asked not in head:
        raise ValueError(f"Reading.{field}={asked!r} is no column of {path.name}, which has {', '.join(head[:8])}.")
    return head.index(asked)


def _parquet(path: Path, layout: Layout) -> Iterator[Record]:
    with _parquet_told(path) as pq:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        column = names[0] if len(names) == 1 else next((c for c in layout.names if c in names), None)
        if column is None:
            raise ValueError(_no_column(path, names, layout))
        asked = (column, layout.groups, layout.splits)
        for field, name in zip(("groups", "splits"), asked[1:], strict=True):
            _beside(path, names, field, name)
        wanted = list(dict.fromkeys(name for name in asked if name is not None))
        number = 0
        for batch in file.iter_batches(batch_size=1 << 14, columns=wanted):
            columns = ([None] * len(batch) if n is None else batch.column(n).to_pylist() for n in asked)
            for value, group, split in zip(*columns, strict=True):
                number += 1
                yield number, "" if value is None else str(value).strip(), _text(group), _text(split)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@contextmanager
def _parquet_told(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"Data.source={str(path)!r} is a damaged Parquet file: {why}; give a whole one.") from error
