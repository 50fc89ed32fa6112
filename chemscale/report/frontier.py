"""Compute against loss: what a law says each budget is best spent on, at the cost that the runs had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import Law, Optimum
from chemscale.report.numbers import count, percent, power, significant, size, some, with_ends
from chemscale.report.values import Best, Frontier, Line

FURTHER = 2  # decades beyond the largest run
PER_DECADE = 3  # budgets
STEPS = 40  # points of a line
MOST_SIZES = 6
LOSSES = 7  # lines of equal loss
WIDEST = 2.0  # decades; an optimum known no better than this is none
REACH = 3.0  # decades beyond the fitted runs in which an optimum is believed
AROUND = 10.0  # factor by which the plane of sizes reaches beyond the runs and the optima


@dataclass(frozen=True)
class Cost:
    """FLOPs of a run = coefficient N^by_params D^by_data, as the runs of a group had them; spread is relative.

    D counts unique units: where small sets are seen more often than large ones, by_data is below one. Beyond `most`,
    the most data of a run, FLOPs grow in proportion to D: no unit can be seen less than once.
    """

    coefficient: float
    by_params: float
    by_data: float
    spread: float
    most: float

    def flops(self, params: Any, data: Any) -> Any:
        """FLOPs of runs."""
        data = np.asarray(data, float)
        inside, beyond = np.minimum(data, self.most), np.maximum(data / self.most, 1.0)
        return self.coefficient * np.asarray(params, float) ** self.by_params * inside**self.by_data * beyond

    def data(self, params: Any, flops: float) -> Any:
        """What a budget pays for."""
        share = flops / self.flops(params, self.most)
        return self.most * np.where(share < 1, share ** (1 / self.by_data), share)

    def per_example(self, flops: float) -> Callable[[Any], Any]:
        """FLOPs per unit of data at the data that this budget pays for."""
        return lambda params: flops / self.data(params, flops)


def cost_of(group: Group) -> Cost | None:
    """The rule behind the FLOPs of a group's runs; None where they are unknown or do not vary."""
    rows = [row for row in group.rows if row["flops"]]
    if len({row["params"] for row in rows}) < 2 or len({row[group.data] for row in rows}) < 2:
        return None
    n, d, c = (np.log([float(row[name]) for row in rows]) for name in ("params", group.data, "flops"))
    basis = np.stack([np.ones_like(n), n, d], axis=1)
    (offset, by_params, by_data), *_ = np.linalg.lstsq(basis, c, rcond=None)
    spread = float(np.std(c - basis @ np.array([offset, by_params, by_data])))
    if by_params <= 0 or by_data <= 0:
        return None
    most = float(np.exp(d.max()))
    return Cost(float(np.exp(offset)), float(by_params), float(by_data), float(np.expm1(spread)), most)


def frontiers(groups: Iterable[Group], laws: Mapping[str, Law]) -> tuple[Frontier, ...]:
    """The frontier of every law over parameters and data whose runs counted their FLOPs."""
    found = []
    for group in groups:
        law, cost = laws.get(group.slug), cost_of(group)
        if law is not None and cost is not None and law.roles == ("params", "data") and _counts(group, law):
            found.append(_frontier(group, law, cost))
    return tuple(found)


def _counts(group: Group, law: Law) -> bool:
    return law.columns["params"]["name"] == "params" and law.columns["data"]["name"] == group.data


def _frontier(group: Group, law: Law, cost: Cost) -> Frontier:
    scale = group.measure.scale
    runs = tuple(
        (float(row["params"]), float(row[group.data]), float(row["flops"]), row[group.metric] * scale)
        for row in group.rows if row["flops"]
    )  # fmt: skip
    flops = [run[2] for run in runs]
    largest = max(flops)
    first = -math.ceil(PER_DECADE * math.log10(largest / min(flops)))
    steps = range(first, FURTHER * PER_DECADE + 1)
    optima = _optima(law, cost, [largest * 10 ** (step / PER_DECADE) for step in steps])
    best = tuple(_best(one, scale) for one in optima if _known(law, one))
    spent = sum(row["flops"] or 0.0 for row in (*group.whole, *group.others))
    return Frontier(
        group.slug, group.title, group.measure.words, group.measure.unit, group.data, runs,
        _sizes(law, cost, runs, scale), best, _isolosses(law, runs, best, scale), largest, spent,
        _cost_words(group, cost), law.level, tuple(_sentences(group, law, cost, largest)),
    )  # fmt: skip


def _optima(law: Law, cost: Cost, budgets: Sequence[float]) -> tuple[Optimum, ...]:
    return law.optima(budgets, [cost.per_example(budget) for budget in budgets])


