"""How the runs of a fit lie along its axes: spans, densities, repeats, and axes that move together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.identify import decades, distinct
from chemscale.laws.doubt.regression import least_squares
from chemscale.laws.tables.table import Rows

RAY = 0.2  # decades that D varies by at a given N, under which the two exponents lean on each other
TOGETHER = 0.95  # correlation of log N and log D of the same kind
RISES = 4.0  # standard errors by which a slope of log loss against the log of an axis lies above zero


@dataclass(frozen=True)
class Axis:
    """One axis of the fitted runs: decades spanned, different values, share of weight and runs in the top decade."""

    column: str
    decades: float
    levels: int
    top_share: float
    top_runs: int


def design(runs: Rows, roles: Sequence[str]) -> tuple[float | None, float | None, float | None]:
    """The strongest correlation of two axes' logs, the decades the one spares at a given other, their ratio's span."""
    logs = np.log10(runs.stacked(roles))
    logs = logs[:, np.ptp(logs, axis=0) > 0]
    pairs = [(i, j) for j in range(logs.shape[1]) for i in range(j)]
    found = [(float(np.corrcoef(logs[:, i], logs[:, j])[0, 1]), i, j) for i, j in pairs]
    if not found:
        return None, None, None
    together, i, j = max(found, key=lambda pair: abs(pair[0]))
    spare = float(logs[:, j].std() * np.sqrt(max(1 - together**2, 0.0)))
    return together, spare, float(np.ptp(logs[:, j] - logs[:, i]))


def leans(correlation: float | None, spare: float | None) -> bool:
    """Whether two axes move so closely together that their exponents lean on each other (see `design`)."""
    return spare is not None and (spare < RAY or abs(correlation or 0.0) > TOGETHER)


def axis_of(runs: Rows, role: str) -> Axis:
    """How far and how densely an axis was run."""
    values = runs.axes[role]
    top = values >= values.max() / 10
    share = float(runs.weights[top].sum() / runs.weights.sum())
    return Axis(runs.columns[role], decades(values), distinct(values), share, int(top.sum()))


def repeats(runs: Rows, roles: Sequence[str]) -> tuple[int, int]:
    """Rows equal to an earlier one in axes and loss, and points with several different losses."""
    points = runs.stacked(roles)
    whole = np.unique(np.column_stack([points, runs.loss]), axis=0)
    _, losses = np.unique(whole[:, :-1], axis=0, return_counts=True)
    return len(points) - len(whole), int((losses > 1).sum())


def rising(runs: Rows, roles: Sequence[str]) -> dict[str, float]:
    """Axis -> factor of the loss per decade of it at given others, for those along which the loss rises."""
    logs = np.log10(runs.stacked(roles))
    centred = logs - logs.mean(0)
    if np.linalg.matrix_rank(centred, tol=RAY) < len(roles):
        return {}
    found = least_squares(np.column_stack([np.ones(len(logs)), centred]), np.log(runs.loss), runs.clusters)
    if found.errors is None:
        return {}
    return {
        role: float(np.exp(found.values[k]))
        for k, role in enumerate(roles, start=1)
        if found.values[k] > RISES * found.errors[k]
    }
