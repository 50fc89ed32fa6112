"""What a run costs: measured FLOPs and device-seconds, in FLOPs, device-hours or money, labels included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.law import Law
from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import positive
from chemscale.laws.tables.cost import SIX_N, CostRule, measure
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.table import rows

HALVINGS = 60  # of an interval, to the last digits of a number
UNCOUNTED = (
    "the law's table has no FLOPs, so the cost of a run is unknown; name its column of FLOPs (--cost COL) or pass "
    "cost=measure_cost(table, ...)."
)
UNTIMED = "the cost has no device-seconds, so {} cannot be planned; add a column device_seconds or give flops instead."
UNITS = {"flops": "FLOPs", "device_hours": "device-hours", "money": "of money"}


@dataclass(frozen=True)
class RunCost:
    """What one run costs, measured from runs.

    rule: FLOPs of a run by its parameters and unique data, and back, such as `PerUnit(lambda n: 6 * n)` or what
    `measure_cost` finds. seconds_per_flop and seconds_exponent:
    device-seconds per FLOP = seconds_per_flop x N^seconds_exponent (small models use a device less well); None where
    the table has no device-seconds. No model uses a device better than the largest one that was timed, of `timed_to`
    parameters: a power that falls would go on for ever, and a device does not.
    """

    rule: CostRule
    source: str
    seconds_per_flop: float | None = None
    seconds_exponent: float = 0.0
    timed_to: float = np.inf

    def flops(self, params: Any, data: Any) -> Array:
        """FLOPs of runs of these parameters and data."""
        return self.rule.flops(params, data)

    def hours(self, params: Array, flops: Array) -> Array | None:
        """Device-hours of runs of these parameter counts and FLOPs."""
        if self.seconds_per_flop is None:
            return None
        sizes = np.asarray(params, float)
        sizes = np.minimum(sizes, self.timed_to) if self.seconds_exponent < 0 else sizes
        return flops * self.seconds_per_flop * sizes**self.seconds_exponent / 3600


def measure_cost(
    table: Any, *, params: str = "params", data: str, where: str | None = None, loss: str | None = None
) -> RunCost:
    """The cost rule of a table with `flops` and, where it has them, `device_seconds`; ValueError without FLOPs.

    loss: of a store with runs of several families, those in which it was measured.
    """
    columns, _ = select(table, where, loss=loss)
    runs = rows(columns, {"params": params, "data": data, "flops": "flops"}, "flops")
    rule = measure(runs)
    if rule is None:
        raise ValueError(f"params={params!r} never varies in this table, so its cost cannot be measured; add sizes.")
    timed = columns.get("device_seconds", [])
    if not timed or any(value is None for value in timed):
        return RunCost(rule, str(rule))
    seconds = positive(columns, "device_seconds", "device_seconds")
    slope, offset = np.polyfit(np.log(runs.axes["params"]), np.log(seconds / runs.axes["flops"]), 1)
    largest = float(runs.axes["params"].max())
    return RunCost(rule, str(rule), float(np.exp(offset)), float(slope), largest)


def law_cost(law: Law) -> RunCost:
    """The cost rule that a law carries; ValueError where it has none."""
    if law.cost is not None:
        return RunCost(law.cost, str(law.cost))
    if law.columns["data"]["units"] == "tokens":
        return RunCost(SIX_N, "6 N FLOPs per token")
    raise ValueError(UNCOUNTED)


def require_prices(unit: str, price: float | None, label_price: float) -> None:
    """Raise ValueError for prices that a budget in this unit has no use for, or that are none."""
    if unit == "money" and not (price is not None and 0 < price < np.inf):
        raise ValueError(f"price={price!r} must be positive: what a device-hour costs, to plan with money.")
    if not 0 <= label_price < np.inf:
        raise ValueError(f"label_price={label_price!r} must be a number of at least 0.")
    if label_price and unit != "money":
        raise ValueError("label_price is money, so the budget must be money too; give money and price.")


@dataclass(frozen=True)
class Spend:
    """What runs cost in one unit: "flops", "device_hours" or "money".

    price: money per device-hour. label_price: money per unit of data beyond the `owned` ones that are labelled already.

    Raises ValueError where the unit cannot be counted.
    """

    cost: RunCost
    unit: str = "flops"
    price: float | None = None
    label_price: float = 0.0
    owned: float = 0.0

    def __post_init__(self) -> None:
        if self.unit != "flops" and self.cost.seconds_per_flop is None:
            raise ValueError(UNTIMED.format(self.unit))
        require_prices(self.unit, self.price, self.label_price)

    def of(self, params: Array, data: Array) -> Array:
        """Cost of runs, with the labels that they need."""
        training = self.cost.flops(params, data) * self._rate(params)
        return training + self.label_price * np.maximum(data - self.owned, 0.0)

    def data_for(self, params: Array, budget: float) -> Array:
        """Data that a budget pays for at these parameter counts."""
        plain = self.cost.rule.data(params, budget / self._rate(params))
        if not self.label_price:
            return plain
        low, high = np.minimum(plain, self.owned), np.minimum(plain, self.owned + budget / self.label_price)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            dear = self.of(params, middle) > budget
            low, high = np.where(dear, low, middle), np.where(dear, middle, high)
        return low

    def _rate(self, params: Array) -> Array:
        """Cost of a FLOP at these parameter counts."""
        if self.unit == "flops":
            return np.ones_like(params, float)
        hours = self.cost.hours(params, np.array(1.0))
        assert hours is not None
        return hours if self.unit == "device_hours" else hours * (self.price or 0.0)
