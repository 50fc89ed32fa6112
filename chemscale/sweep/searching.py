"""The driver of a search: what the store holds of it already, what is still to sample; the public `search`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chemscale.records.attempt import forget
from chemscale.records.spool import patient
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.cluster import cluster, fit
from chemscale.sweep.display import Display
from chemscale.sweep.found import SearchResult, result_of, samples_of
from chemscale.sweep.grid import Grid
from chemscale.sweep.placement import On, require_room_for, resources_for
from chemscale.sweep.preparation import prepare
from chemscale.sweep.progress import ENDED
from chemscale.sweep.search import Search
from chemscale.sweep.space import Domain, When
from chemscale.sweep.written import written


def search(
    base: RunSpec | Grid | Search,
    space: Mapping[str, Domain | When] | None = None,
    *,
    samples: int = 16,
    stop: Any = None,
    sampler: Any = "tpe",
    store: str | Path | Store,
    on: On | None = None,
    name: str = "search",
    seed: int = 0,
    objectives: Sequence[str] = ("valid_loss",),
    callbacks: Sequence[Any] = (),
) -> SearchResult:
    """Search hyperparameters by the validation loss; the same call again makes only what is missing.

    Args:
        base: the run to vary, a grid (a search in each of its cells, all in one Tune run), or a whole `Search`.
        space: dotted field -> domain.
        callbacks: of Ray Tune, e.g. its loggers for MLflow and W&B (`chemscale.sweep.trackers`).

    Raises:
        ValueError: a bad space, bad data, or a cluster too small for one run.
    """
    if isinstance(base, Search):
        plan = base
    else:
        plan = Search(base, space or {}, samples, stop, sampler, seed, name, tuple(objectives))
    from chemscale.sweep.schedulers import require_curves

    on = on or Resources()
    _require_places(plan, on)
    require_room_for(on, plan.cells)
    plan = replace(plan, base=tuple(prepare(plan.cells, on)))
    begins = getattr(plan.stop, "earlier", None) is None  # a store that holds an earlier search is there already
    records = store if isinstance(store, Store) else Store(store, create=begins)
    require_curves(plan, records)
    records.enlist(plan.name, [], space=written(plan.space))
    _search_missing(records, plan, on, callbacks)
    return result_of(records, plan)


def _require_places(plan: Search, on: On) -> None:
    from chemscale.sweep.schedulers import pauses, require_stop

    require_stop(plan.stop)
    if not pauses(plan.stop):
        return
    for where in (resources_for(on, cell) for cell in plan.cells):
        if where.concurrent is not None or where.workers > 1:
            given = f"concurrent={where.concurrent}" if where.concurrent is not None else f"workers={where.workers}"
            raise ValueError(
                f"Search.stop={plan.stop} with Resources.{given} is not allowed: its runs wait for each other, and "
                "more of them live than train at a time; use concurrent=None and workers=1."
            )


def _search_missing(records: Store, plan: Search, on: On, callbacks: Sequence[Any] = ()) -> None:
    from chemscale.sweep.proposals import Proposals
    from chemscale.sweep.tune import search_tuner
    from chemscale.sweep.ushers import Forgetting

    told = [*callbacks, Forgetting()]
    most_patient = max((resources_for(on, cell) for cell in plan.cells), key=lambda where: where.patience)
    waited = Store(patient(records.url, most_patient))  # for what a run has left the driver waits as the run does
    searcher = Proposals(plan, waited, samples_of(waited, plan))
    total = plan.samples_each * len(plan.cells)
    with Display(records, (), study=plan.name, total=total):
        if searcher.trials:
            folder = tempfile.TemporaryDirectory(prefix="chemscale-tune-", ignore_cleanup_errors=True)
            with cluster(), folder as scratch:
                fit(search_tuner(plan, waited, on=on, searcher=searcher, scratch=scratch, callbacks=told))
    _forget_members(records, plan)


def _forget_members(records: Store, plan: Search) -> None:
    """States that nobody will copy any more."""
    members = [s for cell in samples_of(records, plan) for s in cell if s.run.member is not None]
    if all(sample.status in ENDED for sample in members):
        for sample in members:
            forget(records.place, sample.run.id)
