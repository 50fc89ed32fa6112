"""Data-limited or model-limited: which axis buys more per tenfold at the largest cell, or what would tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.errors import require_level
from chemscale.laws.readings.regression import Slope, differ
from chemscale.laws.readings.slopes import at_largest, grid_rows, noise_of, slope_of, upper

CANNOT_TELL = "cannot tell yet"
MOST_REPLICATES = 10  # more seeds than this are dearer than a longer axis


@dataclass(frozen=True)
class NextRun:
    """A run that would help to decide: where, how many seeds, and why."""

    params: float
    data: float
    replicates: int
    why: str


@dataclass(frozen=True)
class Verdict:
    """`answer` is "data-limited" (more data buys more), "model-limited", or "cannot tell yet".

    data_gain and model_gain: share of the loss that ten times more takes away at the largest cell (0.3 = 30 %), with
    intervals; `reason` is one sentence; `would_decide` lists runs when the answer is open.
    """

    answer: str
    reason: str
    params: float
    data: float
    data_gain: float
    data_interval: tuple[float, float] | None
    model_gain: float
    model_interval: tuple[float, float] | None
    level: float
    would_decide: tuple[NextRun, ...] = ()


def verdict(
    table: Any,
    *,
    loss: str,
    params: str = "params",
    data: str = "structures",
    where: str | None = None,
    level: float = 0.95,
) -> Verdict:
    """Decide from the last decade of each axis, the other axis at its largest.

    It is data-limited where the loss falls faster per tenfold of data than of parameters and the interval of the
    difference excludes zero. Raises ValueError as `fit` does.
    """
    require_level(level)
    grid = grid_rows(table, data, params, loss, where)
    over_data, noise = at_largest(grid), noise_of(grid)
    over_model = at_largest(grid_rows(table, params, data, loss, where))
    by_data = slope_of(over_data.take(upper(over_data.axes["data"])), over_data, noise)
    by_model = slope_of(over_model.take(upper(over_model.axes["data"])), over_model, noise)
    top = float(over_model.axes["data"].max()), float(over_data.axes["data"].max())
    gap = differ(by_data, by_model, level)
    answer, reason = _answer(by_data, by_model, gap, level)
    runs = (
        _runs(over_data.axes["data"], over_model.axes["data"], by_data, by_model, gap) if answer == CANNOT_TELL else ()
    )
    return Verdict(
        answer, reason, *top, _gain(by_data.slope), _gains(by_data, level), _gain(by_model.slope),
        _gains(by_model, level), level, runs,
    )  # fmt: skip


def _gain(slope: float) -> float:
    return 1 - 10**slope


def _gains(bend: Slope, level: float) -> tuple[float, float] | None:
    ends = bend.interval(level)
    return (_gain(ends[1]), _gain(ends[0])) if ends else None


def _answer(by_data: Slope, by_model: Slope, gap: tuple[float, float] | None, level: float) -> tuple[str, str]:
    gains = f"10x data takes {_gain(by_data.slope):.0%} off the loss, 10x parameters {_gain(by_model.slope):.0%}"
    if gap is None:
        return CANNOT_TELL, f"{gains}, but no run is repeated, so the noise of these numbers is unknown"
    if gap[1] < 0 and by_data.slope < 0:
        return "data-limited", f"{gains}, and the difference is outside its {level:.0%} interval"
    if gap[0] > 0 and by_model.slope < 0:
        return "model-limited", f"{gains}, and the difference is outside its {level:.0%} interval"
    return CANNOT_TELL, f"{gains}, but the {level:.0%} interval of the difference includes zero"


def _runs(
    data: np.ndarray, params: np.ndarray, by_data: Slope, by_model: Slope, gap: tuple[float, float] | None
) -> tuple[NextRun, ...]:
    """Seeds at the ends of both axes until the difference would show, and one step further along each axis."""
    seeds = 3
    if gap is not None and gap[0] < gap[1]:
        middle, half = abs(gap[0] + gap[1]) / 2, (gap[1] - gap[0]) / 2
        seeds = int(np.clip(np.ceil((half / max(middle, 1e-9)) ** 2), 2, MOST_REPLICATES))
    n, d = float(params.max()), float(data.max())
    low_n, low_d = float(params[upper(params)].min()), float(data[upper(data)].min())
    why = f"{seeds} seeds here shrink the interval of the slopes to about their difference"
    runs = [NextRun(n, d, seeds, why), NextRun(n, low_d, seeds, why), NextRun(low_n, d, seeds, why)]
    if seeds == MOST_REPLICATES:
        further = "seeds alone would not decide; a longer axis measures its slope better"
        runs = [
            NextRun(n, d, 3, "replicates of the corner"),
            NextRun(n, 4 * d, 2, further),
            NextRun(4 * n, d, 2, further),
        ]
    return tuple(runs)
