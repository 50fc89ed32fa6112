"""How far a fitted law can be wrong, near its minimum: residuals, leverage, noise and the normal approximation.

Weights are precisions, whatever the objective: with the noise of a run of weight one of standard deviation s, that of a
run of weight w has s / sqrt(w); weights have mean one. They multiply the penalty, also of robust objectives, which are
then no likelihood but still unbiased, and whose errors are those of such a fit. Weights that mean emphasis (what the
law should listen to, whatever the noise) make `wald` and `parametric` intervals wrong; `profile`, `pairs` and `wild`
ask the residuals instead, and predictions take the noise of a new run from residuals without weights (`onerun`).
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import t as student

from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem

EXACT_POWER = 22  # of ten, that a floating number holds exactly
KEPT_DIGITS = 7  # significant digits of the draws in a law, so that its JSON gives the same intervals back
LAPLACE = float(np.sqrt(np.pi / 2))  # standard deviation of normal noise over its mean absolute value
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
    """Standard deviation of the log loss of a run of weight one around the law.

    For robust objectives from the median absolute residual, without the P residuals that such a fit sets to zero. Where
    some losses are bounds, the residuals that are seen are a chosen part, and the noise is the one fitted with the law.
    """
    known = measured(problem)
    if not known.all():
        return problem.objective.spread * (LAPLACE if problem.objective.robust else 1.0)
    size = np.sqrt(problem.weights) * np.abs(residuals(problem, theta))
    if problem.objective.robust:
        return float(1.4826 * np.median(np.sort(size)[min(len(problem.form.inner), len(size) - 1) :]))
    return float(np.sqrt((size**2).sum() / freedom(problem)))


def covariance(problem: Problem, theta: Array) -> Array:
    """Normal approximation to the covariance of theta, (P, P); zero for parameters at a bound.

    Robust objectives pay the factor pi/2 of a median against a mean, and what weights do to a median: run i bends the
    objective by w_i^1.5 and shakes it by w_i^2 (Koenker 2005, section 3.2). `lsq`, which lets the largest losses
    decide, pays for errors that are equal in the logs and not there (White 1980).
    """
    moving, pull, told = free(problem, theta), pulls(problem, theta), informed(problem, theta)
    jacobian = problem.model.derivatives(theta[None]).jacobian[0][:, moving]
    out = np.zeros((len(theta), len(theta)))
    robust = problem.objective.robust
    bend = told * problem.weights**1.5 if robust else pull
    shaken = told * problem.weights**2 if robust else pull**2 / problem.weights
    inverse = np.linalg.pinv((jacobian.T * bend) @ jacobian, rcond=1e-12, hermitian=True)
    if robust or problem.objective.name == "lsq":
        inverse = inverse @ (jacobian.T * shaken) @ jacobian @ inverse
    out[np.ix_(moving, moving)] = (np.pi / 2 if robust else 1.0) * noise_scale(problem, theta) ** 2 * inverse
    return out


def pulls(problem: Problem, theta: Array) -> Array:
    """What each run's squared log residual counts at theta (P,), (n,): its weight, for `lsq` times its squared loss."""
    pull = problem.weights * informed(problem, theta)
    return pull * np.exp(2 * problem.model.log_fit(theta[None])[0]) if problem.objective.name == "lsq" else pull


def informed(problem: Problem, theta: Array) -> Array:
    """What each run tells of the law beside a measured one, (n,): 1, and less for a run of which a bound is known.

    Of a bound at gap g noise widths above the law, the curvature of -log Phi(g), m (m + g) with m = phi(g) / Phi(g):
    near 1 where the law lies above the bound, near 0 where it lies far below (Tobin 1958).
    """
    known = measured(problem)
    if known.all():
        return np.ones(len(known))
    gap = residuals(problem, theta) / problem.objective.spread
    mills = np.exp(-0.5 * gap**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(gap))
    return np.where(known, 1.0, np.clip(mills * (mills + gap), 0.0, 1.0))


def free(problem: Problem, theta: Array) -> np.ndarray:
    """Positions of the parameters that are at no bound, (F,)."""
    return np.flatnonzero((theta > problem.lower) & (theta < problem.form.upper))


def small_sample(level: float, runs_left: float) -> float:
    """Ratio of Student's t to the normal quantile: how much few degrees of freedom widen an interval."""
    tail = 0.5 + level / 2
    return float(student.ppf(tail, runs_left) / student.ppf(tail, 10**6))


def interval(draws: Array, value: float, level: float, widen: float = 1.0) -> tuple[float, float]:
    """Central interval of the draws (B,), stretched about `value` by `widen`."""
    between = "linear" if np.isfinite(draws).all() else "nearest"  # between a number and infinity lies nothing
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], method=between)
    return float(value - widen * max(value - low, 0.0)), float(value + widen * max(high - value, 0.0))


def short(values: Array) -> Array:
    """The values with as many digits as a law keeps: the numbers nearest to those decimals."""
    with np.errstate(all="ignore"):
        shift = KEPT_DIGITS - 1 - np.floor(np.log10(np.abs(values)))
        up, down = 10.0 ** np.maximum(shift, 0), 10.0 ** np.maximum(-shift, 0)
        near = np.round(values * up / down) * down / up
    exact = np.isfinite(near) & (np.abs(shift) <= EXACT_POWER)
    near[~exact] = [float(f"{v:.{KEPT_DIGITS}g}") for v in values[~exact].tolist()]
    return near
