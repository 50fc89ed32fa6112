"""The error of form: how far the truth may lie from a law away from where the law is needed.

A law is an approximation that is taken to hold at the target. Away from it the truth drifts off like a random walk in
the natural logs of the axes: between two points the difference of their errors has a variance of `drift` times their
distance (a linear variogram; Matheron 1963, Economic Geology 58, 1246; as model discrepancy Kennedy and O'Hagan 2001,
Journal of the Royal Statistical Society B 63, 425). A run far from the target so tells less of it than its noise says,
and many runs side by side share one error, which no averaging removes.
"""

from __future__ import annotations

import numpy as np

from chemscale.laws.backtests.backtest import Backtest
from chemscale.laws.objectives import Array

DECADE = float(np.log(10))
USUAL = 0.02  # log units a decade away; backtests of Chinchilla on eight grids said 0 to 0.08, five of them under 0.01


def drift_of(backtest: Backtest | None) -> float:
    """Variance of the error of form per natural log of distance: the mean of the usual one and a backtest's.

    One backtest is one look at one corner of a grid, so it counts for no more than what is usual.
    """
    usual = USUAL**2 / DECADE
    if backtest is None:
        return usual
    return (usual + backtest.form_error**2 / max(backtest.reach, DECADE / 2)) / 2


def shared_error(logs: Array, about: Array) -> Array:
    """Covariances of the errors of form at points (n, axes) given that there is none at `about` (axes,), (n, n).

    Both in natural logs; in units of the drift.
    """
    far = np.linalg.norm(logs - about, axis=1)
    apart = np.linalg.norm(logs[:, None] - logs[None], axis=2)
    return (far[:, None] + far[None] - apart) / 2
