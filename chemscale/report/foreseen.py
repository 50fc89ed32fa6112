"""Predictions registered before the runs started, against what the runs then measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from textwrap import shorten
from typing import Any

from chemscale.audit.groups import MEASURES, Group, Measure, Row, name_of
from chemscale.audit.values import joined
from chemscale.report.numbers import by_error, count, percent, whole, with_ends
from chemscale.report.values import Foreseen

FORMS = {
    "power": "power law", "power_floor": "power law with a floor", "chinchilla": "Chinchilla law",
    "kaplan": "Kaplan law", "tied": "Chinchilla law with tied exponents",
}  # fmt: skip

LONGEST = 200  # characters of a reason that are shown

Forecast = Mapping[str, Any]


def foreseen(runs: Iterable[Row], forecasts: Mapping[str, Forecast], groups: Sequence[Group]) -> tuple[Foreseen, ...]:
    """One entry per predicted cell, in the order of the groups; replicates of a cell share one.

    Args:
        runs: rows of RUNS.
        forecasts: run id -> what was registered before it started.
    """
    rows = {row["run_id"]: row for row in runs}
    cells: dict[tuple[Any, ...], list[tuple[Forecast, Row | None]]] = {}
    for run_id, forecast in forecasts.items():
        row = rows.get(run_id)
        key = (forecast.get("architecture"), forecast.get("metric"), forecast.get("params"), forecast.get("data"))
        cells.setdefault((*key, row["data_content"] if row else None), []).append((forecast, row))
    order = {group.architecture: i for i, group in reversed(list(enumerate(groups)))}
    sorted_cells = sorted(cells.values(), key=lambda cell: order.get(str(cell[0][0].get("architecture")), len(order)))
    return tuple(_cell(cell, groups) for cell in sorted_cells)


def _cell(cell: list[tuple[Forecast, Row | None]], groups: Sequence[Group]) -> Foreseen:
    forecast = cell[0][0]
    metric = forecast.get("metric") or ""
    found = [row for _, row in cell if row is not None]
    group = next((g for g in groups if _same(g, forecast, found)), None)
    measured = [row for row in found if row["status"] == "finished" and row.get(metric) is not None]
    measure = MEASURES.get(metric, Measure(metric, ""))
    params, data = _place(forecast, found, group)
    values = tuple(row[metric] * measure.scale for row in measured)
    errors = [row.get(f"{metric}_se") for row in measured]
    ends = tuple(None if (v := forecast.get(k)) is None else v * measure.scale for k in ("value", "low", "high"))
    predicted, low, high = ends
    mean = sum(values) / len(values) if values else None
    off = predicted / mean - 1 if predicted is not None and mean else None
    inside = low <= mean <= high if mean is not None and low is not None and high is not None else None
    architecture = str(forecast.get("architecture") or "")
    unit = group.data if group else "examples"
    named = f"{name_of(architecture)}, " if architecture else ""
    where = f"{named}{count(params)} parameters on {whole(data)} {unit}"
    level = forecast.get("level") or 0.95
    shown = [by_error(v, None if e is None else e * measure.scale) for v, e in zip(values, errors, strict=True)]
    told = _outcome(forecast, shown, mean, off, inside, measure, (predicted, low, high), level, found)
    return Foreseen(
        architecture, group.slug if group else None, params, data, predicted, low, high, level, values, off, inside,
        f"{where}: {told}", _detail(forecast),
    )  # fmt: skip


def _same(group: Group, forecast: Forecast, found: list[Row]) -> bool:
    """Whether a group is about the forecast's architecture and metric, and about its data where a run tells them."""
    kind = (group.architecture, group.metric) == (forecast.get("architecture"), forecast.get("metric"))
    return kind and all(group.content == row["data_content"] for row in found)


def _place(forecast: Forecast, found: list[Row], group: Group | None) -> tuple[float, float]:
    """Parameters and unique data of the cell, from its rows where they know better."""
    row = found[0] if found else {}
    params = row.get("params") or forecast.get("params") or 0
    data = (row.get(group.data) if group else row.get("examples")) or forecast.get("data") or 0
    return float(params), float(data)


def _outcome(
    forecast: Forecast, shown: list[str], mean: float | None, off: float | None, inside: bool | None,
    measure: Measure, ends: tuple[float | None, float | None, float | None], level: float, found: list[Row],
) -> str:  # fmt: skip
    predicted, low, high = ends
    if predicted is None:
        return "no prediction could be made" + (f"; measured {joined(shown)} {measure.unit}." if shown else ".")
    value, low_text, high_text = with_ends(predicted, low, high)
    said = f"predicted {value} {measure.unit} ({level:.0%} interval {low_text} to {high_text})".replace("%", " %")
    if not shown or mean is None or off is None:
        status = joined(sorted({row["status"] for row in found})) if found else "not started"
        return f"{said}; nothing measured yet ({status})."
    mean_text = f"{with_ends(mean, low, high)[0]}, the mean of {joined(shown)}" if len(shown) > 1 else shown[0]
    side = "high" if off > 0 else "low"
    miss = f"The prediction was {percent(abs(off))} too {side}"
    verdict = "" if inside is None else ", within its interval" if inside else ", outside its interval"
    return f"{said}, measured {mean_text}. {miss}{verdict}."


def _detail(forecast: Forecast) -> str:
    parts = []
    if forecast.get("reason"):
        parts.append(shorten(str(forecast["reason"]), LONGEST, placeholder=" …"))
    if forecast.get("form"):
        form = FORMS.get(forecast["form"], f"{forecast['form']} law")
        parts.append(f"by a {form}, fitted to {forecast.get('n_runs', '?')} smaller runs")
    if forecast.get("registered"):
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(forecast["registered"]))
        parts.append(f"registered {when}, before the run started")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]
