"""Weights by name: what each run counts in a fit, where no column says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import digamma

from chemscale.laws.backtests.backtest import scale_along
from chemscale.laws.backtests.origins import window_mask
from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import Columns
from chemscale.laws.tables.table import Rows

NAMED = ("replicates", "large", "large:SHARE")
LARGE = 0.7  # share of the log range, from the top, that halved the error of extrapolation on public curves
PRIOR = 4.0  # degrees of freedom with which the typical variance enters that of each point
SMALLEST = 1e-3  # of the pooled variance, under which two equal results are chance


def refuse_unknown(weights: str, columns: Columns) -> None:
    """Raise ValueError for what is neither a column nor a name, or a share that is none."""
    if weights in columns or weights in ("replicates", "large"):
        return
    share = _share(weights)
    if share is None:
        raise ValueError(
            f"weights={weights!r} is neither a column of the table nor one of {', '.join(NAMED)}; it has "
            f"{', '.join(columns)}."
        )


def weighted(runs: Rows, weights: str, along: str | None) -> Rows:
    """The runs with the weights called `replicates`, or the `large` ones alone.

    replicates: the inverse variance of the log loss over repeats of one point, its logarithm drawn towards the mean
    over all points with the weight of four degrees of freedom, since two or three seeds tell little of their own;
    points without repeats get that mean. large, large:SHARE: runs in the top SHARE (0.7) of the log range of their
    scale, which is `along`, or the one axis, or the FLOPs; the others are left out, so that they count nowhere.
    """
    if weights == "replicates":
        return replace(runs, weights=_by_replicates(runs))
    name, scale = scale_along(runs, along)
    share = _share(weights) or LARGE
    top = window_mask(scale, share)
    if top.all():
        return runs
    note = f"left out {int((~top).sum())} runs with {name} below {scale[top].min():.3g}: weights={weights}"
    return replace(runs.take(top), warnings=(*runs.warnings, note))


def _share(weights: str) -> float | None:
    name, _, text = weights.partition(":")
    try:
        share = float(text) if text else LARGE
    except ValueError:
        return None
    return share if name == "large" and 0 < share <= 1 else None


def _by_replicates(runs: Rows) -> Array:
    points = np.unique(runs.stacked(tuple(runs.axes)), axis=0, return_inverse=True)[1].ravel()
    pairs, own = np.unique(np.column_stack([points, runs.clusters]), axis=0, return_inverse=True)
    held = np.bincount(own.ravel())  # runs of one cluster at one point do not repeat one another: they enter as one
    logs, at = np.bincount(own.ravel(), np.log(runs.loss)) / held, pairs[:, 0].astype(int)
    count = np.bincount(at)
    gaps = (logs - (np.bincount(at, logs) / count)[at]) ** 2
    squares, freedom = np.bincount(at, gaps), count - 1.0
    if not squares.sum():
        raise ValueError("weights='replicates' needs runs that repeat a point with another result; the table has none.")
    several = freedom > 0
    half = np.where(several, freedom, 1.0) / 2
    least = SMALLEST * squares.sum() / freedom.sum()
    logs = np.log(np.maximum(squares / (2 * half), least)) - digamma(half) + np.log(half)  # unbiased for normal noise
    typical = np.average(logs[several], weights=freedom[several])
    return np.exp(-(PRIOR * typical + freedom * logs) / (PRIOR + freedom))[points]
