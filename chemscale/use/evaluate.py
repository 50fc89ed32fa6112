"""How good a trained model is: shares of a generated sample, and a potential's errors with their uncertainty.

Shapes: structures, atoms, components (three for each atom), points (of a parity plot). Energies are in eV/atom, forces
in eV/angstrom; standard errors treat all structures of one group (a molecule) as one draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem, rdBase

PARITY_POINTS = 2000  # points that a parity plot still shows apart


@dataclass(frozen=True)
class SampleQuality:
    """Shares of a generated sample, as MOSES defines them (Polykovskiy et al. 2020); None where the whole is empty.

    Attributes:
        n: strings that were sampled.
        validity: share of them that are molecules.
        uniqueness: different molecules over molecules; falls with `n`.
        novelty: share of the different molecules that the training set lacks.
    """

    n: int
    validity: float | None
    uniqueness: float | None
    novelty: float | None


def sample_quality(generated: Iterable[str | None], training: Iterable[str]) -> SampleQuality:
    """Validity, uniqueness and novelty of sampled SMILES (None: not a molecule) against training SMILES.

    Both sides are made canonical here, unreadable ones count as no molecule.
    """
    with rdBase.BlockLogs():
        sampled = [_canonical(s) for s in generated]
        valid = [s for s in sampled if s is not None]
        unique = set(valid)
        known = unique & {_canonical(s) for s in training} if unique else set()
    return SampleQuality(
        n=len(sampled),
        validity=_share(len(valid), len(sampled)),
        uniqueness=_share(len(unique), len(valid)),
        novelty=_share(len(unique) - len(known), len(unique)),
    )


def _canonical(smiles: str | None) -> str | None:
    molecule = Chem.MolFromSmiles(smiles) if smiles else None
    return Chem.MolToSmiles(molecule) if molecule is not None else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Estimate:
    """A mean over a test set; `standard_error` is None with fewer than two groups."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class StructureValues:
    """Energies and forces of the same structures, laid end to end: labels, or a model's answers.

    Attributes:
        energy: (structures,), eV.
        forces: (atoms, 3), eV/angstrom.
        atoms: (structures,), how many atoms each has.
    """

    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    atoms: NDArray[np.int64]


@dataclass(frozen=True)
class PotentialErrors:
    """Errors of a potential on labelled structures.

    Attributes:
        energy_mae, energy_rmse: eV/atom, over the structures that have an energy; None where none has.
        force_mae, force_rmse: eV/angstrom, over the components that have a label; None where none has.
        structures, atoms, groups: how many of each were measured.
        energy_pairs: (points, 2), label and prediction, eV/atom; as labelled, so minus reference energies.
        force_pairs: (points, 2), label and prediction of single components, eV/angstrom.
    """

    energy_mae: Estimate | None
    energy_rmse: Estimate | None
    force_mae: Estimate | None
    force_rmse: Estimate | None
    structures: int
    atoms: int
    groups: int
    energy_pairs: NDArray[np.float64]
    force_pairs: NDArray[np.float64]


class LabelledStructures(Protocol):
    """What `evaluate_potential` asks of examples: batches, and the group of each structure."""

    def batch(self, ids: Any) -> Any: ...

    def groups(self, ids: Any) -> Any: ...


def evaluate_potential(
    model: Any,
    examples: LabelledStructures,
    ids: Sequence[int] | NDArray[Any],
    *,
    micro_batch: int = 64,
    points: int = PARITY_POINTS,
) -> PotentialErrors:
    """Measure a potential on labelled structures, `micro_batch` at a time, in the precision of its parameters.

    Raises:
        ValueError: `ids` is empty, the examples have no labels, or `micro_batch` is not positive.
    """
    ids = np.asarray(ids)
    if not len(ids):
        raise ValueError("evaluate_potential(ids=[]) has no structure to measure; give at least one.")
    if micro_batch < 1:
        raise ValueError(f"evaluate_potential(micro_batch={micro_batch}) is not allowed: it must be at least 1.")
    training = model.training
    model.eval()
    try:
        starts = range(0, len(ids), micro_batch)
        pairs = [_answers(model, examples.batch(ids[start : start + micro_batch])) for start in starts]
    finally:
        model.train(training)
    predicted, labelled = (_joined(values) for values in zip(*pairs, strict=True))
    return errors(predicted, labelled, examples.groups(ids), points=points)


