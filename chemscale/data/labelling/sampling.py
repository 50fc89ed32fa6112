"""Where the geometries of one molecule come from: springs, each from a conformer of its own or several from one, normal
modes, or MD.

A conformer costs about as much as a GFN2-xTB label of 18 atoms (11 against 13 ms), so that several displaced geometries
of one conformer are what makes labelling as fast as the labels alone. Molecular dynamics labels every step that it
takes and keeps one in `STEPS`; normal modes cost a relaxation and six labels an atom for each conformer, so that they
want many structures of one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from chemscale.data.labelling.conformers import (
    Geometry,
    Rest,
    derive_seed,
    displaced,
    displaced_conformer,
    relaxed_conformer,
    settled,
)
from chemscale.data.labelling.fragments import radical_electrons
from chemscale.data.labelling.gfn2 import Evaluator, Label, evaluate
from chemscale.data.labelling.modes import SADDLE, Modes, hessian, normal_modes

SAMPLINGS = ("springs", "modes", "md")
STEPS = 50  # of dynamics between two structures that are kept
TIME_STEP = 1.0  # fs; the fastest stretch of a bond to hydrogen takes 9
RELAXED = 0.01  # eV/angstrom, on every atom, of a conformer whose modes are taken: far below the forces of heat
MOST_STEPS = 500  # of a relaxation
FRICTION = 0.02  # 1/fs: heat reaches all modes within the 50 fs between two structures

State = tuple[int, int]  # charge, unpaired electrons


class Geometries:
    """Geometries of one molecule, each from a conformer of its own: `displaced_conformer`."""

    def __init__(self, smiles: str, seed: int) -> None:
        self.smiles, self.seed = smiles, seed

    def state(self, charge: int) -> State:
        """Charge and unpaired electrons of the molecule with so many electrons fewer."""
        own, unpaired, electrons = _electrons(self.smiles)
        if charge == 0:
            return own, unpaired
        return own + charge, (electrons - charge) % 2

    def geometry(self, conformer: int, attempt: int, temperature: float, state: State) -> Geometry:
        """The geometry of one attempt at a conformer, or why there is none."""
        draw = derive_seed(self.seed, self.smiles, conformer, attempt)
        if state == (0, 0):
            return displaced_conformer(self.smiles, temperature, draw)
        rest = relaxed_conformer(self.smiles, draw)
        return rest if isinstance(rest, Geometry) else displaced(rest, temperature, draw)

    def label(self, shape: Geometry, state: State) -> Label:
        """The label of a geometry."""
        return evaluate(shape.species, shape.positions, charge=state[0], spin=state[1])


class SharedShapes(Geometries):
    """Several geometries displaced from each conformer, `per_shape` of them."""

    def __init__(self, smiles: str, seed: int, per_shape: int) -> None:
        super().__init__(smiles, seed)
        self._per_shape = per_shape
        self._shapes: dict[int, Rest | Geometry] = {}
        self._evaluators: dict[State, Evaluator] = {}

    def shape(self, conformer: int) -> Rest | Geometry:
        """The relaxed conformer that a structure comes from."""
        number = conformer // self._per_shape
        if number not in self._shapes:
            self._shapes = {
                number: relaxed_conformer(self.smiles, derive_seed(self.seed, self.smiles, "shape", number))
            }
        return self._shapes[number]

    def geometry(self, conformer: int, attempt: int, temperature: float, state: State) -> Geometry:
        rest = self.shape(conformer)
        if isinstance(rest, Geometry):
            return rest
        return displaced(rest, temperature, derive_seed(self.seed, self.smiles, conformer, attempt))

    def label(self, shape: Geometry, state: State) -> Label:
        if state not in self._evaluators:
            self._evaluators[state] = Evaluator(shape.species, charge=state[0], spin=state[1])
        return self._evaluators[state](shape.positions)


class NormalModes(SharedShapes):
    """Displacements along the normal modes of GFN2-xTB, at the minimum next to each conformer; `per_shape` from one."""

    def __init__(self, smiles: str, seed: int, per_shape: int) -> None:
        super().__init__(smiles, seed, per_shape)
        self._known: dict[tuple[int, State], tuple[NDArray[np.float64], Modes] | str] = {}

    def geometry(self, conformer: int, attempt: int, temperature: float, state: State) -> Geometry:
        rest = self.shape(conformer)
        if isinstance(rest, Geometry):
            return rest
        key = conformer // self._per_shape, state
        if key not in self._known:
            self._known = {k: v for k, v in self._known.items() if k[0] == key[0]} | {key: self._modes(rest, state)}
        found = self._known[key]
        if isinstance(found, str):
            return Geometry(rest.species, np.zeros((0, 3), np.float32), found)
        random = np.random.default_rng(derive_seed(self.seed, self.smiles, conformer, attempt))
        return settled(rest, found[0] + found[1].heated(temperature, random))

    def _modes(self, rest: Rest, state: State) -> tuple[NDArray[np.float64], Modes] | str:
        """The minimum and its modes, or why there are none."""
        from ase import Atoms
        from ase.optimize import BFGS

        atoms = Atoms(rest.species, rest.positions)
        atoms.calc = _calculator(lambda positions: self.label(Geometry(rest.species, positions), state))
        if not BFGS(atoms, logfile=None).run(fmax=RELAXED, steps=MOST_STEPS):
            return "not relaxed: forces remain"

        def forces(positions: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.label(Geometry(rest.species, positions), state).forces  # type: ignore[arg-type]

        modes = normal_modes(hessian(forces, atoms.positions), atoms.positions, atoms.get_masses())
        return "no minimum: an imaginary frequency" if modes.wavenumbers[0] < SADDLE else (atoms.positions, modes)


class Dynamics(SharedShapes):
    """Langevin dynamics on GFN2-xTB by ASE, from each conformer through `per_shape` structures.

    Each structure lies `STEPS` steps after the one before it, at its own temperature and in its own state.
    """

    def __init__(self, smiles: str, seed: int, per_shape: int) -> None:
        super().__init__(smiles, seed, per_shape)
        self._place: tuple[int, NDArray[np.float64]] | None = None

    def geometry(self, conformer: int, attempt: int, temperature: float, state: State) -> Geometry:
        rest = self.shape(conformer)
        if isinstance(rest, Geometry):
            return rest
        number = conformer // self._per_shape
        start = self._place[1] if self._place is not None and self._place[0] == number else rest.positions
        seed = derive_seed(self.seed, self.smiles, conformer, attempt)
        end = self._run(rest, start, temperature, state, seed)
        found = settled(rest, end)
        if not found.reason:
            self._place = number, end
        return found

    def _run(
        self, rest: Rest, start: NDArray[np.float64], temperature: float, state: State, seed: int
    ) -> NDArray[np.float64]:
        from ase import Atoms, units
        from ase.md.langevin import Langevin

        random: Any = np.random.default_rng(seed)
        atoms = Atoms(rest.species, start)
        atoms.calc = _calculator(lambda positions: self.label(Geometry(rest.species, positions), state))
        widths = np.sqrt(units.kB * temperature * atoms.get_masses())  # of the momenta that heat gives
        atoms.set_momenta(widths[:, None] * random.standard_normal((len(atoms), 3)))
        heat = {"temperature_K": temperature, "friction": FRICTION / units.fs}
        Langevin(atoms, TIME_STEP * units.fs, **heat, fixcm=False, rng=random).run(STEPS)
        return atoms.positions


def geometries_of(smiles: str, seed: int, sampling: str, per_shape: int) -> Geometries:
    """The geometries of a molecule by one of `SAMPLINGS`."""
    if sampling == "md":
        return Dynamics(smiles, seed, per_shape)
    if sampling == "modes":
        return NormalModes(smiles, seed, per_shape)
    return Geometries(smiles, seed) if per_shape == 1 else SharedShapes(smiles, seed, per_shape)


def _calculator(label: Any) -> Any:
    from ase.calculators.calculator import Calculator, all_changes

    class Labels(Calculator):
        implemented_properties = ("energy", "forces")  # pyright: ignore[reportAssignmentType]  # ASE reads it only

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            found = label(atoms.positions)
            self.results = {"energy": found.energy, "forces": found.forces}

    return Labels()


@lru_cache(maxsize=64)
def _electrons(smiles: str) -> tuple[int, int, int]:
    """Charge, unpaired electrons as written, and electrons of a molecule."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    charge = Chem.GetFormalCharge(mol)
    electrons = sum(atom.GetAtomicNum() for atom in mol.GetAtoms()) - charge
    return charge, radical_electrons(mol), electrons
