"""Rows of a table that are copies of another one: a run counts once, however often it was written down."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from chemscale.laws.tables.columns import Columns, keep, number

RUN = "run_id"  # runs with ids of their own are runs of their own
GAPS = 10  # rows, on average, that a filter may have left out between two
DIGITS = 5  # significant ones of a loss that runs may agree in by chance: noise of 1 % leaves 1,000 values of so many


def without_copies(columns: Columns, axes: Mapping[str, str], loss: str) -> tuple[Columns, tuple[str, ...]]:
    """The rows without copies of earlier ones, and a sentence on how many there were; axes: role -> column."""
    first = first_written(columns, axes, loss)
    copies = int((~first).sum())
    if not copies:
        return columns, ()
    told = "1 row that repeats" if copies == 1 else f"{copies} rows that repeat"
    return keep(columns, first), (f"left out {told} an earlier one exactly: copies of a run are no replicates of it",)


def first_written(columns: Columns, axes: Mapping[str, str], loss: str) -> np.ndarray:
    """Which rows are no copies of an earlier one, (rows,) of bool.

    A copy agrees with an earlier row in every column; or, where the loss has so many digits that no two trainings end
    in it, in every column but those that number the rows. Replicates that a column such as the seed tells apart stay.
    """
    names = [*axes.values(), loss]
    first = np.ones(len(next(iter(columns.values()), [])), bool)
    if not all(name in columns for name in names):
        return first
    seen: dict[tuple[Any, ...], list[int]] = {}
    for i, key in enumerate(zip(*(map(str, columns[name]) for name in names), strict=True)):
        seen.setdefault(key, []).append(i)
    tied = [rows for rows in seen.values() if len(rows) > 1]
    left = len(first) + 1 if tied else 0
    while first.sum() < left:  # without its copies a table may show that a column only numbers the rows
        left = first.sum()
        numbered = _numbered(keep(columns, first), {*names, RUN})
        for rows in tied:
            ignored = numbered if _told_apart(columns[loss][rows[0]]) else set()
            said: set[tuple[str, ...]] = set()
            for i in (i for i in rows if first[i]):
                row = tuple(str(values[i]) for name, values in columns.items() if name not in ignored)
                first[i] = row not in said
                said.add(row)
    return first


def _numbered(columns: Columns, meant: Collection[str]) -> set[str]:
    """Columns, beside those `meant`, of whole numbers that count up: they say which row it is, and no more."""
    return {name for name, values in columns.items() if name not in meant and _counts_up(values)}


def _counts_up(values: Sequence[Any]) -> bool:
    """Whether whole numbers grow from row to row by little, as those of rows do of which a filter left some out."""
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return whole and all(a < b for a, b in pairwise(values)) and values[-1] - values[0] < GAPS * len(values)


def _told_apart(loss: Any) -> bool:
    """Whether a loss has more digits than runs agree in by chance."""
    value = number(loss)
    return value is not None and float(f"{value:.{DIGITS}g}") != value
