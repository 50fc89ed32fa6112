"""Metrics of a model over some examples, shared out over the workers of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from chemscale.train.objectives import Metric, Objective
from chemscale.train.ranks import Ranks
from chemscale.train.step import passes

EVALUATION_BATCH = {"text": 256, "structures": 64}


def measure(
    objective: Objective,
    model: nn.Module,
    examples: Any,
    ids: np.ndarray,
    *,
    size: int,
    ranks: Ranks,
    batch_of: Callable[[np.ndarray], Any],
    pulse: Callable[[], None] = lambda: None,
) -> dict[str, Metric]:
    """Metrics over these examples.

    Args:
        model: the module itself, not its distributed wrapper.
        ids: (count,) examples; neighbours in length share a forward pass of at most `size`.
        batch_of: ids -> batch on this rank's device, in the run's precision.
        pulse: called before every forward pass, to say that the run lives.
    """
    order = np.argsort(examples.lengths(ids), kind="stable")
    mine = order[ranks.rank :: ranks.world]
    parts = []
    model.eval()
    with torch.no_grad():
        for k in range(passes(len(ids), ranks.world, size)):  # equally many on every worker: shards meet in each
            pulse()
            here = mine[k * size : (k + 1) * size]
            measured = objective.measure(model, batch_of(ids[here] if len(here) else ids[:1]))
            if len(here):
                parts.append({name: v.cpu().numpy() for name, v in measured.items()})
    model.train()
    shards: list[Any] = [(mine, parts)]
    if ranks.world > 1:
        shards = [None] * ranks.world
        dist.all_gather_object(shards, (mine, parts))
    index = np.concatenate([m for m, _ in shards])
    everything = [part for _, some in shards for part in some]
    columns = {k: np.concatenate([part[k] for part in everything]) for k in everything[0]}
    return objective.metrics(columns, examples.groups(ids[index]))
