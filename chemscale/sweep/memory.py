"""What each worker of a run holds in memory, counted without allocating it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from chemscale.models import cost
from chemscale.spec import Resources, RunSpec
from chemscale.train.objectives import objective_of
from chemscale.train.parallel import recompute
from chemscale.train.precision import parameter_type
from chemscale.train.ranks import MICRO_BATCH

COPIES = 4  # of every parameter: itself, its gradient, AdamW's two moments


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker at the peak of a step.

    Attributes:
        state: weights, gradients and optimiser, or this worker's share of them.
        snapshots: the moving average of the weights and the best ones so far, where a run has them; or shares.
        gathered: the largest block's weights and gradients, whole, where the model is sharded.
        activations: kept for the backward pass of one micro-batch of the longest examples; attention counts unfused.
        tables: kept for it too, once for a batch of any size, such as SchNet's splines.
    """

    state: float
    snapshots: float
    gathered: float
    activations: float
    tables: float

    @property
    def total(self) -> float:
        return self.state + self.snapshots + self.gathered + self.activations + self.tables


def memory_of(run: RunSpec, on: Resources, counted: cost.Cost, units: dict[str, np.ndarray], manifest: Any) -> Memory:
    """The memory of one worker.

    Args:
        counted: cost of training (`rows.training_cost`).
        units: sizes of the examples, as `Cost.bytes` takes them; the longest one counts.
    """
    with torch.device("meta"):
        module = run.model.build(manifest)
    width = torch.empty((), dtype=parameter_type(run.precision)).element_size()
    sharded = on.sharding == "fsdp"
    share = width / (on.workers if sharded else 1)
    state = _size(module) * COPIES * share
    kept = sum(value.numel() for value in module.state_dict().values()) * _snapshots(run) * share
    gathered = 2 * width * max(map(_size, _blocks(module)), default=_size(module)) if sharded else 0
    longest = {name: np.asarray([each.max()]) for name, each in units.items()}
    each = float(counted.bytes(longest)[0])
    if on.activations == "recomputed":
        each = _recomputed(run, manifest, each, longest, len(_blocks(module)))
    wider = width / 4  # counted in float32
    tables = counted.saved.of_batch(longest) * wider
    return Memory(state, kept, gathered, micro_batch_of(run, on) * each * wider, tables)


def _snapshots(run: RunSpec) -> int:
    """Copies of the weights that a run holds beside those it trains (`train.loop`)."""
    repeats = run.data.size is not None and run.examples > run.data.size  # then the best are kept
    return (run.optim.ema is not None) + repeats


def micro_batch_of(run: RunSpec, on: Resources) -> int:
    """Examples that a worker holds at once, of its share of a global batch."""
    share = -(-run.optim.batch // on.workers)
    return min(share, on.micro_batch or MICRO_BATCH["cuda" if on.gpus else "cpu"])


def _recomputed(run: RunSpec, manifest: Any, kept: float, units: dict[str, np.ndarray], depth: int) -> float:
    """Bytes of one example where blocks keep their inputs alone: what lies outside of blocks, the inputs, one block."""
    objective = objective_of(run)

    class Recomputed:
        family = run.model.family

        @staticmethod
        def build(manifest: Any) -> nn.Module:
            made = run.model.build(manifest)
            recompute(made)
            return made

    def work(model: nn.Module, batch: Any) -> None:
        objective.loss(model, batch, objective.denominators(batch)).backward()

    outside = float(cost.measure(Recomputed, manifest, work).bytes(units)[0])
    inputs = float(next(iter(units.values()))[0]) * run.model.width * 4
    return min(kept, outside + depth * inputs + max(0.0, kept - outside) / depth)


def _blocks(module: nn.Module) -> list[nn.Module]:
    return getattr(module, "blocks", list)()


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
