"""One form fitted to the runs above some size, as a weighted cloud of parameter vectors rather than its best one.

A floor or an exponent that the runs do not pin down is averaged over, not guessed: every start of the solver, the best
of them polished, and draws around the best are weighed by the likelihood that the law's own objective gives them, with
the scale of the noise profiled out and n runs counted as their effective number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.doubt.residuals import covariance, freedom, measured, residuals, short
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.tables.serial import effective_rows, neighbour_correlation
from chemscale.laws.tables.table import Rows

POLISHED, POLISH_STEPS, POLISH_SETTLED = 4, 15, 1e-6
CELLS = 2e4  # vectors times runs polished at once: beyond, arrays leave the cache
DRAWS, STRETCH = 48, 2.0  # draws around the best, twice as wide as the normal approximation, for the weights to trim
NEGLIGIBLE = 1e-3  # share under which a parameter vector is dropped


@dataclass(frozen=True)
class Member:
    """A form over the runs in the top `window` of the log range of size.

    theta (K, P) in centred coordinates and their shares (K,); centre (axes,) natural logs; log_scale of the loss;
    noise: standard deviation of one run's log loss around the member.
    """

    form: str
    roles: tuple[str, ...]
    window: float
    theta: Array
    shares: Array
    centre: Array
    log_scale: float
    noise: float

    @property
    def name(self) -> str:
        """The form, and its window where that is not everything: `power_floor top 50%`."""
        return self.form if self.window == 1 else f"{self.form} top {self.window:.0%}"

    def clouds(self, x: Array) -> Array:
        """Log losses of each parameter vector at natural logs x (points, axes): (K, points).

        A vector that says nothing at a point says there what the heaviest one does.
        """
        bound = choose(self.form, self.roles).bind(x - self.centre)
        with np.errstate(all="ignore"):
            said = bound.log_fit(self.theta) + self.log_scale
        return np.where(np.isfinite(said), said, said[np.argmax(self.shares)])

    def log_mean(self, x: Array) -> Array:
        """Mean log loss over the cloud at natural logs x (points, axes): (points,)."""
        return self.shares @ self.clouds(x)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Member:
        """The inverse of `to_json`."""
        arrays = {k: np.array(found[k], float) for k in ("theta", "shares", "centre")}
        return cls(**{**found, **arrays, "roles": tuple(found["roles"])})


def members(
    form: Form, goal: Objective, runs: Rows, size: Array, windows: Sequence[float], masks: Array
) -> list[Member | None]:
    """The cloud of `form` over each set of runs, masks (sets, n) of bool, those in its window of `size` (n,) already.

    All sets are polished at once, in units of the loss of the smallest run, which larger ones do not change; None where
    no fit is finite.
    """
    whole = Problem.over(form, goal, runs)
    unit = float(np.log(runs.loss[np.argmin(size)]))
    whole = replace(whole, log_loss=np.log(runs.loss) - unit, log_scale=unit)
    parts = [_part(whole, runs, goal, mask) for mask in masks]
    made = []
    for window, part, mask, found in zip(windows, parts, masks, _candidates(whole, parts, masks), strict=True):
        made.append(_weighed(part, *found, size[mask], window))
    return made


def _part(whole: Problem, runs: Rows, goal: Objective, mask: np.ndarray) -> Problem:
    """The problem of some of the runs, in the coordinates of all."""
    weights = whole.weights[mask]
    objective = judged(goal, None if runs.censored is None else runs.censored[mask])
    return replace(whole, objective=objective, x=whole.x[mask], log_loss=whole.log_loss[mask],
                   weights=weights / weights.mean())  # fmt: skip


def _weighed(problem: Problem, theta: Array, fit: Array, size: Array, window: float) -> Member | None:
    value = _values(problem, problem.objective, fit)
    usable = np.isfinite(value) & np.isfinite(theta).all(1)
    form, goal, known = problem.form, problem.objective, measured(problem)
    if not usable.any():
        return None
    theta, value = theta[usable], value[usable]
    left = residuals(problem, theta[np.argmin(value)])[known]
    rows = effective_rows(len(size), neighbour_correlation(left, size[known])) - len(form.inner)
    power = max(rows, 1.0) * (1.0 if goal.robust else 0.5)  # Laplace or normal noise, its scale profiled out
    floor = 1e-12 * len(size)
    shares = ((value.min() + floor) / (value + floor)) ** power
    keep = shares >= NEGLIGIBLE * shares.max()
    shares = short(shares[keep] / shares[keep].sum())
    noise = float(np.sqrt((left**2).sum() / freedom(problem)))
    return Member(
        form.name, form.roles, window, short(theta[keep]), shares / shares.sum(), problem.centre, problem.log_scale,
        noise,
    )  # fmt: skip


def _candidates(whole: Problem, parts: Sequence[Problem], masks: Array) -> list[tuple[Array, Array]]:
    """For each set of runs every start, the best polished by least squares, and draws around the best of those.

    Each with its log losses, (K, P) and (K, n).
    """
    form, smooth = whole.form, _smooth(whole)
    starts = [np.clip(form.starts(p.x, p.log_loss, p.weights), whole.lower, form.upper) for p in parts]
    fits = [_log_fit(part, begun) for part, begun in zip(parts, starts, strict=True)]
    few = [_lowest(*of, POLISHED) for of in zip(parts, starts, fits, strict=True)]
    sets = np.repeat(np.arange(len(parts)), [len(theta) for theta in few])
    near = np.concatenate(few)
    for first in range(0, len(near), at_once := max(int(CELLS / len(whole.x)), 1)):
        some = slice(first, first + at_once)
        near[some] = newton(whole.model, smooth, whole.log_loss, masks[sets[some]] * whole.weights, near[some],
                            form.upper, POLISH_STEPS, POLISH_SETTLED, whole.lower)  # fmt: skip
    found = []
    for i, (part, begun, fit) in enumerate(zip(parts, starts, fits, strict=True)):
        more = np.concatenate([near[sets == i], _around(part, near[sets == i])])
        found.append((np.concatenate([begun, more]), np.concatenate([fit, _log_fit(part, more)])))
    return found


def _around(problem: Problem, near: Array) -> Array:
    """Draws about the best of the vectors `near` (K, P)."""
    best = _lowest(problem, near, _log_fit(problem, near), 1)[0]
    spread, rng = covariance(problem, best), np.random.default_rng(0)
    if not np.isfinite(spread).all():
        return near[:0]
    roots, axes = np.linalg.eigh(spread)
    steps = STRETCH * rng.standard_normal((DRAWS, len(best))) * np.sqrt(np.maximum(roots, 0.0))
    return np.clip(best + steps @ axes.T, problem.lower, problem.form.upper)


def _smooth(problem: Problem) -> Objective:
    return judged(Objective("log_lsq", spread=problem.objective.spread), ~measured(problem))


def _lowest(problem: Problem, theta: Array, fit: Array, count: int) -> Array:
    value = _values(problem, _smooth(problem), fit)
    return theta[np.argsort(np.where(np.isfinite(value), value, np.inf), kind="stable")[:count]]


def _log_fit(problem: Problem, theta: Array) -> Array:
    with np.errstate(all="ignore"):
        return problem.model.log_fit(theta)


def _values(problem: Problem, goal: Objective, fit: Array) -> Array:
    with np.errstate(all="ignore"):
        return (goal.penalty(problem.log_loss, fit) * problem.weights).sum(1)
