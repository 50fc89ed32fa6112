"""Labelled structures on disk: the columns, the parts of an unfinished file, and how they become one file.

The layout is read by `data.structures`; nobody else writes it. One row is one structure; `smiles` is its
group.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chemscale.data.labelling.fragments import Candidate, Reject

SCHEMA = pa.schema(
    [
        pa.field("smiles", pa.string(), nullable=False),  # stereo-free canonical: the group
        pa.field("conformer", pa.int8(), nullable=False),
        pa.field("temperature", pa.float32(), nullable=False),  # K
        pa.field("species", pa.list_(pa.uint8()), nullable=False),  # atomic numbers
        pa.field("positions", pa.list_(pa.float32()), nullable=False),  # angstrom, 3 per atom, C order
        pa.field("energy", pa.float64(), nullable=False),  # eV, total
        pa.field("forces", pa.list_(pa.float32()), nullable=False),  # eV/angstrom, 3 per atom, C order
    ]
)
STATES = pa.schema(  # columns more, of files that hold ions or radicals, or labels of several levels
    [
        pa.field("charge", pa.int8(), nullable=False),
        pa.field("spin", pa.int8(), nullable=False),  # unpaired electrons
        pa.field("level", pa.string(), nullable=False),  # which labels: gfn2, or a method of DFT
    ]
)
EXTENDED = pa.schema([*SCHEMA, *STATES])
METADATA_KEY = b"chemscale"
SPLIT_BYTES = (
    "positions.list.element",
    "forces.list.element",
    "energy",
)  # exponents compress, mantissas do not


GFN2 = "gfn2"


@dataclass(frozen=True)
class Structure:
    """One labelled geometry: species uint8 (n,), positions and forces float32 (n, 3), energy eV, K; its charge,
    unpaired electrons, and whose label it is."""

    smiles: str
    conformer: int
    temperature: float
    species: NDArray[np.uint8]
    positions: NDArray[np.float32]
    energy: float
    forces: NDArray[np.float32]
    charge: int = 0
    spin: int = 0
    level: str = GFN2


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate: its structures (none if dropped) and every geometry that was refused."""

    candidate: Candidate
    structures: tuple[Structure, ...]
    rejects: tuple[Reject, ...]


def to_table(structures: Iterable[Structure], metadata: dict[str, Any], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Structures as a table of SCHEMA or EXTENDED with `metadata` as JSON under METADATA_KEY."""
    rows = list(structures)
    flat = ("positions", "forces")
    columns = [[getattr(s, n).ravel() if n in flat else getattr(s, n) for s in rows] for n in schema.names]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, with_facts(schema, metadata))


def with_facts(schema: pa.Schema, metadata: dict[str, Any]) -> pa.Schema:
    """The schema with `metadata` as JSON under METADATA_KEY."""
    return schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})


def from_table(table: pa.Table) -> list[Structure]:
    """The structures of a table of SCHEMA or EXTENDED, in its order."""
    names = [name for name in EXTENDED.names if name in table.column_names]
    ragged = ("species", "positions", "forces")
    columns = [_ragged(table.column(n)) if n in ragged else table.column(n).to_pylist() for n in names]
    found = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    return [
        Structure(**{**row, "positions": row["positions"].reshape(-1, 3), "forces": row["forces"].reshape(-1, 3)})
        for row in found
    ]


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON beside the labels. Raises ValueError for a file that is not one of labelled structures."""
    try:
        found = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    except pa.ArrowInvalid:
        found = None
    if found is None:
        raise ValueError(f"{path} is not a file of labelled structures; make one by: chemscale data label.")
    return json.loads(found)


def write_table(table: pa.Table, path: Path, *, scratch: Path, level: int) -> None:
    """A Parquet file at `path`, whole or not at all: written in `scratch` (same disk), then renamed."""
    write_tables([table], table.schema, path, scratch=scratch, level=level)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, scratch: Path, level: int) -> None:
    """A Parquet file of tables end to end, each a group of rows, as `write_table` does it."""
    unfinished = scratch / f"{path.name}.unfinished"
    with pq.ParquetWriter(
        unfinished,
        schema,
        compression="zstd",
        compression_level=level,
        use_dictionary=[  # pyright: ignore[reportArgumentType]  # the stub knows only bool
            "smiles",
            "species.list.element",
            "conformer",
            "temperature",
            *(name for name in STATES.names if name in schema.names),
        ],
        column_encoding=dict.fromkeys(SPLIT_BYTES, "BYTE_STREAM_SPLIT"),
    ) as out:
        for table in tables:
            out.write_table(table)
    _settle(unfinished, path)


def write_text(text: str, path: Path, *, scratch: Path) -> None:
    """A text file at `path`, whole or not at all."""
    unfinished = scratch / f"{path.name}.unfinished"
    unfinished.write_text(text)
    _settle(unfinished, path)


class WorkFolder:
    """Finished chunks of one command, kept beside its output until that is written.

    Entering it raises ValueError if it belongs to another command, or if another process works in it.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self.path = out.with_name(out.name + ".work")
        self._plan = plan
        self._lock = None

    def __enter__(self) -> "WorkFolder":
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ValueError(f"{self.path} is in use by another process; wait for it or give another --out.") from None
        self._claim()
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.exists() and not self._begun():  # nothing to go on from, so nothing stays
            self.remove()
        if self._lock is not None:
            self._lock.close()

    def has(self, index: int) -> bool:
        """Whether a chunk is finished."""
        return self._part(index).exists()

    def load(self, index: int) -> list[Outcome]:
        """The outcomes of a finished chunk."""
        table = pq.read_table(self._part(index))
        by_molecule: dict[str, list[Structure]] = {}
        for structure in from_table(table):
            by_molecule.setdefault(structure.smiles, []).append(structure)
        return [
            Outcome(
                Candidate(**entry["candidate"]),
                tuple(by_molecule.get(entry["candidate"]["smiles"], ())),
                tuple(Reject(**reject) for reject in entry["rejects"]),
            )
            for entry in json.loads((table.schema.metadata or {})[METADATA_KEY])
        ]

    def keep(self, index: int, outcomes: list[Outcome]) -> None:
        """Write a finished chunk."""
        ledger = [{"candidate": asdict(o.candidate), "rejects": [asdict(r) for r in o.rejects]} for o in outcomes]
        table = to_table((s for o in outcomes for s in o.structures), {}, EXTENDED)
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(ledger).encode()})
        write_table(table, self._part(index), scratch=self.path, level=1)

    def remove(self) -> None:
        """Remove the parts, once the output stands."""
        for path in self.path.iterdir():
            path.unlink()
        self.path.rmdir()

    def _part(self, index: int) -> Path:
        return self.path / f"part-{index:06d}.parquet"

    def _begun(self) -> bool:
        return any(self.path.glob("part-*"))

    def _claim(self) -> None:
        path = self.path / "plan.json"
        if not path.exists() or not self._begun():
            write_text(json.dumps(self._plan), path, scratch=self.path)
            return
        found = json.loads(path.read_text())
        differing = sorted(k for k in {*found, *self._plan} if found.get(k) != self._plan.get(k))
        if differing:
            key = differing[0]
            raise ValueError(
                f"{self.path} holds the parts of another command"
                f" ({key}={found.get(key)}, not {self._plan.get(key)});"
                " finish that one, delete the folder, or give another --out."
            )


def _settle(unfinished: Path, path: Path) -> None:
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _ragged(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy()
    return [values[a:b] for a, b in pairwise(offsets)]
