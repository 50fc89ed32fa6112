"""SPICE: a group for each molecule, its conformations in one array, in atomic units.

Eastman et al., Scientific Data 10:11 (2023), and github.com/openmm/spice-dataset: `conformations` (m, n, 3) in bohr,
`atomic_numbers` (n,), `dft_total_energy` (m,) in Hartree, `dft_total_gradient` (m, n, 3) in Hartree/bohr, whose sign is
that of a slope: forces are the negative of what is named a gradient, and what is named otherwise, as it is; `smiles`
with all hydrogens, whose formal charges make the molecule's charge. All molecules are closed shells. A data set that
names its units in the attribute `units` is held to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.formats.format import Chunk, Format, UnreadableError, lacking, runs
from chemscale.data.formats.hdf5 import opened
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

ENERGY, GRADIENT = "dft_total_energy", "dft_total_gradient"
_WRITTEN = {"conformations": "bohr", ENERGY: "hartree", GRADIENT: "hartree/bohr"}


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of conformations of one molecule."""
    energy, forces = reading.energy or ENERGY, reading.forces or GRADIENT
    with opened(path) as file:
        there: set[str] = set()
        for name in file:
            group = file[name]
            there.update(group)
            if "conformations" not in group or "atomic_numbers" not in group:
                continue
            if reading.units is None:
                _hold_to_units(path, group)
            for start, stop in runs(group["conformations"].shape[0]):
                yield Chunk(stop - start, (name, start, stop))
        if energy not in there and forces not in there:
            raise lacking(path, "energy", energy, sorted(there))


def records(path: Path, where: tuple[str, int, int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The conformations of one run; the molecule is their group."""
    name, start, stop = where
    energy, forces = reading.energy or ENERGY, reading.forces or GRADIENT
    with opened(path) as file:
        group = file[name]
        species = np.asarray(group["atomic_numbers"])
        positions = group["conformations"][start:stop]
        energies = group[energy][start:stop] if energy in group else [None] * (stop - start)
        sign = -1 if forces.endswith("gradient") else 1
        pulls = sign * group[forces][start:stop] if forces in group else [None] * (stop - start)
        smiles = _smiles(group)
        keys = tuple(group)
    charge = None if smiles is None else _charge(smiles)
    for i in range(stop - start):
        yield Record(
            species, positions[i], energies[i], pulls[i], f"molecule:{name}",
            charge=charge, spin=None if charge is None else 0, text=f"{name} {start + i}", keys=keys,
        )  # fmt: skip


def _hold_to_units(path: Path, group: Any) -> None:
    for name, expected in _WRITTEN.items():
        said = group[name].attrs.get("units") if name in group else None
        if said is None:
            continue
        said = said.decode() if isinstance(said, bytes) else str(said)
        if said.lower().replace(" ", "") not in (expected, expected.replace("hartree/bohr", "hartree/bohr**1")):
            raise UnreadableError(
                f"Data.source={str(path)!r} says that {name} is in {said!r}, where SPICE has {expected!r}; name the "
                "units of the whole file (Reading.units, --units), e.g. 'hartree bohr'."
            )


def _smiles(group: Any) -> str | None:
    if "smiles" not in group:
        return None
    found = np.asarray(group["smiles"]).ravel()
    return None if not len(found) else found[0].decode() if isinstance(found[0], bytes) else str(found[0])


def _charge(smiles: str) -> int | None:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    return None if molecule is None else Chem.GetFormalCharge(molecule)


SPICE = Format("SPICE", "hartree bohr", "Eastman et al., Scientific Data 10:11 (2023)", chunks, records)