def _known(law: Law, best: Optimum) -> bool:
    """Whether an optimum is known to two decades, and near enough to the runs."""
    return _doubt(law, best) is None


def _doubt(law: Law, best: Optimum) -> str | None:
    if all(law.parameters.get(name, 0.0) is None for name in ("alpha", "beta")):
        return "neither exponent is identified"
    low, high = best.params_interval
    if not (low > 0 and np.isfinite(high)):
        return "the interval of the best size is open"
    width = np.log10(high / low)
    if width > WIDEST:
        return f"the interval of the best size spans {width:.1f} decades"
    fitted = law.solution
    for i, value in enumerate((best.params, best.data)):
        far = np.log(value) - fitted.centre[i]
        if not fitted.low[i] - REACH * np.log(10) < far < fitted.high[i] + REACH * np.log(10):
            return f"it lies more than {REACH:g} decades outside the runs"
    return None


def _best(found: Optimum, scale: float) -> Best:
    loss = found.loss
    return Best(
        found.flops, found.params, *found.params_interval, found.data, *found.data_interval, loss.value * scale,
        loss.low * scale, loss.high * scale,
    )  # fmt: skip


def _sizes(law: Law, cost: Cost, runs: Iterable[tuple[float, ...]], scale: float) -> tuple[Line, ...]:
    """Along data, from the smallest that was run to the largest budget."""
    budget = 10**FURTHER * max(run[2] for run in runs)
    found = []
    for level in some((run[0] for run in runs), MOST_SIZES):
        data = np.geomspace(min(run[1] for run in runs), cost.data(level, budget), STEPS)
        losses = law.losses(params=level, data=data) * scale
        found.append(Line(level, tuple(zip(cost.flops(level, data).tolist(), losses.tolist(), strict=True))))
    return tuple(found)


def _isolosses(law: Law, runs: Iterable[tuple[float, ...]], best: Iterable[Best], scale: float) -> tuple[Line, ...]:
    """Lines of equal loss in the plane of sizes, evenly spaced in log loss."""
    params = [run[0] for run in runs] + [one.params for one in best]
    data = [run[1] for run in runs] + [one.data for one in best]
    n = np.geomspace(min(params) / AROUND, max(params) * AROUND, 2 * STEPS)
    d = np.geomspace(min(data) / AROUND, max(data) * AROUND, 240)
    losses = law.losses(params=n[:, None], data=d[None]) * scale  # (params, data)
    ends = losses[-1, -1], losses[0, 0]
    levels = np.geomspace(*ends, LOSSES + 2)[1:-1]
    return tuple(Line(float(level), points) for level in levels if len(points := _crossings(n, d, losses, level)) > 1)


def _crossings(n: Any, d: Any, losses: Any, level: float) -> tuple[tuple[float, float], ...]:
    """Where each model's loss falls to a level along data; a model that never does is left out."""
    found = []
    for params, along in zip(n, np.log(losses), strict=True):
        falling = np.minimum.accumulate(along)
        if falling[-1] <= np.log(level) <= falling[0]:
            at = np.interp(-np.log(level), -falling, np.log(d))
            found.append((float(params), float(np.exp(at))))
    return tuple(found)


def _cost_words(group: Group, cost: Cost) -> str:
    return (
        f"FLOPs of a run = {significant(cost.coefficient, 2)} N^{cost.by_params:.2f} D^{cost.by_data:.2f} (N "
        f"parameters, D unique {group.data}), as these runs had them, good to {percent(cost.spread)}; "
        f"beyond their most data in proportion to D"
    )


def _sentences(group: Group, law: Law, cost: Cost, largest: float) -> Iterable[str]:
    ten, more = _optima(law, cost, [10 * largest, 100 * largest])
    doubt = _doubt(law, ten)
    if doubt:
        yield f"{group.title}: these runs cannot tell the best size of a larger budget: {doubt}."
        return
    scale = group.measure.scale
    loss, low, high = with_ends(ten.loss.value * scale, ten.loss.low * scale, ten.loss.high * scale)
    yield (
        f"{group.title}: ten times the compute of the largest run ({power(10 * largest)} FLOPs) is best spent on "
        f"{count(ten.params)} parameters ({count(ten.params_interval[0])} to {count(ten.params_interval[1])}) and "
        f"{size(ten.data)} {group.data} ({size(ten.data_interval[0])} to {size(ten.data_interval[1])}), for a "
        f"{group.measure.words} of {loss} {group.measure.unit} ({law.level:.0%} interval {low} to {high})."
    ).replace("%", " %")
    yield (
        f"By the law, ten times more compute wants {significant(more.params / ten.params, 2)} × the parameters and "
        f"{significant(more.data / ten.data, 2)} × the {group.data}."
    )
