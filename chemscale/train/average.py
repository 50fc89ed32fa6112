"""The moving average of a run's weights, which is what gets measured and kept where `Optim.ema` is set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from chemscale.train.parallel import Weights, Whole

WARM = 10.0  # (1 + n) / (10 + n) after n updates: the first averages forget the initial weights, as in torch-ema


def blend(average: Weights | None, layout: Whole, decay: float, updates: int) -> Weights:
    """The average after one more update: `a + (1 - d) (w - a)` with `d = min(decay, (1 + n) / (10 + n))`.

    Args:
        average: before it, changed in place; None starts at the weights as they are.
        updates: n, made so far, the newest counted.
    """
    if average is None:
        return layout.snapshot()
    share = 1.0 - min(decay, (1.0 + updates) / (WARM + updates))
    with torch.no_grad():
        for name, value in layout.module.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, share)
            else:
                average[name].copy_(value)
    return average


@contextlib.contextmanager
def in_place(layout: Whole, weights: Weights | None) -> Iterator[None]:
    """Within it the model has these weights; None leaves it its own."""
    if weights is None:
        yield
        return
    own = layout.snapshot()
    layout.restore(weights)
    try:
        yield
    finally:
        layout.restore(own)
