"""Searches of a store: runs that were stopped early with the forecasts of their ends, against those that finished."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chemscale.audit.groups import DATA, MEASURES, Measure, Row, name_of
from chemscale.audit.values import joined
from chemscale.records.schema import DIVERGED, FINISHED, STOPPED
from chemscale.report.importance import importances, said
from chemscale.report.numbers import count, percent, significant, whole
from chemscale.report.values import Foretold, Searched, Tried

SETTINGS = ("optim", "objective")  # parts of a spec that a search varies
COMPARED = ("data", "budget", "evaluation", "seed", "precision", "member")  # a search keeps these
LEAST = 3  # runs of a cell that make a search
MOST = 8  # cells, the largest ones
MOST_RUNS = 300  # of a cell, by chance: a figure shows no more of more, and importances take their time
FOLDS = 4
Points = Mapping[str, Sequence[Row]]
Tries = Sequence[tuple[Row, Mapping[str, Any]]]  # runs with their specs


def searches(rows: Iterable[Row], points: Callable[[Iterable[str]], Points]) -> tuple[Searched, ...]:
    """The largest cells of studies in which runs of one model on one data set differ in their settings.

    Args:
        points: of runs, by their ids.
    """
    cells: dict[tuple[str, ...], list[tuple[Row, dict[str, Any]]]] = {}
    for row in rows:
        if row["studies"]:
            spec = json.loads(row["spec"])
            kept = _kept(spec)
            for study in row["studies"]:
                cells.setdefault((study, kept), []).append((row, spec))
    tried = [(study, runs) for (study, _), runs in cells.items() if len(runs) >= LEAST and _vary(runs)]
    tried.sort(key=lambda one: -len(one[1]))
    drawn = [(study, len(runs), _drawn(runs)) for study, runs in tried[:MOST]]
    measured = points({row["run_id"] for _, _, runs in drawn for row, _ in runs})
    found = [_searched(study, size, runs, measured) for study, size, runs in drawn]
    if len(tried) > MOST:
        found[0] = replace(found[0], note=f"The {MOST} largest of {len(tried):,} searches are shown. {found[0].note}")
    return tuple(replace(one, slug=f"search-{number}") for number, one in enumerate(found, start=1))


def _vary(runs: Tries) -> bool:
    first = [runs[0][1].get(part) for part in SETTINGS]
    return any([spec.get(part) for part in SETTINGS] != first for _, spec in runs) and bool(
        varied([s for _, s in runs])
    )


def _drawn(runs: Tries) -> Tries:
    """At most so many of a cell's runs: the best, and others in the order of their ids, which are hashes."""
    if len(runs) <= MOST_RUNS:
        return runs
    best = min(runs, key=lambda one: one[0]["valid_loss"] if one[0]["valid_loss"] is not None else math.inf)
    others = sorted((one for one in runs if one is not best), key=lambda one: one[0]["run_id"])
    return [best, *others[: MOST_RUNS - 1]]


def _kept(spec: Mapping[str, Any]) -> str:
    return json.dumps([spec["model"], *(spec.get(name) for name in COMPARED)], sort_keys=True)


def _searched(study: str, all_runs: int, runs: Tries, points: Points) -> Searched:
    fields = varied([spec for _, spec in runs])
    first = runs[0][0]
    metric = next((row["law_metric"] for row, _ in runs if row["law_metric"]), None) or ""
    measure = MEASURES.get(metric, Measure(metric.replace("_", " "), ""))
    tried = tuple(_tried(row, _settings(spec, fields), points.get(row["run_id"], ()), measure) for row, spec in runs)
    size = f"{whole(first['examples'] or 0)} {DATA.get(first['family'], 'examples')}"
    cell = f"{name_of(first['architecture'])}, {count(first['params'] or 0)} parameters on {size}"
    told = foretold([row for row, _ in runs], points)
    shares = importances(tried, fields)
    stops, mattered = tuple(_stops(tried, measure, told)), said(tried, shares)
    left = all_runs > len(runs)
    note = f"{len(runs)} of its {all_runs:,} runs, the best and others by chance, stand for all." if left else ""
    name = name_of(first["architecture"])
    return Searched("", study, name, cell, measure.unit, tried, _saved(tried), told, shares, stops, mattered, note)


