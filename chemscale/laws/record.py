"""A law as the JSON object of `chemscale fit`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chemscale.laws.backtests.backtest import Backtest
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.doubt.hygiene import Hygiene
from chemscale.laws.prediction import Solution
from chemscale.laws.tables.cost import MeasuredCost
from chemscale.laws.tables.table import Rows

if TYPE_CHECKING:
    from chemscale.laws.law import Law


def record(law: Law, at: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """See `Law.to_json`."""
    return {
        "form": law.form,
        "columns": law.columns,
        "parameters": dict(law.parameters),
        "standard_errors": dict(law.standard_errors),
        "intervals": {n: [v if np.isfinite(v) else None for v in pair] for n, pair in law.intervals.items()},
        "level": law.level,
        "objective": dict(law.objective),
        "n_runs": law.n_runs,
        "predictions": [said.to_json() for said in (law.predictions(at) if at else ())],
        "backtest": law.backtest.to_json() if law.backtest else None,
        "warnings": list(law.warnings),
        "error": None,
        "scores": list(law.scores),
        "ensemble": law.ensemble.table() if law.ensemble else None,
        "breaks": [found.to_json() for found in law.breaks],
        "provenance": {
            **law.provenance,
            "cost": law.cost.to_json() if law.cost else None,
            "solution": law.solution.to_json(),
            "runs": law.runs.to_json(),
            "ensemble": law.ensemble.to_json() if law.ensemble else None,
        },
        "hygiene": law.hygiene.to_json() if law.hygiene else None,
    }


def fields(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the law of a `to_json` object; ValueError if the object is none, or reports a failed fit."""
    if found.get("error") or "solution" not in found.get("provenance", {}):
        raise ValueError(f"this JSON holds no law: {found.get('error') or 'provenance.solution is missing'}.")
    provenance = dict(found["provenance"])
    cost, mixed = provenance.pop("cost"), provenance.pop("ensemble", None)
    solution, runs = Solution.from_json(provenance.pop("solution")), Rows.from_json(provenance.pop("runs"))
    plain = ("form", "level", "n_runs")
    copied = ("columns", "parameters", "standard_errors", "objective")
    return {
        **{name: found[name] for name in plain},
        **{name: dict(found[name]) for name in copied},
        "intervals": {
            name: (-np.inf if low is None else low, np.inf if high is None else high)
            for name, (low, high) in found["intervals"].items()
        },
        "backtest": Backtest.from_json(found["backtest"]) if found["backtest"] else None,
        "warnings": tuple(found["warnings"]),
        "scores": tuple(found.get("scores", ())),
        "solution": solution,
        "runs": runs,
        "cost": MeasuredCost(**cost) if cost else None,
        "provenance": provenance,
        "hygiene": Hygiene.from_json(found["hygiene"]) if found.get("hygiene") else None,
        "ensemble": Ensemble.from_json(mixed) if mixed else None,
    }


def failure(
    form: str | None, error: Exception, columns: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Any]:
    """The JSON object of a fit that failed: every key of `Law.to_json`, with `error` set."""
    empty: dict[str, Any] = {key: {} for key in ("parameters", "standard_errors", "intervals", "objective")}
    return {
        "form": form, "columns": dict(columns or {}), **empty, "level": None, "n_runs": None, "predictions": [],
        "backtest": None, "warnings": [], "error": str(error), "scores": [], "ensemble": None,
        "breaks": [], "provenance": {}, "hygiene": None,
    }  # fmt: skip
