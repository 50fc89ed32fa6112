"""The noise of repeated runs, and whether a law misses by more than that.

Runs at one point of the axes differ by their seeds only, so their spread is noise whatever the law. Runs of one
cluster at one point count as one, since they share their subset or trunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import digamma, polygamma
from scipy.stats import f as fisher

from chemscale.laws.doubt.residuals import measured, residuals
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.problem import Problem

ENOUGH = 4.0  # degrees of freedom under which repeats say less of the noise than the residuals do
FEW_POINTS = 4  # repeated points under which their variances give no trend
MISSES = 0.01  # p-value under which the form is said to miss: at 0.05 one true law in twenty would be accused


class Repeats(NamedTuple):
    """Points with several runs: log size of each (g,), variance of its log losses (g,), degrees of freedom (g,)."""

    size: Array
    variance: Array
    freedom: Array


@dataclass(frozen=True)
class SeedNoise:
    """Noise of one run's log loss, pooled over repeated points, with the test of the form against it.

    sd: standard deviation at the mean size of the repeated points; freedom: of its variance; points: how many are
    repeated; trend: change of the log variance per natural log of size (product of the axes), shrunk towards zero by
    how well it is known; centre, low, high: mean and range of the repeated points' log sizes.
    lack_of_fit: F of the pure-error test (Draper and Smith 1998, section 2.1), its degrees of freedom and its p-value;
    None where the runs leave no freedom for it. sentence: what that means.
    """

    sd: float
    freedom: float
    points: int
    trend: float
    centre: float
    low: float
    high: float
    lack_of_fit: dict[str, float] | None
    sentence: str

    def at(self, size: Array) -> Array:
        """Standard deviation at log sizes; beyond the repeated points as at the nearest of them."""
        return self.sd * np.exp(0.5 * self.trend * (np.clip(size, self.low, self.high) - self.centre))

    @property
    def tells(self) -> bool:
        """Whether the repeats know the noise well enough to stand for it."""
        return self.freedom >= ENOUGH

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return dict(self.__dict__)


def seed_noise(problem: Problem, theta: Array, clusters: np.ndarray) -> SeedNoise | None:
    """The noise model of the repeated points; None where no point is repeated. theta (P,) is the fit."""
    found = repeats(problem, clusters)
    if not len(found.size):
        return None
    total = float(found.freedom.sum())
    centre = float(np.average(found.size, weights=found.freedom))
    trend = shrunk_trend(found)
    levels = np.exp(trend * (found.size - centre))
    pooled = float((found.freedom * found.variance / levels).sum() / total)
    test = lack_of_fit(problem, theta, clusters)
    return SeedNoise(
        float(np.sqrt(pooled)), total, len(found.size), trend, centre, float(found.size.min()),
        float(found.size.max()), test, _sentence(problem.form.name, test, np.sqrt(pooled)),
    )  # fmt: skip


def log_size(problem: Problem) -> Array:
    """Sum of each run's centred natural logs over the axes, (n,): how large it is, whatever the axis."""
    return problem.x.sum(1)


def points_of(problem: Problem) -> np.ndarray:
    """Number of each run's point of the axes, (n,); equal axes, equal number."""
    return np.unique(np.round(problem.x, 9), axis=0, return_inverse=True)[1].ravel()


def repeats(problem: Problem, clusters: np.ndarray) -> Repeats:
    """Spread at every point that runs of several clusters share."""
    known = measured(problem)
    points, logs, size = points_of(problem)[known], problem.log_loss[known], log_size(problem)[known]
    cells, cell = np.unique(np.stack([points, clusters[known]], 1), axis=0, return_inverse=True)
    cell = cell.ravel()
    means = np.bincount(cell, logs) / np.bincount(cell)  # of the runs that share a point and a cluster
    _, point, counts = np.unique(cells[:, 0], return_inverse=True, return_counts=True)
    off = means - (np.bincount(point, means) / counts)[point]
    several = counts > 1
    freedom = np.asarray(counts[several] - 1, float)
    variance = np.bincount(point, off**2)[several] / freedom
    begin = np.unique(points, return_index=True)[1][several]
    return Repeats(size[begin], variance, freedom)


def shrunk_trend(found: Repeats) -> float:
    """Slope of the log variance in log size, times how much of its square is more than chance (1 - 1/t^2, at least 0).

    The log of a variance with f degrees of freedom has mean digamma(f/2) - log(f/2) about the true one, and variance
    trigamma(f/2) (Bartlett and Kendall 1946).
    """
    usable = found.variance > 0
    if usable.sum() < FEW_POINTS or np.ptp(found.size[usable]) < 1e-6:
        return 0.0
    half = found.freedom[usable] / 2
    y = np.log(found.variance[usable]) - (digamma(half) - np.log(half))
    weights = 1 / polygamma(1, half)
    x = found.size[usable] - np.average(found.size[usable], weights=weights)
    spread = float((weights * x**2).sum())
    slope = float((weights * x * y).sum() / spread)
    return slope * max(0.0, 1 - 1 / max(slope**2 * spread, 1e-300))


def lack_of_fit(problem: Problem, theta: Array, clusters: np.ndarray) -> dict[str, float] | None:
    """Pure-error F test of the form, on least squares of the log loss whatever the objective.

    Runs of one cluster at one point enter as their mean, since they do not repeat one another.
    """
    if not measured(problem).all():
        return None
    problem, points = _merged(problem, clusters)
    counts = np.bincount(points)
    pure, above = int((counts - 1).sum()), len(counts) - len(problem.form.inner)
    if not pure or above < 1:
        return None
    goal, start = Objective("log_lsq"), theta[None]
    best = newton(
        problem.model, goal, problem.log_loss, problem.weights, start, problem.form.upper, 60, lower=problem.lower
    )[0]
    weights, errors = problem.weights, residuals(problem, best)
    means = np.bincount(points, weights * errors) / np.maximum(np.bincount(points, weights), 1e-300)
    within = float((weights * (errors - means[points]) ** 2).sum())
    between = max(float((weights * errors**2).sum()) - within, 0.0)
    if within <= 0:
        return None
    ratio = (between / above) / (within / pure)
    return {"F": ratio, "freedom_form": above, "freedom_noise": pure, "p": float(fisher.sf(ratio, above, pure))}


def _merged(problem: Problem, clusters: np.ndarray) -> tuple[Problem, np.ndarray]:
    """The problem with one row, the mean, for the runs of each cluster at each point, and each row's point."""
    points = points_of(problem)
    pairs, first, row = np.unique(
        np.column_stack([points, clusters]), axis=0, return_index=True, return_inverse=True
    )  # fmt: skip
    row = row.ravel()
    counts = np.bincount(row)
    losses, weights = np.bincount(row, problem.log_loss) / counts, np.bincount(row, problem.weights) / counts
    return replace(problem, x=problem.x[first], log_loss=losses, weights=weights / weights.mean()), pairs[:, 0]


def _sentence(form: str, test: dict[str, float] | None, sd: float) -> str:
    noise = f"repeated runs differ by {sd:.2%} of the loss"
    if test is None:
        return f"{noise}; too few points are left to test form={form!r} against that"
    shown = f"F = {test['F']:.3g}, p = {test['p']:.2g}"
    if test["p"] < MISSES:
        return f"{noise} and form={form!r} misses by more than that ({shown}): the law's shape is wrong somewhere"
    return f"{noise} and form={form!r} misses by no more than that ({shown})"
