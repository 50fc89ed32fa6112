"""The long tables of the page: every run, what it cost, and where the numbers come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from chemscale.audit.groups import DATA, MEASURES, Measure, Row, name_of
from chemscale.records.schema import FINISHED
from chemscale.report.figures.base import table_csv
from chemscale.report.numbers import by_error, count, duration, power, significant, whole
from chemscale.report.values import Column, Entry, Table

RUN_COLUMNS = (
    Column("run"), Column("model"), Column("parameters", True), Column("unique data", True), Column("seed", True),
    Column("updates", True), Column("status"), Column("metric"), Column("test value ± se", True), Column("time", True),
    Column("reason"),
)  # fmt: skip
CELL_COLUMNS = (
    Column("model"), Column("parameters", True), Column("unique data", True), Column("finished", True),
    Column("others"), Column("metric"), Column("best", True), Column("median", True), Column("worst", True),
    Column("time", True),
)  # fmt: skip
FILED = (  # columns of RUNS in the file of all runs
    "run_id", "architecture", "params", "params_all", "examples", "data_source", "seed", "subset_key", "lr", "batch",
    "updates", "status", "stop_reason", "law_metric", "law_loss", "valid_loss", "flops", "seconds",
)  # fmt: skip
MOST = 1_000  # rows of a table that people scroll and a browser sorts
COMPUTE_COLUMNS = (
    Column("model"), Column("runs", True), Column("FLOPs (matrix work)", True), Column("device time", True),
    Column("wall time", True), Column("FLOP/s", True), Column("energy", True), Column("device"),
)  # fmt: skip
MOST_VALUES = 12  # of one fact, the most frequent ones
DATED = ("chemscale", "commit", "python", "torch", "ray", "numpy", "scipy", "rdkit", "selfies", "cpu")


def run_table(rows: Sequence[Row]) -> Table:
    """Every run of the store; where they are more than `MOST`, a row for each cell, the dearest `MOST` of them."""
    if len(rows) <= MOST:
        return Table(RUN_COLUMNS, tuple(_run(row) for row in sorted(rows, key=_place)))
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["architecture"], row["data_content"], row["precision"], row["params"], _size(row), row["law_metric"])
        cells.setdefault(key, []).append(row)
    dearest = sorted(cells.values(), key=lambda cell: -sum(row["flops"] or 0.0 for row in cell))[:MOST]
    return Table(CELL_COLUMNS, tuple(_cell(cell) for cell in sorted(dearest, key=lambda cell: _place(cell[0]))))


def every_run(rows: Sequence[Row]) -> str:
    """All runs as CSV, where the table lists cells instead; else nothing."""
    if len(rows) <= MOST:
        return ""
    return table_csv(FILED, ([row[name] for name in FILED] for row in sorted(rows, key=_place)))


def _place(row: Row) -> tuple[Any, ...]:
    return row["architecture"], row["params"] or 0, row["examples"] or 0, row["seed"]


def _size(row: Row) -> int | None:
    return row[DATA.get(row["family"], "examples")] or row["examples"]


def _cell(rows: list[Row]) -> tuple[Entry, ...]:
    """Its runs by what became of them, and the middle and ends of their losses."""
    first = rows[0]
    measure = MEASURES.get(first["law_metric"] or "", Measure(first["law_metric"] or "", ""))
    losses = sorted(row["law_loss"] * measure.scale for row in rows if row["law_loss"] is not None)
    shown = [significant(losses[i], 4) for i in (0, len(losses) // 2, -1)] if losses else ["", "", ""]
    keys = [losses[i] for i in (0, len(losses) // 2, -1)] if losses else [-1.0] * 3
    done = sum(row["status"] == FINISHED for row in rows)
    others = Counter(row["status"] for row in rows if row["status"] != FINISHED)
    return (
        Entry(name_of(first["architecture"])), _number(first["params"], count), _number(_size(first), whole),
        Entry(f"{done:,}", done), Entry(", ".join(f"{n} {status}" for status, n in sorted(others.items()))),
        Entry(measure.unit), *(Entry(text, key) for text, key in zip(shown, keys, strict=True)),
        _number(_total(rows, "seconds"), duration),
    )  # fmt: skip


def _run(row: Row) -> tuple[Entry, ...]:
    metric = row["law_metric"] or ""
    measure = MEASURES.get(metric, Measure(metric, ""))
    loss, se = row["law_loss"], row.get(f"{metric}_se")
    value = "" if loss is None else by_error(loss * measure.scale, None if se is None else se * measure.scale)
    return (
        Entry(str(row["run_id"])[:8]), Entry(name_of(row["architecture"])),
        _number(row["params"], count), _number(_size(row), whole), Entry(str(row["seed"]), row["seed"]),
        _number(row["updates"], whole), Entry(row["status"]), Entry(measure.unit),
        Entry(value, -1.0 if loss is None else loss), _number(row["seconds"], duration),
        Entry(row["stop_reason"] or ""),
    )  # fmt: skip


def _number(value: float | None, shown: Callable[[float], str]) -> Entry:
    return Entry("", -1.0) if value is None else Entry(shown(value), value)


def compute_table(rows: Sequence[Row]) -> Table:
    """What each architecture cost, over all its runs that measured it."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["architecture"], row["device"] or "unknown"), []).append(row)
    return Table(COMPUTE_COLUMNS, tuple(_cost(name, device, mine) for (name, device), mine in sorted(kinds.items())))


def _cost(architecture: str, device: str, rows: list[Row]) -> tuple[Entry, ...]:
    flops, busy, wall, joules = (_total(rows, name) for name in ("flops", "device_seconds", "seconds", "joules"))
    timed = [r for r in rows if r["flops"] and r["device_seconds"]]
    rate = sum(r["flops"] for r in timed) / sum(r["device_seconds"] for r in timed) if timed else None
    many = max((row["devices"] or 1) for row in rows)
    return (
        Entry(name_of(architecture)), Entry(str(len(rows)), len(rows)), _number(flops, power),
        _number(busy, duration), _number(wall, duration), _number(rate, power),
        Entry("not measured", -1.0) if joules is None else Entry(f"{joules / 1000:,.1f} kJ", joules),
        Entry(device + (f" × {many}" if many > 1 else "")),
    )  # fmt: skip


def _total(rows: list[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None]
    return float(sum(values)) if values else None


def provenance(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    """(what, value) of versions, commits, processors, precision; several values are told with their counts."""
    seen: dict[str, Counter[str]] = {}
    for text, times in Counter(row["versions"] or "{}" for row in rows).items():
        for name, value in json.loads(text).items():
            if value is not None:
                seen.setdefault(name, Counter())[str(value)] += times
    for row in rows:
        for name in ("device", "precision", "optimiser"):
            if row[name] is not None:
                seen.setdefault(name, Counter())[row[name]] += 1
    names = [*(n for n in DATED if n in seen), *(n for n in seen if n not in DATED)]
    return tuple((name, _counted(seen[name])) for name in names)


def _counted(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    told = [f"{value} ({n} runs)" for value, n in values.most_common(MOST_VALUES)]
    return "; ".join(told + ([f"{len(values) - MOST_VALUES} others"] if len(values) > MOST_VALUES else []))
