"""The driver of a search: what the store holds of it already, what is still to sample; the public `search`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chemscale.records.schema import DIVERGED, FINISHED, INTERRUPTED, STOPPED
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.cluster import cluster
from chemscale.sweep.display import Display
from chemscale.sweep.drive import prepare
from chemscale.sweep.placement import On, require_room_for
from chemscale.sweep.search import ASHA, Domain, Search


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: the finished run with the lowest validation loss; None where none finished.
        loss: its validation loss.
        edges: fields of the space at whose edge it lies: the best may lie beyond.
        trials: (values, status, validation loss) of every run.
    """

    best: RunSpec | None
    loss: float | None
    edges: Sequence[str]
    trials: Sequence[tuple[dict[str, Any], str, float | None]]


def search(
    base: RunSpec | Search,
    space: dict[str, Domain] | None = None,
    *,
    samples: int = 16,
    stop: ASHA | None = None,
    sampler: Any = "tpe",
    store: str | Path | Store,
    on: On | None = None,
    name: str = "search",
    seed: int = 0,
    callbacks: Sequence[Any] = (),
) -> SearchResult:
    """Search hyperparameters of one cell by their validation loss; the same call again makes only what is missing.

    Args:
        base: the run to vary, or a whole `Search`.
        space: dotted field -> domain.
        callbacks: of Ray Tune, e.g. its loggers for MLflow and W&B (`chemscale.sweep.trackers`).

    Raises:
        ValueError: a bad space, bad data, or a cluster too small for one run.
    """
    plan = base if isinstance(base, Search) else Search(base, space or {}, samples, stop, sampler, seed, name)
    on = on or Resources()
    require_room_for(on, [plan.base])
    plan = replace(plan, base=prepare([plan.base], on)[0])
    records = store if isinstance(store, Store) else Store(store, create=True)
    records.enlist(plan.name, [])
    _search_missing(records, plan, on, callbacks)
    return result_of(records, plan)


def _search_missing(records: Store, plan: Search, on: On, callbacks: Sequence[Any] = ()) -> None:
    from chemscale.sweep.sampler import Resuming, optuna_searcher
    from chemscale.sweep.tune import search_tuner

    runs = [records.spec(i) for i in records.studies()[plan.name]["runs"]]
    states = [records.state(run.id).status for run in runs]
    again = [plan.values(r) for r, s in zip(runs, states, strict=True) if s == INTERRUPTED]
    new = plan.samples - sum(s != INTERRUPTED for s in states)
    with Display(records, (), study=plan.name, total=plan.samples):
        if new <= 0:
            return
        done = [
            (plan.values(r), loss)
            for r, s in zip(runs, states, strict=True)
            if s in (FINISHED, STOPPED) and (loss := last_valid_loss(records, r.id)) is not None
        ]
        searcher = Resuming(optuna_searcher(plan, done), again)
        with cluster(), tempfile.TemporaryDirectory(prefix="chemscale-tune-", ignore_cleanup_errors=True) as scratch:
            search_tuner(
                plan, records, on=on, samples=new, searcher=searcher, scratch=scratch, callbacks=callbacks
            ).fit()


def result_of(records: Store, plan: Search) -> SearchResult:
    """What the store knows of a search."""
    trials, best = [], None
    for run_id in records.studies()[plan.name]["runs"]:
        run, status = records.spec(run_id), records.state(run_id).status
        loss = last_valid_loss(records, run_id) if status != DIVERGED else None
        trials.append((plan.values(run), status, loss))
        if status == FINISHED and loss is not None and (best is None or loss < best[1]):
            best = (run, loss)
    run, loss = best or (None, None)
    return SearchResult(run, loss, plan.edges(run) if run else (), trials)


def last_valid_loss(records: Store, run_id: str) -> float | None:
    """The newest validation loss of a run."""
    losses = [v for v in records.points(run_id)["valid_loss"].to_pylist() if v is not None]
    return losses[-1] if losses else None
