"""The exact minimum of least absolute deviations near a fit: linear programs within a region of trust.

Such a minimum passes through as many runs as it has parameters. Smoothed penalties end beside it, at one of many
corners that differ by 1e-7 of the value or less; the linear program of the law's tangent finds the corner itself
(Osborne and Watson 1971). Its dual has a row per parameter and a column per run, so that many runs cost little.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from chemscale.laws.forms.form import Model
from chemscale.laws.objectives import Array

STEPS = 20
RADIUS, NARROWEST = 0.05, 1e-12  # by how much a parameter alone may move a run's log loss at first, and at last
SETTLED = 1e-14  # relative gain under which a corner is the lowest about
PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def to_vertex(model: Model, log_loss: Array, weights: Array, theta: Array, lower: Array, upper: Array) -> Array:
    """The corner of sum_i weights_i |log_loss_i - log_fit_i| that theta (P,) leads down to, (P,)."""

    def value(at: Array) -> float:
        with np.errstate(invalid="ignore", over="ignore"):
            total = float((weights * np.abs(log_loss - model.log_fit(at[None])[0])).sum())
        return total if np.isfinite(total) else np.inf

    best, radius = value(theta), RADIUS
    for _ in range(STEPS):
        at = model.derivatives(theta[None])
        slopes = at.jacobian[0]
        size = np.maximum(np.abs(slopes).max(0), 1e-300)
        down, up = np.maximum((lower - theta) * size, -radius), np.minimum((upper - theta) * size, radius)
        step = _program(slopes / size, log_loss - at.log_fit[0], weights, down, up)
        if step is None:
            break
        there = np.clip(theta + step / size, lower, upper)
        gain = best - (found := value(there))
        if gain > 0:
            theta, best, radius = there, found, 2 * radius
        else:
            radius = min(radius, np.abs(step).max()) / 4
        if 0 < gain <= SETTLED * best or radius < NARROWEST:
            break
    return theta


def _program(slopes: Array, residual: Array, weights: Array, down: Array, up: Array) -> Array | None:
    """The step (P,) within [down, up] that minimises sum_i weights_i |residual_i - slopes_i . step|, by its dual."""
    one = np.eye(slopes.shape[1])
    sides = np.full((2 * len(one), 2), (0.0, np.inf))
    found = linprog(
        np.concatenate([-residual, up, -down]), A_eq=np.concatenate([slopes.T, -one, one], axis=1),
        b_eq=np.zeros(len(one)), bounds=np.concatenate([np.stack([-weights, weights], 1), sides]),
        method="highs-ds", options=PRECISE,
    )  # fmt: skip
    return -found.eqlin.marginals if found.x is not None else None