def varied(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted fields of the optimiser and objective that differ between runs."""
    flat = [{f"{p}.{k}": v for p in SETTINGS for k, v in (s.get(p) or {}).items()} for s in specs]
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in flat}) > 1]


def _settings(spec: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {field: (spec.get(field.split(".")[0]) or {}).get(field.split(".")[1]) for field in fields}


def _tried(row: Row, settings: dict[str, Any], measured: Sequence[Row], measure: Measure) -> Tried:
    total = examples_of(row)
    line = tuple(
        (min(1.0, p["examples"] / total), p["valid_loss"] * measure.scale)
        for p in measured if total and p["valid_loss"] is not None and math.isfinite(p["valid_loss"])
    )  # fmt: skip
    final = row["valid_loss"] if row["status"] == FINISHED else None
    ends = tuple(row[f"forecast_{name}"] for name in ("loss", "low", "high"))
    forecast = None if row["status"] != STOPPED or None in ends else tuple(v * measure.scale for v in ends)
    return Tried(
        row["run_id"], row["status"], line, None if final is None else final * measure.scale, forecast, settings
    )


def examples_of(row: Row) -> float:
    """Examples of a run's whole training, as its spec asks for them."""
    spec = json.loads(row["spec"])
    budget, size, batch = spec["budget"], spec["data"]["size"], spec["optim"]["batch"]
    if budget.get("examples"):
        return float(budget["examples"])
    if budget.get("updates"):
        return float(budget["updates"] * batch)
    return float(max((budget.get("epochs") or 1) * size, (budget.get("min_updates") or 0) * batch))


def _saved(tried: Sequence[Tried]) -> float:
    """Share of the examples of all runs that those which were stopped did not see."""
    if not any(one.status == STOPPED for one in tried):
        return 0.0
    return sum(1 - one.reached for one in tried if one.status == STOPPED) / len(tried)


def foretold(rows: Sequence[Row], points: Points) -> Foretold | None:
    """How well ends are told from beginnings: finished runs, each by a law of the others' curves."""
    import chemscale.models  # noqa: F401  registers the models that stored specs name
    from chemscale.spec import from_json
    from chemscale.sweep.backtest import LEAST, law_endings, scores
    from chemscale.sweep.endings import curve_of

    finished = [row for row in rows if row["status"] == FINISHED]
    stopped = [_reached(row, points) for row in rows if row["status"] == STOPPED]
    if not stopped or len(finished) < LEAST:
        return None
    share = max(sorted(stopped)[len(stopped) // 2], 0.05)
    try:
        pairs = [
            [(p["examples"], p["valid_loss"]) for p in points.get(row["run_id"], ()) if (p["valid_loss"] or 0) > 0]
            for row in finished
        ]
        curves = [curve_of(from_json(row["spec"]), line) for row, line in zip(finished, pairs, strict=True)]
        curves = [curve for curve in curves if curve.finished and len(curve.until(share).examples)]
        worth = scores(law_endings(curves, share, folds=FOLDS), [curve.loss[-1] for curve in curves])
    except ValueError:
        return None  # a model of the user's own that is not registered here, or too few curves
    return Foretold(share, len(curves), worth.error, worth.spearman, worth.inside)


def _reached(row: Row, points: Points) -> float:
    seen = [p["examples"] for p in points.get(row["run_id"], ()) if p["valid_loss"] is not None]
    return min(1.0, max(seen, default=0.0) / examples_of(row))


def _stops(tried: Sequence[Tried], measure: Measure, told: Foretold | None) -> Iterable[str]:
    stopped = [one for one in tried if one.status == STOPPED]
    if not stopped:
        return
    finished = [one.final for one in tried if one.final is not None]
    middle = sorted(one.reached for one in stopped)[len(stopped) // 2]
    diverged = sum(one.status == DIVERGED for one in tried)
    lost = f" ({diverged} diverged)" if diverged else ""
    yield (
        f"{len(stopped)} of {len(tried)} runs{lost} were stopped early, half of them before "
        f"{percent(middle)} of their training; that left out {percent(_saved(tried))} of the examples of all runs."
    )
    if finished:
        yield from _against_best(stopped, min(finished), measure)
    if told:
        yield (
            f"How far forecasts can be trusted: from the first {percent(told.share)} of each of {told.runs} finished "
            f"runs, by a law of the others, the ends were told with a mean error of {percent(told.error)} (rank "
            f"correlation {told.rank:.2f}; {percent(told.inside)} of the 95 % intervals held the end)."
        )


def _against_best(stopped: Sequence[Tried], best: float, measure: Measure) -> Iterable[str]:
    foreseen = [one.forecast for one in stopped if one.forecast]
    if not foreseen:
        yield f"The best finished at {significant(best)} {measure.unit}; no forecast was kept of the stopped ones."
        return
    near = sum(low <= best for _, low, _ in foreseen)
    better = sum(value < best for value, _, _ in foreseen)
    words = [f"{better} would have ended below it by {'its' if better == 1 else 'their'} forecast"] if better else []
    words += [f"the interval of {near} reaches down to it, so {'it' if near == 1 else 'they'} may have been as good"]
    yield (
        f"The best finished at {significant(best)} {measure.unit}. Of {len(foreseen)} stopped runs "
        + (joined(words) if near or better else "every forecast’s 95 % interval lies above it")
        + "."
    )
