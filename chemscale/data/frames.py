"""One labelled structure, checked, in eV and angstrom.

A label is missing where a file has none or says NaN; a structure with neither energy nor forces is no example. A label
is a fault where it is infinite, NaN in part, or absurd: a force on an atom above 1000 eV/angstrom in magnitude, or an
energy above 10^7 eV an atom in magnitude. No calculation that converged gives either (all electrons of the heaviest
atom are bound by some 10^6 eV); both are failed calculations or wrong units, and one of them would rule the scale of
forces or the reference energies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chemscale.data.neighbours import DENSE, close_pairs, neighbours
from chemscale.data.subsets import digest
from chemscale.data.units import Units

_TOO_CLOSE = 0.05  # angstrom; nearer atoms are one atom written twice, and distances divide by it
_LOOKED = 0.5  # angstrom within which periodic images are looked for: a cell list as fine as _TOO_CLOSE is slow
_THINNEST = 0.5  # angstrom between lattice planes; at 500 GPa hydrogen's are more than 1
_FARTHEST = 1e4  # angstrom from the origin; beyond, float32, which holds positions, resolves less than 0.001 angstrom
_STRONGEST = 1000.0  # eV/angstrom, length of the force on one atom
_DEEPEST = 1e7  # eV an atom
_HIGHEST = 118  # atomic number
_MOST = 1000  # elementary charges, or unpaired electrons
_PLACES = 4  # decimals of an angstrom within which two structures are the same


class UnusableError(ValueError):
    """Why a structure cannot be used."""


@dataclass(frozen=True)
class Record:
    """What a file says of one structure, in the file's units.

    Attributes:
        species: (atoms,) atomic numbers.
        positions: (atoms, 3).
        energy: of the whole structure; None or NaN where it has none.
        forces: (atoms, 3); None or NaN alike.
        group: key of its molecule; None where the file does not say.
        isolated: a lone atom that gives a reference energy, and no example.
        cell: (3, 3), lattice vectors in rows.
        periodic: (3,) which of them repeat.
        charge: elementary charges; None where the file does not say.
        spin: unpaired electrons; None where the file does not say.
        text: what shows people which record it is.
        keys: names of what the record holds, for the message where labels are missing.
        info: what else the record says of itself, by name.
    """

    species: np.ndarray
    positions: Any
    energy: Any = None
    forces: Any = None
    group: str | None = None
    isolated: bool = False
    cell: Any = None
    periodic: Any = (False, False, False)
    charge: Any = None
    spin: Any = None
    text: str = ""
    keys: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One labelled structure.

    Attributes:
        species: (atoms,) uint8, atomic numbers.
        positions, forces: (atoms, 3) float32, angstrom and eV/angstrom; forces are NaN where there are none.
        energy: eV; NaN where there is none.
        group: key of its molecule; None where the file does not say.
        isolated: a lone atom that gives a reference energy, and no example.
        cell: (3, 3) float64, angstrom, lattice vectors in rows, 0 for directions that do not repeat; None for all.
        charge: elementary charges.
        spin: unpaired electrons.
    """

    species: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    energy: float
    group: str | None = None
    isolated: bool = False
    cell: np.ndarray | None = None
    charge: int = 0
    spin: int = 0

    @property
    def digest(self) -> int:
        """Digest of what it is made of and where its atoms lie, to 0.0001 angstrom: a coordinate hash.

        Charge and spin do not enter: what differs in them alone is to stay in one split.
        """
        lattice = b"" if self.cell is None else _rounded(self.cell)
        return digest(self.species.tobytes() + _rounded(self.positions) + lattice)


def checked(record: Record, units: Units) -> Frame:
    """The structure of a record.

    Raises:
        UnusableError: it cannot be used; the message is the reason.
    """
    species = np.asarray(record.species)
    _check_species(species)
    if record.energy is None and record.forces is None and not record.isolated:
        keys = f" (it has {', '.join(record.keys[:8])})" if record.keys else ""
        raise UnusableError(f"missing label: neither energy nor forces{keys}")
    positions = _numbers("positions", record.positions, (len(species), 3))
    energy = _label("energy", record.energy, ()) * units.energy
    forces = _label("forces", record.forces, (len(species), 3)) * units.force
    if np.isnan(energy) and (record.isolated or np.isnan(forces).all()):
        raise UnusableError("missing label: energy" if record.isolated else "missing label: energy and forces are NaN")
    _refuse_absurd(len(species), float(energy), forces)
    positions = _near("positions", positions * units.length)
    cell = _cell(record, units)
    if _touching(positions, cell):
        raise UnusableError(f"atoms at one place: nearer than {_TOO_CLOSE} angstrom")
    charge, spin = _state(record, species)
    return Frame(
        species.astype(np.uint8),
        positions.astype(np.float32),
        forces.astype(np.float32),
        float(energy),
        record.group,
        record.isolated,
        cell,
        charge,
        spin,
    )


