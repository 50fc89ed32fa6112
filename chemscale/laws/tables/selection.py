"""Which rows of a table of runs are results that a law may rest on."""

from __future__ import annotations

from typing import Any

import numpy as np

from chemscale.laws.tables.columns import Columns, flags, keep, read
from chemscale.laws.tables.meaning import with_capacity
from chemscale.laws.tables.where import matches


def select(
    table: Any, where: str | None = None, censored: str | None = None, loss: str | None = None
) -> tuple[Columns, tuple[str, ...]]:
    """The finished rows of plain runs that satisfy `where` and have the loss, and what was left out as sentences.

    Rows that the boolean column `censored` marks are kept though they did not finish.
    """
    columns = satisfying(with_capacity(read(table)), where)
    columns, heirs = _without_lineage(columns)
    columns, started = _of_one_start(columns)
    columns, unfinished = _finished(columns, censored)
    columns, unmeasured = _measured(columns, loss)
    return columns, heirs + started + unfinished + unmeasured


def satisfying(columns: Columns, where: str | None) -> Columns:
    """The rows that satisfy `where`, all without one; ValueError where none does."""
    if not where:
        return columns
    columns = keep(columns, matches(columns, where))
    if not len(next(iter(columns.values()))):
        raise ValueError(f"where={where!r} leaves no rows.")
    return columns


def _without_lineage(columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """A member of a population is no run of its spec: its weights, and its rates on the way, come from others too."""
    alone = np.array([value is None or value == "" for value in columns.get("lineage", [])], dtype=bool)
    if alone.all():
        return columns, ()
    if not alone.any():
        raise ValueError(
            f"the table has only members of populations ({len(alone)} rows with a lineage); a law needs plain runs."
        )
    note = f"left out {int((~alone).sum())} members of populations, which are no plain runs"
    return keep(columns, alone), (note,)


def _of_one_start(columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """Runs that started from trained weights follow a law of their own: among runs from scratch they are left out."""
    fresh = np.array([value is None or value == "" for value in columns.get("init_content", [])], dtype=bool)
    if fresh.all() or not fresh.any():
        return columns, ()
    note = (
        f"left out {int((~fresh).sum())} runs that started from trained weights; "
        'for a law of those alone say where="init_content != None"'
    )
    return keep(columns, fresh), (note,)


def _finished(columns: Columns, censored: str | None) -> tuple[Columns, tuple[str, ...]]:
    if "status" not in columns:
        return columns, ()
    bounds = flags(columns, censored) if censored else np.zeros(len(columns["status"]), bool)
    status = ["finished" if bound else str(value) for value, bound in zip(columns["status"], bounds, strict=True)]
    left_out = {s: status.count(s) for s in sorted(set(status) - {"finished"})}
    if not left_out:
        return columns, ()
    counts = ", ".join(f"{count} {name}" for name, count in left_out.items())
    if "finished" not in status:
        raise ValueError(f"the table has no finished run ({counts}); a law needs results of finished runs.")
    note = f"left out {sum(left_out.values())} runs that are not finished ({counts}): their losses are not results"
    return keep(columns, np.array([s == "finished" for s in status])), (note,)


def _measured(columns: Columns, loss: str | None) -> tuple[Columns, tuple[str, ...]]:
    """A store of two families has the force error of one and the loss per token of the other.

    In other tables, and where no run has the loss, nothing is left out: the first row says what is missing.
    """
    has = np.array([value is not None for value in columns.get(loss or "", [])], dtype=bool)
    if "run_id" not in columns or has.all() or not has.any():
        return columns, ()
    return keep(columns, has), (f"left out {int((~has).sum())} runs in which {loss} was not measured",)
