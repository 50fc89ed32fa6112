"""Honest small numbers: what a grid of runs says by itself, before any law is believed.

Everything is read at the largest value of the other axis, where the next run will start. Slopes are of log10 loss per
decade of the axis; an exponent is minus the slope. Intervals are Student's t; the noise of a run is measured over the
whole grid (see `regression`), since the few runs at one value of the other axis hardly tell their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt.identify import FLOOR_LEVELS, LOCAL, decades
from chemscale.laws.errors import FitError, require_level
from chemscale.laws.fit import fit
from chemscale.laws.law import Law
from chemscale.laws.readings.regression import Scatter, Slope, slope_line, surface_noise
from chemscale.laws.tables.copies import without_copies
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.table import Rows, rows

TOO_SHORT = "too short to call"
SAME = 0.02  # decades; values of an axis closer than this are one level
TOP = 1.0  # decades at the end of an axis that its local slope is read from, or its last three levels


@dataclass(frozen=True)
class AxisReading:
    """One axis of a grid: what its runs support.

    slope and interval at `at_other` (the largest value of the other axis); pooled over all its values; `exponent` is
    None unless it may be called (span of at least 1.5 decades and an interval narrower than its value); `words` says
    the exponent or "too short to call"; `floor` is None with `floor_words` where it is not identified.
    """

    axis: str
    other: str | None
    at_other: float | None
    loss: str
    units: str
    decades: float
    runs: int
    slope: float
    interval: tuple[float, float] | None
    pooled_slope: float
    pooled_interval: tuple[float, float] | None
    exponent: float | None
    exponent_interval: tuple[float, float] | None
    words: str
    floor: float | None
    floor_interval: tuple[float, float] | None
    floor_words: str
    level: float


@dataclass(frozen=True)
class Tenfold:
    """What ten times more of one axis does to the loss, the other axis at its largest.

    from_loss at `start`, to_loss with [low, high] at `stop` = 10 x start; `kind` is "interpolation" (both ends were
    run) or "extrapolation"; low and high are None where the noise could not be measured.
    """

    axis: str
    other: str | None
    at_other: float | None
    start: float
    stop: float
    from_loss: float
    to_loss: float
    low: float | None
    high: float | None
    units: str
    kind: str
    level: float

    def sentence(self, unit: str | None = None, scale: float = 1.0) -> str:
        """One sentence; `scale` multiplies losses into `unit` (1000 with "meV/angstrom")."""
        ends = "interval unknown: no replicates"
        if self.low is not None and self.high is not None:
            ends = f"{self.level:.0%} interval {self.low * scale:.3g} to {self.high * scale:.3g}"
        verb = "takes" if self.kind == "interpolation" else "would take"
        return (
            f"10x more {self.axis} ({self.start:.3g} to {self.stop:.3g}) {verb} the loss from "
            f"{self.from_loss * scale:.3g} to {self.to_loss * scale:.3g} {unit or self.units} ({ends}; {self.kind})."
        )


def axis_reading(
    table: Any, *, axis: str, other: str | None, loss: str, where: str | None = None, level: float = 0.95
) -> AxisReading:
    """Read one axis of a grid (`axis` and `other` are column names); raises ValueError as `fit` does."""
    require_level(level)
    grid = grid_rows(table, axis, other, loss, where)
    top = at_largest(grid)
    local, pooled = slope_of(top, top, noise_of(grid)), slope_of(grid, grid)
    span = decades(top.axes["data"])
    ends = local.interval(level)
    called = ends is not None and span >= LOCAL and ends[1] - ends[0] < abs(local.slope)
    exponent_ends = (-ends[1], -ends[0]) if ends and called else None
    words = f"exponent {-local.slope:.3g}" if called else f"local slope {local.slope:.3g} per decade, {TOO_SHORT}"
    floor, floor_ends, floor_words = _floor(top, level)
    return AxisReading(
        axis, other, _other_level(top), loss, grid.units["loss"], span, len(top), local.slope, ends,
        pooled.slope, pooled.interval(level), -local.slope if called else None, exponent_ends, words,
        floor, floor_ends, floor_words, level,
    )  # fmt: skip


def tenfold(
    table: Any,
    *,
    axis: str,
    other: str | None,
    loss: str,
    where: str | None = None,
    level: float = 0.95,
    start: float | None = None,
    law: Law | None = None,
) -> Tenfold:
    """The loss at `start` and at ten times `start`, the other axis at its largest value.

    start: by default a tenth of the largest value run, where the grid spans a decade there, and otherwise the largest
    value itself. Inside the range both losses come from the line through that decade and the run just below it. Beyond
    it the line of the last decade is prolonged, which is optimistic where a floor is near; give a `law` of params and
    data to use its prediction, with its interval, instead. The interval is that of the change from `from_loss`.
    """
    require_level(level)
    grid = grid_rows(table, axis, other, loss, where)
    top = at_largest(grid)
    x = top.axes["data"]
    far = float(x.max())
    start = start or (far / 10 if decades(x) >= 1 - SAME else far)
    kind = "interpolation" if start * 10 <= far * 1.05 and start >= x.min() / 1.05 else "extrapolation"
    at = _other_level(top)
    if law is not None:
        return _by_law(law, axis, other, at, start, kind)
    near = upper(x)
    if kind == "interpolation":
        near = (x >= x[x <= start * 1.05].max() / 1.05) & (x <= start * 10.5)
    part = top.take(near)
    bend = slope_of(part, top, noise_of(grid))
    begin = 10 ** (np.log10(part.loss).mean() + bend.slope * (np.log10(start) - np.log10(part.axes["data"]).mean()))
    ends = bend.interval(level)
    low, high = (begin * 10 ** ends[0], begin * 10 ** ends[1]) if ends else (None, None)
    to = begin * 10**bend.slope
    unit = grid.units["loss"]
    return Tenfold(
        axis, other, at, float(start), float(start * 10), float(begin), float(to), low, high, unit, kind, level
    )


def grid_rows(table: Any, axis: str, other: str | None, loss: str, where: str | None) -> Rows:
    """The finished runs with the axis in question as `data` and the other one, if any, as `params`."""
    columns, notes = select(table, where, loss=loss)
    roles = {"data": axis, **({"params": other} if other else {})}
    columns, copied = without_copies(columns, roles, loss)
    found = rows(columns, roles, loss, None, (*notes, *copied))
    if decades(found.axes["data"]) < SAME:
        raise ValueError(f"axis={axis!r} has the single value {found.axes['data'][0]:g}; a slope needs two values.")
    return found


def at_largest(grid: Rows) -> Rows:
    """The runs at the largest value of the other axis at which the axis in question varies."""
    if "params" not in grid.axes:
        return grid
    other = levels(grid.axes["params"])
    for level in np.unique(other)[::-1]:
        part = grid.take(other == level)
        if decades(part.axes["data"]) >= SAME:
            return part
    raise ValueError(
        f"no value of {grid.columns['params']!r} has runs at two values of {grid.columns['data']!r}; run a grid."
    )


def levels(values: np.ndarray) -> np.ndarray:
    """Number of the level of each value, smallest first; values within 5 % of their neighbour share one."""
    distinct = np.unique(values)
    number = np.concatenate([[0], np.cumsum(np.diff(np.log10(distinct)) > SAME)])
    return number[np.searchsorted(distinct, values)]


def upper(x: np.ndarray) -> np.ndarray:
    """The end of an axis, (n,) of bool: its last decade, or its last three levels where that holds fewer."""
    number = levels(x)
    return (x >= x.max() / 10 ** (TOP + SAME)) | (number >= number.max() - 2)


def noise_of(grid: Rows) -> Scatter | None:
    """Scatter of one run, pooled over a grid of two axes; None on one axis, whose runs must speak for themselves."""
    if "params" not in grid.axes:
        return None
    x, y = np.log10(grid.axes["data"]), np.log10(grid.axes["params"])
    many_x, many_y = (int(levels(grid.axes[axis]).max()) + 1 for axis in ("data", "params"))
    return surface_noise(x - x.mean(), y - y.mean(), np.log10(grid.loss), many_x, many_y)


def slope_of(part: Rows, grid: Rows, noise: Scatter | None = None) -> Slope:
    """Slope of log10 loss on log10 axis, with an intercept per level of the other axis."""
    number = levels(part.axes["params"]) if "params" in part.axes else np.zeros(len(part), int)
    shared = part.clusters if len(np.unique(grid.clusters)) < len(grid) else np.arange(len(part))
    return slope_line(np.log10(part.axes["data"]), np.log10(part.loss), number, shared, noise)


def _other_level(top: Rows) -> float | None:
    return float(top.axes["params"].max()) if "params" in top.axes else None


def _floor(top: Rows, level: float) -> tuple[float | None, tuple[float, float] | None, str]:
    if levels(top.axes["data"]).max() + 1 < FLOOR_LEVELS:
        return None, None, f"floor not identified: fewer than {FLOOR_LEVELS} sizes along this axis"
    table = {"x": top.axes["data"], "loss": top.loss, "cluster": top.clusters}
    try:
        law = fit(table, form="power_floor", data="x", loss="loss", objective="log_lsq", bootstrap=0, level=level,
                  interval="profile")  # fmt: skip
    except (ValueError, FitError):
        return None, None, "floor not identified: too few runs along this axis"
    if law.parameters["E"] is None:
        return None, law.interval("E"), "floor not identified"
    return law.parameters["E"], law.interval("E"), f"floor {law.parameters['E']:.3g}"


def _by_law(law: Law, axis: str, other: str | None, at: float | None, start: float, kind: str) -> Tenfold:
    roles = {law.columns[role]["name"]: role for role in law.roles}
    held = {roles[other]: at} if other in roles and at is not None else {}
    if axis not in roles or len(held) + 1 != len(law.roles):
        raise ValueError(f"the law is over {', '.join(roles)}, not over {axis!r} and {other!r}; fit one over both.")
    begin, end = law.predictions([{roles[axis]: here, **held} for here in (start, 10 * start)])
    return Tenfold(
        axis, other, at, float(start), float(10 * start), begin.value, end.value, end.low, end.high, law.units, kind,
        law.level,
    )  # fmt: skip
