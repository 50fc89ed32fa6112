"""The long tables of the page: every run, what it cost, and where the numbers come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from chemscale.audit.groups import DATA, MEASURES, Measure, Row, name_of
from chemscale.report.numbers import by_error, count, duration, power, whole
from chemscale.report.values import Column, Entry, Table

RUN_COLUMNS = (
    Column("run"), Column("model"), Column("parameters", True), Column("unique data", True), Column("seed", True),
    Column("updates", True), Column("status"), Column("metric"), Column("test value ± se", True), Column("time", True),
    Column("reason"),
)  # fmt: skip
COMPUTE_COLUMNS = (
    Column("model"), Column("runs", True), Column("FLOPs (matrix work)", True), Column("device time", True),
    Column("wall time", True), Column("FLOP/s", True), Column("energy", True), Column("device"),
)  # fmt: skip
DATED = ("chemscale", "commit", "python", "torch", "ray", "numpy", "scipy", "rdkit", "selfies", "cpu")


def run_table(rows: Iterable[Row]) -> Table:
    """Every run of the store."""
    listed = sorted(rows, key=lambda r: (r["architecture"], r["params"] or 0, r["examples"] or 0, r["seed"]))
    return Table(RUN_COLUMNS, tuple(_run(row) for row in listed))


def _run(row: Row) -> tuple[Entry, ...]:
    metric = row["law_metric"] or ""
    measure = MEASURES.get(metric, Measure(metric, ""))
    loss, se = row["law_loss"], row.get(f"{metric}_se")
    value = "" if loss is None else by_error(loss * measure.scale, None if se is None else se * measure.scale)
    size = row[DATA.get(row["family"], "examples")] or row["examples"]
    return (
        Entry(str(row["run_id"])[:8]), Entry(name_of(row["architecture"])),
        _number(row["params"], count), _number(size, whole), Entry(str(row["seed"]), row["seed"]),
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
    for row in rows:
        for name, value in json.loads(row["versions"] or "{}").items():
            if value is not None:
                seen.setdefault(name, Counter())[str(value)] += 1
        for name in ("device", "precision", "optimiser"):
            if row[name] is not None:
                seen.setdefault(name, Counter())[row[name]] += 1
    names = [*(n for n in DATED if n in seen), *(n for n in seen if n not in DATED)]
    return tuple((name, _counted(seen[name])) for name in names)


def _counted(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({n} runs)" for value, n in values.most_common())
