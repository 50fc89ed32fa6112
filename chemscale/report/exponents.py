"""Which exponents may be called, along which axis, of which metric; and otherwise the local slope."""

from __future__ import annotations

from collections.abc import Iterable

from chemscale.audit.groups import MEASURES, Group
from chemscale.laws import AxisReading, FitError, axis_reading
from chemscale.laws.readings.slopes import TOO_SHORT
from chemscale.report.numbers import with_ends
from chemscale.report.values import Column, Entry, Table

COUNTS = {"params": "non-embedding", "params_all": "all trainable"}

EXPONENT_COLUMNS = (
    Column("model"), Column("metric"), Column("axis"), Column("decades", True), Column("runs", True),
    Column("exponent (95 %)", True), Column("local slope per decade (95 %)", True), Column("floor"),
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
    words = f"{measure.words}, {measure.unit}"
    return (
        Entry(group.title), Entry(words), Entry(_definition(group, axis)), Entry(f"{found.decades:.1f}", found.decades),
        Entry(str(found.runs), found.runs), Entry(_exponent(found), found.exponent or 0.0),
        Entry(_slope(found), found.slope), Entry(_floor(found, measure.scale)),
    )  # fmt: skip


def _definition(group: Group, axis: str) -> str:
    if axis in COUNTS:
        return f"N, {COUNTS[axis]}"
    return f"D, unique {axis}"


def _exponent(found: AxisReading) -> str:
    if found.exponent is None:
        return TOO_SHORT
    low, high = found.exponent_interval or (None, None)
    value, low_text, high_text = with_ends(found.exponent, low, high)
    return f"{value} ({low_text} to {high_text})"


def _slope(found: AxisReading) -> str:
    low, high = found.interval or (None, None)
    value, low_text, high_text = with_ends(found.slope, low, high)
    ends = f" ({low_text} to {high_text})" if found.interval else " (interval unknown)"
    return value + ends


def _floor(found: AxisReading, scale: float) -> str:
    if found.floor is None:
        return "not identified" + (": too few runs" if "too few" in found.floor_words else "")
    low, high = found.floor_interval or (None, None)
    value, low_text, high_text = with_ends(
        found.floor * scale, None if low is None else low * scale, None if high is None else high * scale
    )
    return f"{value} ({low_text} to {high_text})"
