"""What a run costs, measured from the table rather than assumed: FLOPs as a power of parameters and of data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.table import Rows

LEAST = 0.1  # power of data under which FLOPs hardly know of it: a fixed number of updates, whatever the data
ROUNDING = 1e-9  # of a power of data that is one


class CostRule(Protocol):
    """FLOPs of runs of N parameters on D unique units of data, and back; arrays that broadcast."""

    def flops(self, params: Any, data: Any) -> Array:
        """FLOPs of runs."""
        ...

    def data(self, params: Any, flops: Any) -> Array:
        """Data that FLOPs pay for."""
        ...


@dataclass(frozen=True)
class PerUnit:
    """FLOPs in proportion to data, `each(params)` for a unit."""

    each: Callable[[Array], Any]

    def flops(self, params: Any, data: Any) -> Array:
        """FLOPs of runs."""
        return np.asarray(self.each(np.asarray(params, float)), float) * np.asarray(data, float)

    def data(self, params: Any, flops: Any) -> Array:
        """Data that FLOPs pay for."""
        return np.asarray(flops, float) / np.asarray(self.each(np.asarray(params, float)), float)


@dataclass(frozen=True)
class MeasuredCost:
    """FLOPs of a run = coefficient x N^exponent x D x (D / most)^(by_data - 1), fitted to the runs' own FLOPs.

    D counts unique units: where small sets are seen more often than large ones, by_data is below one. Beyond `most`,
    the most data of a run, FLOPs grow in proportion to D, at the passes of the runs with the most data. `spread` is the
    standard deviation of the log residual: 0.05 means that the rule is good to about 5 %.
    """

    coefficient: float
    exponent: float
    spread: float
    runs: int
    by_data: float = 1.0
    most: float = 1.0

    def flops(self, params: Any, data: Any) -> Array:
        """FLOPs of runs."""
        share = np.asarray(data, float) / self.most
        return self._largest(params) * np.where(share < 1, share**self.by_data, share)

    def data(self, params: Any, flops: Any) -> Array:
        """Data that FLOPs pay for."""
        share = np.asarray(flops, float) / self._largest(params)
        return self.most * np.where(share < 1, share ** (1 / self.by_data), share)

    def _largest(self, params: Any) -> Array:
        """FLOPs of runs on the most data."""
        return self.coefficient * np.asarray(params, float) ** self.exponent * self.most

    def __str__(self) -> str:
        if self.by_data == 1:
            return f"{self.coefficient:.3g} N^{self.exponent:.3g} FLOPs per unit of data, measured on {self.runs} runs"
        return (
            f"{self.coefficient * self.most ** (1 - self.by_data):.3g} N^{self.exponent:.3g} D^{self.by_data:.3g} "
            f"FLOPs, beyond {self.most:.3g} units of data in proportion to them, measured on {self.runs} runs"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)


SIX_N = PerUnit(lambda params: 6.0 * params)  # per token, forward and backward (Kaplan et al. 2020, section 2.1)


def measure(rows: Rows) -> MeasuredCost | None:
    """The cost rule of runs that have params, data and FLOPs; None where one of them is missing or N never varies."""
    if rows.flops is None or "params" not in rows.axes or "data" not in rows.axes:
        return None
    log_n, per = np.log(rows.axes["params"]), np.log(rows.flops / rows.axes["data"])
    if np.ptp(log_n) < 1e-6:
        return None
    most = float(rows.axes["data"].max())
    basis = np.stack([np.ones_like(log_n), log_n, np.log(rows.axes["data"] / most)], axis=1)
    if np.linalg.matrix_rank(basis) < 3:  # data that never vary, or only with N
        basis = basis[:, :2]
    found = np.linalg.lstsq(basis, per, rcond=None)[0]
    spread = float(np.std(per - basis @ found))
    by_data = 1 + float(found[2]) if len(found) == 3 else 1.0
    by_data = by_data if by_data >= LEAST and abs(by_data - 1) > ROUNDING else 1.0
    return MeasuredCost(float(np.exp(found[0])), float(found[1]), spread, len(rows), by_data, most)
