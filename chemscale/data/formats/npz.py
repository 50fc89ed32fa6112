"""MD trajectories of one molecule as npz archives of numpy: rMD17, MD17 and what sGDML writes.

rMD17 (Christensen & von Lilienfeld, figshare 12672038): `nuclear_charges` (n,), `coords` (m, n, 3) in angstrom,
`energies` (m,) in kcal/mol, `forces` in kcal/mol/angstrom. MD17 (Chmiela et al., Science Advances 3:e1603015, 2017;
quantum-machine.org/gdml): `z`, `R`, `E`, `F` in the same units, unless `e_unit` and `r_unit`, which sGDML writes, say
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.formats.format import Chunk, Format, UnreadableError, lacking, runs
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

_LAYOUTS = {  # numbers, positions, energies, forces
    "rMD17": ("nuclear_charges", "coords", "energies", "forces"),
    "MD17": ("z", "R", "E", "F"),
}


def format_of(path: Path) -> Format:
    """rMD17 or MD17, by the names of the arrays, with the units that the archive says.

    Raises:
        UnreadableError: it has neither layout.
    """
    with opened(path) as held:
        names = set(held.files)
        said = [str(held[name]) for name in ("e_unit", "r_unit") if name in names]
    form = {"rMD17": RMD17, "MD17": MD17}.get(_layout(names) or "")
    if form is None:
        raise UnreadableError(
            f"Data.source={str(path)!r} is npz of an unknown layout: it has {', '.join(sorted(names)) or 'nothing'}; "
            "known are rMD17 (nuclear_charges, coords, energies, forces) and MD17 (z, R, E, F); write others as "
            "extended XYZ."
        )
    return replace(form, units=" ".join(said), source="its own e_unit and r_unit") if len(said) == 2 else form


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of frames."""
    with opened(path) as held:
        names = set(held.files)
        _, coordinates, energy, forces = _keys(names, reading)
        for option, name in (("energy", energy), ("forces", forces)):
            if getattr(reading, option) is not None and name not in names:
                raise lacking(path, option, name, sorted(names))
        for start, stop in runs(_header(held, coordinates)[0]):
            yield Chunk(stop - start, (start, stop))


def records(path: Path, where: tuple[int, int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The frames of one run; all of a file are of one molecule, and each stands alone as a group."""
    start, stop = where
    with opened(path) as held:
        names = set(held.files)
        numbers, *arrays = _keys(names, reading)
        species = held[numbers]
        positions, energies, forces = (_rows(held, name, start, stop) if name in names else None for name in arrays)
    for i in range(stop - start):
        yield Record(
            species if species.ndim == 1 else species[start + i],
            None if positions is None else positions[i],
            None if energies is None else np.ravel(energies[i])[:1],
            None if forces is None else forces[i],
            text=f"frame {start + i}",
            keys=tuple(sorted(names)),
        )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The archive, which is to hold arrays with names."""
    try:
        held = np.load(path, allow_pickle=False)
    except ValueError:  # numpy takes what is no archive for a pickle, and proposes to run it
        raise ValueError("it is no archive of numpy") from None
    if not isinstance(held, np.lib.npyio.NpzFile):
        raise ValueError("it holds one array without a name")
    with held:
        yield held


def _layout(names: set[str]) -> str | None:
    return next((name for name, (z, r, *_) in _LAYOUTS.items() if {z, r} <= names), None)


def _keys(names: set[str], reading: Reading) -> tuple[str, str, str, str]:
    numbers, coordinates, energy, forces = _LAYOUTS[_layout(names) or "MD17"]
    return numbers, coordinates, reading.energy or energy, reading.forces or forces


def _header(held: Any, name: str) -> Sequence[int]:
    """The shape of an array, which is not read."""
    with held.zip.open(f"{name}.npy") as member:
        return _described(member)[0]


def _rows(held: Any, name: str, start: int, stop: int) -> np.ndarray:
    """Some rows of an array; those before are passed over, and the rest is never read."""
    with held.zip.open(f"{name}.npy") as member:
        shape, fortran, dtype = _described(member)
        if fortran or dtype.hasobject:
            return held[name][start:stop]
        row = int(np.prod(shape[1:])) * dtype.itemsize
        left = start * row
        while left:
            left -= len(member.read(min(left, 1 << 24))) or left
        data = member.read((stop - start) * row)
    return np.frombuffer(data, dtype=dtype).reshape(stop - start, *shape[1:])


def _described(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


RMD17 = Format("rMD17", "kcal/mol angstrom", "Christensen & von Lilienfeld, figshare 12672038", chunks, records)
MD17 = Format("MD17", "kcal/mol angstrom", "Chmiela et al., Science Advances 3:e1603015 (2017)", chunks, records)
