"""A law, a measured cost and a budget in; what to train out, with intervals, or "cannot tell" with the runs that would.

Units: params in parameters, data in the law's own unit (tokens, molecules, structures), compute in FLOPs, time in
device-hours, losses in the law's unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.cost import MeasuredCost, measure, six_n
from chemscale.laws.doubt import interval
from chemscale.laws.identify import FEW
from chemscale.laws.law import Law, Prediction, grid_minimum
from chemscale.laws.objectives import Array
from chemscale.laws.table import positive, rows, select
from chemscale.laws.verdict import NextRun
from chemscale.rooms import answer_calls

REACH = 3.0  # decades beyond the fitted runs that are searched
POINTS = 800
WIDEST = 2.0  # decades; an optimum known no better than this is not a plan
SMALLER = (2.0, 4.0)  # how many times smaller the alternatives are
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class RunCost:
    """What one run costs, measured from runs.

    flops: FLOPs per unit of data as a power of parameters. seconds_per_flop and seconds_exponent: device-seconds per
    FLOP = seconds_per_flop x N^seconds_exponent (small models use a device less well); None where the table has no
    device-seconds.
    """

    flops: Callable[[Array], Array]
    source: str
    seconds_per_flop: float | None = None
    seconds_exponent: float = 0.0

    def hours(self, params: Array, flops: Array) -> Array | None:
        """Device-hours of runs of these parameter counts and FLOPs."""
        if self.seconds_per_flop is None:
            return None
        return flops * self.seconds_per_flop * np.asarray(params, float) ** self.seconds_exponent / 3600


@dataclass(frozen=True)
class Choice:
    """One run to train: its size, data, predicted loss and cost; `cost_ratio` against the budget."""

    params: float
    data: float
    loss: Prediction
    flops: float
    device_hours: float | None
    cost_ratio: float


@dataclass(frozen=True)
class Plan:
    """What to train for a budget.

    answer: one sentence, which begins "cannot tell" where the law does not identify an optimum; best with intervals of
    its size and data over the law's draws; alternatives reach the same predicted loss with a smaller model and more
    data; would_decide lists runs, where the answer is open.
    """

    answer: str
    best: Choice | None
    params_interval: tuple[float, float] | None
    data_interval: tuple[float, float] | None
    alternatives: tuple[Choice, ...]
    would_decide: tuple[NextRun, ...]
    warnings: tuple[str, ...]


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
    return RunCost(rule, _described(rule), float(np.exp(offset)), float(slope))


def plan(
    law: Law,
    *,
    flops: float | None = None,
    device_hours: float | None = None,
    cost: RunCost | None = None,
    most_data: float | None = None,
) -> Plan:
    """The parameters and data with the lowest predicted loss that the budget can pay.

    law: over params and data. Exactly one of flops and device_hours. cost: see `measure_cost`; by default the rule
    that the law measured from its table, and 6 N per token where data are tokens. most_data: unique data there are.

    Raises ValueError for a law over other axes, a budget that is not one positive number, or an unknown cost.
    """
    if law.roles != ("params", "data"):
        raise ValueError(f"a plan needs a law of params and data, and this one is over {', '.join(law.roles)}.")
    budget = flops if flops is not None else device_hours
    if (flops is None) == (device_hours is None) or budget is None or not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"give one budget as a positive number, flops={flops!r} or device_hours={device_hours!r}.")
    if most_data is not None and not most_data > 0:
        raise ValueError(f"most_data={most_data!r} must be a positive amount of data.")
    cost = cost or law_cost(law)
    if device_hours is not None and cost.seconds_per_flop is None:
        raise ValueError("the cost has no device-seconds, so device_hours cannot be planned; give flops instead.")
    search = _Search(law, cost, budget, in_hours=flops is None, most_data=most_data)
    return search.plan()


def law_cost(law: Law) -> RunCost:
    """The cost rule that a law carries; ValueError where it has none."""
    if law.cost is not None:
        return RunCost(law.cost, _described(law.cost))
    if law.columns["data"]["units"] == "tokens":
        return RunCost(six_n, "6 N FLOPs per token")
    raise ValueError(
        "the law's table has no FLOPs, so the cost of a run is unknown; pass cost=measure_cost(table, ...)."
    )


def _described(rule: MeasuredCost) -> str:
    return f"{rule.coefficient:.3g} N^{rule.exponent:.3g} FLOPs per unit of data, measured on {rule.runs} runs"


@dataclass(frozen=True)
class _Search:
    """One budget's line through the plane of parameters and data."""

    law: Law
    cost: RunCost
    budget: float
    in_hours: bool
    most_data: float | None

    def spent(self, params: Array, data: Array) -> Array:
        """Cost in the budget's unit."""
        flops = self.cost.flops(params) * data
        if not self.in_hours:
            return flops
        hours = self.cost.hours(params, flops)
        assert hours is not None
        return hours

    def data_for(self, params: Array) -> Array:
        """Data that the budget pays for, no more than there is."""
        data = self.budget / self.spent(params, np.ones_like(params))
        return np.minimum(data, self.most_data) if self.most_data else data

    def plan(self) -> Plan:
        fitted = self.law.solution
        reach = REACH * np.log(10)
        grid = np.linspace(fitted.low[0] - reach, fitted.high[0] + reach, POINTS) + fitted.centre[0]
        x = np.stack([grid, np.log(self.data_for(np.exp(grid)))], axis=1) - fitted.centre
        central = self.law.log_central(x)[None]
        at = float(grid_minimum(grid, central)[0])
        ends = interval(grid_minimum(grid, self.law.log_draws(x)), at, self.law.level)
        problem = self.doubt(at, ends)
        sides = np.sort(self.data_for(np.exp(np.array(ends))))
        around = (float(np.exp(ends[0])), float(np.exp(ends[1]))), (float(sides[0]), float(sides[1]))
        if problem:
            return Plan(f"{CANNOT_TELL}: {problem}", None, *around, (), self.deciding(), self.law.warnings)
        best = self.choice(float(np.exp(at)), float(self.data_for(np.exp([at]))[0]))
        others = tuple(c for c in (self.same_loss(best, best.params / k) for k in SMALLER) if c)
        return Plan(self.sentence(best), best, *around, others, (), self.notes(best))

    def doubt(self, at: float, ends: tuple[float, float]) -> str | None:
        """Why no plan can be given, or None."""
        lost = [name for name in ("alpha", "beta") if self.law.parameters.get(name, 0.0) is None]
        if len(lost) == 2:
            return f"neither exponent is identified ({'; '.join(self.law.warnings[:2])})"
        few = [warning for warning in self.law.warnings if FEW in warning]
        if few:
            return few[0]
        fitted, reach = self.law.solution, REACH * np.log(10)
        data = float(self.data_for(np.exp([at]))[0])
        unit = self.law.columns["data"]["units"]
        if data < 1:
            return f"the budget pays for less than one unit of {unit} at the best size"
        edge = 3 * REACH / POINTS * np.log(10)  # the search stops at the reach, so a best size there is beyond it
        for axis, (what, value) in enumerate((("size", at), (f"amount of {unit}", np.log(data)))):
            low, high = (side[axis] + fitted.centre[axis] for side in (fitted.low, fitted.high))
            if not low - reach + edge < value < high + reach - edge:
                return f"the best {what} lies more than {REACH:g} decades outside the runs that were fitted"
        width = (ends[1] - ends[0]) / np.log(10)
        if width > WIDEST:
            return f"the interval of the best size spans {width:.1f} decades of parameters"
        return None

    def choice(self, params: float, data: float) -> Choice:
        n, d = np.array([params]), np.array([data])
        flops = self.cost.flops(n) * d
        hours = self.cost.hours(n, flops)
        loss = self.law.predict(params=params, data=data)
        ratio = float(self.spent(n, d)[0] / self.budget)
        return Choice(params, data, loss, float(flops[0]), None if hours is None else float(hours[0]), ratio)

    def same_loss(self, best: Choice, params: float) -> Choice | None:
        """The data with which a smaller model reaches the best one's loss, where it can within 100 times more data."""
        data = best.data * np.geomspace(1, 100, 2001)
        reached = self.law.losses(params=params, data=data) <= best.loss.value
        if not reached.any() or (self.most_data and data[np.argmax(reached)] > self.most_data):
            return None
        return self.choice(params, float(data[np.argmax(reached)]))

    def deciding(self) -> tuple[NextRun, ...]:
        """Runs at the far corners of the fitted box, stretched along the axis that is least known."""
        fitted = self.law.solution
        n, d = np.exp(fitted.high + fitted.centre)
        low_n, low_d = np.exp(fitted.low + fitted.centre)
        return (
            NextRun(float(3 * n), float(d), 2, "a larger model at the most data shows what size still buys"),
            NextRun(float(n), float(3 * d), 2, "more data at the largest model shows what data still buy"),
            NextRun(float(low_n), float(3 * d), 2, "the smallest model with much data shows its floor"),
            NextRun(float(3 * n), float(low_d), 2, "the largest model with little data keeps size and data apart"),
        )

    def notes(self, best: Choice) -> tuple[str, ...]:
        far = (
            ("the best run lies outside the range that was fitted: an extrapolation",) if best.loss.extrapolates else ()
        )
        short = (
            (f"data run out at {self.most_data:.3g}: the budget is not all spent",)
            if self.most_data and best.cost_ratio < 0.99
            else ()
        )
        return (*far, *short, *self.law.warnings)

    def sentence(self, best: Choice) -> str:
        unit = self.law.columns["data"]["units"]
        return (
            f"train {best.params:.3g} parameters on {best.data:.3g} {unit}: predicted loss {best.loss.value:.4g} "
            f"{self.law.units} ({self.law.level:.0%} interval {best.loss.low:.4g} to {best.loss.high:.4g}), with cost "
            f"{self.cost.source}."
        )


answer_calls(__name__, "chemscale.plan:plan")  # `chemscale.plan` is the room and the function
