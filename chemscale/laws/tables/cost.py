"""What a run costs, measured from the table rather than assumed: FLOPs as a power of parameters, times data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.table import Rows

FlopsPerExample = Callable[[Array], Array]


@dataclass(frozen=True)
class MeasuredCost:
    """FLOPs of a run = coefficient x N^exponent x D, fitted to the runs' own FLOPs.

    D counts unique units, so the passes over the data are part of the coefficient: those of the runs with the most
    data, since small sets are often seen more often than a larger one will be. `spread` is the standard deviation of
    the log residual: 0.05 means that the rule is good to about 5 %.
    """

    coefficient: float
    exponent: float
    spread: float
    runs: int

    def __call__(self, params: Array) -> Array:
        """FLOPs per unit of data at each parameter count."""
        return self.coefficient * np.asarray(params, float) ** self.exponent

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)


def six_n(params: Array) -> Array:
    """6 N FLOPs per token, forward and backward of a dense transformer (Kaplan et al. 2020, section 2.1)."""
    return 6.0 * np.asarray(params, float)


def measure(rows: Rows) -> MeasuredCost | None:
    """The cost rule of runs that have params, data and FLOPs; None where one of them is missing or N never varies."""
    if rows.flops is None or "params" not in rows.axes or "data" not in rows.axes:
        return None
    log_n, per = np.log(rows.axes["params"]), np.log(rows.flops / rows.axes["data"])
    if np.ptp(log_n) < 1e-6:
        return None
    smaller = np.log(rows.axes["data"] / rows.axes["data"].max())
    basis = np.stack([np.ones_like(log_n), log_n, smaller], axis=1)
    if np.linalg.matrix_rank(basis) < 3:  # data that never vary, or only with N
        basis = basis[:, :2]
    found = np.linalg.lstsq(basis, per, rcond=None)[0]
    spread = float(np.std(per - basis @ found))
    return MeasuredCost(float(np.exp(found[0])), float(found[1]), spread, len(rows))
