"""What verbs print: for people, or JSON for programs."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

PIPED_WIDTH = 240  # columns, where no terminal says how wide it is


def resources_of(given: argparse.Namespace) -> Any:
    """Where a command runs its trainings."""
    from chemscale.spec import Resources

    return Resources(
        workers=given.workers, min_workers=given.min_workers, sharding=given.sharding, cpus=given.cpus, gpus=given.gpus,
        micro_batch=given.micro_batch, layout=given.layout, activations=given.activations,
        compile=given.compile, kernels=given.kernels, concurrent=given.concurrent, keep=given.keep,
        checkpoint_seconds=given.checkpoint_seconds, patience=given.patience, spool_bytes=given.spool_bytes,
    )  # fmt: skip


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A RUNS row without nulls and without its long JSON columns."""
    return {k: v for k, v in row.items() if v is not None and k not in ("spec", "versions")}


def print_json(value: Any) -> None:
    """A value as indented JSON on standard output."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """A value as indented JSON; null where a number is not finite, for which JSON has no word."""
    return json.dumps(_finite(value), indent=1, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_record(record: Any, as_json: bool) -> None:
    """Names and values, a line each, or one JSON object."""
    if as_json:
        return print_json(record)
    width = max(len(str(name)) for name in record)
    for name, value in record.items():
        print(f"{name:<{width}}  {value}")
    return None


@contextmanager
def told_on_terminal(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while a long command works; nothing where no terminal is."""
    shown = Console(file=sys.stderr)
    if not shown.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows with the same keys as a table, or a JSON array."""
    if as_json:
        return print_json(rows)
    from rich.table import Table

    names = list(rows[0]) if rows else ["nothing yet"]
    table = Table(box=None)
    for name in names:
        table.add_column(name, no_wrap=name == "run_id")
    for row in rows:
        table.add_row(*(cell_text(row[name]) for name in names))
    console().print(table)
    return None


def console() -> Console:
    """Standard output, wide where no terminal says how wide it is."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPED_WIDTH)


def cell_text(value: Any) -> str:
    """A value as a table shows it; nothing for None."""
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def bytes_text(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def writable_parquet(path: str) -> None:
    """`writable`, for a file whose name has to say that it is Parquet."""
    writable(path)
    if Path(path).suffix.lower() != ".parquet":
        raise ValueError(f"--out {path!r} ends in {Path(path).suffix!r}; use .parquet, which is what is written.")


def writable(path: str | None, option: str = "--out") -> None:
    """Refuse an output file that cannot be made, before the work that it is for.

    Raises:
        ValueError: its folder is missing or may not be written to, or it is a folder itself.
    """
    if path is None:
        return
    file = Path(path)
    what = "is a folder" if file.is_dir() else None
    try:
        with tempfile.TemporaryFile(dir=file.parent):  # it has no name, so a kill leaves nothing
            pass
    except OSError as error:
        what = what or f"lies in no folder that can be written to ({error.strerror})"
    if what is not None:
        raise ValueError(f"{option} {path!r} {what}; give a file in an existing folder.")
