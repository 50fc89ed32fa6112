"""Rows of a table that are copies of another one: a run counts once, however often it was written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chemscale.laws.tables.columns import Columns, keep, number

DIGITS = 5  # significant ones of a loss that runs may agree in by chance: noise of 1 % leaves 1,000 values of so many


def without_copies(columns: Columns, axes: Mapping[str, str], loss: str) -> tuple[Columns, tuple[str, ...]]:
    """The rows without copies of earlier ones, and a sentence on how many there were.

    axes: role -> column. A copy has the axes and the loss of an earlier row and agrees with it in every other column
    too; or its loss has so many digits that no two trainings end in it. Replicates whose losses were rounded stay,
    where a column such as the seed tells them apart.
    """
    names = [*axes.values(), loss]
    if not all(name in columns for name in names):
        return columns, ()
    seen: dict[tuple[Any, ...], list[int]] = {}
    first = np.ones(len(columns[loss]), bool)
    for i, key in enumerate(zip(*(map(str, columns[name]) for name in names), strict=True)):
        earlier = seen.setdefault(key, [])
        first[i] = not (earlier and (_told_apart(columns[loss][i]) or any(_alike(columns, i, j) for j in earlier)))
        if first[i]:
            earlier.append(i)
    copies = int((~first).sum())
    if not copies:
        return columns, ()
    told = "1 row that repeats" if copies == 1 else f"{copies} rows that repeat"
    return keep(columns, first), (f"left out {told} an earlier one exactly: copies of a run are no replicates of it",)


def _told_apart(loss: Any) -> bool:
    """Whether a loss has more digits than runs agree in by chance."""
    value = number(loss)
    return value is not None and float(f"{value:.{DIGITS}g}") != value


def _alike(columns: Columns, one: int, other: int) -> bool:
    return all(str(values[one]) == str(values[other]) for values in columns.values())
