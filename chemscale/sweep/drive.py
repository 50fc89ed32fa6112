"""The driver: what is still to do, on which cluster, shown how; the public `sweep`, `search` and `tuner`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chemscale import data
from chemscale.records.schema import DIVERGED, FINISHED, INTERRUPTED, STOPPED
from chemscale.records.store import Store, outstanding
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.cluster import cluster
from chemscale.sweep.display import Display
from chemscale.sweep.estimate import work_of
from chemscale.sweep.grid import Grid, require_name
from chemscale.sweep.progress import cells_of
from chemscale.sweep.search import ASHA, Domain, Search
from chemscale.train.complete import complete
from chemscale.train.worker import require_room


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


def prepare(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Build the sources that these runs need, then complete every run.

    Raises:
        ValueError: a source is unknown or has no good record, or a size is larger than it.
    """
    for source, representation in dict.fromkeys((r.data.source, r.data.representation) for r in runs):
        data.build(source, representation=representation)
    return [complete(run) for run in runs]


def sweep(
    grid: Grid | Sequence[RunSpec], *, store: str | Path | Store, on: Resources | None = None, name: str = "sweep"
) -> Store:
    """Train every run of a grid that the store does not hold yet, on Ray Tune; the same call again finishes the rest.

    Args:
        grid: a grid, or runs.
        store: folder of the records.
        on: workers, processors and GPUs of each run.
        name: of the study in the store.

    Returns:
        The store.

    Raises:
        ValueError: a bad input, or a cluster too small for one run.
    """
    require_name("name", name)
    on = on or Resources()
    require_room(on)
    runs = prepare(grid.runs() if isinstance(grid, Grid) else list(grid))
    records = store if isinstance(store, Store) else Store(store, create=True)
    known = records.studies().get(name, {}).get("work", {})
    records.enlist(name, runs, work=work_of([run for run in runs if run.id not in known], on))
    train_missing(records, runs, on=on, name=name)
    return records


def train_missing(records: Store, runs: Sequence[RunSpec], *, on: Resources, name: str) -> None:
    """Train those of these enlisted runs that are not done, largest first."""
    todo, elsewhere = outstanding(records, runs, keep_stopped=False)
    work = records.studies()[name]["work"]
    todo.sort(key=lambda run: -work.get(run.id, 0.0))
    with Display(records, cells_of(records, [name])) as display:
        if elsewhere:
            display.say(f"{len(elsewhere)} runs are being trained by {elsewhere[0].owner}; they are left to it.")
        if not todo:
            return
        from chemscale.sweep.tune import grid_tuner

        with cluster(), tempfile.TemporaryDirectory(prefix="chemscale-tune-", ignore_cleanup_errors=True) as scratch:
            grid_tuner(todo, records, on=on, study=name, scratch=scratch).fit()


def search(
    base: RunSpec | Search,
    space: dict[str, Domain] | None = None,
    *,
    samples: int = 16,
    stop: ASHA | None = None,
    sampler: Any = "tpe",
    store: str | Path | Store,
    on: Resources | None = None,
    name: str = "search",
    seed: int = 0,
) -> SearchResult:
    """Search hyperparameters of one cell by their validation loss; the same call again makes only what is missing.

    Args:
        base: the run to vary, or a whole `Search`.
        space: dotted field -> domain.

    Raises:
        ValueError: a bad space, bad data, or a cluster too small for one run.
    """
    plan = base if isinstance(base, Search) else Search(base, space or {}, samples, stop, sampler, seed, name)
    on = on or Resources()
    if plan.stop is not None and on.workers > 1:
        raise ValueError(
            f"Search.stop={plan.stop} with Resources.workers={on.workers} is not allowed: an early stop would leave "
            "the workers' processors reserved; use workers=1 or stop=None."
        )
    require_room(on)
    plan = replace(plan, base=prepare([plan.base])[0])
    records = store if isinstance(store, Store) else Store(store, create=True)
    records.enlist(plan.name, [])
    _search_missing(records, plan, on)
    return result_of(records, plan)


def _search_missing(records: Store, plan: Search, on: Resources) -> None:
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
            search_tuner(plan, records, on=on, samples=new, searcher=searcher, scratch=scratch).fit()


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


def tuner(grid: Grid, *, store: str | Path, on: Resources | None = None, name: str = "sweep") -> Any:
    """A plain `ray.tune.Tuner` over the runs of a grid that the store does not hold yet.

    For programs that drive Tune themselves: initialise Ray first; Tune's own loggers are left alone.

    Raises:
        ValueError: every run is already done, or a bad input.
    """
    from chemscale.sweep.tune import grid_tuner

    on = on or Resources()
    runs = prepare(grid.runs())
    records = Store(store, create=True)
    records.enlist(name, runs, work=work_of(runs, on))
    todo, _ = outstanding(records, runs, keep_stopped=False)
    if not todo:
        raise ValueError(
            f"{records.path} already holds every run of this grid; read them with Store({str(store)!r}).runs()."
        )
    return grid_tuner(todo, records, on=on, study=name)
