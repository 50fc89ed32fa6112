"""Labelled structures of a file, to measure a potential on: labels, groups, subsets.

Energies are in eV, lengths in angstrom, forces in eV/angstrom; a label that a record lacks is NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemscale.data.formats import STRUCTURE_SUFFIXES, format_of
from chemscale.data.formats.extxyz import record_of
from chemscale.data.formats.format import require_found, whole
from chemscale.data.frames import Frame, Record, UnusableError, checked
from chemscale.data.structures import units_name
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
    """The labelled structures of any file that a run can be trained on, or that ASE reads.

    Args:
        subsets: the key of a record that names its subset; None takes the first of `SUBSET_KEYS` that is there.
        reading: under which keys labels and groups stand, and in what units the file is; those that the kind of file is
            published with where it says none.

    Raises:
        ValueError: the file cannot be read, holds no labelled structure, or none that has the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file on this machine; give one of labelled structures.")
    known = path.name.lower().endswith((*STRUCTURE_SUFFIXES, ".parquet"))
    units = units_of(units_name(path, reading) if known else reading.units or ASE_UNITS)
    found: list[tuple[Record, Frame]] = []
    left_out: Counter[str] = Counter()
    first = "it holds no structure"
    for record in _records(path, reading) if known else _read_by_ase(path, reading):
        try:
            if isinstance(record, UnusableError):
                raise record
            frame = checked(record, units)
        except UnusableError as fault:
            first = str(fault) if not left_out else first
            left_out[str(fault).split(":")[0]] += 1
            continue
        if frame.isolated:
            left_out["isolated atom"] += 1
        else:
            found.append((record, frame))
    if not found:
        raise ValueError(f"{str(path)!r} has no labelled structure to measure on: {first}; give one with labels.")
    frames = [frame for _, frame in found]
    there = {
        "groups": sum(frame.group is not None for frame in frames),
        "energy": sum(not np.isnan(frame.energy) for frame in frames),
        "forces": sum(not np.isnan(frame.forces).all() for frame in frames),
    }
    require_found(reading, there, str(path))
    key, names = _named([record.info for record, _ in found], subsets, path)
    return Labelled(
        [_atoms(record, frame, units) for record, frame in found],
        np.array([frame.energy for frame in frames]),
        [frame.forces.astype(np.float64) for frame in frames],
        np.array([f"{frame.digest}" if frame.group is None else frame.group for frame in frames]),
        names,
        key,
        left_out,
    )


def _records(path: Path, reading: Reading) -> Iterator[Record | UnusableError]:
    form = format_of(path)
    form.require_heeded(reading)
    for chunk in form.chunks(path, reading):
        yield from form.records(path, chunk.where, reading)


def _read_by_ase(path: Path, reading: Reading) -> Iterator[Record]:
    from ase.io import iread

    with whole(path, "a file that ASE knows"):
        for atoms in iread(path, ":"):
            yield record_of(atoms, reading, "")


def _atoms(record: Record, frame: Frame, units: Units) -> Any:
    """The structure without its labels, in angstrom and float64; charge and spin as a run would be trained on them."""
    from ase import Atoms

    positions = np.asarray(record.positions, dtype=np.float64) * units.length
    state = {"charge": frame.charge, "spin": frame.spin}
    return Atoms(
        frame.species, positions, cell=frame.cell, pbc=record.periodic if frame.cell is not None else False, info=state
    )


def _named(
    infos: Sequence[Mapping[str, Any]], asked: str | None, path: str | Path
) -> tuple[str | None, NDArray[np.str_]]:
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
