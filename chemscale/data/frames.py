"""Structures out of files: extended XYZ and Parquet, checked one by one.

Energies in eV, lengths in angstrom, forces in eV/angstrom. A record with a fault becomes a `Rejected` with
its index, counted from 0 in the order of the file.

A label is a fault where it is missing, is no finite number, or is absurd: a force on an atom above 1000
eV/angstrom in magnitude, or an energy above 10^7 eV an atom in magnitude. No calculation of a molecule that
converged gives either (all electrons of the heaviest atom are bound by some 10^6 eV); both are failed
calculations or wrong units, and one of them would rule the scale of forces or the reference energies.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data import parallel
from chemscale.data.examples import close_pairs
from chemscale.data.groups import group_key_of_smiles
from chemscale.data.store import Rejected
from chemscale.data.subsets import digest

GROUP_KEYS = ("group", "smiles", "mol_id")  # what may name a structure's molecule, the first one found
METADATA_KEY = b"chemscale"
_FRAMES_PER_TASK = 500
_TOO_CLOSE = 0.05  # angstrom; nearer atoms are one atom written twice, and distances divide by it
_STRONGEST = 1000.0  # eV/angstrom, length of the force on one atom
_DEEPEST = 1e7  # eV an atom
_HIGHEST = 118  # atomic number
_PLACES = 4  # decimals of an angstrom within which two structures are the same


@dataclass(frozen=True)
class Frame:
    """One labelled structure.

    Attributes:
        species: (atoms,) uint8, atomic numbers.
        positions, forces: (atoms, 3) float32, angstrom and eV/angstrom.
        energy: eV.
        group: key of its molecule; None where the file does not say.
        isolated: a lone atom that gives a reference energy, and no example.
    """

    species: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    energy: float
    group: str | None = None
    isolated: bool = False

    @property
    def digest(self) -> int:
        """Digest of what it is made of and where its atoms lie, to 0.0001 angstrom."""
        places = np.round(self.positions.astype(np.float64) * 10**_PLACES).astype(np.int64)
        return digest(self.species.tobytes() + places.tobytes())


def read_frames(path: Path, processes: int | None, progress: bool | None) -> Iterator[Frame | Rejected]:
    """Every structure of an extended XYZ or Parquet file, or why it cannot be used."""
    if path.name.lower().endswith(".parquet"):
        yield from _parquet_frames(path)
        return
    tasks = parallel.in_chunks(_blocks(path), _FRAMES_PER_TASK)
    with parallel.progress_bar(None, f"reading {path.name}", progress) as shown:
        for frames in parallel.in_processes(parse_blocks, tasks, processes):
            shown.advance(len(frames))
            yield from frames


def read_facts(path: Path) -> dict[str, Any]:
    """What a Parquet file says of itself: licence, citation, label noise; empty for other files."""
    if not path.name.lower().endswith(".parquet"):
        return {}
    import pyarrow.parquet as pq

    return json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))


def parse_blocks(blocks: list[tuple[int, str]]) -> list[Frame | Rejected]:
    """Parse frames of extended XYZ, each with its index; the work of one process."""
    return [_parsed(index, text) for index, text in blocks]


def _blocks(path: Path) -> Iterator[tuple[int, str]]:
    """(index, text) of each frame; lines that belong to no frame come as a block of their own."""
    with path.open(errors="replace") as handle:
        index = 0
        for line in handle:
            if not line.strip():
                continue
            atoms = _count(line)
            body = [] if atoms is None or atoms < 0 else islice(handle, atoms + 1)
            yield index, line + "".join(body)
            index += 1


def _count(line: str) -> int | None:
    """The number of atoms that a line says, which may be negative; None where the line says something else."""
    word = line.strip()
    digits = word.removeprefix("-")
    return int(word) if digits.isascii() and digits.isdecimal() and len(digits) < 16 else None


def _parsed(index: int, text: str) -> Frame | Rejected:
    from ase.io.extxyz import read_xyz

    head = " ".join(text.splitlines()[:2])[:200]
    said = _count(text.split("\n", 1)[0])
    if said is not None and said <= 0:
        return Rejected(index, "negative number of atoms" if said < 0 else "no atoms", head)
    if said is None:
        return Rejected(index, "not extended XYZ: a record starts with its number of atoms", head)
    found = len(text.splitlines()) - 2
    if found < said:
        return Rejected(index, f"not extended XYZ: {max(found, 0)} lines of atoms where {said} are promised", head)
    try:
        atoms = next(iter(read_xyz(io.StringIO(text), index=0)))
        return _frame(atoms)
    except UnusableError as fault:
        return Rejected(index, str(fault), head)
    except KeyError as error:
        return Rejected(index, f"unknown element: {error.args[0]}", head)
    except Exception as error:  # the parser raises many kinds; each is a reason to skip this record
        return Rejected(index, f"not extended XYZ: {type(error).__name__} {' '.join(str(error).split())[:120]}", head)


class UnusableError(ValueError):
    """Why a structure cannot be used."""


def _frame(atoms: Any) -> Frame:
    results = atoms.calc.results if atoms.calc is not None else {}
    energy = _first(atoms.info.get("REF_energy"), results.get("energy"), atoms.info.get("energy"))
    forces = _first(atoms.arrays.get("REF_forces"), results.get("forces"), atoms.arrays.get("forces"))
    isolated = len(atoms) == 1 and atoms.info.get("config_type") == "IsolatedAtom"
    if isolated and forces is None:
        forces = np.zeros((1, 3))
    if atoms.pbc.any():
        raise UnusableError("periodic cell")
    group = _group_of(atoms.info)
    return _checked(atoms.numbers, atoms.positions, energy, forces, group, isolated)


def _checked(
    species: np.ndarray,
    positions: np.ndarray,
    energy: Any,
    forces: Any,
    group: str | None,
    isolated: bool = False,
) -> Frame:
    atoms = len(species)
    if not atoms:
        raise UnusableError("no atoms")
    if energy is None or forces is None:
        raise UnusableError("missing label: energy" if energy is None else "missing label: forces")
    shapes = {"positions": np.shape(positions), "forces": np.shape(forces)}
    for name, shape in shapes.items():
        if shape != (atoms, 3):
            raise UnusableError(f"wrong shape: {name} {shape} for {atoms} atoms")
    if species.min() < 1 or species.max() > _HIGHEST:
        raise UnusableError(f"unknown element: atomic number {species.min() if species.min() < 1 else species.max()}")
    for name, values in (("energy", energy), ("forces", forces), ("positions", positions)):
        if not np.issubdtype(np.asarray(values).dtype, np.number):
            raise UnusableError(f"not a number: {name}")
        if not np.all(np.isfinite(values)):
            raise UnusableError(f"not a finite number: {name}")
    _refuse_absurd(atoms, energy, forces)
    if _touching(positions):
        raise UnusableError(f"atoms at one place: nearer than {_TOO_CLOSE} angstrom")
    return Frame(
        species.astype(np.uint8),
        np.asarray(positions, dtype=np.float32),
        np.asarray(forces, dtype=np.float32),
        float(energy),
        group,
        isolated,
    )


def _refuse_absurd(atoms: int, energy: Any, forces: Any) -> None:
    strongest = float(np.linalg.norm(np.asarray(forces, dtype=np.float64), axis=1).max())
    if strongest > _STRONGEST:
        raise UnusableError(f"absurd forces: {strongest:.4g} eV/angstrom on an atom, above {_STRONGEST:g}")
    if abs(float(energy)) > _DEEPEST * atoms:
        raise UnusableError(f"absurd energy: {float(energy):.4g} eV for {atoms} atoms, beyond {_DEEPEST:g} an atom")


def _touching(positions: np.ndarray) -> bool:
    _, found = close_pairs(np.asarray(positions), np.array([len(positions)]), _TOO_CLOSE)
    return bool(found.any())


def _group_of(info: dict[str, Any]) -> str | None:
    name = next((name for name in GROUP_KEYS if info.get(name) is not None), None)
    if name is None:
        return None
    return group_key_of_smiles(str(info[name])) if name == "smiles" else f"{name}:{info[name]}"


def _parquet_frames(path: Path) -> Iterator[Frame | Rejected]:
    import pyarrow.parquet as pq

    keys: dict[str, str] = {}
    index = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=4096):
        columns = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        missing = [name for name in ("species", "positions", "energy", "forces") if name not in columns]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]!r}; a file of structures needs species, positions, "
                "energy and forces."
            )
        for row in _rows(columns, len(batch), keys):
            try:
                yield _checked(*row)
            except UnusableError as fault:
                yield Rejected(index, str(fault), str(row[-1] or ""))
            index += 1


def _rows(columns: dict[str, Any], count: int, keys: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    ragged = {name: _lists(columns[name]) for name in ("species", "positions", "forces")}
    energies = columns["energy"].to_pylist()
    for i, group in enumerate(_group_column(columns, count, keys)):
        species, positions, forces = (ragged[name][i] for name in ("species", "positions", "forces"))
        yield (
            np.zeros(0, dtype=np.int64) if species is None else species.astype(np.int64),
            None if positions is None else _triples(positions),
            energies[i],
            None if forces is None else _triples(forces),
            group,
        )


def _group_column(columns: dict[str, Any], count: int, keys: dict[str, str]) -> Iterable[str | None]:
    name = next((name for name in GROUP_KEYS if name in columns), None)
    if name is None:
        return [None] * count
    values = columns[name].to_pylist()
    if name != "smiles":
        return [None if value is None else f"{name}:{value}" for value in values]
    for value in {v for v in values if v is not None} - set(keys):
        keys[value] = group_key_of_smiles(value)
    return [None if value is None else keys[value] for value in values]


def _lists(column: Any) -> list[np.ndarray | None]:
    values = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.array([n or 0 for n in column.value_lengths().to_pylist()], dtype=np.int64)
    pieces = np.split(values, np.cumsum(lengths)[:-1])
    return [piece if valid else None for piece, valid in zip(pieces, column.is_valid().to_pylist(), strict=True)]


def _triples(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 3) if len(values) % 3 == 0 else values


def _first(*candidates: Any) -> Any:
    return next((c for c in candidates if c is not None), None)
