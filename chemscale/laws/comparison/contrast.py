"""How far one group's law lies from the reference's: exponents, losses at a point, and what would make up for it.

The interval of a difference of exponents is a profile: all differences d whose best fit has LR(d) under a threshold.
The threshold is n log(1 + F / runs_left) with F the quantile of the F distribution, exact for laws linear in their
parameters, or where it is larger the quantile of the same statistic over draws from the fitted model (a bootstrap
calibration), which holds for shared clusters and for amplitudes near zero too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import f as fisher

from chemscale.laws.comparison.joint import GAUSSIAN, Joint, Pool
from chemscale.laws.comparison.nested import MOST_REFITTED, Fitted, refitted, squares
from chemscale.laws.doubt.residuals import interval, small_sample
from chemscale.laws.forms.form import MAX_EXPONENT
from chemscale.laws.objectives import Array
from chemscale.laws.solver.solve import Problem, polish

STEPS = 60  # of Newton, for a profile point that starts far from its minimum
GRID = 13  # points of a profile
COARSE = 5  # the same of many runs, where the root of LR is as good as a straight line
FACTORS = 801  # points between them, 2 % apart
FARTHEST = 1e4  # times as much of an axis, beyond which a law does not say what would make up for a loss


@dataclass(frozen=True)
class Difference:
    """exponent of `group` minus that of `reference`, along `axis`, both pure numbers, with its profile interval.

    low or high is None where the data do not bound that side. `at_most` is the equivalence bound: the exponents differ
    by at most so much at the interval's confidence, None where a side is open.
    """

    group: str
    reference: str
    exponent: str
    axes: tuple[str, ...]
    value: float
    low: float | None
    high: float | None
    level: float

    @property
    def at_most(self) -> float | None:
        """Largest size of the difference inside the interval."""
        return None if self.low is None or self.high is None else max(abs(self.low), abs(self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says which exponent is larger."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)


@dataclass(frozen=True)
class Ratio:
    """loss of `group` over that of `reference` at the point `at` (axis -> value), the largest that both reach."""

    group: str
    reference: str
    at: dict[str, float]
    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Multiplier:
    """How many times as much of one axis `worse` needs at `at` for the loss that `better` has there.

    `saving` is the share of the axis with which `better` still reaches the loss of `worse` at `at`. Each is None where
    the law says that no amount up to `FARTHEST` times does; an open side of an interval is None.
    """

    better: str
    worse: str
    axis: str
    at: dict[str, float]
    value: float | None
    low: float | None
    high: float | None
    saving: float | None
    level: float


def difference(
    pool: Pool, full: Fitted, group: int, exponent: str, level: float, losses: Iterable[Array] | None
) -> Difference:
    """The difference of one of the solver's exponents with its profile interval; draws of the losses calibrate it."""
    place = pool.each.inner.index(exponent)
    own = full.each[:, place]
    value = float(own[group] - own[0])
    form = replace(full.form, apart=(group, exponent))
    problem = pool.problem(form)
    start = np.append(_without(form, full.each), MAX_EXPONENT + value)
    limit = _threshold(full, problem, start, level, losses)
    error = _error(full, group, place)
    low, high = (_end(problem, full, start, side * error, limit) for side in (-1, 1))
    axes = pool.each.moved_by[exponent]
    return Difference(pool.names[group], pool.names[0], exponent, axes, value, low, high, level)


def _without(form: Joint, each: Array) -> Array:
    """theta of a joint form with a given difference, without that difference: the reference keeps its own value."""
    theta = np.zeros(form.fitted)
    for g in reversed(range(form.groups)):
        theta[form.index[g]] = each[g]
    return theta


def _threshold(full: Fitted, problem: Problem, start: Array, level: float, losses: Iterable[Array] | None) -> float:
    n = len(problem.x)
    limit = n * np.log1p(fisher.ppf(level, 1, full.runs_left) / full.runs_left)
    if losses is None:
        return float(limit)
    held, best = refitted(problem, start), refitted(full.problem, full.theta)
    found = np.concatenate([np.log(np.maximum(held(part) / best(part), 1.0)) for part in losses])
    return float(max(limit, np.quantile(n * found, level)))


def _error(full: Fitted, group: int, place: int) -> float:
    """Standard error of the difference by the normal approximation, the first guess of the profile's width."""
    jacobian = full.problem.model.derivatives(full.theta[None]).jacobian[0]
    jacobian = jacobian * np.sqrt(full.problem.weights)[:, None]
    inverse = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True)
    contrast = np.zeros(len(full.theta))
    contrast[full.form.index[group, place]] += 1
    contrast[full.form.index[0, place]] -= 1
    return float(np.clip(full.sigma * np.sqrt(max(contrast @ inverse @ contrast, 0.0)), 1e-7, 1.0))


