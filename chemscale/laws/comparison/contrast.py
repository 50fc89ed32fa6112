"""How far one group's law lies from the reference's: exponents, losses at a point, and what would make up for it.

The interval of a difference of exponents is a profile: all differences d whose best fit has LR(d) under a threshold.
The threshold is the largest of three: n log(1 + F / runs_left) with F the quantile of the F distribution, exact for
laws linear in their parameters; where runs share clusters, the same with the cluster-robust variance of the difference
and its degrees of freedom (`solver.tangent`) in the place of F; and the quantile of the same statistic over draws from
the fitted model (a bootstrap calibration), which holds for shared clusters and for amplitudes near zero too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

from chemscale.laws.comparison.joint import GAUSSIAN, Joint, Pool
from chemscale.laws.comparison.nested import MOST_REFITTED, Fitted, again, squares
from chemscale.laws.doubt.profile import PULL, Tables, ends
from chemscale.laws.doubt.residuals import interval, small_sample
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import Number
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.tangent import Spread, Tangent

REACHED = 0.97  # share of the threshold's root at an end under which a bound of the form, not the data, ends it
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


@dataclass(frozen=True)
class Gap(Number):
    """One published exponent of a group less that of the reference, of a joint form's theta."""

    form: Joint
    group: int
    exponent: str
    centre: Array
    log_scale: float

    @property
    def least(self) -> float:
        return -np.inf

    def of(self, theta: Array) -> Array:
        own, other = (
            self.form.each.published(self.form.spread(theta, g), self.centre, self.log_scale)[self.exponent]
            for g in (self.group, 0)
        )
        return own - other


def difference(
    pool: Pool, full: Fitted, group: int, exponent: str, level: float, losses: Iterable[Array] | None
) -> Difference:
    """The difference of a published exponent with its profile interval; draws of the losses calibrate it."""
    problem, theta = full.problem, full.theta[None]
    number = Gap(full.form, group, exponent, pool.centre, pool.log_scale)
    tables = _tables(problem, problem.log_loss[None], theta)
    tangent = Tangent.at(problem.model, GAUSSIAN, tables.log_loss, tables.weights, theta, pool.clusters)
    spread, at = tangent.spread(number.gradient(theta)), float(number.of(theta)[0])
    most = np.array([_most(pool, full, number, spread, level, losses)])
    low, high = ends(tables, number, spread.model, most)[0]
    reached = tables.repeated(2).roots(number, np.nan_to_num([low, high]), np.repeat(spread.model, 2)) / most
    sides = [
        float(end) if np.isfinite(end) and share > REACHED else None
        for end, share in zip((low, high), reached, strict=True)
    ]
    axes = pool.each.moved_by[exponent]
    return Difference(pool.names[group], pool.names[0], exponent, axes, at, sides[0], sides[1], level)


def _tables(problem: Problem, losses: Array, theta: Array) -> Tables:
    weights = np.repeat(problem.weights[None], len(losses), 0)
    return Tables(problem.model, GAUSSIAN, problem.lower, problem.form.upper, losses, weights, theta)


def _most(pool: Pool, full: Fitted, number: Gap, spread: Spread, level: float, losses: Iterable[Array] | None) -> float:
    """Root of the rise of the sum of squares up to which a difference is inside."""
    n, clusters = len(pool.x), int(pool.clusters.max()) + 1
    limit = n * np.log1p(fisher.ppf(level, 1, full.runs_left) / full.runs_left)
    if clusters < n:
        robust = student.ppf(0.5 + level / 2, spread.freedom[0]) ** 2 * spread.sound[0] / spread.model[0]
        limit = max(limit, n * np.log1p(robust / full.squares))
    if losses is not None and n <= MOST_REFITTED:  # with more runs the F limit is exact
        losses = np.concatenate(list(losses))
        drawn = _tables(full.problem, losses, again(full.problem, losses, full.theta))
        best = squares(full.problem, losses, drawn.theta)
        goal = np.full(len(losses), number.of(full.theta[None])[0])
        held = drawn.hold(number, goal, drawn.theta, np.full(len(losses), PULL / spread.model[0]))
        limit = max(limit, float(np.quantile(n * np.log1p(np.maximum(held.deviance, 0.0) / best), level)))
    return float(np.sqrt(full.squares * np.expm1(limit / n)))


def ratio(pool: Pool, full: Fitted, draws: Array, group: int, at: Mapping[str, float], level: float) -> Ratio:
    """Ratio of the losses of a group and the reference at a point; draws (draws, Q) are refits of the model."""
    x = _point(pool, at)
    gap = _gap(pool, full.form, full.theta[None], group, x)[0]
    left = max(min(full.runs_left, int(pool.clusters.max())), 1)
    low, high = interval(_gap(pool, full.form, draws, group, x), gap, level, small_sample(level, left))
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
