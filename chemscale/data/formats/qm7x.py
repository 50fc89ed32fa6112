"""QM7-X: a group for each molecule, in it one for each conformation, in eV and angstrom.

Hoja et al., "QM7-X", Scientific Data 8:43 (2021), table 2: `atXYZ` (n, 3), `atNUM` (n,), `ePBE0+MBD` (1,) the total
energy, `totFOR` (n, 3) the total forces. All molecules are neutral singlets.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from chemscale.data.formats.format import CHUNK, Chunk, Format
from chemscale.data.formats.hdf5 import opened
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

ENERGY, FORCES = "ePBE0+MBD", "totFOR"


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of conformations, over the molecules in the order of the file."""
    del reading
    with opened(path) as file:
        names = ((molecule, conformation) for molecule in file for conformation in file[molecule])
        while run := list(islice(names, CHUNK)):
            yield Chunk(len(run), run)


def records(path: Path, where: list[tuple[str, str]], reading: Reading) -> Iterator[Record | UnusableError]:
    """The conformations of one run; the molecule is their group."""
    energy, forces = reading.energy or ENERGY, reading.forces or FORCES
    with opened(path) as file:
        for molecule, conformation in where:
            group = file[molecule][conformation]
            if "atXYZ" not in group or "atNUM" not in group:
                yield UnusableError("no atoms")
                continue
            yield Record(
                np.asarray(group["atNUM"]),
                np.asarray(group["atXYZ"]),
                np.asarray(group[energy]).ravel()[:1] if energy in group else None,
                np.asarray(group[forces]) if forces in group else None,
                f"molecule:{molecule}",
                text=conformation,
                keys=tuple(group),
            )


QM7X = Format("QM7-X", "ev angstrom", "Hoja et al., Scientific Data 8:43 (2021)", chunks, records)
