"""Structures of ASE as batches of a potential, and its answers with the reference energies of their atoms.

Legend of shapes: atoms, pairs, structures. Energies are in eV, lengths in angstrom, forces in eV/angstrom, stresses in
eV/angstrom^3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from chemscale.batch import AtomicBatch
from chemscale.data.formats.format import charge_of, spin_of
from chemscale.data.frames import lowest_spin
from chemscale.data.neighbours import Neighbours, neighbours
from chemscale.models.potential import ELEMENTS, Potential
from chemscale.use.device import require_device
from chemscale.use.load import Trained

ATOMS_AT_A_TIME = 2000  # of one forward pass: 70 molecules of 27 atoms, beyond which no time is won on a processor
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


class Electrons(NamedTuple):
    """What a structure carries beside its nuclei: elementary charges, and unpaired electrons (0 for a singlet)."""

    charge: float = 0.0
    spin: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a potential says of one structure.

    Attributes:
        energy: eV, in all: as the labels are, with the reference energies of the atoms.
        forces: (atoms, 3), eV/angstrom.
        stress: (3, 3), eV/angstrom^3, positive where the cell is pulled; None where it was not asked for.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


class Answering:
    """A trained potential that takes structures of ASE.

    Args:
        trained: of a potential, i.e. a model of the family "structures".
        precision: "float32" or "float64"; None takes the type of its weights.
        device: of torch, e.g. "cuda".

    Raises:
        ValueError: the model is no potential, the precision is unknown, or this machine has no such device.
    """

    def __init__(self, trained: Trained, *, precision: str | None = None, device: str | torch.device = "cpu") -> None:
        model = trained.run.model
        if model.family != "structures":
            raise ValueError(f"run {trained.run.id} is a {model.architecture}, of strings; this needs a potential.")
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"precision={precision!r} is not allowed: it must be one of {', '.join(PRECISIONS)}.")
        require_device(str(device))
        kept = next(trained.module.parameters()).dtype
        self.trained = trained
        self.cutoff = float(model.view["cutoff"])
        self.dtype = kept if precision is None else PRECISIONS[precision]
        self.device = torch.device(device)
        self.module: Potential = _apart(trained.module).to(device=self.device, dtype=self.dtype)  # type: ignore[assignment]
        self._reference = np.zeros(ELEMENTS)  # eV, float64: totals of tens of thousands of eV lose meV in float32
        for number, energy in trained.manifest.reference.items():
            self._reference[int(number)] = energy

    def check(self, numbers: NDArray[Any]) -> None:
        """Refuse elements that the model was not trained on.

        Raises:
            ValueError: names them, and those that are known.
        """
        if strange := self.strangers(numbers):
            known = ", ".join(symbols_of(self.trained.manifest.species))
            raise ValueError(
                f"the structure contains {', '.join(strange)}, which run {self.trained.run.id} was not trained on; it "
                f"knows {known}: leave such structures out, or train on data that hold them."
            )

    def strangers(self, numbers: NDArray[Any]) -> list[str]:
        """Symbols of the elements among these that the model was not trained on."""
        return symbols_of(sorted(set(np.unique(numbers).tolist()) - set(self.trained.manifest.species)))

    def reference(self, structures: Sequence[Any]) -> NDArray[np.float64]:
        """(structures,), eV: the reference energies of all atoms of each."""
        return np.array([self._reference[atoms.numbers].sum() for atoms in structures])

    def answer(
        self,
        structures: Sequence[Any],
        electrons: Sequence[Electrons],
        pairs: Neighbours | None = None,
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[Answer]:
        """Answers for `ase.Atoms`, all in one forward pass.

        Args:
            electrons: of each structure.
            pairs: those within the cutoff; None looks for them.
            properties: with "stress" among them, also the stress; a fifth more work for a small potential.

        Raises:
            ValueError: an element is unknown, or a structure without a volume is to have a stress.
        """
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        self.check(numbers)
        batch = self._batch(structures, numbers, electrons, pairs)
        stress = None
        if "stress" in properties:
            found, stress = self.module.stressed(batch)
            stress = stress.double().cpu().numpy()
        else:
            with torch.no_grad():
                found = self.module(batch)
        ends = np.cumsum([len(atoms) for atoms in structures])
        forces = np.split(found.forces.double().cpu().numpy(), ends[:-1])
        energies = found.energy.double().cpu().numpy() + self.reference(structures)
        return [
            Answer(float(energies[k]), forces[k], None if stress is None else stress[k])
            for k in range(len(structures))
        ]  # fmt: skip

    def stream(self, structures: Sequence[Any], electrons: Sequence[Electrons]) -> Iterator[tuple[int, Answer]]:
        """(place, answer) of many structures, as many at a time as `ATOMS_AT_A_TIME` allows; not in their order."""
        for places in portions(structures):
            answers = self.answer([structures[k] for k in places], [electrons[k] for k in places])
            yield from zip(places, answers, strict=True)

    def _batch(
        self, structures: Sequence[Any], numbers: NDArray[Any], electrons: Sequence[Electrons], pairs: Neighbours | None
    ) -> AtomicBatch:
        counts = np.array([len(atoms) for atoms in structures])
        # around their middle, so that float32 holds them to 1e-6 angstrom wherever they have drifted
        positions = np.concatenate([atoms.positions - atoms.positions.mean(axis=0) for atoms in structures])
        found = neighbours(positions, counts, self.cutoff, lattices(structures)) if pairs is None else pairs
        charge, spin = (torch.tensor(values, dtype=self.dtype) for values in zip(*electrons, strict=True))
        volume = all(has_volume(atoms) for atoms in structures)
        cell = torch.as_tensor(np.stack([atoms.cell.array for atoms in structures])) if volume else None
        batch = AtomicBatch(
            species=torch.as_tensor(numbers.astype(np.int64)),
            positions=torch.as_tensor(positions),
            owner=torch.as_tensor(np.repeat(np.arange(len(counts)), counts)),
            pairs=torch.as_tensor(found.pairs),
            structures=len(counts),
            shifts=None if found.shifts is None else torch.as_tensor(found.shifts),
            cell=cell,
            charge=charge if bool(charge.any()) else None,
            spin=spin if bool(spin.any()) else None,
        )
        return batch.astype(self.dtype).to(self.device)


def _apart(module: torch.nn.Module) -> torch.nn.Module:
    import copy

    return copy.deepcopy(module).eval().requires_grad_(False)


def symbols_of(numbers: Sequence[int]) -> list[str]:
    """Symbols of atomic numbers."""
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def has_volume(atoms: Any) -> bool:
    """Whether a structure is periodic in a cell with a volume, so that it has a stress."""
    return bool(atoms.pbc.any()) and atoms.cell.rank == 3


def lattices(structures: Sequence[Any]) -> NDArray[np.float64] | None:
    """(structures, 3, 3), angstrom: lattice vectors in rows, 0 for directions that are not periodic; None: all are."""
    if not any(atoms.pbc.any() for atoms in structures):
        return None
    return np.stack([atoms.cell.array * atoms.pbc[:, None] for atoms in structures])


def electrons_of(atoms: Any, charge: float | None = None, spin: float | None = None) -> Electrons:
    """Charge and unpaired electrons, as given or as `atoms.info` has them: "charge", and "spin" or "multiplicity"
    (spin + 1).

    What says neither is a neutral singlet, and what says a charge alone has as few unpaired electrons as there can be:
    the rule by which structures are built into training data.

    Raises:
        ValueError: spin and multiplicity contradict each other.
    """
    said, multiplicity = atoms.info.get("spin"), atoms.info.get("multiplicity")
    if None not in (said, multiplicity) and said != multiplicity - 1:
        raise ValueError(f"spin={said} of atoms.info is not multiplicity={multiplicity} less 1; give one of them.")
    charge = charge_of(atoms.info) if charge is None else charge
    spin = spin_of(atoms.info) if spin is None else spin
    if spin is None:
        spin = 0 if charge is None else lowest_spin(atoms.numbers, round(float(charge)))
    return Electrons(float(charge or 0), float(spin))


def portions(structures: Sequence[Any]) -> Iterator[list[int]]:
    """Places of structures that go together: alike in having a volume, similar in size, few enough atoms."""
    order = sorted(range(len(structures)), key=lambda k: (has_volume(structures[k]), len(structures[k])))
    some: list[int] = []
    held = 0
    for k in order:
        atoms = structures[k]
        if some and (held + len(atoms) > ATOMS_AT_A_TIME or has_volume(atoms) != has_volume(structures[some[0]])):
            yield some
            some, held = [], 0
        some.append(k)
        held += len(atoms)
    if some:
        yield some
