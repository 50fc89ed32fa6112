"""What a run costs: measured FLOPs and device-seconds, in FLOPs, device-hours or money, labels included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.law import Law
from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import positive
from chemscale.laws.tables.cost import MeasuredCost, measure, six_n
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.table import rows

UNITS = {"flops": "FLOPs", "device_hours": "device-hours", "money": "of money"}


@dataclass(frozen=True)
class RunCost:
    """What one run costs, measured from runs.

    flops: FLOPs per unit of data as a power of parameters. seconds_per_flop and seconds_exponent: device-seconds per
    FLOP = seconds_per_flop x N^seconds_exponent (small models use a device less well); None where the table has no
    device-seconds. No model uses a device better than the largest one that was timed, of `timed_to` parameters: a power
    that falls would go on for ever, and a device does not.
    """

    flops: Callable[[Array], Array]
    source: str
    seconds_per_flop: float | None = None
    seconds_exponent: float = 0.0
    timed_to: float = np.inf

    def hours(self, params: Array, flops: Array) -> Array | None:
        """Device-hours of runs of these parameter counts and FLOPs."""
        if self.seconds_per_flop is None:
            return None
        sizes = np.asarray(params, float)
        sizes = np.minimum(sizes, self.timed_to) if self.seconds_exponent < 0 else sizes
        return flops * self.seconds_per_flop * sizes**self.seconds_exponent / 3600


def measure_cost(table: Any, *, params: str = "params", data: str, where: str | None = None) -> RunCost:
    """The cost rule of a table with `flops` and, where it has them, `device_seconds`; ValueError without FLOPs."""
    columns, _ = select(table, where)
    runs = rows(columns, {"params": params, "data": data, "flops": "flops"}, "flops")
    rule = measure(runs)
    if rule is None:
        raise ValueError(f"params={params!r} never varies in this table, so its cost cannot be measured; add sizes.")
    timed = columns.get("device_seconds", [])
    if not timed or any(value is None for value in timed):
        return RunCost(rule, _described(rule))
    seconds = positive(columns, "device_seconds", "device_seconds")
    slope, offset = np.polyfit(np.log(runs.axes["params"]), np.log(seconds / runs.axes["flops"]), 1)
    largest = float(runs.axes["params"].max())
    return RunCost(rule, _described(rule), float(np.exp(offset)), float(slope), largest)


def law_cost(law: Law) -> RunCost:
    """The cost rule that a law carries; ValueError where it has none."""
    if law.cost is not None:
        return RunCost(law.cost, _described(law.cost))
    if law.columns["data"]["units"] == "tokens":
        return RunCost(six_n, "6 N FLOPs per token")
    raise ValueError(
        "the law's table has no FLOPs, so the cost of a run is unknown; name its column of FLOPs (--cost COL) or pass "
        "cost=measure_cost(table, ...)."
    )


def _described(rule: MeasuredCost) -> str:
    return f"{rule.coefficient:.3g} N^{rule.exponent:.3g} FLOPs per unit of data, measured on {rule.runs} runs"


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
            raise ValueError(
                f"the cost has no device-seconds, so {self.unit} cannot be planned; add a column device_seconds or "
                f"give flops instead."
            )
        if self.unit == "money" and not (self.price is not None and 0 < self.price < np.inf):
            raise ValueError(f"price={self.price!r} must be positive: what a device-hour costs, to plan with money.")
        if not 0 <= self.label_price < np.inf:
            raise ValueError(f"label_price={self.label_price!r} must be a number of at least 0.")
        if self.label_price and self.unit != "money":
            raise ValueError("label_price is money, so the budget must be money too; give money and price.")

    def each(self, params: Array) -> Array:
        """Cost of training on one unit of data at these parameter counts."""
        flops = self.cost.flops(params)
        if self.unit == "flops":
            return flops
        hours = self.cost.hours(params, flops)
        assert hours is not None
        return hours if self.unit == "device_hours" else hours * (self.price or 0.0)

    def of(self, params: Array, data: Array) -> Array:
        """Cost of runs, with the labels that they need."""
        return self.each(params) * data + self.label_price * np.maximum(data - self.owned, 0.0)

    def data_for(self, params: Array, budget: float) -> Array:
        """Data that a budget pays for at these parameter counts."""
        each = self.each(params)
        return np.where(
            each * self.owned >= budget, budget / each,
            (budget + self.label_price * self.owned) / (each + self.label_price),
        )  # fmt: skip
