"""Any table as columns of plain Python values, and one of them as checked numbers.

A table is a pyarrow Table, a pandas or polars DataFrame, a mapping of columns, or a sequence of mappings. Nothing is
imported for it: tables are recognised by what they can do. Missing values are None or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from chemscale.laws.objectives import Array

Columns = dict[str, list[Any]]

PLAIN = {int, str, bool, type(None)}  # cells that are taken as they stand: a table of runs holds little else
LEAST, MOST = 1e-60, 1e60  # of any cell: a power of more would leave the range of floating-point numbers


def read(table: Any) -> Columns:
    """Columns of any table as lists of Python values."""
    if hasattr(table, "column_names") and hasattr(table, "column"):  # pyarrow
        refuse_twins(table.column_names, "the table")
        columns = {str(name): _listed(table.column(name).to_pylist()) for name in table.column_names}
    elif isinstance(table, Mapping):
        columns = {str(name): _listed(values) for name, values in table.items()}
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):  # pandas, polars
        refuse_twins(table.columns, "the table")
        columns = {str(name): _listed(table[name]) for name in table.columns}
    elif isinstance(table, Iterable) and not isinstance(table, (str, bytes)):
        columns = _from_records(list(table))
    else:
        raise ValueError(f"a table of runs is needed, not {type(table).__name__}; pass columns by name.")
    lengths = {name: len(values) for name, values in columns.items()}
    if not columns or not min(lengths.values()):
        raise ValueError("the table has no rows; there is nothing to fit.")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the table's columns differ in length: {lengths}.")
    return columns


def refuse_twins(names: Iterable[Any], source: str) -> None:
    """Raise ValueError if two columns share a name."""
    seen: set[str] = set()
    for name in map(str, names):
        if name in seen:
            raise ValueError(f"column {name!r} occurs twice in {source}; rename or remove one of the two.")
        seen.add(name)


def _from_records(records: list[Any]) -> Columns:
    if not all(isinstance(record, Mapping) for record in records):
        raise ValueError("a sequence given as a table must hold one mapping per run.")
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: _listed([record.get(name) for record in records]) for name in names}


def _listed(values: Any) -> list[Any]:
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    kinds = set(map(type, values))
    if kinds <= PLAIN:
        return values
    if kinds <= PLAIN | {float}:
        return [None if v != v else v for v in values]  # of all these only NaN differs from itself
    return [_plain(v) for v in values]


def _plain(value: Any) -> Any:
    """Python's own number, text or None; NaN and pandas' missing values become None."""
    value = value.item() if isinstance(value, np.generic) else value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def keep(columns: Columns, mask: np.ndarray) -> Columns:
    """The rows where `mask` (rows,) is true."""
    return _taken(columns, np.flatnonzero(mask))


def _taken(columns: Columns, index: Iterable[int]) -> Columns:
    """Some of the rows, by their numbers."""
    return {name: [values[i] for i in index] for name, values in columns.items()}


def split(columns: Columns, by: str) -> dict[Any, Columns]:
    """The rows of each value of the column `by`, in order of appearance."""
    values = column(columns, by, "by")
    listed = next((v for v in values if isinstance(v, (list, dict))), None)
    if listed is not None:
        raise ValueError(f"by={by!r} holds {listed!r}, which names no group; give a column of texts or numbers.")
    index: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        index.setdefault(value, []).append(row)
    return {value: _taken(columns, mine) for value, mine in index.items()}


def column(columns: Columns, name: str, field_name: str) -> list[Any]:
    """One column by name, or a ValueError that lists what there is."""
    if name not in columns:
        raise ValueError(f"{field_name}={name!r} is not a column of the table; it has {', '.join(columns)}.")
    return columns[name]


def positive(columns: Columns, name: str, field_name: str) -> Array:
    """One column as positive finite floats, (n,); ValueError names the column, the row and the value."""
    out = np.empty(len(column(columns, name, field_name)))
    for row, value in enumerate(columns[name]):
        cell = number(value)
        if cell is None or not np.isfinite(cell) or cell <= 0:
            kind = "missing (null or NaN)" if value is None or value == "" else repr(value)
            raise ValueError(
                f"{field_name} column {name!r} is {kind} in row {row + 1} of {len(out)}; a law needs positive "
                f"numbers, so {_remedy(name, value, cell)}."
            )
        if not LEAST <= cell <= MOST:
            raise ValueError(
                f"{field_name} column {name!r} is {value!r} in row {row + 1} of {len(out)}, outside {LEAST:g} to "
                f"{MOST:g}; give it in another unit."
            )
        out[row] = cell
    return out


def _remedy(name: str, value: Any, cell: float | None) -> str:
    """What to do about a cell that is no positive number."""
    if isinstance(value, str) and value.strip() and cell is None and value.strip()[0].isdigit():
        return "write them plainly, such as 1000000 or 1e6, without separators or units"
    column = name if name.isidentifier() else f"`{name}`"
    text, endless = isinstance(value, str) and value and cell is None, cell == np.inf
    rest = f"!= {value!r}" if text else f"< {MOST:g}" if endless else "> 0"
    return f"leave such rows out with where, such as {column} {rest}"


def flags(columns: Columns, name: str) -> np.ndarray:
    """One column of true and false, (n,) of bool; missing is false."""
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "none": False, "": False}
    found = [words.get(str(value).lower()) for value in column(columns, name, "censored")]
    if None in found:
        row = found.index(None)
        raise ValueError(
            f"censored column {name!r} is {columns[name][row]!r} in row {row + 1}; it must hold true or false."
        )
    return np.array(found, bool)


def number(value: Any) -> float | None:
    """A cell as a number; text is read, since one bad cell makes text of a whole CSV column."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
