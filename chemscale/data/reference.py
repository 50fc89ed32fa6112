"""Energies of lone atoms that labels are counted from: of isolated atoms, or by least squares on composition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

_AT_A_TIME = 1 << 14  # rows of compositions that are kept before they are folded into a triangle: 8 MB
_ELEMENTS = 119


@dataclass(frozen=True)
class Reference:
    """Reference energies (eV, by atomic number), where they come from, and what the data leave open.

    `rank` is that of the training compositions, out of as many as there are elements; None for isolated atoms. `open`
    says in words what a smaller rank means; "" where nothing is open.
    """

    energies: Mapping[int, float]
    rule: str
    rank: int | None = None
    open: str = ""


class Compositions:
    """Energies of training structures by how many atoms of each element they have, for a fit in bounded memory.

    Rows are folded by QR once there are many: `|A x - b|` is then the same for the triangle, at the full precision of
    float64 (normal equations would halve its digits, and 17 keV of a molecule against 1 meV need seven of them).
    """

    def __init__(self) -> None:
        self.present = np.zeros(_ELEMENTS, dtype=bool)
        self._triangle = np.zeros((0, _ELEMENTS + 1))
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, species: np.ndarray, lengths: np.ndarray, energy: np.ndarray) -> None:
        """Add structures.

        Args:
            species: (atoms,) atomic numbers, end to end.
            lengths: (structures,) atoms of each.
            energy: (structures,) eV, NaN where missing: such a structure tells which elements there are, no more.
        """
        self.present[species] = True
        places = np.repeat(np.arange(len(lengths)), lengths) * _ELEMENTS + species
        counts = np.bincount(places, minlength=len(lengths) * _ELEMENTS).astype(np.int32).reshape(-1, _ELEMENTS)
        there = np.isfinite(energy)
        self._rows.append((counts[there], energy[there]))
        self._waiting += int(there.sum())
        if self._waiting >= _AT_A_TIME:
            self._fold()

    def fitted(self) -> Reference:
        """Least squares in float64, of minimum norm where compositions do not determine all elements."""
        numbers = np.flatnonzero(self.present)
        rows = self._matrix(numbers)
        energies, rank = reference_energies(rows[:, :-1], rows[:, -1])
        rule = "least squares on composition over the training split"
        found = {int(z): float(e) for z, e in zip(numbers, energies, strict=True)}
        return Reference(found, rule, rank, _left_open(rank, numbers))

    def _fold(self) -> None:
        numbers = np.flatnonzero(self.present)
        upper = np.asarray(np.linalg.qr(self._matrix(numbers), mode="r"))
        self._triangle = np.zeros((len(upper), _ELEMENTS + 1))
        self._triangle[:, [*numbers, _ELEMENTS]] = upper
        self._rows, self._waiting = [], 0

    def _matrix(self, numbers: np.ndarray) -> np.ndarray:
        """(rows, elements + 1): compositions in these elements, and energies."""
        rows = [np.column_stack((counts[:, numbers], energy)) for counts, energy in self._rows]
        return np.concatenate([self._triangle[:, [*numbers, _ELEMENTS]], *rows])

    def of_isolated(self, lone: Mapping[int, float]) -> Reference:
        """Energies of isolated atoms where each element has one, else the fit."""
        numbers = np.flatnonzero(self.present).tolist()
        missing = [chemical_symbols[z] for z in numbers if z not in lone]
        if not missing:
            return Reference({z: lone[z] for z in numbers}, "isolated atoms of the file")
        fitted = self.fitted()
        if not lone:
            return fitted
        lacking = f"isolated atoms lack {', '.join(missing)}, so that none is used"
        return Reference(
            fitted.energies, fitted.rule, fitted.rank, f"{lacking}; {fitted.open}" if fitted.open else lacking
        )


def reference_energies(composition: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, int]:
    """Energy per atom of each species by float64 least squares of minimum norm, and the rank of the compositions.

    Where compositions do not determine all species (one molecule only), the minimum norm shares the energy out.

    Args:
        composition: (structures, species), counts of atoms.
        energy: (structures,), eV.

    Returns:
        (species,), eV, and at most as many as there are species.
    """
    if not len(energy):
        return np.zeros(composition.shape[1]), 0
    solution, _, rank, _ = np.linalg.lstsq(composition.astype(np.float64), energy.astype(np.float64), rcond=None)
    return solution, int(rank)


def _left_open(rank: int, numbers: np.ndarray) -> str:
    if rank == len(numbers):
        return ""
    symbols = ", ".join(chemical_symbols[z] for z in numbers)
    return (
        f"compositions have rank {rank} of {len(numbers)}: the energies of {symbols} are not determined one by one and "
        "were shared out by minimum norm; energies of other compositions are not predicted by this model"
    )
