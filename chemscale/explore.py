"""The closed loop: design, train, fit, until a target is known well enough or the budget is spent."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from chemscale.laws import Law
from chemscale.records.schema import FINISHED
from chemscale.records.spool import patient
from chemscale.records.store import Store
from chemscale.rooms import answer_calls
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.aim import UNITS, Aim, Cells, Standing, Wanted, require_grid
from chemscale.sweep.cluster import cluster, fit
from chemscale.sweep.designed import Designed
from chemscale.sweep.display import Display
from chemscale.sweep.estimate import try_costs
from chemscale.sweep.grid import Grid, Study, require_name
from chemscale.sweep.placement import On, require_room_for, resources_for
from chemscale.sweep.preparation import prepare


@dataclass(frozen=True)
class Explored:
    """What an exploration found.

    reason: "narrow enough", "budget spent", "no run left" or "no run teaches more" (those that can be paid lie too far
    from the target); or "goes on", before it has ended. value, low, high: of the target; None without a law. spent: in
    the budget's unit. next_runs: what the design would make with what is left of the budget, as (parameters, data,
    cost), first things first.
    """

    answer: str
    reason: str
    law: Law | None
    value: float | None
    low: float | None
    high: float | None
    spent: float
    budget: float
    runs: int
    next_runs: tuple[tuple[float, float, float], ...]


def explore(
    grid: Grid | Study | Sequence[RunSpec],
    *,
    store: str | Path | Store,
    on: On | None = None,
    name: str = "explore",
    callbacks: Sequence[Any] = (),
    **wanted: Unpack[Wanted],
) -> Explored:
    """Train the cells of a grid that teach most of a target per cost; the same call again goes on where it was.

    Args:
        grid: the runs that may be made, all of one architecture; each is made at most once.
        callbacks: of Ray Tune.
        target: {"params": …, "data": …}, whose loss is to be predicted, or the name of a parameter of the law.
        width: half the interval at which it ends, as a share of the value (0.1 = 10 %).
        flops, device_hours: the budget, exactly one; runs that the store holds already count.
        form: of the law.
        rule: "v" for least error of the target; to compare with, "d", "cheapest" and "random".

    Raises:
        ValueError: a bad input or name, several architectures, a grid that can bear no law of the form, a budget under
            the cheapest run, or a cluster too small for one run.
    """
    require_name("name", name)
    aim, cells, records, on = _prepared(grid, store, on, Aim.of(**wanted))
    records.enlist(name, [])
    most = max((resources_for(on, run) for run in cells.runs), key=lambda where: where.patience)
    waited = Store(patient(records.url, most))
    searcher = Designed(aim, cells, waited, name)
    if searcher.standing().run is not None or searcher.waits:
        _train(searcher, cells, waited, on, name, callbacks)
    return _explored(Designed(aim, cells, waited, name).standing(), aim, cells)


def foresight(
    grid: Grid | Study | Sequence[RunSpec],
    *,
    store: str | Path | Store,
    on: On | None = None,
    name: str = "explore",
    **wanted: Unpack[Wanted],
) -> Explored:
    """What `explore` would do next; trains nothing."""
    aim, cells, records, _ = _prepared(grid, store, on, Aim.of(**wanted))
    return _explored(Designed(aim, cells, records, name).standing(), aim, cells)


def _prepared(grid: Any, store: Any, on: On | None, aim: Aim) -> tuple[Aim, Cells, Store, On]:
    runs = list(grid.runs() if isinstance(grid, Grid | Study) else grid)
    kinds = sorted({run.model.architecture for run in runs})
    if len(kinds) != 1:
        raise ValueError(
            f"the grid has {len(kinds)} architectures ({', '.join(kinds)}), and an exploration is of one law; explore "
            "one at a time."
        )
    on = on or Resources()
    require_room_for(on, runs)
    complete = prepare(runs, on)
    print(f"{len(complete)} runs that may be made; timing a step of each model …", file=sys.stderr)
    known, _ = try_costs(complete, on)
    runs = [run for run in complete if run.id in known]
    if not runs:
        raise ValueError("no run of the grid can be counted; `chemscale show` says why.")
    points = np.array([[known[run.id].params, run.data.size] for run in runs], float)
    costs = np.array([known[r.id].flops if aim.unit == "flops" else known[r.id].seconds / 3600 for r in runs])
    require_grid(aim, points)
    records = store if isinstance(store, Store) else Store(store, create=True)
    states = records.states([run.id for run in runs]).values()
    if costs.min() > aim.budget and not any(state.status == FINISHED for state in states):
        raise ValueError(
            f"{aim.unit}={aim.budget:.3g} pays for no run of the grid: the cheapest costs {costs.min():.3g} "
            f"{UNITS[aim.unit]}; give more, or a grid with smaller runs."
        )
    return aim, Cells(runs, points, costs), records, on


def _train(searcher: Designed, cells: Cells, records: Store, on: On, name: str, callbacks: Sequence[Any]) -> None:
    from chemscale.sweep.tune import design_tuner

    folder = tempfile.TemporaryDirectory(prefix="chemscale-tune-", ignore_cleanup_errors=True)
    with Display(records, (), study=name, total=None), cluster(), folder as scratch:
        fit(
            design_tuner(
                cells.runs, records, on=on, study=name, searcher=searcher, scratch=scratch, callbacks=callbacks
            )
        )


def _explored(stands: Standing, aim: Aim, cells: Cells) -> Explored:
    ahead = () if stands.ahead is None else stands.ahead.picks
    next_runs = tuple((float(n), float(d), float(cells.costs[i])) for i in ahead for n, d in [cells.points[i]])
    runs = 0 if stands.law is None else stands.law.n_runs
    return Explored(
        _sentence(stands, aim), stands.reason, stands.law, stands.value, stands.low, stands.high, stands.spent,
        aim.budget, runs, next_runs,
    )  # fmt: skip


def _sentence(stands: Standing, aim: Aim) -> str:
    if isinstance(aim.target, str):
        what = aim.target
    else:
        what = "the loss at " + ", ".join(f"{role}={value:.3g}" for role, value in aim.target.items())
    paid = f"{stands.spent:.3g} of {aim.budget:.3g} {UNITS[aim.unit]}"
    if stands.law is None or stands.value is None or stands.low is None or stands.high is None:
        return f"{stands.reason}: {what} is not known after {paid}: {stands.trouble}"
    share = (stands.high - stands.low) / 2 / stands.value
    return (
        f"{stands.reason}: {what} is {stands.value:.4g} ({stands.law.level:.0%} interval {stands.low:.4g} to "
        f"{stands.high:.4g}, ±{share:.1%}) after {stands.law.n_runs} runs and {paid}"
    )


answer_calls(__name__, "chemscale.explore:explore")  # `chemscale.explore` is the room and the function
