"""One form fitted to the runs above some size, as a weighted cloud of parameter vectors rather than its best one.

A floor or an exponent that the runs do not pin down is averaged over, not guessed: every start of the solver, the best
of them polished, and draws around the best are weighed by the likelihood that the law's own objective gives them, with
the scale of the noise profiled out and n runs counted as their effective number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt.residuals import covariance, freedom, measured, residuals, short
from chemscale.laws.errors import FitError
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.solver.solve import Problem, newton
from chemscale.laws.tables.serial import effective_rows, neighbour_correlation
from chemscale.laws.tables.table import Rows

POLISHED, POLISH_STEPS = 4, 15
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


def member(form: Form, goal: Objective, runs: Rows, size: Array, window: float) -> Member:
    """The cloud of `form` over `runs`, which are those in the window already; raises FitError where none is finite."""
    problem = Problem.over(form, goal, runs)
    theta = _candidates(problem)
    with np.errstate(all="ignore"):
        value = (problem.objective.penalty(problem.log_loss, problem.model.log_fit(theta)) * problem.weights).sum(1)
    usable = np.isfinite(value) & np.isfinite(theta).all(1)
    if not usable.any():
        raise FitError(f"form={form.name!r} found no finite fit")
    theta, value = theta[usable], value[usable]
    lead = theta[np.argmin(value)]
    left = residuals(problem, lead)[runs.measured]
    rows = effective_rows(len(runs), neighbour_correlation(left, size[runs.measured])) - len(form.inner)
    power = max(rows, 1.0) * (1.0 if goal.robust else 0.5)  # Laplace or normal noise, its scale profiled out
    floor = 1e-12 * len(runs)
    shares = ((value.min() + floor) / (value + floor)) ** power
    keep = shares >= NEGLIGIBLE * shares.max()
    shares = short(shares[keep] / shares[keep].sum())
    noise = float(np.sqrt((left**2).sum() / freedom(problem)))
    return Member(
        form.name,
        form.roles,
        window,
        short(theta[keep]),
        shares / shares.sum(),
        problem.centre,
        problem.log_scale,
        noise,
    )


def _candidates(problem: Problem) -> Array:
    """Every start, the best polished by least squares, and draws around the best of those."""
    smooth = judged(Objective("log_lsq", spread=problem.objective.spread), ~measured(problem))
    form, model, rng = problem.form, problem.model, np.random.default_rng(0)
    starts = form.starts(problem.x, problem.log_loss, problem.weights)
    near = newton(model, smooth, problem.log_loss, problem.weights, _lowest(problem, smooth, starts, POLISHED),
                  form.upper, POLISH_STEPS, lower=problem.lower)  # fmt: skip
    best = _lowest(problem, smooth, near, 1)[0]
    spread = covariance(problem, best)
    if not np.isfinite(spread).all():
        return np.concatenate([starts, near])
    roots, axes = np.linalg.eigh(spread)
    steps = STRETCH * rng.standard_normal((DRAWS, len(best))) * np.sqrt(np.maximum(roots, 0.0))
    around = np.clip(best + steps @ axes.T, problem.lower, form.upper)
    return np.concatenate([starts, near, around])


def _lowest(problem: Problem, goal: Objective, theta: Array, count: int) -> Array:
    with np.errstate(all="ignore"):
        value = (goal.penalty(problem.log_loss, problem.model.log_fit(theta)) * problem.weights).sum(1)
    return theta[np.argsort(np.where(np.isfinite(value), value, np.inf), kind="stable")[:count]]
