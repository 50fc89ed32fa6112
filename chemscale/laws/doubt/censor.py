"""Runs that a budget stopped: their final loss is known only to lie at or below the one they stopped at.

Such a run enters as P(final <= stopped) under the law's own noise (`rowwise.UpperBound`; Tobin 1958), whose size is
found together with the law; or, where the table holds a forecast of its end with an interval, as that forecast,
weighted for its uncertainty and drawn anew in every bootstrap draw. Both are for replicates and for runs at tuned
hyperparameters: a run that a search stopped because it was badly tuned is no run of the law and is left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import log_ndtr

from chemscale.laws.doubt.residuals import measured, noise_scale, residuals
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.rowwise import LOG_ROOT_2_PI
from chemscale.laws.solver.solve import refit, solve
from chemscale.laws.tables.table import Rows

ROUNDS = 20  # of fit and noise in turn
SETTLED = 1e-3  # relative change of the noise
LEAST = 1e-6  # noise in log units


def with_noise(form: Form, goal: Objective, runs: Rows) -> tuple[Objective, Rows]:
    """The objective with the size of noise that bounds are judged by, and the runs with forecasts weighted.

    Unchanged where no run is censored or imputed. Raises ValueError as `refuse_bounds`.
    """
    if runs.imputed is not None:
        runs = _weighted(form, goal, runs)
    if runs.censored is None or not runs.censored.any():
        return goal, runs
    refuse_bounds(goal, runs)
    problem = Problem.over(form, goal, runs.take(~runs.censored))
    spread = noise_scale(problem, solve(problem))
    theta = solve(Problem.over(form, replace(goal, spread=max(spread, LEAST)), runs))
    for _ in range(ROUNDS):
        goal = replace(goal, spread=max(spread, LEAST))
        problem = Problem.over(form, goal, runs)
        theta = refit(problem, problem.log_loss, problem.weights[None], theta)[0]
        spread = _expected(problem, theta, goal.spread)
        if abs(spread / goal.spread - 1) < SETTLED:
            break
    return replace(goal, spread=max(spread, LEAST)), runs


def refuse_bounds(goal: Objective, runs: Rows) -> None:
    """Raise ValueError where losses are bounds and the objective is `lsq`, which has no noise in logs."""
    if goal.name == "lsq" and not runs.measured.all():
        raise ValueError("objective='lsq' knows no noise of the log loss to judge bounds by; use 'log_lsq' or 'huber'.")


def _expected(problem: Problem, theta: Array, spread: float) -> float:
    """Noise expected of all runs given the bounds (one step of expectation maximisation), for runs less parameters."""
    known, errors = measured(problem), residuals(problem, theta)
    gap = errors[~known] / spread
    runs, parameters = len(errors), len(theta)
    if problem.objective.robust:  # mean absolute deviation of a Laplace
        tail = 0.5 * np.exp(-np.maximum(gap, 0.0))
        below = np.where(gap < 0, 1 - gap, (1 - tail * (1 + gap)) / (1 - tail))
        return float((np.abs(errors[known]).sum() + spread * below.sum()) / max(runs - parameters, 1))
    mills = np.exp(-0.5 * gap**2 - LOG_ROOT_2_PI - log_ndtr(gap))
    squares = (errors[known] ** 2).sum() + spread**2 * (1 - gap * mills).sum()
    return float(np.sqrt(squares / max(runs - parameters, 1)))


def _weighted(form: Form, goal: Objective, runs: Rows) -> Rows:
    """Each forecast's weight less by its own variance beside that of a run."""
    assert runs.imputed is not None
    sure = runs.take(runs.imputed == 0)
    problem = Problem.over(form, goal, sure)
    noise = noise_scale(problem, solve(problem)) ** 2
    return replace(runs, weights=runs.weights * noise / (noise + runs.imputed**2))
