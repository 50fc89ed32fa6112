"""One optimiser step: the gradient of a global batch, however it lies in memory.

Losses are sums over the global batch divided by counts over the global batch, so micro-batches and workers change
nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from chemscale.spec import RunSpec
from chemscale.train.objectives import Objective
from chemscale.train.optim import Optimisers, lr_share
from chemscale.train.order import step_positions
from chemscale.train.parallel import Whole
from chemscale.train.precision import arithmetic, parameter_type
from chemscale.train.ranks import MICRO_BATCH
from chemscale.train.symmetry import rotation_matrices


@dataclass(frozen=True)
class Made:
    """One step: `norm` of its gradient before clipping; `loss`, this worker's share of it; `examples` of all workers;
    whether rank 0 wants a checkpoint after it."""

    norm: float
    loss: float
    examples: int
    save: bool


@dataclass
class Stepper:
    """Makes the steps of a run.

    Args:
        ids: (size,) examples of the subset, in their nested order.
        micro_batch: examples of one forward pass; None is as many as usually fit.
        packing: whether strings lie "packed" or "padded", where the model takes both.
    """

    run: RunSpec
    examples: Any
    ids: np.ndarray
    objective: Objective
    layout: Whole
    optimiser: Optimisers
    micro_batch: int | None = None
    packing: str = "packed"

    def rate(self, number: int) -> float:
        """The learning rate of step `number` (0-based)."""
        optim = self.run.optim
        epoch = number * optim.batch // len(self.ids)
        return (optim.lr or 0.0) * lr_share(number, self.run.updates, optim, epoch)

    def step(self, number: int, *, save_due: bool) -> Made:
        """Make step `number` (0-based); a gradient that is not finite changes no parameter."""
        optim = self.run.optim
        self.optimiser.set_rate(self.rate(number))
        positions = step_positions(
            number, batch=optim.batch, size=len(self.ids), seed=self.run.seed, total=self.run.examples,
            order=self.run.data.order,
        )  # fmt: skip
        loss, save = self._gradients(number, self.ids[positions], save_due)
        norm = self.layout.clip(math.inf if optim.clip is None else optim.clip)
        if math.isfinite(norm):
            self.optimiser.step()
        return Made(norm, float(loss), len(positions), bool(save))

    def _gradients(self, number: int, ids: np.ndarray, save_due: bool) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the global batch's loss in the parameters; returns this worker's share of the loss and
        how many workers want a checkpoint: that question travels with the counts, which are exchanged anyway."""
        ranks = self.layout.ranks
        self.optimiser.zero_grad()
        batches = [(self._drawn(number, chunk), weight) for chunk, weight in self._chunks(ids)]
        counts = torch.stack([self.objective.denominators(b) * weight for b, weight in batches]).sum(0)
        totals = torch.cat([counts, counts.new_tensor([float(save_due)])])
        if ranks.world > 1:
            dist.all_reduce(totals)
        loss = torch.zeros((), device=ranks.device)
        for k, (batch, weight) in enumerate(batches):
            with self.layout.exchange(last=k == len(batches) - 1):
                with arithmetic(self.run.precision, ranks.device):
                    share = self.objective.loss(self.layout.model, batch, totals[:-1]) * weight
                (share * self.layout.copies).backward()  # the exchange divides by the number of workers
            loss = loss + share.detach()
        return loss, totals[-1]

    def _chunks(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """This worker's micro-batches with weight 1, then as many of weight 0 as a worker with more examples has more:
        a forward pass is an exchange where the model is sharded, so that all workers make equally many."""
        ranks = self.layout.ranks
        size = self.micro_batch or MICRO_BATCH[ranks.device.type]
        mine = ids[ranks.rank :: ranks.world]
        if len(mine) > size or self._packs:  # neighbours in length share a micro-batch and a grid of attention
            mine = mine[np.argsort(self.examples.lengths(mine), kind="stable")]
        starts = range(0, len(mine), size)
        for start in starts:
            yield mine[start : start + size], 1
        for _ in range(passes(len(ids), ranks.world, size) - len(starts)):
            yield ids[:1], 0

    @property
    def _packs(self) -> bool:
        return self.packing == "packed" and getattr(self.run.model, "packs", False)

    def _drawn(self, number: int, ids: np.ndarray) -> Any:
        """These examples, with what the objective draws for each of them at this step."""
        batch = self.batch(ids)
        if not getattr(self.objective, "turns", False):
            return batch
        turn = torch.from_numpy(rotation_matrices(ids, f"seed {self.run.seed}", number))
        return replace(batch, turn=turn.to(batch.positions))

    def batch(self, ids: np.ndarray) -> Any:
        """These examples on this worker's device, in the run's precision."""
        batch = self.examples.batch(ids)
        if self._packs:
            batch = batch.packed()
        if self.run.precision != "float32" and hasattr(batch, "astype"):
            batch = batch.astype(parameter_type(self.run.precision))
        return batch.to(self.layout.ranks.device)


def passes(count: int, world: int, size: int) -> int:
    """Forward passes of the worker that has most of `count` examples, at most `size` in each."""
    return math.ceil(math.ceil(count / world) / size)
