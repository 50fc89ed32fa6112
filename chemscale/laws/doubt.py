"""How far a fitted law can be wrong: bootstrap draws and noise.

Draws are refits. With `FEW` or more independent groups of runs the groups are drawn with replacement (pairs
bootstrap), which assumes nothing about the noise. With fewer, drawing runs would lose corners of the grid in many
draws and leave nothing to fit, so the grid is kept and each group's residuals are flipped at random (wild bootstrap;
Wu 1986, six-point weights of Webb 2023 below `VERY_FEW` groups), enlarged by the leverage of their run (HC3, MacKinnon
and White 1985). Runs that share a `cluster` are drawn, or flipped, together (Cameron, Gelbach and Miller 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solve import Problem, newton, refit

FEW = 40  # groups; at 16 to 36 runs both bootstraps cover alike, but only the wild one always has a full grid
VERY_FEW = 12  # groups; two signs give at most 2^groups different draws
MAX_LEVERAGE = 0.9  # a run that alone decides a parameter has no residual to learn from
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
