"""Which examples make step k: a pure function of the seed and the epoch.

Examples come as one endless stream, epoch after epoch, each epoch in its own random order; step k takes the k-th run of
`batch` of them. Nothing needs to be remembered to resume but the number of the step.
"""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int, order: str = "shuffled") -> np.ndarray:
    """(size,) int64: the positions of the subset in this epoch; `order` as in `chemscale.spec.Data`."""
    if order == "nested" and epoch == 0:
        return np.arange(size)
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(size)


def step_positions(step: int, *, batch: int, size: int, seed: int, total: int, order: str = "shuffled") -> np.ndarray:
    """Positions in the subset of the examples of update `step` (0-based), at most `batch` of them.

    Args:
        size: examples of the subset.
        total: examples seen in all; the last step ends there.
    """
    start, end = step * batch, min((step + 1) * batch, total)
    parts = []
    while start < end:
        epoch, offset = divmod(start, size)
        take = min(end - start, size - offset)
        parts.append(epoch_order(size, seed, epoch, order)[offset : offset + take])
        start += take
    return np.concatenate(parts)


def seen_counts(size: int, seed: int, seen: int, order: str = "shuffled") -> np.ndarray:
    """(size,) int64: how often each position of the subset has been seen after `seen` examples."""
    epochs, rest = divmod(seen, size)
    counts = np.full(size, epochs, dtype=np.int64)
    counts[epoch_order(size, seed, epochs, order)[:rest]] += 1
    return counts
