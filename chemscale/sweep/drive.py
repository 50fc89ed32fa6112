"""The driver of a grid: what is still to do, on which cluster, shown how; the public `sweep` and `tuner`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chemscale import data
from chemscale.records.store import Store, outstanding
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.cluster import cluster
from chemscale.sweep.display import Display
from chemscale.sweep.estimate import work_of
from chemscale.sweep.grid import Grid, require_name
from chemscale.sweep.progress import cells_of
from chemscale.train.complete import complete
from chemscale.train.worker import require_room


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
            f"{records.url} already holds every run of this grid; read them with Store({str(store)!r}).runs()."
        )
    return grid_tuner(todo, records, on=on, study=name)
