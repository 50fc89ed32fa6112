"""How much rows of one curve tell: neighbours along a curve err together, so that n rows count as fewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.table import Rows

LEAST_ROWS = 12  # under which a correlation of neighbours is not estimated
SURE = 2.0  # standard errors above zero from which a correlation is believed


def neighbour_correlation(residuals: Array, size: Array) -> float:
    """Correlation of residuals (n,) next to one another in `size` (n,); 0 where it is not clearly above zero.

    Rows of equal size are replicates, not neighbours on a curve: where more than a tenth of the rows share their size
    with another, the table is no curve and nothing is estimated.
    """
    count = len(residuals)
    if count < LEAST_ROWS or len(np.unique(size)) < 0.9 * count:
        return 0.0
    ordered = residuals[np.argsort(size, kind="stable")]
    ordered = ordered - ordered.mean()
    power = float(ordered @ ordered)
    if power <= 0:
        return 0.0
    found = float(ordered[1:] @ ordered[:-1]) / power
    return min(found, 0.98) if found > SURE / np.sqrt(count) else 0.0


def effective_rows(count: int, correlation: float) -> float:
    """Independent rows that tell as much as `count` with this correlation of neighbours (an AR(1) series)."""
    return count * (1 - correlation) / (1 + correlation)


def blocks(size: Array, correlation: float) -> np.ndarray:
    """Cluster numbers (n,) of contiguous stretches of a curve, each about as long as its rows err together."""
    count = len(size)
    length = int(np.ceil((1 + correlation) / (1 - correlation)))
    length = min(length, max(count // 6, 1))
    rank = np.empty(count, dtype=int)
    rank[np.argsort(size, kind="stable")] = np.arange(count)
    return rank // length


def as_curve(runs: Rows, residuals: Array) -> Rows:
    """The runs with stretches of their curve as clusters and a warning, where neighbours along one axis err together.

    Runs of several axes, and runs whose table names clusters, are returned as they are.
    """
    if len(runs.axes) > 1 or int(runs.clusters.max()) + 1 < len(runs):
        return runs
    ((role, size),) = runs.axes.items()
    found = neighbour_correlation(residuals, size)
    if found <= 0:
        return runs
    note = (
        f"neighbours along {runs.columns[role]} err together (correlation {found:.2f}): {len(runs)} rows tell as much "
        f"as {effective_rows(len(runs), found):.0f}, and intervals draw stretches of the curve"
    )
    return replace(runs, clusters=blocks(size, found), warnings=(*runs.warnings, note))
