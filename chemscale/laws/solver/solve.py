"""Finding the parameters that minimise an objective: starts by variable projection, then a batched Newton polish.

Everything runs for B problems at once, so that a thousand bootstrap refits cost about as much as fifty fits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.form import Form, Model
from chemscale.laws.forms.projection import looked_at
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.newton import EXACT, FINAL_STEPS, newton, polish, values_of
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.tables.table import Rows

LOOKED_AT = 300  # best starts among which basins are told apart
APART, ALIKE = 0.2, 1e-3  # share of the largest parameter by which starts differ, and by which minima do
START_STEPS, START_SETTLED = 12, 1e-9  # steps of that polish, and the relative gain at which it ends
BESIDE, ROUNDS = (0.05, 0.3), 3  # shares of each parameter by which starts beside the best fit differ from it, in turn
SAME, NOISELESS = 1e-6, 1e-12  # share of its value by which ends are one minimum; of the worst end's, where it is zero
REFIT_STEPS, REFIT_STAGE_STEPS, REFIT_SETTLED = 25, 8, 1e-6  # a draw is known well enough long before it is exact
CHUNK = 250  # refits at once, at most
CELLS = 250_000  # starts or refits times runs that are worked on at once: a jacobian of them is ten megabytes
SEARCHED = 3000  # runs that a search looks at; the polish of what it finds sees all
RESUMED = 2  # minima of the searched runs that are polished on all


@dataclass(frozen=True)
class Problem:
    """One form, one set of runs, one objective, in centred logs.

    x (n, axes) natural logs minus `centre`; log_loss (n,) natural log minus `log_scale`; weights (n,) of mean one;
    `noise_floor`, in the loss's unit, is measured from outside, and the floor of the form is not below it.
    """

    form: Form
    objective: Objective
    x: Array
    log_loss: Array
    weights: Array
    centre: Array
    log_scale: float
    noise_floor: float = 0.0

    @classmethod
    def of(
        cls, form: Form, objective: Objective, axes: Array, loss: Array, weights: Array, noise_floor: float = 0.0
    ) -> Problem:
        """Centre `axes` (n, roles) and scale `loss` (n,)."""
        logs = np.log(axes)
        log_loss = np.log(loss)
        centre, scale = form.centre(logs), float(log_loss.mean())
        weights = weights / weights.mean()
        return cls(form, objective, logs - centre, log_loss - scale, weights, centre, scale, noise_floor)

    @classmethod
    def over(cls, form: Form, objective: Objective, runs: Rows) -> Problem:
        """The problem of a table's runs."""
        objective = judged(objective, runs.censored)
        return cls.of(form, objective, runs.stacked(form.roles), runs.loss, runs.weights, runs.noise_floor)

    def searched(self) -> Problem:
        """The problem of at most `SEARCHED` runs, in the same centre and scale: itself where it has no more."""
        if len(self.x) <= SEARCHED:
            return self
        kept = self.form.sample(self.x, SEARCHED)
        parts = {"x": self.x[kept], "log_loss": self.log_loss[kept], "weights": self.weights[kept]}
        return replace(self, objective=self.objective.take(kept), **parts)

    @property
    def model(self) -> Model:
        """The form at these runs."""
        return self.form.bind(self.x)

    @property
    def lower(self) -> Array:
        """Lower bounds of theta, (P,)."""
        return self.form.lower(self.noise_floor / np.exp(self.log_scale))

    def value(self, theta: Array) -> Array:
        """Objective of each parameter vector in the loss's own units, (B,)."""
        penalty = self.objective.penalty(self.log_loss, self.model.log_fit(theta))
        unit = np.exp(2 * self.log_scale) if self.objective.name == "lsq" else 1.0
        return unit * (penalty * self.weights).sum(1)


def solve(problem: Problem) -> Array:
    """The best parameter vector found, (P,)."""
    return search(problem).theta


class Found(NamedTuple):
    """The lowest minimum found, and from how many of the starts that were followed to the end it was reached."""

    theta: Array  # (P,)
    reached: int
    followed: int


def search(problem: Problem) -> Found:
    """The lowest of the minima that many starts lead to."""
    few = problem.searched()
    found, followed = _minima(few)
    if few is not problem:
        model, losses, weights, goal = problem.model, problem.log_loss, problem.weights, problem.objective
        found = polish(model, goal, losses, weights, found[:RESUMED], problem.form.upper, lower=problem.lower)
    values = problem.value(found)
    order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
    lowest = values[order[0]]
    floor = NOISELESS * np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return Found(found[order[0]], int((values <= lowest * (1 + SAME) + floor).sum()), followed)


