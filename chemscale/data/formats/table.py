"""Parquet tables of structures, as `chemscale data label` writes them.

Columns `species`, `positions`, `energy`, `forces` (eV, angstrom, eV/angstrom; three numbers an atom, in C order), and
where the file has them `smiles` (or `group`, `mol_id`), `charge`, `spin` (unpaired electrons), `cell` (nine numbers)
and `level` (which labels: `Reading.level` picks one). What the file says of itself stands under its key `chemscale`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.formats.format import CHUNK, GROUP_KEYS, Chunk, Format, UnreadableError, lacking, whole
from chemscale.data.frames import Record, UnusableError
from chemscale.data.groups import group_key_of_smiles
from chemscale.data.labelling.dft import OF_VERSION
from chemscale.spec import Reading

METADATA_KEY = b"chemscale"
_NEEDED = ("species", "positions", "energy", "forces")
_LISTS = ("species", "positions", "forces", "cell")


def facts_of(path: Path) -> dict[str, Any]:
    """What a table says of itself: licence, citation, label noise."""
    import pyarrow.parquet as pq

    with whole(path, TABLE.name):
        return json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))


def labels_of(facts: Mapping[str, Any], level: str | None) -> str | None:
    """Whose labels of this level a table holds, by what it says of itself; None where it says nothing."""
    again = facts.get("levels")
    if level is None or again is None or level != facts.get("spot_check", {}).get("level"):
        return facts.get("method")
    version = again.get("version", 1)  # before the word, labels of the first version were written
    return f"{again.get('method', level)}, labels of version {version}: {OF_VERSION.get(version, 'unknown here')}"


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of rows, which travel as record batches of Arrow: a table is read once, from front to back."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pyarrow import types

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    _require_columns(path, file.schema_arrow)
    if reading.level is not None and "level" not in names:
        raise lacking(path, "level", reading.level, names)
    wanted = [field.name for field in file.schema_arrow if field.name in _LISTS or not types.is_nested(field.type)]
    levels: set[str] = set()
    for batch in file.iter_batches(batch_size=CHUNK, columns=wanted):
        if "level" in names:
            levels.update(batch.column("level").unique().to_pylist())
        if reading.level is not None:
            batch = batch.filter(pc.field("level") == reading.level)
        elif len(levels) > 1:
            found = ", ".join(sorted(map(str, levels)))
            raise UnreadableError(
                f"{path} has labels of several levels, {found}; say which are meant by Reading.level."
            )
        if len(batch):
            yield Chunk(len(batch), batch)
    if reading.level is not None and reading.level not in levels:
        raise lacking(path, "level", reading.level, sorted(levels))


def records(path: Path, where: Any, reading: Reading) -> Iterator[Record | UnusableError]:
    """The rows of one run."""
    del path
    columns = {name: where.column(i) for i, name in enumerate(where.schema.names)}
    ragged = {name: _lists(columns[name]) for name in _LISTS if name in columns}
    plain = {name: column.to_pylist() for name, column in columns.items() if name not in ragged}
    for i, named in enumerate(_groups(columns, len(where), reading.groups)):
        cell = ragged["cell"][i] if "cell" in ragged else None
        cell = None if cell is None or len(cell) != 9 else cell.reshape(3, 3)
        species = ragged["species"][i]
        yield Record(
            species=np.zeros(0, dtype=np.int64) if species is None else species,
            positions=_triples(ragged["positions"][i]),
            energy=plain["energy"][i],
            forces=_triples(ragged["forces"][i]),
            group=named,
            cell=cell,
            periodic=(False,) * 3 if cell is None else cell.any(axis=1),
            charge=plain["charge"][i] if "charge" in plain else None,
            spin=plain["spin"][i] if "spin" in plain else None,
            text=str(named or ""),
            info={name: values[i] for name, values in plain.items()},
        )


def _require_columns(path: Path, schema: Any) -> None:
    from pyarrow import types

    for name in _NEEDED:
        if name not in schema.names:
            raise UnreadableError(
                f"{path} has no column {name!r}; a file of structures needs species, positions, energy and forces."
            )
    for name in _LISTS:
        kind = schema.field(name).type if name in schema.names else None
        lists = kind is not None and (types.is_list(kind) or types.is_large_list(kind))
        if kind is not None and not (lists and types.is_primitive(kind.value_type)):
            raise UnreadableError(
                f"{path} has {kind} in its column {name!r}; a file of structures needs a list of numbers in each row."
            )


def _groups(columns: dict[str, Any], count: int, asked: str | None) -> Iterable[str | None]:
    name = next((n for n in (GROUP_KEYS if asked is None else (asked,)) if n in columns), None)
    if name is None:
        return [None] * count
    values = columns[name].to_pylist()
    if name != "smiles":
        return [None if value is None else f"{name}:{value}" for value in values]
    keys = {value: group_key_of_smiles(str(value)) for value in {v for v in values if v is not None}}
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


TABLE = Format("Parquet table", "ev angstrom", "chemscale data label", chunks, records, ("groups", "level"))
