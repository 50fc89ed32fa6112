"""Ordinary least squares with errors that know clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array


@dataclass(frozen=True)
class Estimates:
    """Least squares with errors: coefficients, standard errors or None, degrees of freedom behind each, all (p,)."""

    values: Array
    errors: Array | None
    left: Array

    def interval(self, k: int, level: float) -> tuple[float, float] | None:
        """Student's t interval of one coefficient."""
        if self.errors is None:
            return None
        half = float(student.ppf(0.5 + level / 2, self.left[k]) * self.errors[k])
        return float(self.values[k]) - half, float(self.values[k]) + half


def least_squares(design: Array, y: Array, clusters: np.ndarray) -> Estimates:
    """Ordinary least squares of y (n,) on design (n, p).

    Where rows share a cluster each error is the larger of the usual one and the cluster-robust one (times G/(G-1);
    Cameron and Miller 2015): with few clusters the robust one alone is often too small. Its degrees of freedom are the
    clusters less the columns that are constant within each.
    """
    values = np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], float)
    left = len(y) - design.shape[1]
    every = np.full(design.shape[1], float(left))
    if left < 1:
        return Estimates(values, None, every)
    rest = y - design @ values
    inverse = np.linalg.inv(design.T @ design)
    usual = np.sqrt((rest**2).sum() / left * np.diag(inverse))
    count = int(clusters.max()) + 1
    between = sum(bool((_within(column, clusters, count) < 1e-9).all()) for column in design.T)
    if not between < count < len(y):
        return Estimates(values, usual, every)
    sums = np.zeros((count, design.shape[1]))
    np.add.at(sums, clusters, design * rest[:, None])
    robust = np.sqrt(count / (count - 1) * np.diag(inverse @ sums.T @ sums @ inverse))
    return Estimates(values, np.maximum(usual, robust), np.where(robust > usual, float(count - between), every))


def _within(column: Array, clusters: np.ndarray, count: int) -> Array:
    """How far a column (n,) varies inside each of `count` clusters, (count,)."""
    high, low = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(high, clusters, column)
    np.minimum.at(low, clusters, column)
    return high - low
