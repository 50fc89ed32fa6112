"""Where a law stops holding: a test for one change of its slope along an axis, at a place that is not known beforehand.

The law is fitted by least squares in the log; against it stands the same law whose slope along the axis changes by a
share c of itself at x = k: log L = log fit(x) + c (log fit(x) - log fit(min(x, k))). Over a floor only what is above it
bends so, as a change of exponent does. For every k the F statistic of c is taken in the tangent space of the law
(Gauss-Newton), and the largest over k is the test's. The place is a nuisance that the null hypothesis does not have
(Davies 1987; Andrews 1993), so that no table of F holds: p-values come from draws under the null, see `bend`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.backtests.bend import BendTest
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from chemscale.laws.tables.serial import LEAST_ROWS
from chemscale.laws.tables.table import Rows

EDGE = 0.15  # share of the runs that must lie on either side of a break
LEAST_LEVELS = 2  # values of the axis on either side of a break
MOST_PLACES = 40
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
    """The likeliest break along every axis that has places for one; empty where too few runs or clusters can tell.

    Signs of G clusters that flip together give p-values of 2^(1 - G) at the least, for each axis that is tested.

    Runs of which only a bound is known have no residual to test.
    """
    runs = runs.take(runs.measured)
    if len(runs) < len(form.inner) + SPARE:
        return ()
    problem = Problem.over(form, Objective("log_lsq"), runs)
    theta = solve(problem)
    at, root = problem.model.derivatives(theta[None]), np.sqrt(problem.weights)
    design, errors = at.jacobian[0] * root[:, None], root * (problem.log_loss - at.log_fit[0])
    if np.abs(errors).max() < ROUNDING:
        return ()
    axes = [(i, role, k) for i, role in enumerate(form.roles) if len(k := places(problem.x[:, i]))]
    if len(axes) * 2.0 ** -int(runs.clusters.max()) >= SIGNIFICANT:
        return ()
    found = []
    for i, role, candidates in axes:
        order = np.argsort(problem.x[:, i], kind="stable")
        bends = bends_at(problem, theta, i, candidates) * root[:, None]
        series = _series(runs, problem.x[:, i])
        test = BendTest(design[order], bends[order], errors[order], runs.clusters[order], series)
        statistic, best, bend = test.largest()
        p = min(1.0, len(axes) * test.p_value(statistic, seed))
        slope = _slope(problem, theta, i, candidates[best])
        place = float(np.exp(candidates[best] + problem.centre[i]))
        ends = slope * (1 - bend / 2), slope * (1 + bend / 2)
        found.append(Break(role, runs.columns[role], form.name, place, p, statistic, *ends))
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


def bends_at(problem: Problem, theta: Array, axis: int, candidates: Array) -> Array:
    """What a change of the slope along an axis by itself, at each candidate, adds to the fitted logs, (n, places)."""
    fitted = problem.model.log_fit(theta[None])[0]
    out = np.empty((len(problem.x), len(candidates)))
    for k, place in enumerate(candidates):
        short = problem.x.copy()
        short[:, axis] = np.minimum(short[:, axis], place)
        out[:, k] = fitted - problem.form.bind(short).log_fit(theta[None])[0]
    return out


def _series(runs: Rows, x: Array) -> bool:
    """Whether the rows are a curve along one axis: each its own cluster, enough of them, nearly all sizes different."""
    alone = int(runs.clusters.max()) + 1 == len(runs) and len(runs.axes) == 1
    return alone and len(runs) >= LEAST_ROWS and len(np.unique(x)) >= 0.9 * len(runs)


def _slope(problem: Problem, theta: Array, axis: int, place: float) -> float:
    """Local slope of the fitted log loss along an axis at `place`, the other axes at the middle of the runs."""
    step = 0.05
    ends = np.repeat(np.median(problem.x, axis=0)[None], 2, axis=0)
    ends[:, axis] = place - step, place + step
    low, high = problem.form.bind(ends).log_fit(theta[None])[0]
    return float(high - low) / (2 * step)
