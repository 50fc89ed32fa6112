"""The best split of a compute budget that a law of parameters and data gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chemscale.laws.doubt.residuals import interval
from chemscale.laws.objectives import Array
from chemscale.laws.prediction import Prediction
from chemscale.laws.tables.cost import SIX_N, CostRule, PerUnit

if TYPE_CHECKING:
    from chemscale.laws.law import Law

Ends = tuple[float, float]
FINER = 101  # points about the best of a coarse grid


@dataclass(frozen=True)
class Split:
    """The best split of a compute budget: parameters and data with intervals.

    An interval is open, to 0 or infinity, where the law's draws put the best size further than is searched: three
    decades below the smallest run and six above the largest.
    """

    flops: float
    params: float
    data: float
    params_interval: Ends
    data_interval: Ends
    cost: str


@dataclass(frozen=True)
class Optimum(Split):
    """The best split of a compute budget, and the loss of such a run."""

    loss: Prediction


def optima(law: Law, flops: Sequence[float], given: Sequence[Callable[[Any], Any] | None]) -> tuple[Optimum, ...]:
    """See `Law.optima`."""
    splits = [_split(law, budget, rule) for budget, rule in zip(flops, given, strict=True)]
    losses = law.predictions([{"params": split.params, "data": split.data} for split in splits])
    return tuple(Optimum(**vars(split), loss=loss) for split, loss in zip(splits, losses, strict=True))


def _split(law: Law, flops: float, given: Callable[[Any], Any] | None) -> Split:
    rule, name = _cost_rule(law, given)
    if not (np.isfinite(flops) and flops > 0):
        raise ValueError(f"flops={flops!r} must be a positive number of FLOPs.")
    low, high = law.solution.low[0] + law.solution.centre[0], law.solution.high[0] + law.solution.centre[0]
    sizes = np.linspace(low - 7, high + 14, 600)  # natural logs: three decades below to six above
    return Split(float(flops), *lowest(law, sizes, lambda params: rule.data(params, flops)), name)


def lowest(law: Law, sizes: Array, data_for: Callable[[Array], Array]) -> tuple[float, float, Ends, Ends]:
    """Parameters and data with the lowest loss along a line through the plane of both, and intervals over the draws.

    sizes: natural logs of the parameters that are searched, evenly spaced; data_for: the line, data at parameters.
    An end is 0 or infinite where draws put the best size beyond `sizes`.
    """
    best = lowest_size(law, sizes, data_for)
    drawn = grid_minimum(sizes, law.log_draws(_along(law, sizes, data_for)))
    ends = open_ends(interval(drawn, best, law.level, law.widening), sizes)
    with np.errstate(divide="ignore", invalid="ignore"):  # a model of nothing costs nothing, one without end all
        sides = data_for(np.exp(ends))
    sides = np.sort(np.where(np.isnan(sides), np.where(ends < 0, np.inf, 0.0), sides))
    params = float(np.exp(best))
    at = float(data_for(np.array(params)))
    return params, at, (float(np.exp(ends[0])), float(np.exp(ends[1]))), (float(sides[0]), float(sides[1]))


def lowest_size(law: Law, sizes: Array, data_for: Callable[[Array], Array]) -> float:
    """Natural log of the parameters with the lowest central loss along a line, as of `lowest`.

    Searched anew about the best of `sizes`, for a line may have a corner, where data run out or are seen once.
    """
    for _ in range(2):
        values = law.log_central(_along(law, sizes, data_for))
        inner = int(np.clip(np.argmin(values), 1, len(sizes) - 2))
        near, sizes = sizes, np.linspace(sizes[inner - 1], sizes[inner + 1], FINER)
    return float(grid_minimum(near, values[None])[0])


def _along(law: Law, sizes: Array, data_for: Callable[[Array], Array]) -> Array:
    """Centred logs of the points of a line, (sizes, 2)."""
    return np.stack([sizes, np.log(data_for(np.exp(sizes)))], 1) - law.solution.centre


def _cost_rule(law: Law, given: Callable[[Any], Any] | None) -> tuple[CostRule, str]:
    if law.roles != ("params", "data"):
        raise ValueError(f"optimal needs a law of params and data; form={law.form!r} is over {law.roles}.")
    if given is not None:
        return PerUnit(given), "given"
    if law.cost is not None:
        return law.cost, "measured from the table"
    if law.columns["data"]["units"] == "tokens":
        return SIX_N, "6 N per token"
    raise ValueError(
        f"data are counted in {law.columns['data']['units']!r} and the table has no FLOPs, so the cost of a run "
        f"is unknown; pass flops_per_example, a function of the parameter count."
    )


def open_ends(ends: Ends, grid: Array) -> Array:
    """The ends of an interval on an even `grid`, minus or plus infinity where they are those of the grid, (2,)."""
    low, high = ends
    return np.array([low if low > grid[2] else -np.inf, high if high < grid[-3] else np.inf])


def grid_minimum(grid: Array, values: Array) -> Array:
    """Where each row of `values` (B, points) is lowest on an even `grid`, refined by a parabola, (B,)."""
    inner = np.clip(np.argmin(values, axis=1), 1, len(grid) - 2)
    rows = np.arange(len(values))
    left, mid, right = (values[rows, inner + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    return grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0])
