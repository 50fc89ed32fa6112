"""What a law said of runs before it saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.doubt.residuals import covariance, noise_scale
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from chemscale.laws.tables.table import Rows

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


@dataclass(frozen=True)
class Said:
    """Log losses foretold at one origin.

    fitted, rows: indices of the runs fitted and foretold; central, variance (rows,): log
    loss and the variance that was foretold for it.
    """

    fitted: np.ndarray
    rows: np.ndarray
    central: Array
    variance: Array


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
    """Fit without the `held` runs, predict them; `problem_of(rows)` makes the problem of a set of runs.

    A held run of which only a bound is known judges nothing. Raises ValueError where no other is left.
    """
    if not (held & rows.measured).any():
        raise ValueError(f"the largest runs along {along} have bounds only and no final loss; hold out more of them.")
    problem: Problem = problem_of(rows.take(~held))
    theta = solve(problem)
    out = rows.take(held & rows.measured)
    x = np.log(out.stacked(problem.form.roles)) - problem.centre
    at = problem.form.bind(x).derivatives(theta[None])
    fitted = np.exp(at.log_fit[0] + problem.log_scale)
    known = np.einsum("np,pq,nq->n", at.jacobian[0], covariance(problem, theta), at.jacobian[0])
    known = known + noise_scale(problem, theta) ** 2
    return _scored(problem.form.name, along, out, fitted, known, beyond(x, problem.x))


def _scored(form: str, along: str, out: Rows, fitted: Array, known: Array, far: Array) -> Backtest:
    """The backtest of predictions `fitted` (n,) of the runs `out`, whose variance `known` (n,) was foretold."""
    error = np.log(fitted / out.loss)
    predictions = tuple(
        {"at": {role: float(values[i]) for role, values in out.axes.items()}, "value": float(fitted[i]),
         "measured": float(out.loss[i])}
        for i in range(len(out))
    )  # fmt: skip
    return Backtest(
        form, along, len(out), float(np.sqrt((error**2).mean())), float(np.abs(fitted / out.loss - 1).mean()),
        float(np.sqrt(max((error**2).mean() - known.mean(), 0.0))), float(far.mean()), predictions,
    )  # fmt: skip


def joined(parts: Sequence[Backtest]) -> Backtest:
    """Several origins as one backtest; every prediction names its origin by number, the furthest back first."""
    rows = np.array([part.rows for part in parts], float)

    def mean(values: list[float]) -> float:
        return float(rows @ np.array(values) / rows.sum())

    numbered = enumerate(parts) if len(parts) > 1 else ()
    predictions = [{**said, "origin": i} for i, part in numbered for said in part.predictions]
    return replace(
        parts[0], rows=int(rows.sum()), rmsle=mean([p.rmsle**2 for p in parts]) ** 0.5,
        mean_abs_rel_error=mean([p.mean_abs_rel_error for p in parts]),
        form_error=mean([p.form_error**2 for p in parts]) ** 0.5, reach=mean([p.reach for p in parts]),
        predictions=tuple(predictions) or parts[0].predictions,
    )  # fmt: skip


def of_said(form: str, along: str, runs: Rows, x: Array, said: Said) -> Backtest:
    """The backtest of what was `said` of some of `runs`, whose natural logs are x (n, axes)."""
    far = beyond(x[said.rows], x[said.fitted])
    return _scored(form, along, runs.take(said.rows), np.exp(said.central), said.variance, far)


def beyond(x: Array, fitted: Array) -> Array:
    """How far points (m, axes) lie outside the box of the fitted points (n, axes), in natural logs, (m,)."""
    outside = np.maximum(x - fitted.max(0), 0) + np.maximum(fitted.min(0) - x, 0)
    return np.sqrt((outside**2).sum(1))
