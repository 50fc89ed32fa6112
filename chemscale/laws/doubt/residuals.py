"""How far a fitted law can be wrong, near its minimum: residuals, leverage, noise and the normal approximation."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array
from chemscale.laws.solver.solve import Problem

KEPT_DIGITS = 7  # significant digits of the draws in a law, so that its JSON gives the same intervals back
MAX_LEVERAGE = 0.9  # a run that alone decides a parameter has no residual to learn from


def freedom(problem: Problem) -> int:
    """Measured runs minus parameters, at least one."""
    return max(int(measured(problem).sum()) - len(problem.form.inner), 1)


def measured(problem: Problem) -> np.ndarray:
    """Which runs have a final loss and not only a bound of it, (n,) of bool."""
    return problem.objective.exact(len(problem.x))


def residuals(problem: Problem, theta: Array) -> Array:
    """Measured minus fitted log loss, (n,)."""
    return problem.log_loss - problem.model.log_fit(theta[None])[0]


def leverage(problem: Problem, theta: Array) -> Array:
    """Share of each run's own loss in its fitted value, (n,), capped at `MAX_LEVERAGE`."""
    return np.minimum((basis(problem, theta) ** 2).sum(1), MAX_LEVERAGE)


def basis(problem: Problem, theta: Array) -> Array:
    """Orthonormal basis of what the weighted log fit moves in about theta (P,), bounds held, (n, rank)."""
    jacobian = problem.model.derivatives(theta[None]).jacobian[0][:, free(problem, theta)]
    return orthonormal(jacobian * np.sqrt(pulls(problem, theta))[:, None])


def orthonormal(columns: Array) -> Array:
    """Orthonormal basis of the space of columns (n, p), (n, rank)."""
    found, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return found[:, sizes > 1e-10 * sizes.max(initial=0.0)]


def noise_scale(problem: Problem, theta: Array) -> float:
    """Standard deviation of one run's log loss around the law.

    For robust objectives from the median absolute residual, without the P residuals that such a fit sets to zero.
    """
    known = measured(problem)
    size = np.abs(residuals(problem, theta))[known]
    if problem.objective.robust:
        return float(1.4826 * np.median(np.sort(size)[min(len(problem.form.inner), len(size) - 1) :]))
    return float(np.sqrt((problem.weights[known] * size**2).sum() / freedom(problem)))


def covariance(problem: Problem, theta: Array) -> Array:
    """Normal approximation to the covariance of theta, (P, P); zero for parameters at a bound.

    Robust objectives pay the factor pi/2 of a median against a mean; `lsq`, which lets the largest losses decide, pays
    for errors that are equal in the logs and not there (White 1980).
    """
    moving, pull = free(problem, theta), pulls(problem, theta)
    jacobian = problem.model.derivatives(theta[None]).jacobian[0][:, moving]
    out = np.zeros((len(theta), len(theta)))
    factor = np.pi / 2 if problem.objective.robust else 1.0
    inverse = np.linalg.pinv((jacobian.T * pull) @ jacobian, rcond=1e-12, hermitian=True)
    if problem.objective.name == "lsq":
        inverse = inverse @ (jacobian.T * (pull**2 / problem.weights)) @ jacobian @ inverse
    out[np.ix_(moving, moving)] = factor * noise_scale(problem, theta) ** 2 * inverse
    return out


def pulls(problem: Problem, theta: Array) -> Array:
    """What each run's squared log residual counts at theta (P,), (n,): its weight, for `lsq` times its squared loss."""
    if problem.objective.name != "lsq":
        return problem.weights
    return problem.weights * np.exp(2 * problem.model.log_fit(theta[None])[0])


def free(problem: Problem, theta: Array) -> np.ndarray:
    """Positions of the parameters that are at no bound, (F,)."""
    return np.flatnonzero((theta > problem.lower) & (theta < problem.form.upper))


def small_sample(level: float, runs_left: float) -> float:
    """Ratio of Student's t to the normal quantile: how much few degrees of freedom widen an interval."""
    tail = 0.5 + level / 2
    return float(student.ppf(tail, runs_left) / student.ppf(tail, 10**6))


def interval(draws: Array, value: float, level: float, widen: float = 1.0) -> tuple[float, float]:
    """Central interval of the draws (B,), stretched about `value` by `widen`."""
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return float(value - widen * max(value - low, 0.0)), float(value + widen * max(high - value, 0.0))


def short(values: Array) -> Array:
    """The values with as many digits as a law keeps."""
    return np.vectorize(lambda v: float(f"{v:.{KEPT_DIGITS}g}"), otypes=[float])(values)
