"""Structures of a run of records as arrays, made by a worker and kept on disk until a build is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.formats import format_of
from chemscale.data.formats.format import Chunk
from chemscale.data.frames import Frame, Record, UnusableError, checked
from chemscale.data.splits import LABELLED, LEFT_OUT, mark_of_label
from chemscale.data.staging import whole_file
from chemscale.data.store import Rejected
from chemscale.data.subsets import digest
from chemscale.data.units import units_of
from chemscale.spec import Reading


@dataclass(frozen=True)
class Task:
    """Some records to read: their number among all such runs, the index of the first one, where they lie, and the mark
    of each (`splits`)."""

    number: int
    first: int
    path: Path
    chunk: Chunk
    reading: Reading
    units: str
    marks: np.ndarray


@dataclass(frozen=True)
class Part:
    """Structures of a run of records.

    Attributes:
        species: (atoms,) uint8, end to end.
        positions, forces: (atoms, 3) float32; forces are NaN where missing.
        energy: (structures,) float64; NaN where missing.
        lengths: (structures,) int32, atoms of each.
        cell: (structures, 3, 3) float64, 0 where there is none; (0, 3, 3) where no structure has one.
        charge, spin: (structures,) int16.
        index: (structures,) int64, place of its record in the source.
        member, group: (structures,) uint64, digest of the coordinates and of the molecule.
        mark: (structures,) uint8, the split or what decides about it (`splits`).
        named: (structures,) bool, whether the file says which molecule it is.
        isolated: (structures,) bool, of atoms that give reference energies.
    """

    species: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    energy: np.ndarray
    lengths: np.ndarray
    cell: np.ndarray
    charge: np.ndarray
    spin: np.ndarray
    index: np.ndarray
    member: np.ndarray
    group: np.ndarray
    mark: np.ndarray
    named: np.ndarray
    isolated: np.ndarray


ARRAYS = tuple(field.name for field in fields(Part))


def read_task(task: Task) -> tuple[int, Part, list[Rejected]]:
    """Read and check some records; the work of one process."""
    units = units_of(task.units)
    rows: list[tuple[int, int, Frame]] = []
    rejected: list[Rejected] = []
    found = format_of(task.path).records(task.path, task.chunk.where, task.reading)
    for index, (record, mark) in enumerate(zip(found, task.marks.tolist(), strict=True), task.first):
        if mark == LEFT_OUT:
            continue
        try:
            if isinstance(record, UnusableError):
                raise record
            frame = checked(record, units)
            rows.append((index, _mark(mark, record, task.reading), frame))
        except UnusableError as fault:
            text = "" if isinstance(record, UnusableError) else record.text
            rejected.append(Rejected(index, str(fault), text))
    return task.number, _joined(rows), rejected


def _mark(mark: int, record: Record, reading: Reading) -> int:
    asked = reading.splits
    if asked is None or mark != LABELLED or record.isolated:
        return mark
    try:
        return mark_of_label(record.info.get(asked), asked)
    except ValueError as error:
        raise UnusableError(str(error)) from None


def _joined(rows: list[tuple[int, int, Frame]]) -> Part:
    frames = [frame for *_, frame in rows]
    member = np.array([f.digest for f in frames], dtype=np.uint64)
    keys = [str(m) if f.group is None else f.group for f, m in zip(frames, member.tolist(), strict=True)]
    periodic = any(f.cell is not None for f in frames)
    none = np.zeros((3, 3))
    return Part(
        species=_end_to_end([f.species for f in frames], np.uint8, ()),
        positions=_end_to_end([f.positions for f in frames], np.float32, (3,)),
        forces=_end_to_end([f.forces for f in frames], np.float32, (3,)),
        energy=np.array([f.energy for f in frames], dtype=np.float64),
        lengths=np.array([len(f.species) for f in frames], dtype=np.int32),
        cell=np.array([none if f.cell is None else f.cell for f in frames]) if periodic else np.zeros((0, 3, 3)),
        charge=np.array([f.charge for f in frames], dtype=np.int16),
        spin=np.array([f.spin for f in frames], dtype=np.int16),
        index=np.array([index for index, *_ in rows], dtype=np.int64),
        member=member,
        group=np.array([digest(key) for key in keys], dtype=np.uint64),
        mark=np.array([mark for _, mark, _ in rows], dtype=np.uint8),
        named=np.array([f.group is not None for f in frames], dtype=bool),
        isolated=np.array([f.isolated for f in frames], dtype=bool),
    )


def _end_to_end(pieces: list[np.ndarray], dtype: Any, inner: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros((0, *inner), dtype=dtype), *pieces])


class FrameParts:
    """Numbered parts in a folder, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.done = {int(file.name.split(".")[0]) for file in folder.glob("[0-9]*.npz")}

    def put(self, number: int, part: Part, rejected: list[Rejected]) -> None:
        """Write a part."""
        facts = json.dumps([(r.line, r.reason, r.text) for r in rejected]).encode()
        with whole_file(self._file(number)) as staged, staged.open("wb") as handle:
            np.savez(handle, **{n: getattr(part, n) for n in ARRAYS}, rejected=np.frombuffer(facts, dtype=np.uint8))
        self.done.add(number)

    def arrays(self, number: int, *names: str) -> tuple[np.ndarray, ...]:
        """Some arrays of a part, the others left on disk."""
        with np.load(self._file(number)) as held:
            return tuple(held[name] for name in names)

    def part(self, number: int) -> Part:
        """A part, whole."""
        return Part(*self.arrays(number, *ARRAYS))

    def rejected(self) -> Iterator[Rejected]:
        """What was rejected, in the order of the source."""
        for number in sorted(self.done):
            yield from (Rejected(*row) for row in json.loads(self.arrays(number, "rejected")[0].tobytes()))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.npz"
