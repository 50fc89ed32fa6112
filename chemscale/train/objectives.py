"""What is minimised, and how a model is measured: next-token loss; energy-and-force loss.

An objective splits its loss so that parts add up exactly: `denominators` counts what a batch holds, the loop adds the
counts over the whole global batch (micro-batches, workers), and `loss` is this part's share. Sums of shares, and of
their gradients, are then the loss and the gradient of the global batch, however it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, PackedTokens, TokenBatch
from chemscale.spec import OBJECTIVES, RunSpec, register_objective
from chemscale.spec.registry import register_own


@dataclass(frozen=True)
class Metric:
    """A value and its standard error over the groups of the examples it was measured on."""

    value: float
    se: float | None


class Objective(Protocol):
    """A registered frozen dataclass; `headline` is the metric that schedulers and `law_loss` use, `second_order` says
    whether the loss itself holds a gradient (double backward)."""

    name: ClassVar[str]
    headline: ClassVar[str]
    second_order: ClassVar[bool]

    def denominators(self, batch: Any) -> Tensor:
        """(counts,) float64: what this batch adds to the denominators of the global loss."""
        ...

    def loss(self, model: nn.Module, batch: Any, totals: Tensor) -> Tensor:
        """Scalar: this batch's share of the loss of a global batch whose denominators are `totals` (counts,)."""
        ...

    def measure(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Sums and counts per example, each (batch,), from which `metrics` follow."""
        ...

    def metrics(self, measured: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, Metric]:
        """Metrics of a set of examples; `groups` (batch,) says which examples are not independent."""
        ...


def objective_of(run: RunSpec) -> Objective:
    """The run's objective, or the one its model asks for with its defaults.

    Raises:
        ValueError: the model asks for an objective that is not registered.
    """
    if run.objective is not None:
        return run.objective
    name = run.model.objective
    if name not in OBJECTIVES:
        register_own()
    if name not in OBJECTIVES:
        known = ", ".join(sorted(OBJECTIVES))
        raise ValueError(f"{type(run.model).__name__}.objective={name!r} is not registered; known objectives: {known}.")
    return OBJECTIVES[name]()


@register_objective
@dataclass(frozen=True)
class NextToken:
    """Mean negative log-likelihood of the next token, in nats; the end token counts, the start token does not."""

    name: ClassVar[str] = "next_token"
    headline: ClassVar[str] = "nats_per_token"
    second_order: ClassVar[bool] = False

    def denominators(self, batch: TokenBatch | PackedTokens) -> Tensor:
        return (batch.lengths - 1).sum().to(torch.float64)[None]

    def loss(self, model: nn.Module, batch: TokenBatch | PackedTokens, totals: Tensor) -> Tensor:
        losses = _token_losses(model, batch)
        return losses.sum() / totals[0].to(losses.dtype)

    def measure(self, model: nn.Module, batch: TokenBatch | PackedTokens) -> dict[str, Tensor]:
        """Nats and predicted tokens of each molecule, (batch,)."""
        return {"nats": _nats(_token_losses(model, batch), batch), "tokens": batch.lengths - 1}

    def metrics(self, measured: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, Metric]:
        """Nats by token and by molecule."""
        nats, tokens = measured["nats"], measured["tokens"]
        return {
            "nats_per_token": ratio(nats, tokens, groups),
            "nats_per_molecule": ratio(nats, np.ones_like(nats), groups),
        }


def _token_losses(model: nn.Module, batch: TokenBatch | PackedTokens) -> Tensor:
    """Of each next token: (tokens,) of packed strings, else (batch, length - 1) with zeros in the padding."""
    logits = model(batch)  # (..., vocabulary)
    packed = isinstance(batch, PackedTokens)
    targets = batch.targets if packed else batch.tokens[:, 1:]
    if logits.shape[:-1] != targets.shape:
        tokens = batch.inputs if packed else batch.tokens
        shape = "(tokens, vocabulary)" if packed else "(batch, length - 1, vocabulary)"
        raise ValueError(
            f"{type(model).__name__} gave logits of shape {tuple(logits.shape)} for tokens of shape "
            f"{tuple(tokens.shape)}; give {shape}, one for each token but the first."
        )
    flat = logits.flatten(0, -2)
    losses = F.cross_entropy(flat, targets.flatten(), reduction="none").view(targets.shape)
    if packed:
        return losses
    steps = torch.arange(targets.shape[1], device=targets.device)
    return losses * (steps[None, :] < (batch.lengths - 1)[:, None])


def _nats(losses: Tensor, batch: TokenBatch | PackedTokens) -> Tensor:
    """Their sum over each string, (batch,)."""
    if not isinstance(batch, PackedTokens):
        return losses.sum(dim=1)
    owner = torch.repeat_interleave(batch.fed, output_size=len(losses))
    return losses.new_zeros(batch.examples).index_add_(0, owner, losses)


@register_objective
@dataclass(frozen=True)
class EnergyForce:
    """Squared errors of energies per atom and of force components, weighted, both over the data's force scale.

    With s the root mean square force of the training pool, the loss is
    `energy * mean((dE/n)^2) / s^2 + force * mean(dF^2) / s^2`. The default weights follow the common practice of a
    force-dominated loss (Schütt et al. 2021 weigh forces 0.95 to 0.99); the law is never fitted to this sum. A label
    that is missing (NaN) enters neither sum nor mean, each quantity by itself.
    """

    name: ClassVar[str] = "energy_force"
    headline: ClassVar[str] = "force_mae"
    second_order: ClassVar[bool] = True

    energy: float = 0.05
    force: float = 0.95

    def __post_init__(self) -> None:
        for name in ("energy", "force"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"EnergyForce.{name}={getattr(self, name)!r} is not allowed: it must be at least 0.")

    def denominators(self, batch: AtomicBatch) -> Tensor:
        energy, forces = _labels(batch)
        return torch.stack((energy.isfinite().sum(), forces.isfinite().sum())).to(torch.float64)

    def loss(self, model: nn.Module, batch: AtomicBatch, totals: Tensor) -> Tensor:
        energy, force, _ = _errors(model, batch)
        totals = totals.clamp(min=1).to(energy.dtype)  # of a batch without one label of a kind, whose sum is 0
        scale = _inner(model).scale  # eV/angstrom
        weighed = self.energy * energy.square().sum() / totals[0] + self.force * force.square().sum() / totals[1]
        return weighed / scale**2

    def measure(self, model: nn.Module, batch: AtomicBatch) -> dict[str, Tensor]:
        """Absolute and squared errors of each structure, (batch,), and how many labels they are of."""
        energy, force, _ = _errors(model, batch)
        labels = _labels(batch)
        per_atom = {
            "force_abs": force.abs().sum(dim=1),
            "force_sq": force.square().sum(dim=1),
            "components": labels[1].isfinite().sum(dim=1).to(energy.dtype),
        }
        sums = {k: torch.zeros_like(energy).index_add_(0, batch.owner, v) for k, v in per_atom.items()}
        energies = labels[0].isfinite().to(energy.dtype)
        return {"energy_abs": energy.abs(), "energy_sq": energy.square(), "energies": energies, **sums}

    def metrics(self, measured: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, Metric]:
        """Mean absolute and root mean square errors of what is labelled."""
        found: dict[str, Metric] = {}
        for name, counts in (("force", measured["components"]), ("energy", measured["energies"])):
            if counts.sum() > 0:
                found[f"{name}_mae"] = ratio(measured[f"{name}_abs"], counts, groups)
                found[f"{name}_rmse"] = root(ratio(measured[f"{name}_sq"], counts, groups))
        if self.headline not in found:
            raise ValueError(
                f"not one of {len(groups):,} structures has the label that {self.headline} measures; train with "
                "objective=EnergyOnly() where a source has no forces, with EnergyForce() where it has."
            )
        return found


@register_objective
@dataclass(frozen=True)
class EnergyOnly(EnergyForce):
    """The squared error of energies per atom alone, for labels without forces such as CCSD(T)."""

    name: ClassVar[str] = "energy_only"
    headline: ClassVar[str] = "energy_mae"

    energy: float = 1.0
    force: float = 0.0


def _errors(model: nn.Module, batch: AtomicBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Energy error per atom (structures,), force error (atoms, 3), atoms of each structure (structures,); an error is 0
    where there is no label."""
    energy, forces = _labels(batch)
    predicted = model(batch)
    ones = torch.ones_like(batch.positions[:, 0])
    atoms = torch.zeros_like(energy).index_add_(0, batch.owner, ones)
    off = _where_labelled(predicted.energy, energy) / atoms
    return off, _where_labelled(predicted.forces, forces), atoms


def _labels(batch: AtomicBatch) -> tuple[Tensor, Tensor]:
    """Energies (structures,) and forces (atoms, 3), NaN where there is no label."""
    assert batch.energy is not None and batch.forces is not None
    return batch.energy, batch.forces


def _where_labelled(predicted: Tensor, label: Tensor) -> Tensor:
    """What is predicted minus the label, 0 where there is none; no gradient flows there either."""
    return torch.where(label.isfinite(), predicted - label, 0.0)


def _inner(model: nn.Module) -> Any:
    return getattr(model, "module", model)


def ratio(numerator: np.ndarray, denominator: np.ndarray, groups: np.ndarray) -> Metric:
    """Ratio of two sums over examples, with the standard error of a ratio estimator over groups.

    For G groups with sums y_g and x_g and ratio R = sum y / sum x: se = sqrt(G/(G-1) sum (y_g - R x_g)^2) / sum x
    (Cochran 1977, eq. 6.10 without the finite-population term). The error is None with one group.
    """
    _, index = np.unique(groups, return_inverse=True)
    y = np.bincount(index, weights=numerator.astype(np.float64))
    x = np.bincount(index, weights=denominator.astype(np.float64))
    value = float(y.sum() / x.sum())
    count = len(y)
    if count < 2:
        return Metric(value, None)
    spread = float(np.sqrt(count / (count - 1) * np.square(y - value * x).sum()))
    return Metric(value, spread / float(x.sum()))


def root(square: Metric) -> Metric:
    """The square root of a mean square, with its error to first order."""
    value = float(np.sqrt(square.value))
    return Metric(value, None if square.se is None or value == 0 else square.se / (2 * value))
