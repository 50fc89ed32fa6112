"""Databases of ASE (`ase.db`, SQLite), in eV and angstrom.

Labels are those of the row's calculator, or stand under the names of the reading among its key-value pairs or its data;
so do group, charge and spin.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chemscale.data.formats.extxyz import record_of
from chemscale.data.formats.format import CHUNK, Chunk, Format
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of rows by their ids."""
    del reading
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        last = 0
        while True:
            asked = "select id from systems where id > ? order by id limit ?"
            ids = [row[0] for row in connection.execute(asked, (last, CHUNK))]
            if not ids:
                return
            yield Chunk(len(ids), (ids[0], ids[-1]))
            last = ids[-1]


def records(path: Path, where: tuple[int, int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The rows of one run."""
    import ase.db

    connect: Any = ase.db.connect  # what it gives back is a context manager by its subclass only
    with connect(path) as database:
        for row in database.select([("id", ">=", where[0]), ("id", "<=", where[1])], sort="id"):
            yield row_record(row, reading)


def row_record(row: Any, reading: Reading) -> Record | UnusableError:
    """The record of an `ase.db` row."""
    try:
        atoms = row.toatoms()
        more = row.data if isinstance(row.data, dict) else {}
        pairs = {
            k: vars(row).get(k, v) for k, v in row.key_value_pairs.items()
        }  # ASE's own `charge` hides a written one
        atoms.info = {**more, **pairs}
        return record_of(atoms, reading, f"row {row.id}: {row.formula}")
    except Exception as error:  # a row of another program may lack anything; each is a reason to skip this record
        return UnusableError(f"not a row of ASE: {type(error).__name__} {' '.join(str(error).split())[:120]}")


ASE_DB = Format(
    "ASE database", "ev angstrom", "ASE's units, wiki.fysik.dtu.dk/ase", chunks, records, ("energy", "forces", "groups")
)
