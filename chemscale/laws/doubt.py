"""How far a fitted law can be wrong: bootstrap draws, noise, and what was predicted before it was seen.

Draws are refits. With `FEW` or more independent groups of runs the groups are drawn with replacement (pairs
bootstrap), which assumes nothing about the noise. With fewer, drawing runs would lose corners of the grid in many
draws and leave nothing to fit, so the grid is kept and each group's residuals are flipped at random (wild bootstrap;
Wu 1986, six-point weights of Webb 2023 below `VERY_FEW` groups), enlarged by the leverage of their run (HC3, MacKinnon
and White 1985). Runs that share a `cluster` are drawn, or flipped, together (Cameron, Gelbach and Miller 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solve import Problem, newton, refit, solve
from chemscale.laws.table import Rows

FEW = 40  # groups; at 16 to 36 runs both bootstraps cover alike, but only the wild one always has a full grid
VERY_FEW = 12  # groups; two signs give at most 2^groups different draws
MAX_LEVERAGE = 0.9  # a run that alone decides a parameter has no residual to learn from
HELD_OUT = 0.2  # share of the runs, from the top of the axis, that the default backtest leaves out
WEBB = np.sqrt(np.array([1.5, 1.0, 0.5]))


@dataclass(frozen=True)
class Draws:
    """Parameter vectors that the data could as well have given.

    theta (draws, P) in the solver's coordinates; noise (n,) log residuals of single runs, scaled to the degrees of
    freedom left; method says where they come from (`pairs`, `wild`, `wald`).
    """

    theta: Array
    noise: Array
    method: str


def draw(problem: Problem, theta: Array, clusters: np.ndarray, count: int, seed: int) -> Draws:
    """`count` refits of the law; with count = 0, draws from the normal approximation (Wald) instead."""
    rng = np.random.default_rng(seed)
    noise = residuals(problem, theta) * np.sqrt(len(problem.x) / freedom(problem))
    if not count:
        return Draws(_wald_draws(problem, theta, rng), noise, "wald")
    groups = int(clusters.max()) + 1
    if groups >= FEW:
        picks = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        weights = problem.weights * picks[:, clusters]
        return Draws(refit(problem, problem.log_loss, weights, theta), noise, "pairs")
    signs = rng.choice([-1.0, 1.0], size=(count, groups))
    if groups < VERY_FEW:
        signs = signs * rng.choice(WEBB, size=(count, groups))
    fitted = problem.model.log_fit(theta[None])[0]
    losses = fitted + signs[:, clusters] * _enlarged_residuals(problem, theta)
    weights = np.repeat(problem.weights[None], count, axis=0)
    return Draws(refit(problem, losses, weights, theta), noise, "wild")


def freedom(problem: Problem) -> int:
    """Runs minus parameters, at least one."""
    return max(len(problem.x) - len(problem.form.inner), 1)


def residuals(problem: Problem, theta: Array) -> Array:
    """Measured minus fitted log loss, (n,)."""
    return problem.log_loss - problem.model.log_fit(theta[None])[0]


def leverage(problem: Problem, theta: Array) -> Array:
    """Share of each run's own loss in its fitted value, (n,), capped at `MAX_LEVERAGE`."""
    jacobian = problem.model.derivatives(theta[None]).jacobian[0] * np.sqrt(problem.weights)[:, None]
    basis, sizes, _ = np.linalg.svd(jacobian[:, _free(problem, theta)], full_matrices=False)
    basis = basis[:, sizes > 1e-10 * sizes.max(initial=0.0)]
    return np.minimum((basis**2).sum(1), MAX_LEVERAGE)


def _enlarged_residuals(problem: Problem, theta: Array) -> Array:
    """HC3 residuals, (n,), always of a least-squares fit.

    A robust fit passes exactly through P of the runs; flipping those zeros would pin every refit to the same points.
    """
    if problem.objective.robust:
        smooth = Objective("log_lsq")
        start = theta[None]
        theta = newton(problem.model, smooth, problem.log_loss, problem.weights, start, problem.form.upper, 30)[0]
    return residuals(problem, theta) / (1 - leverage(problem, theta))


def noise_scale(problem: Problem, theta: Array) -> float:
    """Standard deviation of one run's log loss around the law.

    For robust objectives from the median absolute residual, without the P residuals that such a fit sets to zero.
    """
    size = np.sort(np.abs(residuals(problem, theta)))
    if problem.objective.robust:
        return float(1.4826 * np.median(size[min(len(problem.form.inner), len(size) - 1) :]))
    return float(np.sqrt((problem.weights * size**2).sum() / freedom(problem)))


