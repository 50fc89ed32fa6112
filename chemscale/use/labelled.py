"""Labelled structures of a file that ASE reads, to measure a potential on: labels, groups, subsets.

Energies are in eV, lengths in angstrom, forces in eV/angstrom; a label that a record lacks is NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemscale.data.formats.extxyz import record_of
from chemscale.data.frames import Frame, UnusableError, checked
from chemscale.data.units import Units, units_of
from chemscale.spec import Reading

SUBSET_KEYS = ("config_type", "subset", "temperature")  # what may name a record's subset, the first one found
ASE_UNITS = "ev angstrom"
REST = "without a name"  # records of a file that names the subsets of others


@dataclass(frozen=True)
class Labelled:
    """Structures with labels, in the order of the file.

    Attributes:
        structures: `ase.Atoms`.
        energy: (structures,), eV.
        forces: of each structure (atoms, 3), eV/angstrom.
        groups: (structures,), what is not independent of each other: a molecule, where the file names it.
        subsets: (structures,), under what name each is told of; empty where the file names none.
        named_by: the key of the subsets; None where there are none.
        left_out: how many records could not be used, by reason.
    """

    structures: list[Any]
    energy: NDArray[np.float64]
    forces: list[NDArray[np.float64]]
    groups: NDArray[np.str_]
    subsets: NDArray[np.str_]
    named_by: str | None
    left_out: Mapping[str, int]


def read_labelled(path: str | Path, *, subsets: str | None = None, reading: Reading = Reading()) -> Labelled:  # noqa: B008
    """The labelled structures of extended XYZ, an ASE database, or any other file that ASE reads.

    Args:
        subsets: the key of a record that names its subset; None takes the first of `SUBSET_KEYS` that is there.
        reading: under which keys labels and groups stand, and in what units the file is.

    Raises:
        ValueError: the file cannot be read, holds no labelled structure, or none that has the key.
    """
    units = units_of(reading.units or ASE_UNITS)
    found: list[tuple[Any, Frame]] = []
    left_out: Counter[str] = Counter()
    for atoms in _structures(Path(path)):
        try:
            frame = checked(record_of(atoms, reading, ""), units)
        except UnusableError as fault:
            left_out[str(fault).split(":")[0]] += 1
            continue
        if frame.isolated:
            left_out["isolated atom"] += 1
        else:
            found.append((_in_angstrom(atoms, units), frame))
    if not found:
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "it holds no structure"
        raise ValueError(f"{str(path)!r} has no labelled structure to measure on ({why}); give one with labels.")
    key, names = _named([atoms.info for atoms, _ in found], subsets, path)
    return Labelled(
        [atoms for atoms, _ in found],
        np.array([frame.energy for _, frame in found]),
        [frame.forces.astype(np.float64) for _, frame in found],
        np.array([f"{frame.digest}" if frame.group is None else frame.group for _, frame in found]),
        names,
        key,
        left_out,
    )


def _structures(path: Path) -> Iterator[Any]:
    from ase.io import iread

    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file on this machine; give one of labelled structures.")
    number = 0
    try:
        for atoms in iread(path, ":"):
            yield atoms
            number += 1
    except Exception as error:  # readers raise many kinds
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read at structure {number}: {said}; mend or cut the file.") from None


def _in_angstrom(atoms: Any, units: Units) -> Any:
    """The structure without its labels; charge and spin stay."""
    bare = atoms.copy()
    if units.length != 1:
        bare.set_cell(bare.cell.array * units.length, scale_atoms=False)
        bare.positions *= units.length
    return bare


def _named(infos: list[dict[str, Any]], asked: str | None, path: str | Path) -> tuple[str | None, NDArray[np.str_]]:
    keys = SUBSET_KEYS if asked is None else (asked,)
    key = next((key for key in keys if any(info.get(key) is not None for info in infos)), None)
    if key is None:
        if asked is not None:
            known = ", ".join(sorted({name for info in infos for name in info})[:12]) or "none"
            raise ValueError(f"no record of {str(path)!r} has the key {asked!r} to name a subset; keys there: {known}.")
        return None, np.full(len(infos), "")
    return key, np.array([_text(info.get(key)) for info in infos])


def _text(value: Any) -> str:
    return REST if value is None else f"{value:g}" if isinstance(value, float) else str(value)
