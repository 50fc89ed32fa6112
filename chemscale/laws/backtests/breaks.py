"""Where a law stops holding: a test for one change of its slope along an axis, at a place that is not known beforehand.

The law is fitted by least squares in the log; against it stands the same law times a power that sets in at x = k,
log L = log fit + c max(log x - log k, 0). For every k the F statistic of c is taken in the tangent space of the law
(Gauss-Newton), and the largest over k is the test's. The place is a nuisance that the null hypothesis does not have
(Davies 1987; Andrews 1993), so that no table of F holds: p-values come from a wild bootstrap of the residuals under
the null (Hansen 1996), flipped by cluster, and on a curve by stretches of rows that err together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt.residuals import orthonormal
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.solve import Problem, solve
from chemscale.laws.tables.serial import blocks, neighbour_correlation
from chemscale.laws.tables.table import Rows

EDGE = 0.15  # share of the runs that must lie on either side of a break
LEAST_LEVELS = 2  # values of the axis on either side of a break
MOST_PLACES = 40
DRAWS = 999
CELLS = 10_000_000  # draws times runs at once: a few hundred megabytes
SPARE = 3  # runs that must remain beyond the parameters, or nothing is tested
SIGNIFICANT = 0.05
ROUNDING = 1e-10  # of a loss: residuals of a law that is met exactly, in which nothing can be tested


@dataclass(frozen=True)
class Break:
    """The likeliest break along one axis.

    at: value of the axis; p_value of the test, times the number of axes tested; before and after: local slope of log
    loss in the log of the axis around `at`; statistic: the largest F.
    """

    axis: str
    column: str
    form: str
    at: float
    p_value: float
    statistic: float
    before: float
    after: float

    @property
    def found(self) -> bool:
        """Whether the law is rejected at 5 %."""
        return self.p_value < SIGNIFICANT

    @property
    def sentence(self) -> str:
        """What the test says, for a reader."""
        chance = f"p {'<' if self.p_value <= 0.001 else '='} {max(self.p_value, 0.001):.2g}"
        if not self.found:
            return f"There is no sign of a break of the {self.form} law along {self.column} ({chance})."
        return (
            f"The {self.form} law stops holding along {self.column} near {self.at:.2g}: tenfold more of it changes the "
            f"loss by {_change(self.before)} just below and by {_change(self.after)} just above ({chance}); do not "
            f"extrapolate from runs on one side of it to the other."
        )

    def to_json(self) -> dict[str, Any]:
        """Every field, with the sentence."""
        return {**self.__dict__, "found": self.found, "sentence": self.sentence}


def _change(slope: float) -> str:
    return f"{10**slope - 1:+.1%}"


def find_breaks(form: Form, runs: Rows, seed: int = 0) -> tuple[Break, ...]:
    """The likeliest break along every axis that has places for one; empty where too few runs are left to tell.

    Runs of which only a bound is known have no residual to test.
    """
    runs = runs.take(runs.measured)
    if len(runs) < len(form.inner) + SPARE:
        return ()
    problem = Problem.over(form, Objective("log_lsq"), runs)
    theta = solve(problem)
    at = problem.model.derivatives(theta[None])
    tangent = orthonormal(at.jacobian[0] * np.sqrt(problem.weights)[:, None])
    rest = np.sqrt(problem.weights) * (problem.log_loss - at.log_fit[0])
    if np.abs(rest).max() < ROUNDING:
        return ()
    axes = [(i, role, k) for i, role in enumerate(form.roles) if len(k := places(problem.x[:, i]))]
    found = []
    for i, role, candidates in axes:
        x = problem.x[:, i]
        hinges = np.maximum(x[:, None] - candidates, 0.0) * np.sqrt(problem.weights)[:, None]  # (n, places)
        clusters = _clusters(runs, rest, x)
        test = _Sup(tangent, hinges, rest)
        statistic, best, bend = test.largest()
        p = min(1.0, len(axes) * test.p_value(clusters, statistic, seed))
        slope = _slope(problem, theta, i, candidates[best])
        place = float(np.exp(candidates[best] + problem.centre[i]))
        found.append(
            Break(role, runs.columns[role], form.name, place, p, statistic, slope - bend / 2, slope + bend / 2)
        )
    return tuple(found)


def places(x: Array) -> Array:
    """Candidate breaks among the values of an axis (n,), so that enough runs and values lie on either side."""
    levels = np.unique(np.round(x, 9))
    below = np.searchsorted(np.sort(x), levels + 1e-9, side="right") / len(x)
    above = 1 - below
    inner = (below >= EDGE) & (above >= EDGE)
    order = np.arange(len(levels))
    inner &= (order + 1 >= LEAST_LEVELS) & (len(levels) - 1 - order >= LEAST_LEVELS)
    kept = levels[inner]
    return kept if len(kept) <= MOST_PLACES else kept[np.linspace(0, len(kept) - 1, MOST_PLACES).round().astype(int)]


class _Sup:
    """The largest F over places, in the space that the law's tangent leaves."""

    def __init__(self, tangent: Array, hinges: Array, rest: Array) -> None:
        self.tangent, self.rest = tangent, rest - tangent @ (tangent.T @ rest)
        left = hinges - tangent @ (tangent.T @ hinges)
        size = np.linalg.norm(left, axis=0)
        usable = size > 1e-8 * np.maximum(np.linalg.norm(hinges, axis=0), 1e-300)
        self.size = np.where(usable, size, np.inf)
        self.directions = left / self.size  # (n, places), unit or zero
        self.freedom = max(len(rest) - tangent.shape[1] - 1, 1)

    def largest(self) -> tuple[float, int, float]:
        """Statistic, place, and the bend c there."""
        along = self.directions.T @ self.rest
        best = int(np.argmax(along**2))
        return (
            float(self._largest(along[None], (self.rest**2).sum(keepdims=True))[0]),
            best,
            float(along[best] / self.size[best]),
        )

    def p_value(self, clusters: np.ndarray, statistic: float, seed: int) -> float:
        """Share of wild draws under the null that reach the statistic, the sample itself among them."""
        rng, hits = np.random.default_rng(seed), 0
        share = (self.tangent**2).sum(1)
        enlarged = self.rest / np.sqrt(np.maximum(1 - share, 0.1))
        groups = int(clusters.max()) + 1
        both = np.zeros((groups, self.tangent.shape[1] + self.directions.shape[1]))  # runs of a group flip together
        np.add.at(both, clusters, np.concatenate([self.tangent, self.directions], 1) * enlarged[:, None])
        size, rank = float((enlarged**2).sum()), self.tangent.shape[1]
        at_once = max(CELLS // len(enlarged), 1)
        for first in range(0, DRAWS, at_once):
            count = min(at_once, DRAWS - first)
            along = rng.choice([-1.0, 1.0], size=(count, groups)) @ both
            # directions are free of the tangent: what it takes is only missing from the size
            hits += int((self._largest(along[:, rank:], size - (along[:, :rank] ** 2).sum(1)) >= statistic).sum())
        return (1 + hits) / (1 + DRAWS)

    def _largest(self, along: Array, size: Array) -> Array:
        """Largest F of residuals from their shares along the directions (draws, places) and squares (draws,)."""
        gain = (along**2).max(1)
        return gain / np.maximum(size - gain, 1e-300) * self.freedom


def _clusters(runs: Rows, rest: Array, x: Array) -> np.ndarray:
    """The table's clusters; where each row is its own, stretches of a curve whose rows err together."""
    if int(runs.clusters.max()) + 1 < len(runs):
        return runs.clusters
    return blocks(x, neighbour_correlation(rest, x))


def _slope(problem: Problem, theta: Array, axis: int, place: float) -> float:
    """Local slope of the fitted log loss along an axis at `place`, the other axes at the middle of the runs."""
    step = 0.05
    ends = np.repeat(np.median(problem.x, axis=0)[None], 2, axis=0)
    ends[:, axis] = place - step, place + step
    low, high = problem.form.bind(ends).log_fit(theta[None])[0]
    return float(high - low) / (2 * step)
