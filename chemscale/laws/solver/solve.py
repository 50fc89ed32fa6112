"""Finding the parameters that minimise an objective: starts by variable projection, then a batched Newton polish.

Everything runs for B problems at once, so that a thousand bootstrap refits cost about as much as fifty fits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chemscale.laws.forms.form import Form, Model
from chemscale.laws.forms.projection import looked_at
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.tables.table import Rows

LOOKED_AT = 300  # best starts among which basins are told apart
APART, ALIKE = 0.2, 1e-3  # share of the largest parameter by which starts differ, and by which minima do
START_STEPS, START_SETTLED = 12, 1e-9  # steps of that polish, and the relative gain at which it ends
BESIDE = 0.05  # share of each parameter by which starts beside the best fit differ from it
STAGE_STEPS = 30  # at most, per smoothing stage: left too early, LAD ends off its minimum; the last has `FINAL_STEPS`
FINAL_STEPS = 80
EXACT = 1e-13  # relative gain of a step under which a fit is at its minimum
STAGE_SETTLED = 1e-12  # the same for the stages before the last
REFIT_STEPS, REFIT_STAGE_STEPS, REFIT_SETTLED = 25, 8, 1e-6  # a draw is known well enough long before it is exact
MOST_DAMPING = 1e6  # a step shortened this far that still climbs is at a minimum
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
    few = problem.searched()
    found = _minima(few)
    if few is not problem:
        model, losses, weights, goal = problem.model, problem.log_loss, problem.weights, problem.objective
        found = polish(model, goal, losses, weights, found[:RESUMED], problem.form.upper, lower=problem.lower)
        found = found[np.argsort(_values(model, goal, losses, weights, found), kind="stable")]
    return found[0]


def _minima(problem: Problem) -> Array:
    """Minima found from many starts, the lowest first, (at most a quarter of the form's `basins`, P)."""
    model, objective, lower, upper = problem.model, problem.objective, problem.lower, problem.form.upper
    log_loss, weights = problem.log_loss, problem.weights
    starts = _basins(problem, np.clip(_starts(problem), lower, upper))
    near = newton(model, objective.smooth, log_loss, weights, starts, upper, START_STEPS, START_SETTLED, lower)
    both = np.concatenate([starts, near]) if objective.robust else near
    few = _distinct(both, _values(model, objective, log_loss, weights, both), problem.form.basins // 4, ALIKE)
    few = polish(model, objective, log_loss, weights, few, upper, lower=lower)
    few = few[np.argsort(_values(model, objective, log_loss, weights, few), kind="stable")]
    if objective.robust and problem.form.neighbours:
        few[0] = _beside(problem, model, few[0])
    return few


def _starts(problem: Problem) -> Array:
    """The form's own, which look at relative residuals; for absolute ones also those of runs weighed by their size."""
    x, log_loss, weights = problem.x, problem.log_loss, problem.weights
    found = [problem.form.starts(x, log_loss, weights)]
    if problem.objective.name == "lsq":
        found.append(problem.form.starts(x, log_loss, weights * np.exp(2 * (log_loss - log_loss.max()))))
    return np.concatenate(found)


def _beside(problem: Problem, model: Model, best: Array) -> Array:
    """The lowest of the minima about `best` (P,): those of a robust objective lie side by side."""
    shape = (problem.form.neighbours, len(best))
    spread = np.random.default_rng(0).normal(0, BESIDE, shape) * np.maximum(np.abs(best), BESIDE)
    around = np.clip(best + spread, problem.lower, problem.form.upper)
    sharp = problem.objective.smoothed(0.0)[-1]
    found = newton(
        model, sharp, problem.log_loss, problem.weights, around, problem.form.upper, FINAL_STEPS, lower=problem.lower
    )
    every = np.concatenate([best[None], found])
    return every[np.argmin(_values(model, problem.objective, problem.log_loss, problem.weights, every))]


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


def polish(
    model: Model,
    objective: Objective,
    log_loss: Array,
    weights: Array,
    theta: Array,
    upper: Array,
    steps: int = FINAL_STEPS,
    stage_steps: int = STAGE_STEPS,
    settled: float = EXACT,
    lower: Array | float = 0.0,
) -> Array:
    """Newton's method through ever sharper stand-ins of the objective, (B, P)."""
    residual = np.abs(log_loss - model.log_fit(theta))
    stages = objective.smoothed(float(np.median(residual[np.isfinite(residual)])))
    for stage in stages[:-1]:
        early = max(settled, STAGE_SETTLED)
        theta = newton(model, stage, log_loss, weights, theta, upper, stage_steps, early, lower)
    return newton(model, stages[-1], log_loss, weights, theta, upper, steps, settled, lower)


def newton(
    model: Model,
    objective: Objective,
    log_loss: Array,
    weights: Array,
    theta: Array,
    upper: Array,
    steps: int,
    settled: float = EXACT,
    lower: Array | float = 0.0,
) -> Array:
    """Damped Newton steps within bounds for B problems at once, (B, P)."""
    theta = theta.copy()
    log_loss = np.broadcast_to(log_loss, (len(theta), log_loss.shape[-1]))
    weights = np.broadcast_to(weights, log_loss.shape)
    values = _values(model, objective, log_loss, weights, theta)
    damping = np.full(len(theta), 1e-3)
    active = np.flatnonzero(np.isfinite(values))
    for _ in range(steps):
        if not len(active):
            break
        here, data, w = theta[active], log_loss[active], weights[active]
        law, goal = model.among(active), objective.among(active)
        step = _step(law, goal, data, w, here, lower, upper, damping[active])
        there = np.clip(here + step, lower, upper)
        trial = _values(law, goal, data, w, there)
        gain = values[active] - trial
        better = gain > 0
        theta[active[better]], values[active[better]] = there[better], trial[better]
        # 8 is no inverse of 0.1, or the damping could cycle between two values around a kink
        damping[active] = np.where(better, np.maximum(damping[active] * 0.1, 1e-12), damping[active] * 8.0)
        done = (better & (gain <= settled * np.abs(trial))) | (~better & (damping[active] > MOST_DAMPING))
        active = active[~done]
    return theta


@np.errstate(over="ignore", invalid="ignore")  # such steps are found and not taken
def _step(
    model: Model,
    objective: Objective,
    log_loss: Array,
    weights: Array,
    theta: Array,
    lower: Array | float,
    upper: Array,
    damping: Array,
) -> Array:
    at = model.derivatives(theta)
    slopes = objective.slopes(log_loss, at.log_fit)
    rows = at.jacobian.swapaxes(1, 2)  # (B, P, n)
    first = weights * slopes.first
    gradient = np.matmul(rows, first[:, :, None])[:, :, 0]
    hessian = np.matmul(rows * (weights * slopes.second)[:, None], at.jacobian)
    hessian += at.curvature(first)
    size = np.matmul(rows * rows, (weights * slopes.majorant)[:, :, None])[:, :, 0]
    scale = 1 / np.sqrt(np.maximum(size, 1e-12 * size.max(1, keepdims=True) + 1e-300))
    scale[((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))] = 0.0  # held by a bound
    scaled, downhill = hessian * scale[:, :, None] * scale[:, None, :], gradient * scale
    lost = ~np.isfinite(scaled.sum((1, 2)) + downhill.sum(1))  # beyond the range of floating numbers
    scaled[lost], downhill[lost] = np.eye(theta.shape[1]), 0.0
    roots, axes = np.linalg.eigh(scaled)
    stiff = np.maximum(np.abs(roots), 1e-10) + damping[:, None]
    along = np.matmul(downhill[:, None], axes)[:, 0] / stiff
    return -scale * np.matmul(axes, along[:, :, None])[:, :, 0]


def _values(model: Model, objective: Objective, log_loss: Array, weights: Array, theta: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        total = (objective.penalty(log_loss, model.log_fit(theta)) * weights).sum(1)
    return np.where(np.isfinite(total), total, np.inf)


def _basins(problem: Problem, starts: Array) -> Array:
    """The best starts that differ from one another in some exponent or amplitude by a fifth."""
    kept = looked_at(problem.log_loss)
    model, goal = problem.form.bind(problem.x[kept]), problem.objective.take(kept)
    values = _values(model, goal, problem.log_loss[kept], problem.weights[kept], starts)
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
