"""Damped Newton steps within bounds for many problems of one form at once, through ever sharper objectives."""

from __future__ import annotations

import numpy as np

from chemscale.laws.forms.form import Derivatives, Metric, Model
from chemscale.laws.objectives import Array, Objective

STAGE_STEPS = 30  # at most, per smoothing stage: left too early, LAD ends off its minimum; the last has `FINAL_STEPS`
FINAL_STEPS = 80
EXACT = 1e-13  # relative gain of a step under which a fit is at its minimum
STAGE_SETTLED = 1e-12  # the same for the stages before the last
FROM_AFAR = 1e-3  # damping of the first step, in units of the scaled curvature
MOST_DAMPING = 1e6  # a step shortened this far that still climbs is at a minimum


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
    damping: float = FROM_AFAR,
) -> Array:
    """Damped Newton steps within bounds for B problems at once, (B, P)."""
    theta = theta.copy()
    log_loss = np.broadcast_to(log_loss, (len(theta), log_loss.shape[-1]))
    weights = np.broadcast_to(weights, log_loss.shape)
    values = values_of(model, objective, log_loss, weights, theta)
    damped = np.full(len(theta), damping)
    active = np.flatnonzero(np.isfinite(values))
    for _ in range(steps):
        if not len(active):
            break
        here, data, w = theta[active], log_loss[active], weights[active]
        law, goal = model.among(active), objective.among(active)
        at = law.derivatives(here)
        gradient, metric = _metric(at, goal, data, w, here, lower, upper, damped[active])
        there = law.settled(at, here, metric.within(here - metric.solved(gradient)), metric)
        trial = values_of(law, goal, data, w, there)
        gain = values[active] - trial
        better = gain > 0
        theta[active[better]], values[active[better]] = there[better], trial[better]
        # 8 is no inverse of 0.1, or the damping could cycle between two values around a kink
        damped[active] = np.where(better, np.maximum(damped[active] * 0.1, 1e-12), damped[active] * 8.0)
        done = (better & (gain <= settled * np.abs(trial))) | (~better & (damped[active] > MOST_DAMPING))
        active = active[~done]
    return theta


@np.errstate(over="ignore", invalid="ignore")  # such steps are found and not taken
def _metric(
    at: Derivatives,
    objective: Objective,
    log_loss: Array,
    weights: Array,
    theta: Array,
    lower: Array | float,
    upper: Array,
    damping: Array,
) -> tuple[Array, Metric]:
    """Gradients (B, P), and the damped curvature with no moves against a bound that holds."""
    slopes = objective.slopes(log_loss, at.log_fit)
    rows = at.jacobian.swapaxes(1, 2)  # (B, P, n)
    first = weights * slopes.first
    gradient = np.matmul(rows, first[:, :, None])[:, :, 0]
    hessian = np.matmul(rows * (weights * slopes.second)[:, None], at.jacobian)
    hessian += at.curvature(first)
    size = np.matmul(rows * rows, (weights * slopes.majorant)[:, :, None])[:, :, 0]
    scale = 1 / np.sqrt(np.maximum(size, 1e-12 * size.max(1, keepdims=True) + 1e-300))
    scale[((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))] = 0.0  # held by a bound
    scaled = hessian * scale[:, :, None] * scale[:, None, :]
    lost = ~np.isfinite(scaled.sum((1, 2)) + (gradient * scale).sum(1))  # beyond the range of floating numbers
    scaled[lost], gradient[lost] = np.eye(theta.shape[1]), 0.0
    roots, axes = np.linalg.eigh(scaled)
    stiff = np.maximum(np.abs(roots), 1e-10) + damping[:, None]
    return gradient, Metric(scale, axes, stiff, lower, upper)


def values_of(model: Model, objective: Objective, log_loss: Array, weights: Array, theta: Array) -> Array:
    """Objective of each parameter vector, (B,), infinite where it is no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = (objective.penalty(log_loss, model.log_fit(theta)) * weights).sum(1)
    return np.where(np.isfinite(total), total, np.inf)
