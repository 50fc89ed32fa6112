"""The best split of a compute budget that a law of parameters and data gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chemscale.laws.doubt.residuals import interval
from chemscale.laws.objectives import Array
from chemscale.laws.prediction import Prediction
from chemscale.laws.tables.cost import FlopsPerExample, six_n

if TYPE_CHECKING:
    from chemscale.laws.law import Law


@dataclass(frozen=True)
class Split:
    """The best split of a compute budget: parameters and data with intervals.

    An interval is open, to 0 or infinity, where the law's draws put the best size further than is searched: three
    decades below the smallest run and six above the largest.
    """

    flops: float
    params: float
    data: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
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
    low, high = law.solution.low + law.solution.centre, law.solution.high + law.solution.centre
    grid = np.linspace(low[0] - 7, high[0] + 14, 600)  # natural logs: three decades below to six above
    params = np.exp(grid)
    data = flops / np.asarray(rule(params), float)
    x = np.stack([grid, np.log(data)], 1) - law.solution.centre
    best = grid_minimum(grid, law.log_central(x)[None])[0]
    spread = grid_minimum(grid, law.log_draws(x))
    edges = np.exp(open_ends(interval(spread, best, law.level, law.widening), grid))
    n, d = float(np.exp(best)), float(flops / rule(np.exp(best)))
    opposite = {0.0: np.inf, np.inf: 0.0}  # of no model at all, and of one without end
    sides = sorted(opposite[e] if e in opposite else float(flops / rule(e)) for e in edges.tolist())
    return Split(float(flops), n, d, (float(edges[0]), float(edges[1])), (sides[0], sides[1]), name)


def _cost_rule(law: Law, given: Callable[[Any], Any] | None) -> tuple[FlopsPerExample, str]:
    if law.roles != ("params", "data"):
        raise ValueError(f"optimal needs a law of params and data; form={law.form!r} is over {law.roles}.")
    if given is not None:
        return given, "given"
    if law.cost is not None:
        return law.cost, "measured from the table"
    if law.columns["data"]["units"] == "tokens":
        return six_n, "6 N per token"
    raise ValueError(
        f"data are counted in {law.columns['data']['units']!r} and the table has no FLOPs, so the cost of a run "
        f"is unknown; pass flops_per_example, a function of the parameter count."
    )


def open_ends(ends: tuple[float, float], grid: Array) -> Array:
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