def _check_species(species: np.ndarray) -> None:
    if not species.size:
        raise UnusableError("no atoms")
    if species.ndim != 1 or not np.issubdtype(species.dtype, np.number):
        raise UnusableError(f"not atomic numbers: species of {species.dtype} {species.shape}")
    odd = species[~((species >= 1) & (species <= _HIGHEST) & (species == np.floor(species)))]
    if len(odd):
        raise UnusableError(f"unknown element: atomic number {odd[0]}")


def _numbers(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The values as float64, all of them finite."""
    found = _shaped(name, values, shape)
    if not np.all(np.isfinite(found)):
        raise UnusableError(f"not a finite number: {name}")
    return found


def _label(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The values as float64, or NaN throughout where there is no label."""
    if values is None:
        return np.full(shape, np.nan)
    found = _shaped(name, values, shape)
    if np.isnan(found).all():
        return found
    if not np.all(np.isfinite(found)):
        raise UnusableError(f"not a finite number: {name}")
    return found


def _shaped(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(values)
    if not np.issubdtype(found.dtype, np.number):
        raise UnusableError(f"not a number: {name}")
    if found.shape != shape and not (shape == () and found.size == 1):
        raise UnusableError(f"wrong shape: {name} {found.shape} where {shape} is needed")
    return found.reshape(shape).astype(np.float64)


def _near(name: str, lengths: np.ndarray) -> np.ndarray:
    """The lengths, in angstrom, none of them absurd."""
    farthest = float(np.abs(lengths).max(initial=0.0))
    if farthest > _FARTHEST:
        raise UnusableError(f"absurd {name}: {farthest:.4g} angstrom, beyond {_FARTHEST:g}")
    return lengths


def _refuse_absurd(atoms: int, energy: float, forces: np.ndarray) -> None:
    strongest = float(np.nan_to_num(np.linalg.norm(forces, axis=1)).max())
    if strongest > _STRONGEST:
        raise UnusableError(f"absurd forces: {strongest:.4g} eV/angstrom on an atom, above {_STRONGEST:g}")
    if abs(energy) > _DEEPEST * atoms:
        raise UnusableError(f"absurd energy: {energy:.4g} eV for {atoms} atoms, beyond {_DEEPEST:g} an atom")


def _cell(record: Record, units: Units) -> np.ndarray | None:
    """The lattice with zeros for directions that do not repeat; None where none does."""
    periodic = np.asarray(record.periodic, dtype=bool)
    if record.cell is None or not periodic.any():
        return None
    from ase.geometry import complete_cell

    cell = _near("cell", _numbers("cell", record.cell, (3, 3)) * units.length)
    cell[~periodic] = 0.0
    if not cell[periodic].any(axis=1).all():
        raise UnusableError("periodic without a cell: a direction repeats and has no lattice vector")
    whole = complete_cell(cell)
    volume = abs(float(np.linalg.det(whole)))
    areas = [np.linalg.norm(np.cross(whole[i - 2], whole[i - 1])) for i in range(3)]
    thinnest = min(volume / float(areas[i]) if areas[i] else 0.0 for i in np.flatnonzero(periodic))
    if not thinnest > _THINNEST:
        raise UnusableError(f"flat cell: lattice planes {thinnest:.3g} angstrom apart, below {_THINNEST:g}")
    return cell


def lowest_spin(species: np.ndarray, charge: int) -> int:
    """Unpaired electrons of a structure that says its charge alone: as few as there can be, 0 or 1."""
    return (int(species.astype(np.int64).sum()) - charge) % 2


def _state(record: Record, species: np.ndarray) -> tuple[int, int]:
    """Charge and unpaired electrons; what is not said is neutral, and of the lowest spin where a charge is said."""
    charge, spin = _whole("charge", record.charge), _whole("spin", record.spin)
    if charge is None and spin is None:
        return 0, 0
    electrons = int(species.astype(np.int64).sum()) - (charge or 0)
    spin = lowest_spin(species, charge or 0) if spin is None else spin
    if electrons < 0 or spin < 0 or spin > electrons or (electrons - spin) % 2:
        raise UnusableError(
            f"impossible spin: {spin} unpaired among {electrons} electrons (a multiplicity, one more, is to be named "
            "multiplicity)"
        )
    return charge or 0, spin


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    number = _numbers(name, value, ())
    if number != np.round(number) or abs(number) > _MOST:
        raise UnusableError(f"not a whole number: {name} {float(number):g}")
    return int(number)


def _touching(positions: np.ndarray, cell: np.ndarray | None) -> bool:
    atoms = np.array([len(positions)])
    if cell is None and len(positions) <= DENSE:
        return bool(close_pairs(positions, atoms, _TOO_CLOSE)[1].any())
    pairs, _, shifts = neighbours(positions, atoms, _LOOKED, None if cell is None else cell[None])
    apart = positions[pairs[1]] + (0 if shifts is None else shifts) - positions[pairs[0]]
    return bool(np.any(np.linalg.norm(apart, axis=1) < _TOO_CLOSE))


def _rounded(lengths: np.ndarray) -> bytes:
    return np.round(lengths.astype(np.float64) * 10**_PLACES).astype(np.int64).tobytes()
