"""Of very many runs that share a law, those that it is fitted to: every cell by its share, none left out unseen.

A law's interval narrows as the root of its runs while the time of its fits, profiles and checks grows with them, and a
figure of ten thousand markers shows no more than one of a thousand. What counts runs (trials, holes, splits, mixed
settings) still counts all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from chemscale.audit.groups import Group, Row
from chemscale.laws.tables.copies import first_written

MOST = 800  # runs of one law on a page or in an audit


def thinned(group: Group) -> Group:
    """The group with at most `MOST` runs under its law; the others are its `spare`."""
    if len(group.rows) <= MOST:
        return group
    ordered = sorted(group.rows, key=_by_chance)
    rows, spare = thin(ordered, ("params", group.data), MOST)
    rows.sort(key=lambda row: (row["params"], row[group.data], row["seed"]))
    return replace(group, rows=tuple(rows), spare=tuple(spare))


def _by_chance(row: Row) -> tuple[bytes, str]:
    """An order by chance, the same always, and the same seeds and subsets for every group: pairs stay pairs."""
    return sha256(f"{row['seed']} {row['subset_key']}".encode()).digest(), row["run_id"]


def run_ids_of(groups: Iterable[Group]) -> list[str]:
    """The runs under the laws of these groups."""
    return [row["run_id"] for group in groups for row in group.rows]


def thin(rows: Sequence[Row], places: Sequence[str], most: int) -> tuple[list[Row], list[Row]]:
    """Rows that are kept, and the others: each cell's first row, then each cell's second, until there are `most`.

    Cells at an end of an axis come first, so that the axes keep their spans.
    """
    values = np.array([[row[name] for name in places] for row in rows], float)
    _, cells = np.unique(values, axis=0, return_inverse=True)
    order = np.argsort(cells, kind="stable")
    starts = np.searchsorted(cells[order], cells)
    rank = np.empty(len(rows), int)
    rank[order] = np.arange(len(rows))
    rank -= starts  # of a row in its cell
    inner = ((values != values.min(0)) & (values != values.max(0))).all(1)
    kept = np.zeros(len(rows), bool)
    kept[np.lexsort((np.arange(len(rows)), inner, rank))[:most]] = True
    return [row for row, k in zip(rows, kept, strict=True) if k], [
        row for row, k in zip(rows, kept, strict=True) if not k
    ]


def once(rows: Sequence[Row], axes: Mapping[str, str], loss: str) -> tuple[list[Row], int]:
    """Rows without copies, which are those that a law rests on, and how many copies there were."""
    first = first_written({name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}, axes, loss)
    return [row for row, is_first in zip(rows, first, strict=True) if is_first], int((~first).sum())


def shuffled(rows: Sequence[Row]) -> list[Row]:
    """The rows of a table in an order by chance, the same always: a file may be sorted by anything."""
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def said(kept: Iterable[tuple[str, int, int]]) -> tuple[str, ...]:
    """A sentence for each (title, runs under the law, runs in all) of which some are spare."""
    return tuple(
        f"{title or 'the table'}: its law, and what is drawn and said of it, rests on {runs:,} of {whole:,} runs, as "
        "many of each cell as of any other, taken by chance; what counts runs counts all"
        for title, runs, whole in kept
        if runs < whole
    )
