"""Tables that people bring: stores, Parquet, and CSV as spreadsheets write it."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path
from typing import Any

SEPARATORS = (",", ";", "\t", "|")  # of which the first line holds the one that it holds most of
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # how "Unicode text" of spreadsheets begins
LONGEST_HEADER = 1_000_000  # bytes


def is_store(place: str) -> bool:
    """Whether a place is a store, and no table: a folder or a bucket."""
    return "://" in place or Path(place).is_dir()


def read_table(path: str) -> Any:
    """RUNS of a store, or a CSV or Parquet file; fields of nested columns are columns `outer.inner`.

    A CSV may be separated by commas, semicolons (then with decimal commas too), tabs or bars.

    Raises:
        ValueError: there is no such file, it is of another kind, it cannot be read, or two columns share a name.
    """
    from pyarrow import ArrowException

    from chemscale.laws.tables.columns import refuse_twins

    file = Path(path)
    if is_store(path):
        from chemscale.records.store import Store

        return Store(path).runs()
    readers = {".csv": _csv, ".gz": _csv, ".tsv": _csv, ".parquet": _parquet}
    if not file.exists() or file.suffix.lower() not in readers:
        what = "is not there" if not file.exists() else "is of no known kind"
        raise ValueError(f"table={path!r} {what}; give a store, a .csv, .csv.gz or .parquet file.")
    try:
        table = readers[file.suffix.lower()](file)
        table = table.rename_columns([name.strip() for name in table.column_names])
        names = table.column_names
    except UnicodeDecodeError:
        raise ValueError(f"table={path!r} cannot be read: it is not UTF-8 text; save it as UTF-8.") from None
    except (ArrowException, OSError, EOFError) as error:
        raise ValueError(f"table={path!r} cannot be read: {str(error).splitlines()[0]}") from None
    refuse_twins(names, path)
    return table


def _csv(file: Path) -> Any:
    from pyarrow import types
    from pyarrow.csv import ConvertOptions, ParseOptions, read_csv

    parsed = ParseOptions(delimiter=_separator(file))
    table = read_csv(file, parse_options=parsed)
    if parsed.delimiter == "," or not any(types.is_string(kind) for kind in table.schema.types):
        return table
    other = read_csv(file, parse_options=parsed, convert_options=ConvertOptions(decimal_point=","))
    for place, kind in enumerate(other.schema.types):
        if types.is_floating(kind) and types.is_string(table.schema.types[place]):  # 2,83 where commas separate nothing
            table = table.set_column(place, table.column_names[place], other.column(place))
    return table


def _separator(file: Path) -> str:
    """The separator that the first line holds most of."""
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as lines:
        first = lines.readline(LONGEST_HEADER)
    if first.startswith(UTF_16):
        raise ValueError(f"table={str(file)!r} cannot be read: it is UTF-16; save it as UTF-8.")
    return max(SEPARATORS, key=lambda separator: first.count(separator.encode()))


def _parquet(file: Path) -> Any:
    from pyarrow import types
    from pyarrow.parquet import read_table

    table = read_table(file)
    while any(types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table
