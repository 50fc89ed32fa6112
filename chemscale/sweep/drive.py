"""The driver of a grid: what is still to do, on which cluster, shown how; the public `sweep` and `tuner`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chemscale.records.store import Store, outstanding
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.cluster import cluster, fit
from chemscale.sweep.display import Display
from chemscale.sweep.estimate import work_of
from chemscale.sweep.grid import Grid, require_name
from chemscale.sweep.placement import On, require_room_for
from chemscale.sweep.preparation import prepare
from chemscale.sweep.progress import cells_of
from chemscale.train.beside import Beside
from chemscale.train.trunk import forget_trunks, trunk_of


def sweep(
    grid: Grid | Sequence[RunSpec],
    *,
    store: str | Path | Store,
    on: On | None = None,
    name: str = "sweep",
    callbacks: Sequence[Any] = (),
    beside: Beside | None = None,
) -> Store:
    """Train every run of a grid that the store does not hold yet, on Ray Tune; the same call again finishes the rest.

    Args:
        grid: a grid, or runs.
        store: folder of the records.
        on: workers, processors and GPUs of each run; or a rule from a run to its `Resources`, so that large runs take
            several slots and small ones share one.
        name: of the study in the store.
        callbacks: of Ray Tune, e.g. its loggers for MLflow and W&B (`chemscale.sweep.trackers`).
        beside: what is measured of each finished run beside its losses, e.g. `cs.Sampling(3000)`, by which every text
            model writes molecules that are held against a reference. It changes no run and no id.

    Returns:
        The store.

    Raises:
        ValueError: a bad input, or a cluster too small for one run.
    """
    require_name("name", name)
    if beside is not None:
        beside.require()
    on = on or Resources()
    runs = _runs_of(grid)
    require_room_for(on, runs)
    runs = prepare(runs, on)
    records = store if isinstance(store, Store) else Store(store, create=True)
    known = records.studies().get(name, {}).get("work", {})
    records.enlist(name, runs, work=work_of([run for run in runs if run.id not in known], on))
    train_missing(records, runs, on=on, name=name, callbacks=callbacks, beside=beside)
    return records


def _runs_of(grid: Grid | Iterable[RunSpec]) -> list[RunSpec]:
    given: Any = grid  # as Python takes it
    runs = grid.runs() if isinstance(grid, Grid) else list(given) if isinstance(given, Iterable) else None
    if runs is None or not all(isinstance(run, RunSpec) for run in runs):
        raise ValueError(
            f"grid is a {type(grid).__name__}, and a sweep trains a Grid or a list of RunSpecs; a Study goes to "
            "chemscale.run_study, a Search to chemscale.search."
        )
    return runs


def train_missing(
    records: Store,
    runs: Sequence[RunSpec],
    *,
    on: On,
    name: str,
    callbacks: Sequence[Any] = (),
    beside: Beside | None = None,
) -> None:
    """Train those of these enlisted runs that are not done, the widest and longest first; then measure beside their
    losses what is wanted and still missing."""
    _train(records, runs, on, name, callbacks, beside)
    if beside is not None:
        beside.catch_up(records, {run.id: run for run in runs})


def _train(
    records: Store, runs: Sequence[RunSpec], on: On, name: str, callbacks: Sequence[Any], beside: Beside | None
) -> None:
    todo, elsewhere = outstanding(records, runs, keep_stopped=False)
    work = records.studies()[name]["work"]
    with Display(records, cells_of(records, [name])) as display:
        if elsewhere:
            display.say(f"{len(elsewhere)} runs are being trained by {elsewhere[0].owner}; they are left to it.")
        if not todo:
            return
        from chemscale.sweep.tune import grid_tuner
        from chemscale.sweep.ushers import Forgetting

        told = [*callbacks, Forgetting()]
        with cluster(), tempfile.TemporaryDirectory(prefix="chemscale-tune-", ignore_cleanup_errors=True) as scratch:
            fit(grid_tuner(todo, records, on=on, study=name, work=work, scratch=scratch, callbacks=told, beside=beside))
    trunks = {trunk.name for run in runs if (trunk := trunk_of(run)) is not None}
    if trunks and not any(outstanding(records, runs, keep_stopped=False)):  # nor does another driver train one
        forget_trunks(records.place, trunks)


def tuner(
    what: Grid | RunSpec | Callable[[Mapping[str, Any]], RunSpec],
    space: Mapping[str, Any] | None = None,
    *,
    store: str | Path,
    on: On | None = None,
    name: str = "sweep",
    scheduler: Any = None,
    search_alg: Any = None,
    samples: int = 1,
    callbacks: Sequence[Any] = (),
) -> Any:
    """A plain `ray.tune.Tuner` over the runs of a grid that the store does not hold yet, or over a space of runs.

    For programs that drive Tune themselves: initialise Ray first; Tune's own loggers are left alone.

    Args:
        what: a grid; or a run whose dotted fields the space names; or a function from a configuration to a run.
        space: Tune's own domains, {"optim.lr": tune.loguniform(1e-4, 1e-1)}; none where `search_alg` has them.
        scheduler: of Ray Tune; its time is "examples", its metric "valid_loss", lower is better.
        search_alg: of Ray Tune, for a space.
        samples: trials of a space.
        callbacks: of Ray Tune.

    Raises:
        ValueError: every run is already done, or a bad input.
    """
    if not isinstance(what, Grid):
        if callable(on):
            raise ValueError("on is a rule, which only a grid's runs can be asked for; give one Resources for a space.")
        from chemscale.sweep.trainable import open_tuner

        return open_tuner(
            what, space, store=store, on=on, name=name, scheduler=scheduler, search_alg=search_alg, samples=samples,
            callbacks=callbacks,
        )  # fmt: skip
    if space is not None or search_alg is not None or samples != 1:
        raise ValueError("space, search_alg and samples belong to a run, a Grid lists its own; give one or the other.")
    from chemscale.sweep.tune import grid_tuner

    require_name("name", name)
    on = on or Resources()
    runs = prepare(what.runs(), on)
    records = Store(store, create=True)
    records.enlist(name, runs, work=work_of(runs, on))
    todo, _ = outstanding(records, runs, keep_stopped=False)
    if not todo:
        raise ValueError(
            f"{records.url} already holds every run of this grid; read them with Store({str(store)!r}).runs()."
        )
    work = records.studies()[name]["work"]
    return grid_tuner(todo, records, on=on, study=name, work=work, scheduler=scheduler, callbacks=callbacks)
