"""Extended XYZ: text, a frame after the other, with labels in the second line and in columns.

The layout is that of ASE (`ase.io.extxyz`), in eV and angstrom. Labels are found under the names that MACE writes
(`REF_energy`, `REF_forces`), as results that ASE knows, or under the names of the reading.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from chemscale.data.formats.format import CHUNK, Chunk, Format, charge_of, first, group_of, spin_of
from chemscale.data.frames import Record, UnusableError
from chemscale.spec import Reading

BYTE_ORDER_MARK = "\ufeff"  # what some editors put before the first line
_HIDDEN = ("numbers", "positions")  # arrays of ASE that are no labels


def chunks(path: Path, reading: Reading) -> Iterator[Chunk]:
    """Runs of frames by the bytes that they lie in; lines that belong to no frame count as a frame of their own."""
    del reading
    with path.open("rb") as handle:
        start, end, records = 0, 0, 0
        for length in _blocks(handle):
            end += length
            records += 1
            if records == CHUNK:
                yield Chunk(records, (start, end))
                start, records = end, 0
        if records:
            yield Chunk(records, (start, end))


def records(path: Path, where: tuple[int, int], reading: Reading) -> Iterator[Record | UnusableError]:
    """The frames that lie in these bytes of the file."""
    with path.open("rb") as handle:
        handle.seek(where[0])
        room = io.BytesIO(handle.read(where[1] - where[0]))
    start = 0
    for length in _blocks(room):
        block = room.getvalue()[start : start + length].decode(errors="replace")
        start += length
        yield parsed(block.removeprefix(BYTE_ORDER_MARK).lstrip("\r\n"), reading)


def _blocks(handle: Any) -> Iterator[int]:
    """Bytes of each frame, blank lines before it counted; those after the last frame belong to none."""
    blank = 0
    for line in handle:
        if not line.strip():
            blank += len(line)
            continue
        atoms = _count(line.decode(errors="replace"))
        body = [] if atoms is None or atoms < 0 else islice(handle, atoms + 1)
        yield blank + len(line) + sum(map(len, body))
        blank = 0


def _count(line: str) -> int | None:
    """The number of atoms that a line says, which may be negative; None where the line says something else."""
    word = line.removeprefix(BYTE_ORDER_MARK).strip()
    digits = word.removeprefix("-")
    return int(word) if digits.isascii() and digits.isdecimal() and len(digits) < 16 else None


def parsed(text: str, reading: Reading) -> Record | UnusableError:
    """The record of one frame."""
    from ase.io.extxyz import read_xyz

    lines = text.splitlines()
    said = _count(lines[0])
    if said is None:
        return UnusableError("not extended XYZ: a record starts with its number of atoms")
    if said <= 0:
        return UnusableError("negative number of atoms" if said < 0 else "no atoms")
    if len(lines) - 2 < said:
        return UnusableError(f"not extended XYZ: {max(len(lines) - 2, 0)} lines of atoms where {said} are promised")
    try:
        return record_of(next(iter(read_xyz(io.StringIO(text), index=0))), reading, " ".join(lines[:2])[:200])
    except KeyError as error:
        return UnusableError(f"unknown element: {error.args[0]}")
    except Exception as error:  # the parser raises many kinds; each is a reason to skip this record
        return UnusableError(f"not extended XYZ: {type(error).__name__} {' '.join(str(error).split())[:120]}")


def record_of(atoms: Any, reading: Reading, text: str) -> Record:
    """The record of an `ase.Atoms` with its results."""
    results = atoms.calc.results if atoms.calc is not None else {}
    labels = {**atoms.info, **{k: v for k, v in atoms.arrays.items() if k not in _HIDDEN}, **results}
    energies = ("REF_energy", "energy") if reading.energy is None else (reading.energy,)
    forces = ("REF_forces", "forces") if reading.forces is None else (reading.forces,)
    return Record(
        species=atoms.numbers,
        positions=atoms.positions,
        energy=first(*(labels.get(name) for name in energies)),
        forces=first(*(labels.get(name) for name in forces)),
        group=group_of(atoms.info, reading.groups),
        isolated=len(atoms) == 1 and atoms.info.get("config_type") == "IsolatedAtom",
        cell=atoms.cell.array,
        periodic=atoms.pbc,
        charge=charge_of(atoms.info),
        spin=spin_of(atoms.info),
        text=text,
        keys=tuple(labels),
        info=atoms.info,
    )


EXTXYZ = Format(
    "extended XYZ", "ev angstrom", "ASE's units, wiki.fysik.dtu.dk/ase", chunks, records, ("energy", "forces", "groups")
)
