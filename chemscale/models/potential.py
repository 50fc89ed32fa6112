"""What every interatomic potential shares: species, output scale, and forces, by gradient or by a head of their own.

Legend of shapes: atoms, pairs, structures, width (channels, always last). Energies are in eV, lengths in angstrom,
forces in eV/angstrom.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest

ELEMENTS = 119  # atomic numbers 0 to 118
READOUT_GAIN = 0.1  # the first predictions are small beside the labels' scale: training starts at the error of zero
FORCES = ("gradient", "direct")  # minus the gradient of the energy, or outputs of their own, which cost one pass less

# What physics a model keeps by construction; a config class lists its own as `traits`, a class without has both.
EQUIVARIANT = "equivariant"  # energies stay and forces turn when a structure is turned or mirrored
LOCAL = "local"  # an atom feels what pairs within the cutoff carry to it; parts far from each other add up
CONSERVATIVE = "conservative"  # forces are minus the gradient of the energy: said by `forces`, not by a class
TRAITS = frozenset({EQUIVARIANT, LOCAL})


class PotentialConfig:
    """What every configuration of a potential says of itself; a base for frozen dataclasses with a `cutoff`."""

    family: ClassVar[str] = "structures"
    objective: ClassVar[str] = "energy_force"
    flops_rule: ClassVar[int] = 1  # rises when the work of an unchanged spec is done, and counted, another way
    kernels: ClassVar[tuple[str, ...]] = ()  # libraries of kernels by which it multiplies, beside plain torch

    @property
    def variant(self) -> str:
        """What sets it apart in tables of runs from others of its architecture: "direct" forces are no gradient."""
        return "direct" if getattr(self, "forces", FORCES[0]) == "direct" else ""

    @property
    def view(self) -> Mapping[str, Any]:
        """Pairs within the cutoff, in angstrom."""
        return {"cutoff": self.cutoff}  # type: ignore[attr-defined]


class AtomicPrediction(NamedTuple):
    """What a potential says of a batch; a tuple, so that wrappers such as DistributedDataParallel see the tensors.

    Attributes:
        energy: (structures,), eV, relative to the reference energies of the atoms.
        forces: (atoms, 3), eV/angstrom.
    """

    energy: Tensor
    forces: Tensor


class Potential(nn.Module, ABC):
    """Base of all potentials: a subclass says what energy each atom has, this class sums, scales and differentiates.

    A subclass gives its species table the name `embedding` and its last layers the name `readout`; all its other
    modules count as "interaction". One that can also predict forces without a gradient gives `atomic_outputs` and hands
    its config's `forces` on.

    Args:
        manifest: its `species` fill the species table, its `scale` (eV/angstrom) multiplies the energies, so that a
            network whose outputs are of order one predicts forces of the labels' size.
        forces: "gradient" for conservative forces; "direct" for those of `atomic_outputs`, without double backward.

    Raises:
        ValueError: the manifest names no species.
    """

    def __init__(self, manifest: AtomicManifest, forces: str = "gradient") -> None:
        super().__init__()
        self.forces = forces
        if not manifest.species:
            raise ValueError("AtomicManifest.species=() is empty; give the atomic numbers that occur in the data.")
        self.species = tuple(int(z) for z in manifest.species)
        rows = dict(zip(self.species, range(len(self.species)), strict=True))
        self.row_of: Tensor
        self.scale: Tensor
        self.register_buffer("row_of", torch.tensor([rows.get(z, -1) for z in range(ELEMENTS)]))
        self.register_buffer("scale", torch.tensor(float(manifest.scale)))

    @abstractmethod
    def atomic_energies(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> Tensor:
        """The energy of each atom in units of `scale`: (atoms,).

        Args:
            batch: species, owners and pairs; its positions are not to be read, since forces are taken through the
                two arguments below.
            vectors: (pairs, 3), angstrom, from the pair's first atom to its second, or to its image that is meant.
            distances: (pairs,), angstrom, their lengths.
        """

    def atomic_outputs(self, batch: AtomicBatch, vectors: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """The energy and the force of each atom, both in units of `scale`: (atoms,) and (atoms, 3), for `direct`.

        Raises:
            ValueError: the potential has no forces but the gradient's.
        """
        raise ValueError(f"{type(self).__name__} predicts no forces by itself; build it with forces='gradient'.")

    def forward(self, batch: AtomicBatch) -> AtomicPrediction:
        """Energies and forces of a batch; differentiable where the caller records gradients."""
        if self.forces == "direct":
            energies, forces = self.atomic_outputs(batch, *self._pairs(batch, batch.positions))
            return AtomicPrediction(self._summed(batch, energies), self.scale * forces)
        recording = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            positions = batch.positions.detach().requires_grad_()
            energy = self._energy(batch, positions)
            (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=recording)
        return AtomicPrediction(energy if recording else energy.detach(), -slope)

    def stressed(self, batch: AtomicBatch) -> tuple[AtomicPrediction, Tensor]:
        """Energies, forces and stresses of periodic structures, without a record for training.

        Returns:
            The prediction, and (structures, 3, 3) in eV/angstrom^3: the slope of the energy with a small symmetric
            strain of positions and cell, over the cell's volume (positive where the cell is pulled; ASE's sign).

        Raises:
            ValueError: a structure has no cell.
        """
        volume = None if batch.cell is None else torch.linalg.det(batch.cell).abs()  # (structures,)
        if volume is None or not bool((volume > 0).all()):
            raise ValueError(
                "a stress needs a cell with a volume in every structure; give structures that are periodic."
            )
        energy, forces, virial = self.sloped(batch)
        return AtomicPrediction(energy, forces), virial / volume[:, None, None]

    def sloped(self, batch: AtomicBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Energies, forces and virials, without a record for training.

        Returns:
            (structures,), eV; (atoms, 3), eV/angstrom; (structures, 3, 3), eV, the slope of the energy with a small
            symmetric strain.
        """
        with torch.inference_mode(False), torch.enable_grad():
            positions = batch.positions.detach().requires_grad_()
            strain = positions.new_zeros(batch.structures, 3, 3).requires_grad_()
            energy = self._energy(batch, positions, (strain + strain.mT) / 2)
            slope, virial = torch.autograd.grad(energy.sum(), (positions, strain))
        forces = -slope
        if self.forces == "direct":
            with torch.no_grad():
                forces = self(batch).forces
        return energy.detach(), forces, virial

    def _energy(self, batch: AtomicBatch, positions: Tensor, strain: Tensor | None = None) -> Tensor:
        return self._summed(batch, self.atomic_energies(batch, *self._pairs(batch, positions, strain)))

    def _summed(self, batch: AtomicBatch, atomic: Tensor) -> Tensor:
        """(atoms,) in units of `scale` -> (structures,), eV."""
        return self.scale * atomic.new_zeros(batch.structures).index_add_(0, batch.owner, atomic)

    @staticmethod
    def _pairs(batch: AtomicBatch, positions: Tensor, strain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(pairs, 3) vectors and (pairs,) distances, angstrom."""
        first, second = batch.pairs
        vectors = positions.index_select(0, second) - positions.index_select(0, first)  # (pairs, 3)
        if batch.shifts is not None:
            vectors = vectors + batch.shifts
        if strain is not None:  # of positions and lattice alike
            vectors = vectors + (vectors[:, None] @ strain[batch.owner[first]]).squeeze(1)
        return vectors, vectors.square().sum(-1).sqrt()

    def rows(self, species: Tensor) -> Tensor:
        """Rows of the species table for atomic numbers: (atoms,) -> (atoms,)."""
        return self.row_of.index_select(0, species)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what they do ("embedding", "interaction", "readout"), each in exactly one group."""
        groups: dict[str, list[nn.Parameter]] = {"embedding": [], "interaction": [], "readout": []}
        for name, parameter in self.named_parameters():
            head = name.split(".")[0]
            groups[head if head in groups else "interaction"].append(parameter)
        return groups


def traits_of(config: Any) -> frozenset[str]:
    """What physics the models of this configuration keep by construction."""
    own: frozenset[str] = getattr(config, "traits", TRAITS)
    return own | {CONSERVATIVE} if getattr(config, "forces", FORCES[0]) == "gradient" else own


def atomwise(width: int, activation: nn.Module) -> nn.Sequential:
    """The readout of SchNet and PaiNN: width -> width / 2 -> 1 for each atom, its last layer small at the start."""
    readout = nn.Sequential(dense(width, width // 2), activation, dense(width // 2, 1))
    with torch.no_grad():
        readout[-1].weight.mul_(READOUT_GAIN)  # type: ignore[operator]
    return readout


def dense(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with Glorot's uniform weights and zero bias, as the published SchNet and PaiNN start."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def neighbour_sum(messages: Tensor, filters: Tensor, pairs: Tensor, parity: int = 1) -> Tensor:
    """Sum over neighbours of filter times message, each pair's filter used in both directions.

    `out_i = sum over pairs (i, j) of f_ij m_j + parity * sum over pairs (j, i) of f_ji m_j`: a filter of the distance
    alone is the same from both ends (parity 1), one along the pair's direction changes its sign (parity -1).

    Args:
        messages: (atoms, ..., width).
        filters: (pairs, ..., width), which broadcasts against the messages behind the first dimension.
        pairs: (2, pairs), each pair once.
        parity: 1 or -1.

    Returns:
        (atoms, ..., width).
    """
    first, second = pairs
    inner = torch.broadcast_shapes(messages.shape[1:], filters.shape[1:])
    out = messages.new_zeros(messages.shape[0], *inner)
    out.index_add_(0, first, filters * messages.index_select(0, second))
    return out.index_add_(0, second, filters * messages.index_select(0, first), alpha=parity)


def check_dials(config: Any, *, even_width: bool) -> None:
    """Refuse a width, depth, cutoff or basis that no potential can have.

    Raises:
        ValueError: names the field, its value and what is allowed.
    """
    rules = {
        "width": (2, "an even integer of at least 2") if even_width else (1, "an integer of at least 1"),
        "depth": (1, "an integer of at least 1"),
        "basis": (2, "an integer of at least 2"),
    }
    for name, (least, allowed) in rules.items():
        value = getattr(config, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not whole or (name == "width" and even_width and value % 2):
            raise ValueError(f"{type(config).__name__}.{name}={value!r} is not allowed: it must be {allowed}.")
    if getattr(config, "forces", FORCES[0]) not in FORCES:
        raise ValueError(
            f"{type(config).__name__}.forces={config.forces!r} is not allowed: it must be {' or '.join(FORCES)}."
        )
    if not 0 < config.cutoff < float("inf"):
        raise ValueError(
            f"{type(config).__name__}.cutoff={config.cutoff!r} is not allowed: it must be a positive length in "
            "angstrom; 5.0 is common."
        )
