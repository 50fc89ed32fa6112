"""What assembling structures finds out, and the arrays that it writes part by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.frame_parts import Part
from chemscale.data.reference import Compositions, Reference
from chemscale.data.store import ArrayFile, Rejected
from chemscale.data.subsets import SPLITS

LATER = ("cell", "charge", "spin")  # arrays that exist only where a structure has one


@dataclass
class Assembled:
    """What assembling finds out.

    Attributes:
        counts: structures of each split.
        groups, train_groups: groups in all, and in training.
        train_atoms, largest: atoms of the training split, and of the largest structure.
        named: structures whose molecule the file names.
        labelled: structures that have an energy, and forces.
        scale: eV/angstrom, root mean square of the training split's force components.
        reference: of the training split's species.
        duplicates: structures at the same coordinates; see `duplicates.Duplicates.within`.
        left_out: held-out structures with elements that are not in training, or at coordinates of an earlier split.
        states: how many structures are periodic, charged, and open-shelled.
        sums: checksum of each array.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(SPLITS))
    groups: int = 0
    train_groups: int = 0
    train_atoms: int = 0
    largest: int = 0
    named: int = 0
    labelled: dict[str, int] = field(default_factory=lambda: {"energy": 0, "forces": 0})
    scale: float = 1.0
    reference: Reference = field(default_factory=lambda: Reference({}, ""))
    duplicates: dict[str, Any] = field(default_factory=dict)
    left_out: list[Rejected] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=lambda: {"periodic": 0, "charged": 0, "open shells": 0})
    sums: dict[str, str] = field(default_factory=dict)


class StructureFiles:
    """The arrays that grow with every part."""

    def __init__(self, folder: Path, structures: int, atoms: int, later: tuple[str, ...]) -> None:
        shapes: dict[str, tuple[Any, int, tuple[int, ...]]] = {
            "species": (np.uint8, atoms, ()),
            "positions": (np.float32, atoms, (3,)),
            "forces": (np.float32, atoms, (3,)),
            "energy": (np.float64, structures, ()),
            "offsets": (np.int64, structures + 1, ()),
            "split": (np.uint8, structures, ()),
            "group": (np.int64, structures, ()),
            "member_digest": (np.uint64, structures, ()),
            "cell": (np.float64, structures, (3, 3)),
            "charge": (np.int16, structures, ()),
            "spin": (np.int16, structures, ()),
        }
        self.files = {
            name: ArrayFile(folder / f"{name}.npy", *shape)
            for name, shape in shapes.items()
            if name not in LATER or name in later
        }
        self.files["offsets"].append(np.zeros(1, dtype=np.int64))
        self.end = 0

    def add(self, part: Part, rows: np.ndarray) -> None:
        """Append what is kept of a part."""
        kept = np.zeros(len(part.lengths), dtype=bool)
        kept[rows["place"]] = True
        atoms = np.repeat(kept, part.lengths)
        ends = self.end + np.cumsum(part.lengths[kept], dtype=np.int64)
        self.end = int(ends[-1]) if len(ends) else self.end
        cell = part.cell if len(part.cell) else np.zeros((len(kept), 3, 3))
        values = {
            "species": part.species[atoms], "positions": part.positions[atoms], "forces": part.forces[atoms],
            "energy": part.energy[kept], "offsets": ends, "split": rows["split"], "group": rows["group"],
            "member_digest": part.member[kept], "cell": cell[kept], "charge": part.charge[kept],
            "spin": part.spin[kept],
        }  # fmt: skip
        for name, file in self.files.items():
            file.append(values[name])

    def close(self) -> dict[str, str]:
        """Checksum of each array."""
        for file in self.files.values():
            file.__exit__()
        return {name: file.checksum for name, file in self.files.items()}


class Gathered:
    """What the manifest tells of the structures that are kept."""

    def __init__(self, found: Assembled) -> None:
        self.found = found
        self.compositions = Compositions()
        self._squares, self._components = 0.0, 0

    def add(self, part: Part, rows: np.ndarray) -> None:
        """Count the kept structures of a part."""
        found, kept = self.found, rows["place"]
        first = np.cumsum(part.lengths, dtype=np.int64) - part.lengths
        has_forces = np.isfinite(part.forces[:, 0])[first[kept]] if len(part.forces) else np.zeros(0, dtype=bool)
        found.labelled["energy"] += int(np.isfinite(part.energy[kept]).sum())
        found.labelled["forces"] += int(has_forces.sum())
        found.named += int(part.named[kept].sum())
        found.largest = max(found.largest, int(part.lengths[kept].max(initial=0)))
        found.states["charged"] += int(np.sum(part.charge[kept] != 0))
        found.states["open shells"] += int(np.sum(part.spin[kept] != 0))
        found.states["periodic"] += int(part.cell[kept].any(axis=(1, 2)).sum()) if len(part.cell) else 0
        train = np.zeros(len(part.lengths), dtype=bool)
        train[kept[rows["split"] == 0]] = True
        atoms = np.repeat(train, part.lengths)
        found.train_atoms += int(atoms.sum())
        self.compositions.add(part.species[atoms], part.lengths[train], part.energy[train])
        forces = part.forces[atoms].astype(np.float64)
        there = np.isfinite(forces)
        self._squares += float(np.sum(forces[there] ** 2))
        self._components += int(there.sum())

    @property
    def scale(self) -> float:
        """Root mean square of all force components, eV/angstrom; 1 where there are none, or all are zero."""
        return float(np.sqrt(self._squares / max(self._components, 1))) or 1.0
