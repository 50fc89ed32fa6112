"""Studies whose largest cells are predicted before they train: sweep the small, fit, register, train, score."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemscale.laws import FitError, Law, fit
from chemscale.records.store import Store, outstanding
from chemscale.spec import Resources, RunSpec
from chemscale.spec.registry import kind_of
from chemscale.sweep.drive import train_missing
from chemscale.sweep.estimate import try_costs
from chemscale.sweep.grid import Study, largest
from chemscale.sweep.placement import On, require_room_for
from chemscale.sweep.preparation import prepare
from chemscale.train.beside import Beside

BOOTSTRAP = 400  # refits behind a forecast's interval; fewer than 399 cover too little


@dataclass(frozen=True)
class Unforeseen:
    """A cell that no law could predict, and why."""

    run_id: str
    architecture: str
    reason: str


def run_study(
    study: Study,
    *,
    store: str | Path | Store,
    on: On | None = None,
    callbacks: Sequence[Any] = (),
    beside: Beside | None = None,
) -> Store:
    """Train every run of a study that the store does not hold yet; the same call again finishes the rest.

    With `forecast="largest"` the largest cell of every architecture trains last, after its loss has been predicted from
    the other cells and the prediction has been registered in the store, where it cannot change any more. `beside` is
    what is measured of each finished run beside its losses (`chemscale.sweep.drive.sweep`).

    Raises:
        ValueError: a bad input, or a cluster too small for one run.
    """
    if beside is not None:
        beside.require()
    on = on or Resources()
    require_room_for(on, study.runs())
    runs = prepare(study.runs(), on)
    records = store if isinstance(store, Store) else Store(store, create=True)
    if study.name in records.studies() and not any(outstanding(records, runs, keep_stopped=False)):
        train_missing(records, runs, on=on, name=study.name, beside=beside)  # says that all is done
        return records
    print(f"{study.name}: {len(runs)} runs; timing a step of each model …", file=sys.stderr)
    cells, _ = try_costs(runs, on)
    work = {run_id: cell.seconds for run_id, cell in cells.items()}
    records.enlist(study.name, runs, work=work, question=study.question, limits=list(study.limits))
    if study.forecast == "largest":
        params = {run_id: cell.params for run_id, cell in cells.items()}
        top = largest([run for run in runs if run.id in params], params)
        rest = [run for run in runs if run not in top]
        train_missing(records, rest, on=on, name=study.name, callbacks=callbacks, beside=beside)
        foresee(records, rest, top, params)
    train_missing(records, runs, on=on, name=study.name, callbacks=callbacks, beside=beside)
    return records


def foresee(
    records: Store, known: Sequence[RunSpec], unknown: Sequence[RunSpec], params: dict[str, int]
) -> list[Unforeseen]:
    """Predict runs that have not started from finished ones of the same architecture, and register the predictions.

    Args:
        params: run id -> non-embedding parameters.

    Returns:
        The runs that could not be predicted; the store keeps the reason in place of a number.
    """
    registered = records.forecasts()
    unforeseen = []
    for run in unknown:
        if run.id in registered or records.attempts(run.id):
            continue
        ids = [r.id for r in known if kind_of(r.model) == kind_of(run.model)]
        forecast = _forecast(records, ids, run, params[run.id])
        records.register_forecast(run.id, forecast)
        if forecast["value"] is None:
            unforeseen.append(Unforeseen(run.id, kind_of(run.model), forecast["reason"]))
    return unforeseen


def _forecast(records: Store, ids: list[str], run: RunSpec, params: int) -> dict[str, Any]:
    assert run.data.size is not None
    finished = [row for row in records.runs(status="finished").to_pylist() if row["run_id"] in ids]
    what = {"architecture": kind_of(run.model), "params": params, "data": run.data.size, "trained_on": ids}
    if not finished:
        return {**what, "value": None, "reason": "no smaller run finished"}
    metric = finished[0]["law_metric"]
    axis = next((name for name in ("molecules", "structures") if finished[0][name]), "examples")
    try:
        law: Law = fit(finished, form="auto", params="params", data=axis, loss=metric, bootstrap=BOOTSTRAP)
        seen = law.predict(params=params, data=run.data.size)
    except (ValueError, FitError) as error:
        return {**what, "metric": metric, "value": None, "reason": str(error)}
    return {
        **what,
        "metric": metric,
        "data_column": axis,
        "value": seen.value,
        "low": seen.low,
        "high": seen.high,
        "units": seen.units,
        "level": law.level,
        "form": law.form,
        "n_runs": law.n_runs,
    }
