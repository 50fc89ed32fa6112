"""What ten times more buys, which axis limits, and which exponents may be called: `chemscale.laws` put into words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chemscale.laws import AxisReading, FitError, Law, NextRun, Tenfold, axis_reading, tenfold, verdict
from chemscale.laws.slopes import TOO_SHORT
from chemscale.plan import RunCost, measure_cost
from chemscale.report.groups import MEASURES, Group
from chemscale.report.numbers import count, duration, significant, whole, with_ends
from chemscale.report.values import Column, Entry, Headline, Ruling, Table

COUNTS = {"params": "non-embedding", "params_all": "all trainable"}
NOISE_UNKNOWN = "interval unknown: no run is repeated"
LEARNS = {"nats_per_token": "nats_per_molecule"}  # a second metric that the headline gives too


def headline(group: Group, law: Law | None) -> Headline:
    """The sentences of one group; what cannot be read is said in words."""
    data, model = (_tenfold(group, axis) for axis in ("data", "params"))
    told = [_told(group, x, first=i == 0) for i, x in enumerate(x for x in (data, model) if x is not None)]
    if not told:
        return Headline(group.title, f"{group.title} has runs at a single size; ten times more cannot be read off.", ())
    return Headline(group.title, "; ".join(told) + ".", tuple(_more(group, data, model, law)))


def _tenfold(group: Group, axis: str, **options: Any) -> Tenfold | None:
    column, other = (group.data, "params") if axis == "data" else ("params", group.data)
    loss = options.pop("loss", group.metric)
    try:
        return tenfold(list(group.rows), axis=column, other=other, loss=loss, **options)
    except (ValueError, FitError):
        return None


def _told(group: Group, ten: Tenfold, *, first: bool) -> str:
    measure = group.measure
    end, low, high = with_ends(*(None if v is None else v * measure.scale for v in (ten.to_loss, ten.low, ten.high)))  # type: ignore[arg-type]
    begin = _like(ten.from_loss * measure.scale, end)
    what = "parameters" if ten.axis == "params" else ten.axis
    span = f"{_size(ten.axis, ten.start)} to {_size(ten.axis, ten.stop)}"
    ends = f"{ten.level:.0%} interval {low} to {high}".replace("%", " %") if ten.low is not None else NOISE_UNKNOWN
    verb = _verb(ten)
    if first:
        return f"10 × more {what} ({span}) {verb} {group.title}’s {measure.words} from {begin} to {end} {measure.unit} ({ends})"
    return f"10 × more {what} ({span}), from {begin} to {end} ({ends})"


def _verb(ten: Tenfold) -> str:
    would = ten.kind != "interpolation"
    if ten.to_loss >= ten.from_loss:
        return "would not cut" if would else "does not cut"
    return "would cut" if would else "cuts"


def _like(value: float, shown: str) -> str:
    """A value with as many decimals as one that is already text."""
    return f"{value:,.{len(shown.partition('.')[2])}f}" if "×" not in shown else significant(value)


def _size(axis: str, value: float) -> str:
    return count(value) if axis.startswith("params") else whole(float(f"{value:.3g}"))


def _more(group: Group, data: Tenfold | None, model: Tenfold | None, law: Law | None) -> Iterable[str]:
    kinds = {x.kind for x in (data, model) if x is not None}
    where = [
        f"the {_axis_words(x)} at the largest {'model' if x.axis != 'params' else 'data size'}"
        f" ({_size(x.other or '', x.at_other)} {_axis_noun(x.other or '')})"
        for x in (data, model)
        if x is not None and x.at_other is not None
    ]
    if where:
        measured = "Both ends lie in the range that was run" if kinds == {"interpolation"} else "Prolonged beyond the runs"
        if len(kinds) == 2:
            measured = "Where “would” is said, the line is prolonged beyond the runs"
        yield f"{measured}: {'; '.join(where)}."
    other = LEARNS.get(group.metric)
    if other and all(row[other] is not None for row in group.rows):
        yield from _second_metric(group, other)
    yield from _next(group, law)


def _axis_words(ten: Tenfold) -> str:
    return f"{_axis_noun(ten.axis)} axis"


def _axis_noun(column: str) -> str:
    return "parameters" if column.startswith("params") else column


def _second_metric(group: Group, metric: str) -> Iterable[str]:
    parts = []
    for axis in ("data", "params"):
        ten = _tenfold(group, axis, loss=metric)
        if ten is not None:
            scale = MEASURES[metric].scale
            parts.append(
                f"10 × more {_axis_noun(ten.axis)}, from {significant(ten.from_loss * scale)} to "
                f"{significant(ten.to_loss * scale)}"
            )
    if parts:
        yield f"In {MEASURES[metric].unit}: {'; '.join(parts)}."


def _next(group: Group, law: Law | None) -> Iterable[str]:
    """The next tenfold from the largest cell, by the law where there is one, else by the last decade's line."""
    measure, parts = group.measure, []
    for axis in ("data", "params"):
        column = group.data if axis == "data" else "params"
        top = max(row[column] for row in group.rows)
        ten = _tenfold(group, axis, start=float(top), law=law) or _tenfold(group, axis, start=float(top))
        if ten is None or ten.kind == "interpolation":
            continue
        end, low, high = with_ends(*(None if v is None else v * measure.scale for v in (ten.to_loss, ten.low, ten.high)))  # type: ignore[arg-type]
        ends = f"{low} to {high}" if ten.low is not None else NOISE_UNKNOWN
        begin = _like(ten.from_loss * measure.scale, end)
        parts.append(f"{_axis_noun(column)} would take it from {begin} to {end} ({ends})")
    if parts:
        how = "by the fitted law" if law is not None else "if the last decade’s slope holds"
        yield f"The next 10 × from the largest run, {how}: more {'; more '.join(parts)} {measure.unit}. An extrapolation."


