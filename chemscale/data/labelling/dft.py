"""Energies and forces of density functional theory by pyscf: few and dear, beside many of GFN2-xTB.

wB97X, Chai & Head-Gordon, J. Chem. Phys. 128, 084106 (2008), in 6-31G* with six Cartesian d functions, by which the
basis is defined and ANI-1x was labelled: the level of ANI-1x. Forces hold how the grid of integration moves with the
atoms, so they are the gradient of the energy. Units: eV, eV/angstrom, angstrom.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from chemscale.data.labelling.disk import Structure
from chemscale.data.labelling.gfn2 import BOHR, HARTREE, ConvergenceError, Label

MISSING = "Labels of DFT need pyscf; install it by: pip install 'chemscale[dft]'."
LEVEL = "wb97x/6-31g*"
VERSION = 2  # rises when code changes a label
OF_VERSION = {  # what a label of each version is
    1: "five spherical d functions, forces without the grid's response",
    2: "six Cartesian d functions, forces with the grid's response",
}
TIGHT = 1e-9  # Hartree between two cycles: far below the meV that labels are about


def evaluate(species: NDArray[np.integer], positions: NDArray[np.floating], *, charge: int = 0, spin: int = 0) -> Label:
    """The label of a molecule: species (n,), positions (n, 3) angstrom; charge; unpaired electrons (then unrestricted).

    Raises ConvergenceError, and ValueError without pyscf.
    """
    if find_spec("pyscf") is None:
        raise ValueError(MISSING)
    from pyscf import dft, gto, lib  # pyright: ignore[reportMissingImports]  # an extra that need not be here

    lib.num_threads(1)  # processes share the work; sums then have one order
    places = np.asarray(positions, float)
    atoms = list(zip(np.asarray(species, int).tolist(), places.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis="6-31g*", cart=True, charge=charge, spin=spin, unit="Angstrom", verbose=0)
    field = dft.UKS(molecule) if spin else dft.RKS(molecule)
    field.xc, field.conv_tol = "wb97x", TIGHT
    energy = field.kernel()
    if not field.converged:
        raise ConvergenceError("the DFT did not converge")
    slope = field.nuc_grad_method()
    slope.grid_response = True
    return Label(float(energy) * HARTREE, -np.asarray(slope.kernel()) * (HARTREE / BOHR))


def relabelled(structure: Structure) -> Structure | str:
    """The structure with a label of DFT, or the reason why there is none; what one process does."""
    try:
        found = evaluate(structure.species, structure.positions, charge=structure.charge, spin=structure.spin)
    except ConvergenceError as failure:
        return str(failure)
    return replace(structure, energy=found.energy, forces=found.forces.astype(np.float32), level=LEVEL)
