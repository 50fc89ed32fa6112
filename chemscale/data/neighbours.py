"""Pairs of atoms within a cutoff: all pairs for molecules, a cell list for large or periodic structures.

Pairs are made while training, not kept on disk: a batch of 16 molecules of 27 atoms costs 0.4 ms and a periodic cell of
216 atoms 2 ms (matscipy, pairs halved), where a step of a small PaiNN on either takes 100 ms and more, and pairs on
disk would hold for one cutoff only. Looking at every pair is faster than a cell list up to about 400 atoms (measured at
the density of molecules and 5 angstrom: 27 atoms 0.02 against 0.04 ms, 300 atoms 1.9 against 2.4, 500 atoms 5.5
against 3.5).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

DENSE = 400  # atoms up to which every pair is looked at; see above
BINS = 100  # of a cell list along an edge, at most; more take seconds of a molecule in a box of 500 angstrom


class Neighbours(NamedTuple):
    """Pairs of some structures.

    Attributes:
        pairs: (2, pairs) int64, places in the arrays of all atoms; structure by structure, each pair once: i < j where
            nothing is periodic, else one of (i, j, shift) and (j, i, -shift), where i may be j.
        counts: (structures,) int64, pairs of each.
        shifts: (pairs, 3) float64, angstrom, what brings j to the image that is meant; None where no structure is
            periodic.
    """

    pairs: np.ndarray
    counts: np.ndarray
    shifts: np.ndarray | None


def neighbours(positions: np.ndarray, atoms: np.ndarray, cutoff: float, cells: np.ndarray | None = None) -> Neighbours:
    """All pairs of atoms of one structure that are nearer than the cutoff, images of a lattice among them.

    Args:
        positions: (atoms, 3) of all structures end to end, angstrom.
        atoms: (structures,) atoms of each.
        cutoff: angstrom.
        cells: (structures, 3, 3), lattice vectors in rows, 0 for directions that are not periodic.
    """
    periodic = np.zeros(len(atoms), dtype=bool) if cells is None else cells.any(axis=(1, 2))
    listed = periodic | (atoms > DENSE)
    if not listed.any():
        return Neighbours(*close_pairs(positions, atoms, cutoff), None)
    pieces, counts, shifts = [], [], []
    for start, count, by_list, cell in zip(
        np.cumsum(atoms) - atoms, atoms, listed, np.zeros((len(atoms), 3, 3)) if cells is None else cells, strict=True
    ):
        some = positions[start : start + count]
        if by_list:
            pairs, shift = _listed(some.astype(np.float64), np.asarray(cell, dtype=np.float64), cutoff)
        else:
            pairs = close_pairs(some, np.array([count]), cutoff)[0]
            shift = np.zeros((pairs.shape[1], 3))
        pieces.append(pairs + start)
        counts.append(pairs.shape[1])
        shifts.append(shift)
    return Neighbours(
        np.concatenate(pieces, axis=1), np.array(counts), np.concatenate(shifts) if periodic.any() else None
    )


def close_pairs(positions: np.ndarray, atoms: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of atoms of one structure that are nearer than the cutoff, where nothing is periodic.

    Every pair is looked at, in float64.

    Args:
        positions: (atoms, 3) of all structures end to end, angstrom.
        atoms: (structures,) atoms of each.
        cutoff: angstrom.

    Returns:
        (2, pairs) int64 with i < j, structure by structure, and (structures,) int64, pairs of each.
    """
    starts = np.cumsum(atoms) - atoms
    pairs = np.concatenate([_all_pairs(int(n)) + s for n, s in zip(atoms, starts, strict=True)], axis=1)
    apart = positions[pairs[0]].astype(np.float64) - positions[pairs[1]]
    near = np.einsum("pk,pk->p", apart, apart) < cutoff**2
    pairs = np.ascontiguousarray(pairs[:, near])
    structure = np.repeat(np.arange(len(atoms)), atoms)
    return pairs, np.bincount(structure[pairs[0]], minlength=len(atoms))


def _listed(positions: np.ndarray, cell: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """(2, pairs) and (pairs, 3) shifts of one structure by matscipy, which has mixed boundaries."""
    from matscipy.neighbours import neighbour_list

    periodic = cell.any(axis=1)
    whole = _completed(positions, cell)
    reach = max(cutoff, float(np.cbrt(abs(np.linalg.det(whole)))) / BINS)
    i, j, image, apart = neighbour_list("ijSd", cell=whole, pbc=periodic, positions=positions, cutoff=float(reach))
    if reach > cutoff:
        near = apart < cutoff
        i, j, image = i[near], j[near], image[near]
    first, second, third = (image[:, k] for k in range(3))
    ahead = (third > 0) | ((third == 0) & (j > i))
    once = (first > 0) | ((first == 0) & ((second > 0) | ((second == 0) & ahead)))
    return np.stack((i[once], j[once])).astype(np.int64), image[once] @ cell


def _completed(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The lattice with a vector for each direction that is not periodic, long enough to hold all atoms."""
    from ase.geometry import complete_cell

    if cell.any(axis=1).all():
        return cell
    extent = float(np.ptp(positions, axis=0).max()) + 1.0
    whole = complete_cell(cell)
    missing = ~cell.any(axis=1)
    whole[missing] *= extent / np.linalg.norm(whole[missing], axis=1, keepdims=True)
    return whole


@lru_cache(maxsize=512)
def _all_pairs(atoms: int) -> np.ndarray:
    return np.stack(np.triu_indices(atoms, 1)).astype(np.int64)
