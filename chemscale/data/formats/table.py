"""Parquet tables of structures, as `chemscale data label` writes them.

Columns `species`, `positions`, `energy`, `forces` (eV, angstrom, eV/angstrom; three numbers an atom, in C order), and
where the file has them `smiles` (or `group`, `mol_id`), `charge`, `spin` (unpaired electrons), `cell` (nine numbers)
and `level` (which labels: `Reading.level` picks one). What the file says of itself stands under its key `chemscale`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.formats.format import CHUNK, GROUP_KEYS, Chunk, Format, damaged, lacking
from chemscale.data.frames import Record, UnusableError
from chemscale.data.groups import group_key_of_smiles
from chemscale.spec import Reading

METADATA_KEY = b"chemscale"
_NEEDED = ("species", "positions", "energy", "forces")
_MORE = ("charge", "spin", "cell", "level")


def facts_of(path: Path) -> dict[str, Any]:
    """What a table says of itself: licence, citation, label noise."""
    import pyarrow.parquet as pq

    return json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of rows, which travel as record batches of Arrow: a table is read once, from front to back."""
    import pyarrow as pa
    import pyarrow.compute as pc

    file = _opened(path)
    names = file.schema_arrow.names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; a file of structures needs species, positions, energy and forces."
        )
    if reading.level is not None and "level" not in names:
        raise ValueError(f"Reading.level={reading.level!r} needs a column 'level', which {path.name} has not.")
    wanted = [n for n in (*_NEEDED, *GROUP_KEYS, reading.groups, reading.splits, *_MORE) if n in names]
    levels: set[str] = set()
    try:
        for batch in file.iter_batches(batch_size=CHUNK, columns=list(dict.fromkeys(wanted))):
            if reading.level is not None:
                levels.update(batch.column("level").unique().to_pylist())
                batch = batch.filter(pc.field("level") == reading.level)
            if len(batch):
                yield Chunk(len(batch), batch)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "a Parquet file", error) from error
    if reading.level is not None and reading.level not in levels:
        raise lacking(path, "level", reading.level, sorted(levels))


def records(path: Path, where: Any, reading: Reading) -> Iterator[Record | UnusableError]:
    """The rows of one run."""
    del path
    columns = {name: where.column(i) for i, name in enumerate(where.schema.names)}
    ragged = {name: _lists(columns[name]) for name in ("species", "positions", "forces", "cell") if name in columns}
    plain = {n: columns[n].to_pylist() for n in ("energy", "charge", "spin", reading.splits) if n in columns}
    for i, named in enumerate(_groups(columns, len(where), reading.groups)):
        cell = ragged["cell"][i] if "cell" in ragged else None
        cell = None if cell is None or len(cell) != 9 else cell.reshape(3, 3)
        species = ragged["species"][i]
        yield Record(
            species=np.zeros(0, dtype=np.int64) if species is None else species.astype(np.int64),
            positions=_triples(ragged["positions"][i]),
            energy=plain["energy"][i],
            forces=_triples(ragged["forces"][i]),
            group=named,
            cell=cell,
            periodic=(False,) * 3 if cell is None else cell.any(axis=1),
            charge=plain["charge"][i] if "charge" in plain else None,
            spin=plain["spin"][i] if "spin" in plain else None,
            text=str(named or ""),
            split=plain[reading.splits][i] if reading.splits in plain else None,
        )


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "a Parquet file", error) from error


def _groups(columns: dict[str, Any], count: int, asked: str | None) -> Iterable[str | None]:
    name = next((n for n in (GROUP_KEYS if asked is None else (asked,)) if n in columns), None)
    if name is None:
        return [None] * count
    values = columns[name].to_pylist()
    if name != "smiles":
        return [None if value is None else f"{name}:{value}" for value in values]
    keys = {value: group_key_of_smiles(value) for value in {v for v in values if v is not None}}
    return [None if value is None else keys[value] for value in values]


def _lists(column: Any) -> list[np.ndarray | None]:
    values = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.array([n or 0 for n in column.value_lengths().to_pylist()], dtype=np.int64)
    pieces = np.split(values, np.cumsum(lengths)[:-1])
    return [piece if valid else None for piece, valid in zip(pieces, column.is_valid().to_pylist(), strict=True)]


def _triples(values: np.ndarray | None) -> np.ndarray | None:
    if values is None:
        return None
    return values.reshape(-1, 3) if len(values) % 3 == 0 else values


TABLE = Format("Parquet table", "ev angstrom", "chemscale data label", chunks, records)