def covariance(problem: Problem, theta: Array) -> Array:
    """Normal approximation to the covariance of theta, (P, P); zero for parameters at a bound.

    Robust objectives pay the factor pi/2 of a median against a mean.
    """
    free = _free(problem, theta)
    jacobian = problem.model.derivatives(theta[None]).jacobian[0] * np.sqrt(problem.weights)[:, None]
    out = np.zeros((len(theta), len(theta)))
    factor = np.pi / 2 if problem.objective.robust else 1.0
    inverse = np.linalg.pinv(jacobian[:, free].T @ jacobian[:, free], rcond=1e-12, hermitian=True)
    out[np.ix_(free, free)] = factor * noise_scale(problem, theta) ** 2 * inverse
    return out


def _free(problem: Problem, theta: Array) -> np.ndarray:
    return np.flatnonzero((theta > 0) & (theta < problem.form.upper))


def _wald_draws(problem: Problem, theta: Array, rng: np.random.Generator, count: int = 400) -> Array:
    roots, axes = np.linalg.eigh(covariance(problem, theta))
    steps = rng.standard_normal((count, len(theta))) * np.sqrt(np.maximum(roots, 0.0))
    return np.clip(theta + steps @ axes.T, 0.0, problem.form.upper)


def small_sample(level: float, runs_left: int) -> float:
    """Ratio of Student's t to the normal quantile: how much few degrees of freedom widen an interval."""
    tail = 0.5 + level / 2
    return float(student.ppf(tail, runs_left) / student.ppf(tail, 10**6))


def interval(draws: Array, value: float, level: float, widen: float = 1.0) -> tuple[float, float]:
    """Central interval of the draws (B,), stretched about `value` by `widen`."""
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return float(value - widen * max(value - low, 0.0)), float(value + widen * max(high - value, 0.0))


@dataclass(frozen=True)
class Backtest:
    """The law refitted without its largest runs, and what it then said of them.

    rows: runs held out; rmsle: root mean squared error of the log loss; form_error: the part of rmsle (log units)
    that noise and the parameters' own uncertainty do not explain; reach: mean distance of the held-out runs beyond
    the fitted ones, in natural logs; predictions: one entry per run held out.
    """

    form: str
    along: str
    rows: int
    rmsle: float
    mean_abs_rel_error: float
    form_error: float
    reach: float
    predictions: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**self.__dict__, "predictions": list(self.predictions)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Backtest:
        """The inverse of `to_json`."""
        return cls(**{**found, "predictions": tuple(found["predictions"])})


def scale_along(rows: Rows, along: str | None) -> tuple[str, Array]:
    """The quantity by which runs count as large, (n,), and its name.

    `flops` falls back on the product of the axes, which orders runs as 6 N D does.
    """
    along = along or (next(iter(rows.axes)) if len(rows.axes) == 1 else "flops")
    if along in rows.axes:
        return along, rows.axes[along]
    if along == "flops" and rows.flops is not None:
        return along, rows.flops
    if along == "flops" and len(rows.axes) > 1:
        return along, np.prod(list(rows.axes.values()), axis=0)
    allowed = ", ".join([*rows.axes, "flops"])
    raise ValueError(f"along={along!r} is not an axis of this table; it can be {allowed}.")


def largest(size: Array, fraction: float = HELD_OUT) -> np.ndarray:
    """Which runs are held out, (n,) of bool: whole levels from the top until they make up `fraction` of the runs."""
    order = np.sort(size)[::-1]
    edge = order[max(int(np.ceil(fraction * len(size))) - 1, 0)]
    return size >= edge * (1 - 1e-9)


def backtest(problem_of: Any, rows: Rows, held: np.ndarray, along: str) -> Backtest:
    """Fit without the `held` runs, predict them; `problem_of(rows)` makes the problem of a set of runs."""
    problem: Problem = problem_of(rows.take(~held))
    theta = solve(problem)
    out = rows.take(held)
    x = np.log(out.stacked(problem.form.roles)) - problem.centre
    at = problem.form.bind(x).derivatives(theta[None])
    fitted = np.exp(at.log_fit[0] + problem.log_scale)
    error = np.log(fitted / out.loss)
    known = np.einsum("np,pq,nq->n", at.jacobian[0], covariance(problem, theta), at.jacobian[0])
    known = known + noise_scale(problem, theta) ** 2
    predictions = tuple(
        {"at": {role: float(values[i]) for role, values in out.axes.items()}, "value": float(fitted[i]),
         "measured": float(out.loss[i])}
        for i in range(len(out))
    )  # fmt: skip
    return Backtest(
        problem.form.name, along, len(out), float(np.sqrt((error**2).mean())),
        float(np.abs(fitted / out.loss - 1).mean()),
        float(np.sqrt(max((error**2).mean() - known.mean(), 0.0))), float(beyond(x, problem.x).mean()), predictions,
    )  # fmt: skip


def beyond(x: Array, fitted: Array) -> Array:
    """How far points (m, axes) lie outside the box of the fitted points (n, axes), in natural logs, (m,)."""
    outside = np.maximum(x - fitted.max(0), 0) + np.maximum(fitted.min(0) - x, 0)
    return np.sqrt((outside**2).sum(1))
