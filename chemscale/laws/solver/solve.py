"""Finding the parameters that minimise an objective: starts by variable projection, then a batched Newton polish.

Everything runs for B problems at once, so that a thousand bootstrap refits cost about as much as twenty fits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.projection import looked_at
from chemscale.laws.objectives import Array
from chemscale.laws.solver.beside import ALIKE, beside, cornered, distinct, lowest_first, reached
from chemscale.laws.solver.newton import newton, polish, values_of
from chemscale.laws.solver.problem import Problem

LOOKED_AT = 300  # best starts among which basins are told apart
APART = 0.2  # share of the largest parameter by which starts differ
START_STEPS, START_SETTLED = 12, 1e-9  # steps of that polish, and the relative gain at which it ends
REFIT_STEPS, REFIT_STAGE_STEPS, REFIT_SETTLED = 25, 8, 1e-6  # a draw is known well enough long before it is exact
CHUNK = 250  # refits at once, at most
CELLS = 250_000  # starts or refits times runs that are worked on at once: a jacobian of them is ten megabytes
RESUMED = 2  # minima of the searched runs that are polished on all


def solve(problem: Problem) -> Array:
    """The best parameter vector found, (P,).

    Over random tables no search from 500 starts went lower than this one by more than 1e-8 of its value for the forms
    power, power_floor, chinchilla, tied, varying and quadrature. kaplan, gamma, hill, repeated and bnsl have many
    minima: of 12 tables each, none of kaplan and hill had a lower one, one of gamma (by 2e-6), one of bnsl (3e-5) and
    two of repeated (7e-4 and 2e-5), which one or two of the 510 starts reached (`tests/benchmarks/lowest.py`).
    """
    return search(problem).theta


class Found(NamedTuple):
    """The lowest minimum found, and from how many of the starts that were followed to the end it was reached."""

    theta: Array  # (P,)
    reached: int
    followed: int


def search(problem: Problem) -> Found:
    """The lowest of the minima that many starts lead to."""
    few = problem.searched()
    found, followed = _minima(few)
    if few is not problem:
        model, losses, weights, goal = problem.model, problem.log_loss, problem.weights, problem.objective
        found = polish(model, goal, losses, weights, found[:RESUMED], problem.form.upper, lower=problem.lower)
    values = problem.value(found)
    order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
    return Found(found[order[0]], reached(values), followed)


def _minima(problem: Problem) -> tuple[Array, int]:
    """Minima found from many starts, the lowest first, (k, P), and how many starts were followed to the end."""
    model, objective, lower, upper = problem.model, problem.objective, problem.lower, problem.form.upper
    log_loss, weights = problem.log_loss, problem.weights
    starts = _basins(problem, np.clip(_starts(problem), lower, upper))
    near = newton(model, objective.smooth, log_loss, weights, starts, upper, START_STEPS, START_SETTLED, lower)
    both = np.concatenate([starts, near]) if objective.robust else near
    few = distinct(both, values_of(model, objective, log_loss, weights, both), problem.form.basins // 4, ALIKE)
    few = polish(model, objective, log_loss, weights, few, upper, lower=lower)
    few = lowest_first(problem, model, cornered(problem, model, few, np.inf))
    if problem.form.neighbours:
        few = beside(problem, model, few)
    return few, len(few)


def _starts(problem: Problem) -> Array:
    """The form's own, which look at relative residuals; for absolute ones also those of runs weighed by their size."""
    x, log_loss, weights = problem.x, problem.log_loss, problem.weights
    found = [problem.form.starts(x, log_loss, weights)]
    if problem.objective.name == "lsq":
        found.append(problem.form.starts(x, log_loss, weights * np.exp(2 * (log_loss - log_loss.max()))))
    return np.concatenate(found)


def refit(problem: Problem, log_losses: Array, weights: Array, start: Array) -> Array:
    """Refits from the full fit's parameters `start` (P,): log_losses (B, n) or (n,), weights (B, n) -> (B, P)."""
    out, model = [], problem.model
    for part in chunks(len(weights), len(problem.x)):
        losses = log_losses[part] if log_losses.ndim == 2 else log_losses
        begin = np.repeat(start[None], len(weights[part]), axis=0)
        found = polish(
            model, problem.objective, losses, weights[part], begin, problem.form.upper,
            REFIT_STEPS, REFIT_STAGE_STEPS, REFIT_SETTLED, problem.lower,
        )  # fmt: skip
        out.append(found)
    return np.concatenate(out)


def chunks(count: int, runs: int) -> list[slice]:
    """Parts of `count` fits of `runs` runs each that are worked on at once: at most `CHUNK`, and `CELLS` together."""
    size = int(np.clip(CELLS // runs, 1, CHUNK))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _basins(problem: Problem, starts: Array) -> Array:
    """The best starts that differ from one another in some exponent or amplitude by a fifth."""
    kept = looked_at(problem.log_loss)
    model, goal = problem.form.bind(problem.x[kept]), problem.objective.take(kept)
    values = values_of(model, goal, problem.log_loss[kept], problem.weights[kept], starts)
    return distinct(starts, values, problem.form.basins, APART, LOOKED_AT)