def errors(
    predicted: StructureValues, labelled: StructureValues, groups: ArrayLike, *, points: int = PARITY_POINTS
) -> PotentialErrors:
    """Mean and root mean square errors, and evenly drawn points for a parity plot; what has no label (NaN) is left out.

    Args:
        groups: (structures,), any labels; structures of one label share their errors' luck.

    Raises:
        ValueError: the two sides or the groups do not have the same structures.
    """
    groups = np.asarray(groups)
    if not (np.array_equal(predicted.atoms, labelled.atoms) and len(groups) == len(labelled.atoms)):
        sizes = f"{len(predicted.atoms)} predicted, {len(labelled.atoms)} labelled, {len(groups)} grouped"
        raise ValueError(f"errors() compares the same structures, but got {sizes}; give one of each per structure.")
    atoms = labelled.atoms
    energy = np.stack([labelled.energy, predicted.energy], axis=1) / atoms[:, None]  # (structures, 2)
    force = np.stack([labelled.forces.ravel(), predicted.forces.ravel()], axis=1)  # (components, 2)
    energy_mae, energy_rmse = _mean_errors(energy, groups)
    force_mae, force_rmse = _mean_errors(force, np.repeat(groups, 3 * atoms))
    return PotentialErrors(
        energy_mae=energy_mae,
        energy_rmse=energy_rmse,
        force_mae=force_mae,
        force_rmse=force_rmse,
        structures=len(atoms),
        atoms=int(atoms.sum()),
        groups=len(np.unique(groups)),
        energy_pairs=_spread(_labelled(energy), points),
        force_pairs=_spread(_labelled(force), points),
    )


def clustered_mean(values: NDArray[Any], groups: ArrayLike) -> Estimate:
    """The mean of all values, and its standard error when values of one group go together.

    A ratio of sums over G groups, linearised (Cochran 1977, 6.4; Liang and Zeger 1986): the variance is
    G / (G - 1) * sum_g (sum of group g's deviations from the mean)^2 / n^2. With groups of one value this is the
    usual standard deviation over sqrt(n); with groups of equal size, that of the group means over sqrt(G).
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    mean = float(values.mean())
    deviations = np.bincount(group, weights=values - mean)  # (groups,)
    number = len(deviations)
    if number < 2:
        return Estimate(mean, None)
    variance = number / (number - 1) * float((deviations**2).sum()) / len(values) ** 2
    return Estimate(mean, math.sqrt(variance))


def _labelled(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose first number, the label, is there."""
    return pairs[np.isfinite(pairs[:, 0])]


def _mean_errors(pairs: NDArray[np.float64], groups: NDArray[Any]) -> tuple[Estimate, Estimate] | tuple[None, None]:
    """Mean absolute and root mean square difference; the root's standard error by the delta method."""
    there = np.isfinite(pairs[:, 0])
    if not there.any():
        return None, None
    difference, groups = (pairs[:, 1] - pairs[:, 0])[there], groups[there]
    square = clustered_mean(difference**2, groups)
    root = math.sqrt(square.value)
    spread = None if square.standard_error is None else (square.standard_error / (2 * root) if root else 0.0)
    return clustered_mean(np.abs(difference), groups), Estimate(root, spread)


def _spread(pairs: NDArray[np.float64], points: int) -> NDArray[np.float64]:
    """At most so many rows, drawn without replacement, the same ones every time."""
    if len(pairs) <= points:
        return pairs
    return pairs[np.sort(np.random.default_rng(0).choice(len(pairs), points, replace=False))]


def _answers(model: Any, batch: Any) -> tuple[StructureValues, StructureValues]:
    """What the model says of a batch, and its labels."""
    if batch.energy is None or batch.forces is None:
        raise ValueError("evaluate_potential got structures without energy or forces; give labelled ones.")
    parameter = next(model.parameters())
    with torch.enable_grad():  # forces are a gradient
        answer = model(batch.astype(parameter.dtype).to(parameter.device))
    atoms = torch.bincount(batch.owner, minlength=batch.structures)
    return _values(answer.energy, answer.forces, atoms), _values(batch.energy, batch.forces, atoms)


def _values(energy: torch.Tensor, forces: torch.Tensor, atoms: torch.Tensor) -> StructureValues:
    in_float64 = (tensor.detach().cpu().double().numpy() for tensor in (energy, forces))
    return StructureValues(*in_float64, atoms=atoms.cpu().numpy())


def _joined(parts: Sequence[StructureValues]) -> StructureValues:
    energy, forces, atoms = (np.concatenate([getattr(p, n) for p in parts]) for n in ("energy", "forces", "atoms"))
    return StructureValues(energy, forces, atoms)
