"""The results of a store on a terminal: sizes across, models down, and the largest cells against their prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chemscale.audit.groups import Group, Row, groups_of
from chemscale.plan import resolved
from chemscale.records.store import Store
from chemscale.report.foreseen import foreseen
from chemscale.report.numbers import by_error, count, whole


def table(store: Store, *, metrics: Sequence[str] | None = None) -> Any:
    """A rich renderable: one table per architecture and data set, then what was predicted and measured.

    A cell is the mean of its runs ± its standard error over the test set; (n) says how many seeds it is the mean of.
    A store without a finished run gives a line that says so.
    """
    from rich.console import Group as Stack
    from rich.text import Text

    runs = store.runs().to_pylist()
    groups = groups_of(runs, metrics)
    if not groups:
        return Text("No run has finished yet.")
    parts: list[Any] = [part for group in groups for part in (Text(_title(group), style="bold"), _table(group))]
    seen = foreseen(runs, resolved(store.forecasts(), runs), groups)
    if seen:
        parts.append(Text("Predicted before they ran:", style="bold"))
        parts += [Text(f"  {one.sentence}") for one in seen]
    return Stack(*parts)


def _title(group: Group) -> str:
    return f"{group.title} · {group.measure.words}, {group.measure.unit} · {group.data} of {group.source} across"


def _table(group: Group) -> Any:
    from rich import box
    from rich.table import Table

    sizes = sorted({row[group.data] for row in group.rows})
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("parameters", justify="right", no_wrap=True)
    for size in sizes:
        shown.add_column(whole(size), justify="right", no_wrap=True)
    for params in sorted({row["params"] for row in group.rows}):
        cells = [_cell(group, [r for r in group.rows if (r["params"], r[group.data]) == (params, s)]) for s in sizes]
        shown.add_row(count(params), *cells)
    return shown


def _cell(group: Group, rows: list[Row]) -> str:
    """Mean loss of a cell's runs; its error is that of one test set, which the seeds share."""
    if not rows:
        return "–"
    scale = group.measure.scale
    losses = [row[group.metric] * scale for row in rows]
    errors = [row[f"{group.metric}_se"] for row in rows if row[f"{group.metric}_se"] is not None]
    error = sum(errors) / len(errors) * scale if errors else None
    return by_error(sum(losses) / len(losses), error) + (f" ({len(rows)})" if len(rows) > 1 else "")