# -- the verdict ----------------------------------------------------------------------------------------------------------


def ruling(group: Group) -> Ruling:
    """Data-limited, model-limited or "cannot tell yet" with the runs that would decide."""
    rows = list(group.rows)
    try:
        found = verdict(rows, loss=group.metric, params="params", data=group.data)
    except (ValueError, FitError) as error:
        return Ruling(group.title, "cannot tell yet", f"{error}", ())
    cost = cost_of(group)
    reason = found.reason[:1].upper() + found.reason[1:] + "."
    return Ruling(
        group.title, found.answer, reason.replace("10x", "10 ×").replace("%", " %"),
        tuple(_deciding(group, run, cost) for run in found.would_decide),
    )  # fmt: skip


def cost_of(group: Group) -> RunCost | None:
    """What runs of this group cost, where their FLOPs and seconds say so."""
    try:
        return measure_cost(list(group.rows), data=group.data)
    except (ValueError, FitError):
        return None


def _deciding(group: Group, run: NextRun, cost: RunCost | None) -> str:
    times = f"{run.replicates} seeds of " if run.replicates > 1 else ""
    what = f"{times}{group.name} with {count(run.params)} parameters on {whole(run.data)} {group.data}"
    return f"{what}{_time(run, cost)}: {run.why}."


def _time(run: NextRun, cost: RunCost | None) -> str:
    import numpy as np

    if cost is None:
        return ""
    params = np.array([run.params])
    hours = cost.hours(params, cost.flops(params) * run.data)
    return "" if hours is None else f", about {duration(3600 * float(hours[0]))} each"


# -- exponents ------------------------------------------------------------------------------------------------------------

EXPONENT_COLUMNS = (
    Column("model"), Column("metric"), Column("axis"), Column("decades", True), Column("runs", True),
    Column("exponent", True), Column("interval (95 %)", True), Column("local slope per decade", True), Column("floor"),
)  # fmt: skip


def exponents(groups: Iterable[Group]) -> tuple[Table, Table]:
    """The readings of each group's metric along both axes; and those of all its other metrics and counts."""
    main, more = [], []
    for group in groups:
        main += [row for axis in ("params", group.data) if (row := _reading(group, group.metric, axis))]
        if group.family == "text" and all(row["params_all"] for row in group.rows):
            more += [row for row in [_reading(group, group.metric, "params_all")] if row]
        for metric in MEASURES:
            if metric != group.metric and all(row[metric] is not None for row in group.rows):
                more += [row for axis in ("params", group.data) if (row := _reading(group, metric, axis))]
    return Table(EXPONENT_COLUMNS, tuple(main)), Table(EXPONENT_COLUMNS, tuple(more))


def _reading(group: Group, metric: str, axis: str) -> tuple[Entry, ...] | None:
    other = "params" if axis == group.data else group.data
    try:
        found = axis_reading(list(group.rows), axis=axis, other=other, loss=metric)
    except (ValueError, FitError):
        return None
    measure = MEASURES.get(metric, group.measure)
    exponent, ends = _exponent(found)
    words = (measure.words if measure.words.startswith("loss") else measure.words) + f", {measure.unit}"
    return (
        Entry(group.title), Entry(words), Entry(_definition(group, axis)), Entry(f"{found.decades:.1f}", found.decades),
        Entry(str(found.runs), found.runs), Entry(exponent, found.exponent or 0.0), Entry(ends),
        Entry(_slope(found), found.slope), Entry(_floor(found, measure.scale)),
    )  # fmt: skip


def _definition(group: Group, axis: str) -> str:
    if axis in COUNTS:
        return f"N: {COUNTS[axis]} parameters"
    return f"D: unique {axis}"


def _exponent(found: AxisReading) -> tuple[str, str]:
    if found.exponent is None:
        return TOO_SHORT, ""
    low, high = found.exponent_interval or (None, None)
    value, low_text, high_text = with_ends(found.exponent, low, high)
    return value, f"{low_text} to {high_text}"


def _slope(found: AxisReading) -> str:
    low, high = found.interval or (None, None)
    value, low_text, high_text = with_ends(found.slope, low, high)
    ends = f" ({low_text} to {high_text})" if found.interval else " (interval unknown)"
    return value.replace("-", "−") + ends.replace("-", "−")


def _floor(found: AxisReading, scale: float) -> str:
    if found.floor is None:
        return "not identified" + (": too few runs" if "too few" in found.floor_words else "")
    low, high = found.floor_interval or (None, None)
    value, low_text, high_text = with_ends(
        found.floor * scale, None if low is None else low * scale, None if high is None else high * scale
    )
    return f"{value} ({low_text} to {high_text})"

