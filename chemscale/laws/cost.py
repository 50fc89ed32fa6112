"""What a run costs, measured from the table rather than assumed: FLOPs as a power of parameters, times data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.table import Rows

FlopsPerExample = Callable[[Array], Array]


@dataclass(frozen=True)
class MeasuredCost:
    """FLOPs of a run = coefficient x N^exponent x D, fitted to the runs' own FLOPs.

    D counts unique units, so the passes over the data that the runs made are part of the coefficient. `spread` is the
    standard deviation of the log residual: 0.05 means that the rule is good to about 5 %.
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
    slope, offset = np.polyfit(log_n, per, 1)
    spread = float(np.std(per - slope * log_n - offset))
    return MeasuredCost(float(np.exp(offset)), float(slope), spread, len(rows))
