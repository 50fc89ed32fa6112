"""Forecasts frozen before a run and scored after it.

A frozen forecast holds the whole law, so that it is scored where the run in the end was made, which is seldom exactly
where it was planned. Its `hash` covers everything else in it: the law, the content of the table behind it, and the
prediction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.law import Law

KIND = "plan"
CHANGED = "the forecast was changed after it was registered"
NEAR = 2.0  # a run counts as the planned one within this factor of its parameters and of its data

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A frozen forecast against the run that came of it.

    run_id, measured, off and inside are None while there is no such run; params and data are then the planned ones.
    off: predicted over measured, minus one.
    """

    name: str
    run_id: str | None
    params: float
    data: float
    predicted: float
    low: float
    high: float
    level: float
    units: str
    measured: float | None
    off: float | None
    inside: bool | None


def freeze(law: Law, *, params: float, data: float, metric: str, architecture: str | None = None) -> dict[str, Any]:
    """A forecast of one run as a JSON object with its hash; `metric` is what the law's loss column holds."""
    seen, whole = law.predict(params=params, data=data), law.to_json()
    forecast = {
        "kind": KIND, "architecture": architecture, "metric": metric, "params": params, "data": data,
        "data_column": law.columns["data"]["name"], "value": seen.value, "low": seen.low, "high": seen.high,
        "units": seen.units, "level": seen.level, "form": law.form, "n_runs": law.n_runs,
        "table_hash": hashed(law.runs.to_json()), "law_hash": hashed(whole), "law": whole,
    }  # fmt: skip
    return {**forecast, "hash": hashed(forecast)}


def hashed(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def intact(forecast: Row) -> bool:
    """Whether a frozen forecast still is what was hashed."""
    covered = {k: v for k, v in forecast.items() if k not in ("hash", "run_id", "registered")}
    return forecast.get("hash") == hashed(covered)


def score(name: str, forecast: Row, runs: Iterable[Row]) -> Score:
    """A frozen forecast against the finished run that it was registered for, or the nearest later one.

    runs: rows of a store or of a table, in the columns of the law.

    Raises ValueError where the forecast is not what was hashed.
    """
    if not intact(forecast):
        raise ValueError(f"forecast {name!r} is not what was registered: its hash does not fit its content.")
    law = Law.from_json(forecast["law"])
    row = _run_of(name, forecast, law, runs)
    if row is None:
        params, data, measured = float(forecast["params"]), float(forecast["data"]), None
    else:
        params, data = (float(row[law.columns[role]["name"]]) for role in ("params", "data"))
        measured = float(row[_loss(forecast, law)])
    seen = law.predict(params=params, data=data)
    off = None if measured is None else seen.value / measured - 1
    inside = None if measured is None else bool(seen.low <= measured <= seen.high)
    run_id = None if row is None else row.get("run_id")
    return Score(
        name, run_id, params, data, seen.value, seen.low, seen.high, seen.level, seen.units, measured, off, inside
    )  # fmt: skip


def scores(forecasts: Mapping[str, Row], runs: Iterable[Row]) -> tuple[Score, ...]:
    """Every frozen plan of a store, scored."""
    runs = list(runs)
    return tuple(score(name, found, runs) for name, found in forecasts.items() if found.get("kind") == KIND)


def resolved(forecasts: Mapping[str, Row], runs: Iterable[Row]) -> dict[str, Row]:
    """Forecasts by the run that they are about: plans registered by a name move to the run that came of them.

    Those without a run stay under their name; a run's own forecast goes before a plan's; one that is not what was
    registered has no value, and a `reason`.
    """
    runs, out = list(runs), {name: found for name, found in forecasts.items() if found.get("kind") != KIND}
    plans = {name: found for name, found in forecasts.items() if found.get("kind") == KIND}
    for name in [name for name, found in plans.items() if not intact(found)]:
        empty = dict.fromkeys(("value", "low", "high"))
        out[name] = {**plans.pop(name), **empty, "reason": CHANGED}
    for told in scores(plans, runs):
        made = {"params": told.params, "data": told.data, "value": told.predicted, "low": told.low, "high": told.high}
        out.setdefault(told.run_id or told.name, {**forecasts[told.name], **made})
    return out


def _loss(forecast: Row, law: Law) -> str:
    name = law.columns["loss"]["name"]
    return forecast["metric"] if name == "law_loss" else name


def _run_of(name: str, forecast: Row, law: Law, runs: Iterable[Row]) -> Row | None:
    """The run with the forecast's own id; else the nearest finished one that the law has not seen."""
    finished = [row for row in runs if row.get("status", "finished") == "finished" and row.get(_loss(forecast, law))]
    for row in finished:
        if row.get("run_id") == name:
            return row
    columns = [law.columns[role]["name"] for role in ("params", "data")]
    seen = {tuple(point) for point in np.column_stack([*law.runs.stacked(("params", "data")).T, law.runs.loss])}
    near = []
    for row in finished:
        if forecast["architecture"] and row.get("architecture", forecast["architecture"]) != forecast["architecture"]:
            continue
        if float(row.get("started") or np.inf) < float(forecast.get("registered") or 0.0):
            continue
        at = [float(row[column] or 0.0) for column in columns]
        if min(at) <= 0 or (*at, float(row[_loss(forecast, law)])) in seen:
            continue
        gaps = np.abs(np.log(np.array(at) / [forecast["params"], forecast["data"]]))
        if gaps.max() <= np.log(NEAR):
            near.append((float(np.hypot(*gaps)), len(near), row))
    return min(near)[2] if near else None
