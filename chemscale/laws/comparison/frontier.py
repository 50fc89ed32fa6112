"""Laws of one cost along the efficient frontier: the runs that no cheaper run beats.

A law of FLOPs or of device-seconds is about the best that each group makes of a budget, over the sizes and data that
were run; runs off the frontier say nothing of it. The lowest of noisy losses is a little too low, for every group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chemscale.laws.comparison.groups import Group, form_for, refuse_apart
from chemscale.laws.comparison.jointlaw import JointLaw, join
from chemscale.laws.errors import FitError, naming
from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import positive
from chemscale.laws.tables.table import Rows

COSTS = {"flops": "FLOPs", "device_seconds": "device-seconds"}  # columns of a table of runs, and what they count


def frontiers(
    groups: Mapping[str, Group], costs: Mapping[str, str], settings: dict[str, Any]
) -> tuple[tuple[JointLaw, ...], tuple[str, ...]]:
    """A joint law of each cost (column -> what it counts) that every group has, and why others are missing."""
    found, skipped = [], []
    for column, words in costs.items():
        if not all(any(v is not None for v in group.columns.get(column, [])) for group in groups.values()):
            continue
        try:
            found.append(_law(groups, column, words, settings))
        except (ValueError, FitError) as error:
            skipped.append(f"no law of {words}: {error}")
    return tuple(found), tuple(skipped)


def _law(groups: Mapping[str, Group], column: str, words: str, settings: dict[str, Any]) -> JointLaw:
    devices = {str(v) for group in groups.values() for v in group.columns.get("device", []) if v is not None}
    if column == "device_seconds" and len(devices) > 1:
        raise ValueError(f"the runs used {len(devices)} kinds of device ({', '.join(sorted(devices))}).")
    parts = {}
    for name, group in groups.items():
        with naming(name):
            parts[name] = frontier(group, column, words)
    form = form_for(None, parts)
    refuse_apart(parts, form, "group")
    return join(parts, form, f"runs on the efficient frontier of {words}", shared=(), **settings)


def frontier(group: Group, column: str, unit: str) -> Rows:
    """A group's efficient runs over one cost; repeats of a point count as their mean, or luck would choose them.

    Points share a cluster where any of their runs do.
    """
    loss = group.runs.columns["loss"]
    costs = np.log(positive(group.columns, column, column))
    _, cell = np.unique(group.runs.stacked(tuple(group.runs.axes)), axis=0, return_inverse=True)
    counts = np.bincount(cell.ravel())
    cost, mean = (np.exp(np.bincount(cell.ravel(), logs) / counts) for logs in (costs, np.log(group.runs.loss)))
    best = efficient(cost, mean)
    shared = joined(cell.ravel(), group.runs.clusters)[best]
    clusters = np.unique(shared, return_inverse=True)[1].ravel()
    units = {"flops": unit, "loss": group.runs.units["loss"]}
    return Rows(
        {"flops": column, "loss": loss}, units, {"flops": cost[best]}, mean[best], np.ones(int(best.sum())),
        clusters, noise_floor=group.runs.noise_floor,
    )  # fmt: skip


def efficient(cost: Array, loss: Array) -> np.ndarray:
    """Which runs have a lower loss than every run that costs no more, (n,) of bool; of equals the first."""
    order = np.lexsort((loss, cost))
    lowest = np.minimum.accumulate(loss[order])
    before = np.concatenate([[np.inf], lowest[:-1]])
    out = np.zeros(len(cost), bool)
    out[order] = loss[order] < before
    return out


def joined(cell: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Number of each cell's set of cells that share clusters, directly or through others; cell, clusters (n,)."""
    least = np.arange(int(cell.max()) + 1)
    while True:
        by_cluster = np.full(int(clusters.max()) + 1, len(least))
        np.minimum.at(by_cluster, clusters, least[cell])
        lower = least.copy()
        np.minimum.at(lower, cell, by_cluster[clusters])
        if (lower == least).all():
            return least
        least = lower
