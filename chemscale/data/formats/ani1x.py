"""ANI-1x: a group for each formula, all its conformations in one array, and NaN where a level was not computed.

Smith et al., "The ANI-1ccx and ANI-1x data sets", Scientific Data 7:134 (2020), table 2: `coordinates` (Nc, Na, 3) in
angstrom, `atomic_numbers` (Na,), and for each level its energy in Hartree and, for wb97x_dz and wb97x_tz, forces in
Hartree/angstrom. All molecules are neutral singlets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chemscale.data.formats.format import Chunk, Format, lacking, runs
from chemscale.data.formats.hdf5 import opened
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

LEVEL = "wb97x_dz"  # the level of the paper's own potential, and the only one that all conformations have


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of conformations of one formula."""
    energy, forces = _names(reading)
    with opened(path) as file:
        there: set[str] = set()
        for formula in file:
            group = file[formula]
            there.update(group)
            if "coordinates" not in group or "atomic_numbers" not in group:
                continue
            for start, stop in runs(group["coordinates"].shape[0]):
                yield Chunk(stop - start, (formula, start, stop))
        if energy not in there and forces not in there:
            option, name = ("level", reading.level or LEVEL) if reading.energy is None else ("energy", energy)
            raise lacking(path, option, name, [key for key in there if "." in key])


def records(path: Path, where: tuple[str, int, int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The conformations of one run; the formula is their group."""
    formula, start, stop = where
    energy, forces = _names(reading)
    with opened(path) as file:
        group = file[formula]
        species = np.asarray(group["atomic_numbers"])
        positions = group["coordinates"][start:stop]
        energies = group[energy][start:stop] if energy in group else [None] * (stop - start)
        slopes = group[forces][start:stop] if forces in group else [None] * (stop - start)
        keys = tuple(group)
    for i in range(stop - start):
        yield Record(
            species,
            positions[i],
            energies[i],
            slopes[i],
            f"formula:{formula}",
            text=f"{formula} {start + i}",
            keys=keys,
        )


def _names(reading: Reading) -> tuple[str, str]:
    """Of energies and forces; where one alone is named, the other is that of its level."""
    named = reading.energy or reading.forces or ""
    level = reading.level or named.rpartition(".")[0] or LEVEL
    return reading.energy or f"{level}.energy", reading.forces or f"{level}.forces"


ANI1X = Format(
    "ANI-1x",
    "hartree angstrom",
    "Smith et al., Scientific Data 7:134 (2020)",
    chunks,
    records,
    ("energy", "forces", "level"),
)
