"""A grid as Frey et al. 2023 read theirs: a power law without floor in one axis, for every value of the other.

Frey et al. 2023 (Nature Machine Intelligence 5, 1297) fit L = alpha R^-beta to the losses of one amount of data, with R
the non-embedding parameters, and follow beta as the data grow; where data are few the loss no longer falls with the
model, and the law holds only outside that region. There is no floor here, so that a beta is of the slope over the range
that was run; least squares of log loss, intervals by Student's t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.errors import require_level
from chemscale.laws.objectives import Array
from chemscale.laws.readings.regression import Scatter, Slope
from chemscale.laws.readings.slopes import grid_rows, levels, noise_of, slope_of
from chemscale.laws.tables.table import Rows

DATA_LIMITED, MODEL_LIMITED, OPEN = "data-limited", "model-limited", "cannot tell"
LEAST = 3  # sizes of a slice from which its exponent can be told without its data-limited ones


@dataclass(frozen=True)
class Cell:
    """One cell of the grid; loss is the geometric mean of its runs.

    by_params, by_data: slopes of log10 loss per decade towards the neighbours along each axis, None where it has none;
    `regime` says which of the two buys more, "cannot tell" where their difference is within the noise.
    """

    params: float
    data: float
    loss: float
    runs: int
    by_params: float | None
    by_data: float | None
    regime: str


@dataclass(frozen=True)
class Slice:
    """The power law L = amplitude N^-exponent at one amount of data.

    `exponent` is of all runs of the slice, `free` of those that are not data-limited, None with fewer than three such
    sizes; amplitude in the loss's unit. Intervals are None where the noise could not be measured.
    """

    data: float
    runs: int
    exponent: float
    interval: tuple[float, float] | None
    amplitude: float
    limited: int
    free: float | None
    free_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Slices:
    """All slices of a grid, by their amount of data, and its cells; `columns` names the axes and the loss."""

    slices: tuple[Slice, ...]
    cells: tuple[Cell, ...]
    columns: dict[str, str]
    units: str
    level: float
    notes: tuple[str, ...] = ()

    @property
    def trend(self) -> str:
        """One sentence on how the exponent moves with the data."""
        first, last = self.slices[0], self.slices[-1]
        if len(self.slices) == 1:
            return f"one amount of data, {first.data:g}: how the exponent moves with it cannot be told."
        moved = f"from {first.exponent:.3g} at {first.data:g} to {last.exponent:.3g} at {last.data:g}"
        if first.interval is None or last.interval is None:
            return f"the exponent goes {moved}; its noise is unknown."
        apart = first.interval[1] < last.interval[0] or last.interval[1] < first.interval[0]
        words = "outside" if apart else "within"
        return f"the exponent goes {moved} {self.columns['data']}, {words} the {self.level:.0%} intervals."


def sliced(
    table: Any, *, loss: str, params: str = "params", data: str = "molecules", where: str | None = None,
    level: float = 0.95,
) -> Slices:  # fmt: skip
    """Read a grid slice by slice.

    Args:
        table: any table of runs, as `fit` takes it.
        params: the column of the power law, by default the non-embedding parameters.
        data: the column that is held in a slice.

    Raises:
        ValueError: as `fit`; or no amount of data has runs at two values of `params`.
    """
    require_level(level)
    grid = grid_rows(table, params, data, loss, where)  # `params` of the grid is what is held, `data` what varies
    sizes, amounts, noise = levels(grid.axes["data"]), levels(grid.axes["params"]), noise_of(grid)
    cells = _cells(grid, sizes, amounts, noise)
    limited = np.array([cells[pair].regime == DATA_LIMITED for pair in zip(sizes, amounts, strict=True)])
    found = []
    for number in np.unique(amounts):
        mine = amounts == number
        if len(np.unique(sizes[mine])) > 1:
            found.append(_slice(grid.take(mine), limited[mine], noise, level))
    if not found:
        raise ValueError(f"no value of {data!r} has runs at two values of {params!r}; run a grid.")
    columns = {"params": params, "data": data, "loss": loss}
    in_order = tuple(sorted(cells.values(), key=lambda cell: (cell.data, cell.params)))
    return Slices(tuple(found), in_order, columns, grid.units["loss"], level, grid.warnings)


def _slice(part: Rows, limited: np.ndarray, noise: Scatter | None, level: float) -> Slice:
    bend = slope_of(_alone(part), part, noise)
    free = part.take(~limited)
    told = len(free) > 0 and levels(free.axes["data"]).max() + 1 >= LEAST
    freed = slope_of(_alone(free), free, noise) if told else None
    x, y = np.log10(part.axes["data"]), np.log10(part.loss)
    return Slice(
        _centre(part.axes["params"]), len(part), -bend.slope, _exponents(bend, level),
        float(10 ** (y.mean() - bend.slope * x.mean())), int(limited.sum()),
        None if freed is None else -freed.slope, None if freed is None else _exponents(freed, level),
    )  # fmt: skip


def _alone(part: Rows) -> Rows:
    """A slice as a grid of one axis: its other one is held."""
    return replace(part, axes={"data": part.axes["data"]})


def _exponents(bend: Slope, level: float) -> tuple[float, float] | None:
    ends = bend.interval(level)
    return None if ends is None else (-ends[1], -ends[0])


def _cells(grid: Rows, sizes: np.ndarray, amounts: np.ndarray, noise: Scatter | None) -> dict[tuple[int, int], Cell]:
    """Every cell that was run, by the numbers of its two levels."""
    count, total = np.zeros((2, sizes.max() + 1, amounts.max() + 1))
    np.add.at(count, (sizes, amounts), 1)
    np.add.at(total, (sizes, amounts), np.log10(grid.loss))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    n = np.array([_centre(grid.axes["data"][sizes == k]) for k in range(sizes.max() + 1)])
    d = np.array([_centre(grid.axes["params"][amounts == k]) for k in range(amounts.max() + 1)])
    along_n, along_d = _falls(mean, n, count), tuple(part.T for part in _falls(mean.T, d, count.T))
    cells = {}
    for i, j in zip(*np.nonzero(count), strict=True):
        by_params, by_data = (None if np.isnan(slope[i, j]) else float(slope[i, j]) for slope, _ in (along_n, along_d))
        error = None if noise is None else noise.sigma * float(np.hypot(along_n[1][i, j], along_d[1][i, j]))
        cells[int(i), int(j)] = Cell(
            float(n[i]), float(d[j]), float(10 ** mean[i, j]), int(count[i, j]), by_params, by_data,
            _regime(by_params, by_data, error),
        )  # fmt: skip
    return cells


def _falls(mean: Array, axis: Array, count: Array) -> tuple[Array, Array]:
    """Slope of each cell along the first axis, between its two neighbours or to the one it has, both (n, m); and the
    factor by which one run's noise enters it."""
    slope, factor = np.full((2, *mean.shape), np.nan)
    x = np.log10(axis)
    for j in range(mean.shape[1]):
        there = np.flatnonzero(count[:, j])
        for k, i in enumerate(there):
            low, high = there[max(0, k - 1)], there[min(len(there) - 1, k + 1)]
            if low != high:
                slope[i, j] = (mean[high, j] - mean[low, j]) / (x[high] - x[low])
                factor[i, j] = np.sqrt(1 / count[high, j] + 1 / count[low, j]) / (x[high] - x[low])
    return slope, factor


def _regime(by_params: float | None, by_data: float | None, error: float | None) -> str:
    """Which axis takes more off the loss per decade, where the difference is more than its standard error twice."""
    if by_params is None or by_data is None:
        return OPEN
    gap = by_params - by_data  # both are negative where the loss falls
    if error is not None and abs(gap) < 2 * error:
        return OPEN
    return DATA_LIMITED if gap > 0 else MODEL_LIMITED


def _centre(values: Array) -> float:
    """The value that a level stands for: its own, or the geometric mean of several."""
    return float(values[0]) if np.ptp(values) == 0 else float(10 ** np.log10(values).mean())
