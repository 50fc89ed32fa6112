"""fairchem's `.aselmdb` (OMat24, OMol25 …): LMDB of rows of ASE as JSON under zlib, in eV and angstrom.

The layout is that of the package ase-db-backends: keys are decimal row numbers from 1; `nextid`, `deleted_ids` and
`metadata` are reserved. fairchem keeps the total charge and, under the name `spin`, the spin multiplicity in a row's
`data` (Levine et al., "The Open Molecules 2025 (OMol25) Dataset", arXiv 2505.08762).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chemscale.data.formats.ase_db import row_record
from chemscale.data.formats.format import CHUNK, Chunk, Format, UnreadableError
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

MISSING = "Files of fairchem (.aselmdb) need lmdb; install it by: pip install 'chemscale[lmdb]'."


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of row numbers, without those that were deleted."""
    del reading
    with _opened(path) as rows:
        after = int(_decoded(rows, "nextid", 1))
        deleted = set(_decoded(rows, "deleted_ids", []))
    for start in range(1, after, CHUNK):  # closed by now: LMDB opens a file once in a process
        ids = [i for i in range(start, min(start + CHUNK, after)) if i not in deleted]
        if ids:
            yield Chunk(len(ids), ids)


def records(path: Path, where: list[int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The rows of one run."""
    from ase.db.row import AtomsRow

    with _opened(path) as rows:
        for number in where:
            try:
                tree = _decoded(rows, str(number), None)
            except (zlib.error, ValueError) as error:
                yield UnusableError(f"not a row of ASE: {error}")
                continue
            if tree is None:
                yield UnusableError("not a row of ASE: its number is promised and not there")
                continue
            data = dict(tree.get("data") or {})
            if "spin" in data:
                data["multiplicity"] = data.pop("spin")
            yield row_record(AtomsRow({**tree, "id": number, "data": data}), reading)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if find_spec("lmdb") is None:
        raise UnreadableError(MISSING)
    import lmdb

    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, max_dbs=0) as environment,
        environment.begin() as rows,
    ):
        yield rows


def _decoded(rows: Any, key: str, otherwise: Any) -> Any:
    from ase.io.jsonio import decode

    found = rows.get(key.encode("ascii"))
    return otherwise if found is None else decode(zlib.decompress(found).decode())


ASELMDB = Format(
    "fairchem LMDB",
    "ev angstrom",
    "ase-db-backends; fairchem's documentation",
    chunks,
    records,
    ("energy", "forces", "groups"),
)
