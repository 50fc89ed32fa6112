"""Geometries for labels: embedded conformers, displaced as by heat, and the rule that refuses broken ones.

Units: positions angstrom, stiffness eV/angstrom^2, temperature K. Shapes: n atoms, 3n coordinates in C order.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

BOLTZMANN = 8.617333262e-5  # eV/K, CODATA 2018
BOND_STIFFNESS = 30.0  # times bond order; C-H and C-C stretches are 28 to 31 eV/angstrom^2 in MMFF94
ANGLE_STIFFNESS = 6.0  # between second neighbours; about 0.8 mdyn angstrom/rad^2 at a tetrahedral carbon
TORSION_STIFFNESS = 0.5  # between third neighbours
CONTACT_STIFFNESS = 0.05  # between all others
SOFTEST = 4.0  # torsions and bends out of plane move no further than this; conformers vary them instead
GRID = 2.0**-14  # angstrom; positions are multiples of it, exact in float32, and compress by a quarter
FIELDS = ("MMFF94", "UFF")
COLLAPSED = 0.70  # distance over the sum of covalent radii, any pair
TOUCHING = 1.15  # the same, atoms three or more bonds apart
BROKEN = 1.35  # the same, bonded atoms


@dataclass(frozen=True)
class Geometry:
    """Atomic numbers uint8 (n,), positions float32 (n, 3) angstrom, or the reason why there are none."""

    species: NDArray[np.uint8]
    positions: NDArray[np.float32]
    reason: str = ""


def derive_seed(*parts: object) -> int:
    """A seed of 31 bits that depends on these values only, the same on every machine."""
    return int.from_bytes(sha256(":".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Rest:
    """A relaxed conformer: the molecule with hydrogens, its atomic numbers (n,), and positions (n, 3) in angstrom."""

    mol: Chem.Mol
    species: NDArray[np.uint8]
    positions: NDArray[np.float64]

    @cached_property
    def modes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Stiffness (3n,) and modes (3n, 3n) of its spring network."""
        stiffness, modes = np.linalg.eigh(spring_network(self.mol, self.positions))
        return stiffness, modes


def displaced_conformer(smiles: str, temperature: float, seed: int) -> Geometry:
    """One conformer: ETKDGv3, relaxed by MMFF94, displaced as by heat at `temperature` (K), centred, checked.

    Sources: ETKDGv3, Wang et al., J. Chem. Inf. Model. 60, 2044 (2020); MMFF94, Halgren, J. Comput. Chem.
    17 (1996).
    """
    rest = relaxed_conformer(smiles, seed, fields=("MMFF94",))
    return rest if isinstance(rest, Geometry) else displaced(rest, temperature, seed)


def relaxed_conformer(smiles: str, seed: int, fields: tuple[str, ...] = FIELDS) -> Rest | Geometry:
    """One conformer at rest in the first force field that knows its atoms, or a `Geometry` with the reason against it.

    UFF: Rappé et al., J. Am. Chem. Soc. 114, 10024 (1992); it knows radicals and ions that MMFF94 does not.
    """
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    species = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], np.uint8)
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    if rdDistGeom.EmbedMolecule(mol, parameters) != 0:
        return _none(species, "embedding failed")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=500)
    elif "UFF" in fields and rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=500)
    else:
        return _none(species, f"no {' or '.join(fields)} parameters")
    return Rest(mol, species, mol.GetConformer().GetPositions())


def displaced(rest: Rest, temperature: float, seed: int) -> Geometry:
    """A relaxed conformer displaced as by heat at `temperature` (K), centred, checked."""
    moved = rest.positions + _heated(*rest.modes, temperature, np.random.default_rng(seed))
    return settled(rest, moved)


def settled(rest: Rest, positions: NDArray[np.float64]) -> Geometry:
    """Positions of the molecule's atoms, centred, on the grid, checked."""
    moved = positions - positions.mean(0)
    placed = (np.round(moved / GRID) * GRID).astype(np.float32)
    return Geometry(rest.species, placed, geometry_fault(rest.mol, placed))


def spring_network(mol: Chem.Mol, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hessian (3n, 3n) of springs at rest between all atoms, stiff by how many bonds lie between them.

    A model Hessian in the spirit of Lindh et al., Chem. Phys. Lett. 241, 423 (1995): never negative, no
    gradients needed. Its use is the correlation of displacements: bonds keep their lengths while angles
    bend.
    """
    n = len(positions)
    i, j = np.triu_indices(n, 1)
    hops = Chem.GetDistanceMatrix(mol)[i, j]
    stiffness = np.select(
        [hops == 1, hops == 2, hops == 3],
        [BOND_STIFFNESS * _bond_orders(mol)[i, j], ANGLE_STIFFNESS, TORSION_STIFFNESS],
        CONTACT_STIFFNESS,
    )
    along = positions[i] - positions[j]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    stretch = np.zeros((len(i), n, 3))  # d(length)/d(position)
    pair = np.arange(len(i))
    stretch[pair, i], stretch[pair, j] = along, -along
    flat = stretch.reshape(len(i), 3 * n)
    return flat.T @ (stiffness[:, None] * flat)


def thermal_displacement(
    hessian: NDArray[np.float64], temperature: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Displacements (n, 3), Gaussian with covariance kT H^-1: classical heat, in which masses cancel.

    Eigenvalues of H below SOFTEST are raised to it. Each mode stiffer than that holds kT/2 on average.
    """
    return _heated(*np.linalg.eigh(hessian), temperature, random)


def _heated(
    stiffness: NDArray[np.float64], modes: NDArray[np.float64], temperature: float, random: np.random.Generator
) -> NDArray[np.float64]:
    widths = np.sqrt(BOLTZMANN * temperature / np.maximum(stiffness, SOFTEST))
    noise = random.standard_normal(len(stiffness))
    return (modes @ (widths * (modes.T @ noise))).reshape(-1, 3)  # does not depend on the basis of equal modes


def geometry_fault(mol: Chem.Mol, positions: NDArray[np.floating]) -> str:
    """'' for a sound geometry of `mol` (hydrogens explicit), else which rule it breaks.

    Distances are measured in sums of covalent radii: no pair below COLLAPSED, no pair three or more bonds
    apart below TOUCHING, no bonded pair above BROKEN.
    """
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(atom.GetAtomicNum()) for atom in mol.GetAtoms()])
    i, j = np.triu_indices(len(radii), 1)
    ratio = np.linalg.norm(positions[i] - positions[j], axis=1) / (radii[i] + radii[j])
    hops = Chem.GetDistanceMatrix(mol)[i, j]
    if np.any(ratio < COLLAPSED):
        return f"collapsed: two atoms closer than {COLLAPSED} covalent radii"
    if np.any(ratio[hops >= 3] < TOUCHING):
        return f"collapsed: unbonded atoms closer than {TOUCHING} covalent radii"
    if np.any(ratio[hops == 1] > BROKEN):
        return f"dissociated: a bond longer than {BROKEN} covalent radii"
    return ""


def _bond_orders(mol: Chem.Mol) -> NDArray[np.float64]:
    orders = np.zeros((mol.GetNumAtoms(),) * 2)
    for bond in mol.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        orders[a, b] = orders[b, a] = bond.GetBondTypeAsDouble()
    return orders


def _none(species: NDArray[np.uint8], reason: str) -> Geometry:
    return Geometry(species, np.zeros((0, 3), np.float32), reason)
