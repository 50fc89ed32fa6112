"""What ten times more buys, in sentences with physical units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chemscale.audit.groups import MEASURES, Group
from chemscale.audit.values import joined
from chemscale.laws import FitError, Law, Tenfold, tenfold
from chemscale.report.numbers import count, significant, whole, with_ends
from chemscale.report.values import Headline

NOISE_UNKNOWN = "interval unknown: too few runs"
LEARNS = {"nats_per_token": "nats_per_molecule"}  # a second metric that the headline gives too


def headline(group: Group, law: Law | None) -> Headline:
    """The sentences of one group; what cannot be read is said in words."""
    data, model = (_newest(group, axis, law) for axis in ("data", "params"))
    told = [_told(group, x, first=i == 0) for i, x in enumerate(x for x in (data, model) if x is not None)]
    if not told:
        return Headline(group.title, f"{group.title} has runs at a single size; ten times more cannot be read off.", ())
    return Headline(group.title, "; ".join(told) + ".", tuple(_more(group, data, model, law)))


def _newest(group: Group, axis: str, law: Law | None) -> Tenfold | None:
    """The last tenfold that was run; where none was, the next one, by the law if it covers both axes."""
    found = _tenfold(group, axis)
    if found is None or found.kind == "interpolation" or law is None:
        return found
    return _tenfold(group, axis, law=law) or found


def _tenfold(group: Group, axis: str, **options: Any) -> Tenfold | None:
    column, other = (group.data, "params") if axis == "data" else ("params", group.data)
    loss = options.pop("loss", group.metric)
    try:
        return tenfold(list(group.rows), axis=column, other=other, loss=loss, **options)
    except (ValueError, FitError):
        return None


def _told(group: Group, ten: Tenfold, *, first: bool) -> str:
    measure = group.measure
    end, low, high = _ends(ten, measure.scale)
    begin = _like(ten.from_loss * measure.scale, end)
    what = "parameters" if ten.axis == "params" else ten.axis
    span = f"{_size(ten.axis, ten.start)} to {_size(ten.axis, ten.stop)}"
    ends = NOISE_UNKNOWN
    if ten.low is not None and ten.high is not None:
        ends = f"{ten.level:.0%} interval {low} to {high}".replace("%", " %")
        ends += ", which includes no change" if ten.low <= ten.from_loss <= ten.high else ""
    verb = _verb(ten)
    if first:
        said = f"{verb} {group.title}’s {measure.words} from {begin} to {end} {measure.unit}"
        return f"10 × more {what} ({span}) {said} ({ends})"
    step = " would take it from" if ten.kind != "interpolation" else ", from"
    return f"10 × more {what} ({span}){step} {begin} to {end} ({ends})"


def _ends(ten: Tenfold, scale: float) -> tuple[str, str, str]:
    low, high = (None if v is None else v * scale for v in (ten.low, ten.high))
    return with_ends(ten.to_loss * scale, low, high)


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
    found = [x for x in (data, model) if x is not None]
    held = [f"{_axis_noun(x.axis)} at the {_held(x)}" for x in found if x.at_other is not None]
    if held:
        beyond = [_axis_noun(x.axis) for x in found if x.kind != "interpolation"]
        how = f"the {joined(beyond)} line is prolonged beyond the runs" if beyond else "all ends were run"
        text = f"{', '.join(held)}; {how}."
        yield text[:1].upper() + text[1:]
    other = LEARNS.get(group.metric)
    if other and all(row[other] is not None for row in group.rows):
        yield from _second_metric(group, other)
    measured = [axis for axis, x in (("data", data), ("params", model)) if x is not None and x.kind == "interpolation"]
    yield from _next(group, measured, law)


def _held(ten: Tenfold) -> str:
    assert ten.other is not None and ten.at_other is not None
    size = f"{_size(ten.other, ten.at_other)} {_axis_noun(ten.other)}"
    return f"largest model ({size})" if ten.other == "params" else f"most data ({size})"


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


def _next(group: Group, axes: Iterable[str], law: Law | None) -> Iterable[str]:
    """The next tenfold from the largest run: by the law where it covers both axes, else by the last decade's line."""
    measure, parts, by_law = group.measure, [], False
    for axis in axes:
        column = group.data if axis == "data" else "params"
        top = float(max(row[column] for row in group.rows))
        ten = _tenfold(group, axis, start=top, law=law) if law is not None else None
        by_law = by_law or ten is not None
        ten = ten or _tenfold(group, axis, start=top)
        if ten is None:
            continue
        end, low, high = _ends(ten, measure.scale)
        ends = f"{low} to {high}" if ten.low is not None else NOISE_UNKNOWN
        parts.append(f"{_axis_noun(column)}, from {_like(ten.from_loss * measure.scale, end)} to {end} ({ends})")
    if parts:
        how = "by the fitted law" if by_law else "if the last decade’s slope holds"
        yield f"The next 10 × from the largest run, {how} (an extrapolation): {'; '.join(parts)} {measure.unit}."
