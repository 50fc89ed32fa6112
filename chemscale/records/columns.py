"""Tables as wholes: filtered, sorted and compared by column, never row by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute

compute: Any = pyarrow.compute  # makes its functions when it is imported, where no type checker sees them


def without(table: pa.Table, run_ids: Iterable[str]) -> pa.Table:
    """The rows of other runs."""
    gone = pa.array(list(run_ids), pa.string())
    if not len(gone) or not len(table):
        return table
    return table.filter(compute.invert(compute.is_in(table["run_id"], gone)))


def unset(table: pa.Table, name: str) -> pa.Table:
    """The rows in which this mark is false, without its column."""
    return (table.filter(compute.invert(table[name])) if len(table) else table).drop_columns([name])


def equals(column: pa.ChunkedArray, value: Any) -> pa.Array:
    """Which values equal this one; a null equals None only."""
    if value is None:
        return compute.is_null(column)
    try:
        return compute.fill_null(compute.equal(column, pa.scalar(value)), False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):  # lists, maps, another kind of value
        return pa.array([found == value for found in column.to_pylist()], pa.bool_())


def by_run(table: pa.Table) -> pa.Table:
    """Sorted by run, rows of a run in the order they had; a table that is sorted already is left as it is."""
    ids = table["run_id"].combine_chunks()
    if len(ids) < 2 or compute.all(compute.less_equal(ids[:-1], ids[1:])).as_py():
        return table
    rows = pa.table({"run_id": ids, "row": pa.array(range(len(ids)))})
    return table.take(rows.sort_by([("run_id", "ascending"), ("row", "ascending")])["row"])
