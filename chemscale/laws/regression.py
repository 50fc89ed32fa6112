"""Straight lines through log loss against log axis, with honest small-sample intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array


@dataclass(frozen=True)
class Line:
    """slope of log10 loss per decade with its standard error; `runs_left` the degrees of freedom behind it.

    `error` is None where no noise can be measured (two runs on a line of two parameters).
    """

    slope: float
    error: float | None
    runs_left: int

    def interval(self, level: float) -> tuple[float, float] | None:
        """Student's t interval of the slope."""
        if self.error is None:
            return None
        half = float(student.ppf(0.5 + level / 2, self.runs_left)) * self.error
        return self.slope - half, self.slope + half


def line(x: Array, y: Array, groups: np.ndarray, clusters: np.ndarray) -> Line:
    """Least squares of y on x with an intercept per group (the other axis held), all (n,).

    The residuals hold seed noise and curvature alike, so a bent curve gets a wide interval. Where runs share a
    cluster the error is the larger of the usual one and the cluster-robust one (with G/(G-1) and G-1 degrees of
    freedom; Cameron and Miller 2015).
    """
    inner = _demean(x, groups)
    square = float((inner**2).sum())
    slope = float((inner * y).sum() / square)
    residual = _demean(y, groups) - slope * inner
    left = len(x) - len(np.unique(groups)) - 1
    if left < 1:
        return Line(slope, None, 0)
    error = float(np.sqrt((residual**2).sum() / left / square))
    count = len(np.unique(clusters))
    if count < len(x) and count > 2:
        sums = np.array([(inner * residual)[clusters == c].sum() for c in np.unique(clusters)])
        shared = float(np.sqrt(count / (count - 1) * (sums**2).sum()) / square)
        if shared > error:
            return Line(slope, shared, min(left, count - 1))
    return Line(slope, error, left)


def _demean(values: Array, groups: np.ndarray) -> Array:
    out = values.astype(float).copy()
    for group in np.unique(groups):
        out[groups == group] -= out[groups == group].mean()
    return out


def differ(first: Line, second: Line, level: float) -> tuple[float, float] | None:
    """Interval of first.slope - second.slope (Welch's degrees of freedom); None where noise is unknown."""
    if first.error is None or second.error is None:
        return None
    a, b = first.error**2, second.error**2
    left = (a + b) ** 2 / (a**2 / first.runs_left + b**2 / second.runs_left) if a + b else float(first.runs_left)
    half = float(student.ppf(0.5 + level / 2, max(left, 1.0))) * (a + b) ** 0.5
    gap = first.slope - second.slope
    return gap - half, gap + half