def _minima(problem: Problem) -> tuple[Array, int]:
    """Minima found from many starts, the lowest first, (k, P), and how many starts were followed to the end."""
    model, objective, lower, upper = problem.model, problem.objective, problem.lower, problem.form.upper
    log_loss, weights = problem.log_loss, problem.weights
    starts = _basins(problem, np.clip(_starts(problem), lower, upper))
    near = newton(model, objective.smooth, log_loss, weights, starts, upper, START_STEPS, START_SETTLED, lower)
    both = np.concatenate([starts, near]) if objective.robust else near
    few = _distinct(both, values_of(model, objective, log_loss, weights, both), problem.form.basins // 4, ALIKE)
    few = polish(model, objective, log_loss, weights, few, upper, lower=lower)
    few = few[np.argsort(values_of(model, objective, log_loss, weights, few), kind="stable")]
    if problem.form.neighbours:
        few = _beside(problem, model, few)
    return few, len(few)


def _starts(problem: Problem) -> Array:
    """The form's own, which look at relative residuals; for absolute ones also those of runs weighed by their size."""
    x, log_loss, weights = problem.x, problem.log_loss, problem.weights
    found = [problem.form.starts(x, log_loss, weights)]
    if problem.objective.name == "lsq":
        found.append(problem.form.starts(x, log_loss, weights * np.exp(2 * (log_loss - log_loss.max()))))
    return np.concatenate(found)


def _beside(problem: Problem, model: Model, minima: Array) -> Array:
    """The minima (k, P) and those about the best of them, the lowest first.

    Minima of a robust objective lie side by side, and those of a form with a turn or a shape of its own are many: the
    search goes on about the best as long as it finds a better one.
    """
    form, sharp, rng = problem.form, problem.objective.smoothed(0.0)[-1], np.random.default_rng(0)
    for width in BESIDE * ROUNDS:
        best = minima[0]
        spread = rng.normal(0, width, (form.neighbours, len(best))) * np.maximum(np.abs(best), BESIDE[0])
        around = np.clip(best + spread, problem.lower, form.upper)
        found = newton(model, sharp, problem.log_loss, problem.weights, around, form.upper, FINAL_STEPS,
                       lower=problem.lower)  # fmt: skip
        every = np.concatenate([minima, found])
        values = values_of(model, problem.objective, problem.log_loss, problem.weights, every)
        better = values.min() < values[0] * (1 - EXACT)
        minima = every[np.argsort(values, kind="stable")]
        if not better and width == BESIDE[-1]:
            break
    return minima


def refit(problem: Problem, log_losses: Array, weights: Array, start: Array) -> Array:
    """Refits from the full fit's parameters `start` (P,): log_losses (B, n) or (n,), weights (B, n) -> (B, P)."""
    out, model = [], problem.model
    for part in chunks(len(weights), len(problem.x)):
        losses = log_losses[part] if log_losses.ndim == 2 else log_losses
        begin = np.repeat(start[None], len(weights[part]), axis=0)
        found = polish(
            model, problem.objective, losses, weights[part], begin, problem.form.upper,
            REFIT_STEPS, REFIT_STAGE_STEPS, REFIT_SETTLED, problem.lower,
        )  # fmt: skip
        out.append(found)
    return np.concatenate(out)


def chunks(count: int, runs: int) -> list[slice]:
    """Parts of `count` fits of `runs` runs each that are worked on at once: at most `CHUNK`, and `CELLS` together."""
    size = int(np.clip(CELLS // runs, 1, CHUNK))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _basins(problem: Problem, starts: Array) -> Array:
    """The best starts that differ from one another in some exponent or amplitude by a fifth."""
    kept = looked_at(problem.log_loss)
    model, goal = problem.form.bind(problem.x[kept]), problem.objective.take(kept)
    values = values_of(model, goal, problem.log_loss[kept], problem.weights[kept], starts)
    return _distinct(starts, values, problem.form.basins, APART, LOOKED_AT)


def _distinct(theta: Array, values: Array, count: int, apart: float, among: int | None = None) -> Array:
    """Of the lowest `among`, at most `count` that differ from one another in some parameter by the share `apart`."""
    order = np.argsort(values, kind="stable")[:among]
    left = theta[order[np.isfinite(values[order])]]
    chosen: list[Array] = []
    while len(left) and len(chosen) < count:
        chosen.append(left[0])
        left = left[np.abs(left - left[0]).max(1) > apart * np.abs(left).max(1)]
    return np.array(chosen)