def _end(problem: Problem, full: Fitted, start: Array, step: float, limit: float) -> float | None:
    """Where the root of LR crosses the root of its limit, on the side of `step`; None beyond any exponent's bound."""
    middle = start[-1] - MAX_EXPONENT
    reach = 4 * step
    while True:
        steps = np.linspace(0.0, reach, GRID if len(problem.x) <= MOST_REFITTED else COARSE)
        roots = _roots(problem, full, start, middle + steps)
        over = np.flatnonzero(roots >= np.sqrt(limit))
        if len(over):
            break
        if abs(middle + reach) > MAX_EXPONENT:
            return None
        reach *= 4
    k = max(int(over[0]), 1)
    fine = np.linspace(steps[k - 1], steps[k], 5)
    roots = np.maximum.accumulate(_roots(problem, full, start, middle + fine))
    return float(middle + np.interp(np.sqrt(limit), roots, fine))


def _roots(problem: Problem, full: Fitted, start: Array, differences: Array) -> Array:
    """Root of LR at given differences, (B,)."""
    theta = np.repeat(start[None], len(differences), axis=0)
    theta[:, -1] = np.clip(MAX_EXPONENT + differences, 0.0, 2 * MAX_EXPONENT)
    found = polish(problem.model, GAUSSIAN, problem.log_loss, problem.weights, theta, problem.form.upper, STEPS, STEPS)
    left = squares(problem, problem.log_loss, found)
    return np.sqrt(len(problem.x) * np.log(np.maximum(left / full.squares, 1.0)))


def ratio(pool: Pool, full: Fitted, draws: Array, group: int, at: Mapping[str, float], level: float) -> Ratio:
    """Ratio of the losses of a group and the reference at a point; draws (draws, Q) are refits of the model."""
    x = _point(pool, at)
    gap = _gap(pool, full.form, full.theta[None], group, x)[0]
    low, high = interval(_gap(pool, full.form, draws, group, x), gap, level, small_sample(level, full.runs_left))
    value, low, high = np.exp([gap, low, high]).tolist()
    return Ratio(pool.names[group], pool.names[0], dict(at), value, low, high, level)


def _gap(pool: Pool, form: Joint, theta: Array, group: int, x: Array) -> Array:
    model = pool.each.bind(x)
    return (model.log_fit(form.spread(theta, group)) - model.log_fit(form.spread(theta, 0)))[:, 0]


def _point(pool: Pool, at: Mapping[str, float]) -> Array:
    return np.log([[at[role] for role in pool.each.roles]]) - pool.centre


def multiplier(
    pool: Pool, full: Fitted, draws: Array, group: int, axis: str, at: Mapping[str, float], level: float
) -> Multiplier:
    """How much more of one axis the worse of a group and the reference needs at a point, with its interval."""
    x, place = _point(pool, at), pool.each.roles.index(axis)
    worse, better = (group, 0) if _gap(pool, full.form, full.theta[None], group, x)[0] > 0 else (0, group)

    def factor(theta: Array, searching: int, aim: int) -> Array:
        goal = pool.each.bind(x).log_fit(full.form.spread(theta, aim))[:, 0]
        return _factor(pool, full.form.spread(theta, searching), goal, x, place)

    value = float(factor(full.theta[None], worse, better)[0])
    saving = float(factor(full.theta[None], better, worse)[0])
    drawn = factor(draws, worse, better)
    tail = 0.5 - level / 2
    low, high = (float(end) for end in np.quantile(drawn, [tail, 1 - tail], method="closest_observation"))
    return Multiplier(
        pool.names[better], pool.names[worse], axis, dict(at), _said(value), _said(low), _said(high),
        saving if saving > 1 / FARTHEST else None, level,
    )  # fmt: skip


def _said(value: float) -> float | None:
    return value if value < FARTHEST else None


def _factor(pool: Pool, own: Array, goal: Array, x: Array, place: int) -> Array:
    """Factor on one axis at which laws `own` (B, P) reach log losses `goal` (B,), infinite where none does, (B,)."""
    steps = np.linspace(-np.log(FARTHEST), np.log(FARTHEST), FACTORS)
    points = np.repeat(x, FACTORS, axis=0)
    points[:, place] += steps
    falling = np.minimum.accumulate(pool.each.bind(points).log_fit(own), axis=1)
    found = [np.interp(-aim, -line, steps, right=np.inf) for aim, line in zip(goal, falling, strict=True)]
    return np.exp(np.array(found))
