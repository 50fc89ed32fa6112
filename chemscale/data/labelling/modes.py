"""Normal modes of a molecule by finite differences of forces, and displacements along them as by heat.

Where ANI-1 (Smith, Isayev, Roitberg 2017, Scientific Data 4:170193) shares out a random part of the thermal energy
among the modes, here every mode holds what classical statistics give it, kT/2 on average.

Units: positions angstrom, forces eV/angstrom, masses u, squared frequencies eV/angstrom^2/u, temperature K. Shapes: n
atoms, 3n coordinates in C order, k modes: 3n without the motions of a rigid body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chemscale.data.labelling.conformers import BOLTZMANN

Forces = Callable[[NDArray[np.float64]], NDArray[np.float64]]

STEP = (
    0.005  # angstrom; GFN2's forces are good to 1e-5 eV/angstrom, and third derivatives cancel in central differences
)
WAVENUMBER = 521.470898  # 1/cm for 1 eV/angstrom^2/u: sqrt(e / u) / (1e-10 * 2 pi * 100 c), CODATA 2018
SOFTEST = 100.0  # 1/cm; softer modes move as if they were this stiff (Ribeiro et al. 2011, J. Phys. Chem. B 115:14556)
SADDLE = -50.0  # 1/cm; an imaginary frequency beyond this is a saddle point's, and no noise of differences
RIGID = 1e-6  # of the largest singular value: motions of a rigid body below it are none, as of a line about itself


@dataclass(frozen=True)
class Modes:
    """Squared frequencies (k,), ascending, negative where imaginary, and the displacement (3n, k) of each mode for one
    angstrom sqrt(u)."""

    squares: NDArray[np.float64]
    shapes: NDArray[np.float64]

    @property
    def wavenumbers(self) -> NDArray[np.float64]:
        """(k,) 1/cm; negative where imaginary."""
        return np.sign(self.squares) * WAVENUMBER * np.sqrt(np.abs(self.squares))

    def heated(self, temperature: float, random: np.random.Generator) -> NDArray[np.float64]:
        """Displacements (n, 3): each mode Gaussian, with kT/2 of potential energy on average if it is harmonic."""
        stiff = np.maximum(self.squares, (SOFTEST / WAVENUMBER) ** 2)
        along = np.sqrt(BOLTZMANN * temperature / stiff) * random.standard_normal(len(stiff))
        return (self.shapes @ along).reshape(-1, 3)


def hessian(forces: Forces, positions: NDArray[np.float64], step: float = STEP) -> NDArray[np.float64]:
    """(3n, 3n) second derivatives of the energy, symmetric: central differences of 6n forces."""
    size = positions.size
    found = np.empty((size, size))
    for i in range(size):
        moved = np.zeros(size)
        moved[i] = step
        shift = moved.reshape(positions.shape)
        found[i] = (forces(positions - shift) - forces(positions + shift)).ravel() / (2 * step)
    return (found + found.T) / 2


def normal_modes(hessian: NDArray[np.float64], positions: NDArray[np.float64], masses: NDArray[np.float64]) -> Modes:
    """The modes of vibration: those of the mass-weighted Hessian on what is left of a rigid body's motions."""
    roots = np.repeat(np.sqrt(masses), 3)
    inner = _vibrations(positions, masses)
    squares, modes = np.linalg.eigh(inner.T @ (hessian / np.outer(roots, roots)) @ inner)
    return Modes(squares, (inner @ modes) / roots[:, None])


def _vibrations(positions: NDArray[np.float64], masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3n, k) orthonormal, mass-weighted: all motions but shifts and turns."""
    roots = np.sqrt(masses)[:, None]
    centred = positions - np.average(positions, axis=0, weights=masses)
    axes = np.eye(3)
    shifts = [(roots * axis).ravel() for axis in axes]
    turns = [(roots * np.cross(axis, centred)).ravel() for axis in axes]
    motions = np.array([*shifts, *turns]).T  # (3n, 6)
    left, sizes, _ = np.linalg.svd(motions, full_matrices=True)
    return left[:, int(np.sum(sizes > RIGID * sizes[0])) :]
