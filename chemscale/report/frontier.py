"""Compute against loss: what a law says each budget is best spent on, at the cost that the runs had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import FitError, Law, MeasuredCost
from chemscale.plan import RunCost, Spend, measure_cost
from chemscale.plan.line import Line as Budgeted
from chemscale.report.numbers import count, percent, power, significant, size, some, with_ends
from chemscale.report.values import Best, Frontier, Line

FURTHER = 2  # decades beyond the largest run
PER_DECADE = 3  # budgets
STEPS = 40  # points of a line
MOST_SIZES = 6
LOSSES = 7  # lines of equal loss
AROUND = 10.0  # factor by which the plane of sizes reaches beyond the runs and the optima


def cost_of(group: Group) -> RunCost | None:
    """What runs of a group cost, as its runs did; None where their FLOPs are unknown or never vary with size."""
    try:
        return measure_cost([row for row in group.rows if row["flops"]], data=group.data)
    except (ValueError, FitError):
        return None


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


def _frontier(group: Group, law: Law, cost: RunCost) -> Frontier:
    scale = group.measure.scale
    runs = tuple(
        (float(row["params"]), float(row[group.data]), float(row["flops"]), row[group.metric] * scale)
        for row in group.rows if row["flops"]
    )  # fmt: skip
    flops = [run[2] for run in runs]
    largest = max(flops)
    first = -math.ceil(PER_DECADE * math.log10(largest / min(flops)))
    steps = range(first, FURTHER * PER_DECADE + 1)
    best = _best(law, cost, [largest * 10 ** (step / PER_DECADE) for step in steps], scale)
    spent = sum(row["flops"] or 0.0 for row in (*group.whole, *group.others))
    return Frontier(
        group.slug, group.title, group.measure.words, group.measure.unit, group.data, runs,
        _sizes(law, cost, runs, scale), best, _isolosses(law, runs, best, scale), largest, spent,
        _cost_words(group, cost), law.level, tuple(_sentences(group, law, cost, largest)),
    )  # fmt: skip


def _best(law: Law, cost: RunCost, budgets: Iterable[float], scale: float) -> tuple[Best, ...]:
    """What `plan` would train for each budget, of those that it can tell of."""
    found = [(budget, Budgeted(law, Spend(cost), budget).optimum()) for budget in budgets]
    told = [(budget, one) for budget, one in found if one.doubt is None]
    losses = law.predictions([{"params": one.params, "data": one.data} for _, one in told])
    return tuple(
        Best(
            budget, one.params, *one.params_interval, one.data, *one.data_interval, loss.value * scale,
            loss.low * scale, loss.high * scale,
        )
        for (budget, one), loss in zip(told, losses, strict=True)
    )  # fmt: skip


def _sizes(law: Law, cost: RunCost, runs: Iterable[tuple[float, ...]], scale: float) -> tuple[Line, ...]:
    """Along data, from the smallest that was run to the largest budget."""
    budget = 10**FURTHER * max(run[2] for run in runs)
    found = []
    for level in some((run[0] for run in runs), MOST_SIZES):
        data = np.geomspace(min(run[1] for run in runs), cost.rule.data(level, budget), STEPS)
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


def _cost_words(group: Group, cost: RunCost) -> str:
    rule = cost.rule
    assert isinstance(rule, MeasuredCost)
    return (
        f"FLOPs of a run = {significant(rule.coefficient * rule.most ** (1 - rule.by_data), 2)} N^{rule.exponent:.2f} "
        f"D^{rule.by_data:.2f} (N parameters, D unique {group.data}), as these runs had them, good to "
        f"{percent(float(np.expm1(rule.spread)))}; beyond their most data in proportion to D"
    )


def _sentences(group: Group, law: Law, cost: RunCost, largest: float) -> Iterable[str]:
    ten, more = (Budgeted(law, Spend(cost), times * largest).optimum() for times in (10, 100))
    if ten.doubt:
        doubt = ten.doubt.partition(" (")[0]
        yield f"{group.title}: these runs cannot tell the best size of a larger budget: {doubt}."
        return
    scale, said = group.measure.scale, law.predict(params=ten.params, data=ten.data)
    loss, low, high = with_ends(said.value * scale, said.low * scale, said.high * scale)
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
