"""Training a model that is not equivariant towards equivariance, and measuring how far from it any model is.

Rotated copies and a symmetry loss (Ngo & Ravanbakhsh 2025, arXiv 2510.09768, have the latter as a control) draw one
rotation for each structure and step: a pure function of the run's seed, the step and the example, so that a run that is
resumed, or shared out over workers otherwise, sees the same ones. Legend of shapes: structures, atoms, pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch
from chemscale.data.subsets import permuted
from chemscale.models.potential import AtomicPrediction
from chemscale.spec import register_objective
from chemscale.train.objectives import EnergyForce, Metric, ratio
from chemscale.values import is_number, one_of, require

COPIES = ("given", "turned")
MEASURED = 2  # rotations under which a test set's forces are compared; the same ones for every run


@register_objective
@dataclass(frozen=True)
class EnergyForceTurned(EnergyForce):
    """`EnergyForce` with rotated copies, a symmetry loss, or neither, and the equivariance error among the metrics.

    The symmetry loss adds `symmetry * (energy * mean((dE/n)^2) + force * mean(dF^2)) / s^2`, where dE and dF are what
    the predictions for a structure and for its rotated copy, turned back, differ by; it doubles the work of a step. The
    metric `equivariance_mae` is the mean of |dF| over components under two fixed random rotations, in eV/angstrom:
    rounding for a model that is equivariant by construction.

    Args:
        copies: "given" trains on structures as they lie; "turned" on a rotated copy of each, a new one in every epoch.
        symmetry: weight of the symmetry loss.
    """

    name: ClassVar[str] = "energy_force_turned"
    turns: ClassVar[bool] = True  # the loop gives batches their rotations

    copies: str = "given"
    symmetry: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("EnergyForceTurned.copies", self.copies, COPIES)
        good = is_number(self.symmetry) and self.symmetry >= 0
        require(good, "EnergyForceTurned.symmetry", self.symmetry, "at least 0")

    def denominators(self, batch: AtomicBatch) -> Tensor:
        """(4,): those of the labels, then the structures and the force components, labelled or not."""
        every = torch.tensor([batch.structures, batch.positions.numel()], dtype=torch.float64)
        return torch.cat((super().denominators(batch), every.to(batch.positions.device)))

    def loss(self, model: nn.Module, batch: AtomicBatch, totals: Tensor) -> Tensor:
        """The loss of the structures or their copies, and what both are pulled together by where `symmetry` asks."""
        if self.copies == "given" and not self.symmetry:
            return super().loss(model, batch, totals)
        copy = turned(batch, batch.turn)
        if not self.symmetry:
            return super().loss(model, copy, totals)
        # Of one pass over both: wrappers such as DistributedDataParallel expect one forward for each backward.
        energy, forces = model(side_by_side(batch, copy))
        here, there = (AtomicPrediction(*part) for part in zip(energy.chunk(2), forces.chunk(2), strict=True))
        inner: Any = getattr(model, "module", model)
        scale: Tensor = inner.scale
        trained = (_Said(there, scale), copy) if self.copies == "turned" else (_Said(here, scale), batch)
        meant = turned(replace(batch, energy=here.energy, forces=here.forces), batch.turn)
        pulled = super().loss(_Said(there, scale), meant, totals[2:])  # type: ignore[arg-type]
        return super().loss(*trained, totals) + self.symmetry * pulled  # type: ignore[arg-type]

    def measure(self, model: nn.Module, batch: AtomicBatch) -> dict[str, Tensor]:
        found = super().measure(model, batch)
        error = force_asymmetry(model, batch)  # (atoms,)
        sums = torch.zeros_like(found["energy_abs"]).index_add_(0, batch.owner, error)
        ones = torch.ones_like(error)
        atoms = torch.zeros_like(sums).index_add_(0, batch.owner, ones)
        return {**found, "asymmetry_abs": sums, "atoms": atoms}

    def metrics(self, measured: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, Metric]:
        error = ratio(measured["asymmetry_abs"], measured["atoms"], groups)
        return {**super().metrics(measured, groups), "equivariance_mae": error}


@dataclass(frozen=True)
class _Said:
    """A model that has already answered."""

    answer: AtomicPrediction
    scale: Tensor

    def __call__(self, batch: AtomicBatch) -> AtomicPrediction:
        return self.answer


def force_asymmetry(model: nn.Module, batch: AtomicBatch, rotations: int = MEASURED) -> Tensor:
    """How much forces change when a structure is turned and they are turned back: (atoms,), eV/angstrom.

    Mean over components and over `rotations` fixed random rotations of the absolute difference.
    """
    forces, total = model(batch).forces, torch.zeros_like(batch.positions[:, 0])
    for turn in torch.as_tensor(rotation_matrices(np.arange(rotations), "measured", 0)).to(batch.positions):
        copy = turned(batch, turn.expand(batch.structures, 3, 3))
        total = total + (model(copy).forces @ turn - forces).abs().mean(1)
    return total / rotations


def side_by_side(one: AtomicBatch, other: AtomicBatch) -> AtomicBatch:
    """Both batches in one, for a prediction; a field that one lacks is left out."""
    atoms = len(one.species)

    def both(name: str) -> Tensor | None:
        parts = getattr(one, name), getattr(other, name)
        return None if any(part is None for part in parts) else torch.cat(parts)

    return AtomicBatch(
        species=torch.cat((one.species, other.species)),
        positions=torch.cat((one.positions, other.positions)),
        owner=torch.cat((one.owner, other.owner + one.structures)),
        pairs=torch.cat((one.pairs, other.pairs + atoms), 1),
        structures=one.structures + other.structures,
        **{name: both(name) for name in ("shifts", "cell", "charge", "spin")},
    )


def turned(batch: AtomicBatch, turn: Tensor | None) -> AtomicBatch:
    """The batch with each structure, and what is known of it, rotated: r becomes R r.

    Args:
        turn: (structures, 3, 3); None leaves them as they lie (a batch made up to count its cost has no rotations).
    """
    if turn is None:
        turn = torch.eye(3, dtype=batch.positions.dtype, device=batch.positions.device).repeat(batch.structures, 1, 1)
    by_atom = turn.to(batch.positions.dtype).index_select(0, batch.owner)  # (atoms, 3, 3)

    def rotated(vectors: Tensor | None, by: Tensor) -> Tensor | None:
        return None if vectors is None else (by @ vectors[:, :, None]).squeeze(2)

    shifts = rotated(batch.shifts, by_atom.index_select(0, batch.pairs[0]))
    positions, forces = rotated(batch.positions, by_atom), rotated(batch.forces, by_atom)
    cell = None if batch.cell is None else batch.cell @ turn.to(batch.cell.dtype).mT
    assert positions is not None
    return replace(batch, positions=positions, forces=forces, shifts=shifts, cell=cell)


def rotation_matrices(examples: np.ndarray, purpose: str, key: int) -> np.ndarray:
    """Uniform random rotations, a pure function of each example's number and of the purpose and key.

    Three keyed 53-bit uniforms make a unit quaternion (Shoemake 1992, "Uniform random rotations").

    Args:
        examples: (structures,) int64.

    Returns:
        (structures, 3, 3) float64.
    """
    words = 3 * np.asarray(examples, dtype=np.uint64)[:, None] + np.arange(3, dtype=np.uint64)
    u = (permuted(words, f"turn:{purpose}", key) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    near, far = np.sqrt(1 - u[:, 0]), np.sqrt(u[:, 0])
    a, b = 2 * math.pi * u[:, 1], 2 * math.pi * u[:, 2]
    x, y, z, w = near * np.sin(a), near * np.cos(a), far * np.sin(b), far * np.cos(b)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.array(rows).transpose(2, 0, 1)
