"""What a law said of runs before it saw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt import covariance, noise_scale
from chemscale.laws.objectives import Array
from chemscale.laws.solve import Problem, solve
from chemscale.laws.table import Rows

HELD_OUT = 0.2  # share of the runs, from the top of the axis, that the default backtest leaves out


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
        return along, np.prod([v for role, v in rows.axes.items() if role != "data" or "seen" not in rows.axes], axis=0)
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
