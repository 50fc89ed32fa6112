"""What a training writes down: its opening row, its points and its terminal row, in the columns of `records.schema`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from chemscale.models import cost
from chemscale.records.provenance import versions
from chemscale.records.schema import METRICS, UNITS
from chemscale.records.store import spec_columns
from chemscale.spec import RunSpec
from chemscale.train.objectives import Metric, Objective, objective_of
from chemscale.train.order import seen_counts
from chemscale.train.state import Progress
from chemscale.train.trunk import trunk_of


def cluster_of(run: RunSpec) -> str:
    """Runs of the same trunk, or on the same subset, share it, so that resampling draws them together."""
    trunk = trunk_of(run)
    if trunk is not None:
        return trunk.name
    key = f"{run.data.content}/{run.data.key}/{run.data.size}/{run.data.per_group}"
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def opening_row(run: RunSpec) -> dict[str, Any]:
    """What an attempt's claim says of its run before it is opened."""
    return {**spec_columns(run), "cluster": cluster_of(run), "versions": versions()}


_COSTS: dict[tuple[Any, Any, str | None], cost.Cost] = {}  # counting takes about a second; a process needs each once


def cost_key(run: RunSpec, content: str | None) -> tuple[Any, Any, str | None]:
    """Equal for runs that cost as much on each example: by model, objective and the checksum of their data."""
    return run.model, objective_of(run), content


def training_cost(run: RunSpec, manifest: Any) -> cost.Cost:
    """FLOPs of training on one example, double backward included, counted on the module and objective themselves."""
    objective, key = objective_of(run), cost_key(run, manifest.content)
    if key not in _COSTS:
        _COSTS[key] = cost.measure(run.model, manifest, lambda model, batch: _work(objective, model, batch))
    return _COSTS[key]


def _work(objective: Objective, model: torch.nn.Module, batch: Any) -> None:
    objective.loss(model, batch, objective.denominators(batch)).backward()


@dataclass(frozen=True)
class Ledger:
    """How much of its data a run has seen, exactly, as a function of the examples seen.

    Args:
        ids: (size,) the subset. examples: the opened data. cost: FLOPs per example.
    """

    run: RunSpec
    examples: Any
    ids: np.ndarray
    cost: cost.Cost

    @cached_property
    def units(self) -> dict[str, np.ndarray]:
        """What each example of the subset holds: {"tokens"} or {"atoms", "pairs"}, each (size,)."""
        return self.examples.units(self.ids)

    @cached_property
    def flops_each(self) -> np.ndarray:
        """(size,) matrix FLOPs of training once on each example, with its share of what a batch costs once."""
        return self.cost.flops(self.units) + self.cost.matrix.fixed / self.run.optim.batch

    @cached_property
    def elementwise_each(self) -> np.ndarray:
        """(size,) elements touched by all other work of training once on each example, likewise."""
        return self.cost.elementwise(self.units) + self.cost.elements.fixed / self.run.optim.batch

    @cached_property
    def unique(self) -> dict[str, int]:
        """Unique units of the subset, by column of RUNS."""
        return {"examples": len(self.ids), **self.examples.count(self.ids)}

    def _counts(self, examples: int) -> np.ndarray:
        """(size,) how often each example has been seen."""
        return seen_counts(len(self.ids), self.run.seed, examples, self.run.data.order)

    def seen(self, examples: int) -> dict[str, int]:
        """Units seen after `examples` examples, by column of RUNS."""
        counts = self._counts(examples)
        totals = {name: int(counts @ each) for name, each in self.units.items()}
        if "pairs" in totals:
            totals["edges"] = 2 * totals.pop("pairs")
        whole = "molecules" if "molecules" in self.unique else "structures"
        return {"examples": examples, whole: examples, **totals}

    def flops(self, examples: int) -> float:
        """Matrix FLOPs after `examples` examples."""
        return float(self._counts(examples) @ self.flops_each)

    def elementwise(self, examples: int) -> float:
        """Elements touched by other work after `examples` examples."""
        return float(self._counts(examples) @ self.elementwise_each)


def point_row(
    ledger: Ledger,
    progress: Progress,
    metrics: Mapping[str, Metric],
    headline: Metric,
    *,
    lr: float,
    norm: float,
    train_loss: float,
) -> dict[str, Any]:
    """One row of POINTS, but for the clocks."""
    seen = ledger.seen(progress.examples)
    return {
        "run_id": ledger.run.id,
        "step": progress.step,
        "examples": progress.examples,
        "tokens": seen.get("tokens"),
        "atoms": seen.get("atoms"),
        "epochs": progress.examples / len(ledger.ids),
        "flops": ledger.flops(progress.examples),
        "lr": lr,
        "train_loss": finite(train_loss),
        "valid_loss": headline.value,
        "valid_loss_se": finite(headline.se),
        **{f"valid_{name}": finite(m.value) for name, m in metrics.items() if name in METRICS},
        "gradient_norm": finite(norm),
    }


def outcome_columns(ledger: Ledger, examples: int, updates: int) -> dict[str, Any]:
    """What was trained on, unique and seen, and what it cost."""
    seen = {f"{name}_seen": value for name, value in ledger.seen(examples).items() if name in UNITS}
    return {
        **{name: value for name, value in ledger.unique.items() if name in UNITS},
        **seen,
        "epochs": examples / len(ledger.ids),
        "updates": updates,
        "flops": ledger.flops(examples),
        "flops_rule": getattr(ledger.run.model, "flops_rule", 1),
        "flops_elementwise": ledger.elementwise(examples),
    }


def metric_columns(metrics: Mapping[str, Metric], headline: str) -> dict[str, Any]:
    """Test metrics as RUNS has them; those of a user's own objective go to `other_metrics`."""
    row: dict[str, Any] = {"law_loss": metrics[headline].value, "law_metric": headline}
    for name, metric in metrics.items():
        if name in METRICS:
            row[name], row[f"{name}_se"] = finite(metric.value), finite(metric.se)
    other = {n: v for n, m in metrics.items() if n not in METRICS for n, v in ((n, m.value), (f"{n}_se", m.se))}
    if other:
        row["other_metrics"] = {n: v for n, v in other.items() if finite(v) is not None}
    return row


def finite(value: float | None) -> float | None:
    """A number, or None where it is none: missing is null."""
    return value if value is not None and math.isfinite(value) else None
