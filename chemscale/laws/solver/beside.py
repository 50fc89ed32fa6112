"""The search about the best of the minima that starts lead to, and what tells minima apart."""

from __future__ import annotations

import numpy as np

from chemscale.laws.forms.form import Model
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.newton import EXACT, FINAL_STEPS, newton, values_of
from chemscale.laws.solver.problem import SEARCHED, Problem
from chemscale.laws.solver.vertex import to_vertex

ALIKE = 1e-3  # share of the largest parameter by which minima differ
BESIDE, ROUNDS = (0.05, 0.3), 3  # shares of each parameter by which starts beside the best fit differ from it, in turn
SAME, NOISELESS = 1e-6, 1e-12  # share of its value by which ends are one minimum; of the worst end's, where it is zero
AGREED = 0.6  # share of the minima that are the lowest, above which the search beside it is short
NEAR_CORNER = 20  # steps towards a corner, which a linear program then finds
CORNERS, NEARLY = 3, 1e-2  # minima of absolute deviations that are followed to a corner, and their share above the best
ALONG, FURTHEST = 10.0, 2.0  # widths of a start along what runs leave open: in those of the others; in logarithms


def _agreed(problem: Problem, minima: Array) -> bool:
    """Whether most of the minima (k, P), the lowest first, are one."""
    return reached(problem.value(minima)) > AGREED * len(minima)


def reached(values: Array) -> int:
    """How many of the values are the lowest."""
    known = values[np.isfinite(values)]
    floor = NOISELESS * np.abs(known).max(initial=0.0)
    return int((known <= known.min(initial=np.inf) * (1 + SAME) + floor).sum())


def beside(problem: Problem, model: Model, minima: Array) -> Array:
    """The minima (k, P) and those about the best of them, the lowest first.

    Minima of a robust objective lie side by side, and those of a form with a turn or a shape of its own are many: the
    search goes on about the best as long as it finds a better one. Where most minima are one it looks close by only.
    """
    goal, losses, weights = problem.objective, problem.log_loss, problem.weights
    form, sharp, rng = problem.form, goal.smoothed(0.0)[-1], np.random.default_rng(0)
    steps = NEAR_CORNER if _has_corners(problem) else FINAL_STEPS
    for width in BESIDE[:1] if _agreed(problem, minima) else BESIDE * ROUNDS:
        around = _about(problem, model, minima[0], width, rng)
        found = newton(model, sharp, losses, weights, around, form.upper, steps, lower=problem.lower)
        before = values_of(model, goal, losses, weights, minima[:1])[0]
        minima = lowest_first(problem, model, np.concatenate([minima, cornered(problem, model, found, before)]))
        after = values_of(model, goal, losses, weights, minima[:1])[0]
        if not after < before * (1 - EXACT) and width == BESIDE[-1]:
            break
    return minima


def _about(problem: Problem, model: Model, best: Array, width: float, rng: np.random.Generator) -> Array:
    """Starts about a fit (P,): half of them differ by `width` of each parameter, half along what runs leave open."""
    form, half = problem.form, problem.form.neighbours // 2
    apart = best + rng.normal(0, width, (half, len(best))) * np.maximum(np.abs(best), BESIDE[0])
    at = model.derivatives(best[None])
    free = (best > problem.lower) & (best < form.upper)
    unit = np.maximum(np.abs(best), 1e-300)
    slopes = np.nan_to_num(at.jacobian[0] * unit * free * np.sqrt(problem.weights)[:, None])
    noise = np.average(np.abs(problem.log_loss - at.log_fit[0]), weights=problem.weights)
    roots, axes = np.linalg.eigh(slopes.T @ slopes)
    size = noise / np.sqrt(np.maximum(roots, 1e-300))
    along = rng.normal(0, ALONG * width, (half, len(best))) * np.minimum(size, 1.0) @ axes.T
    along = best * np.exp(np.clip(along * free, -FURTHEST, FURTHEST))
    return np.clip(np.concatenate([apart, along]), problem.lower, form.upper)


def _has_corners(problem: Problem) -> bool:
    """Whether minima lie at corners that a linear program finds; those of many runs lie within 1e-8 of the value."""
    goal = problem.objective
    return type(goal) is Objective and goal.name == "lad" and len(problem.x) <= SEARCHED


def cornered(problem: Problem, model: Model, minima: Array, least: float) -> Array:
    """The minima (k, P), and the corners of those that are not far above `least`."""
    if not _has_corners(problem):
        return minima
    losses, weights = problem.log_loss, problem.weights
    values = values_of(model, problem.objective, losses, weights, minima)
    near = np.where(values < min(least, values.min()) * (1 + NEARLY), values, np.inf)
    best = distinct(minima, near, CORNERS, ALIKE)
    exact = [to_vertex(model, losses, weights, theta, problem.lower, problem.form.upper) for theta in best]
    return np.concatenate([minima, exact]) if exact else minima


def lowest_first(problem: Problem, model: Model, minima: Array) -> Array:
    """The minima (k, P) in the order of the objective."""
    values = values_of(model, problem.objective, problem.log_loss, problem.weights, minima)
    return minima[np.argsort(values, kind="stable")]


def distinct(theta: Array, values: Array, count: int, apart: float, among: int | None = None) -> Array:
    """Of the lowest `among`, at most `count` that differ from one another in some parameter by the share `apart`."""
    order = np.argsort(values, kind="stable")[:among]
    left = theta[order[np.isfinite(values[order])]]
    chosen: list[Array] = []
    while len(left) and len(chosen) < count:
        chosen.append(left[0])
        left = left[np.abs(left - left[0]).max(1) > apart * np.abs(left).max(1)]
    return np.array(chosen)
