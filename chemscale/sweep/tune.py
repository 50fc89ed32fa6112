"""Ray Tuners for grids and searches: schedulers, resources, how many trials at a time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from chemscale import data
from chemscale.models.cost import Cost
from chemscale.records.store import MAX_RETRIES, Store
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.admission import Admission, Listed, Sampled
from chemscale.sweep.designed import Designed
from chemscale.sweep.growth import wait_for_room
from chemscale.sweep.placement import On, wanted_by
from chemscale.sweep.proposals import Proposals
from chemscale.sweep.schedulers import pauses, scheduler_of
from chemscale.sweep.search import Search
from chemscale.sweep.trackers import informed
from chemscale.sweep.trial import RUN_ID, Plan, Shared, trial
from chemscale.sweep.ushers import Cleaners, Ushers, yielding
from chemscale.sweep.word import DriverWord
from chemscale.train.beside import Beside
from chemscale.train.rows import cost_key, training_cost

HEAD = "node:__internal_head__"
DRIVERS = "chemscale_driver"  # a custom resource; where nodes declare it, trials that start workers run there


def grid_tuner(
    runs: Sequence[RunSpec],
    store: Store,
    *,
    on: On,
    study: str,
    work: Mapping[str, float] | None = None,
    scratch: str | None = None,
    scheduler: Any = None,
    callbacks: Sequence[Any] = (),
    beside: Beside | None = None,
) -> tune.Tuner:
    """A plain `ray.tune.Tuner` over these runs; `fit()` it, or change its parts first.

    Args:
        work: run id -> estimated seconds; among cells of one width the longest goes first.
        beside: what is measured of each finished run beside its losses.

    Raises:
        ValueError: the cluster can never hold one of them.
    """
    wait_for_room(*wanted_by(on, runs))
    asked, stoppable = {run.id: run for run in runs}, scheduler is not None
    plan = Plan(store.url, on, runs=asked, costs=_counted(runs), stoppable=stoppable, beside=beside)
    admission, cleaners = Listed(plan, work or {}), Cleaners(plan)
    return tune.Tuner(
        trainable_of(plan),
        tune_config=tune.TuneConfig(
            search_alg=admission,
            scheduler=yielding(scheduler or FIFOScheduler(), cleaners),
            num_samples=len(runs),
            reuse_actors=True,
            **_untold(scheduler),
        ),
        run_config=_run_config(DriverWord(plan, study), cleaners, admission, study, scratch, callbacks),
    )


def _untold(scheduler: Any) -> dict[str, Any]:
    """What a scheduler compares, as far as its maker has not said so; Ray refuses to be told twice."""
    if scheduler is None:
        return {}
    known = {"metric": scheduler.metric, "mode": getattr(scheduler, "_mode", None)}
    return {name: value for name, value in (("metric", "valid_loss"), ("mode", "min")) if known[name] is None}


def _counted(runs: Sequence[RunSpec]) -> dict[Any, Cost]:
    """FLOPs per example by `cost_key`; a model that cannot be counted is left to fail in its own trial."""
    costs = {}
    for run in runs:
        with contextlib.suppress(Exception):
            if (key := cost_key(run, run.data.content)) not in costs:
                costs[key] = training_cost(run, data.manifest(run.data))
    return costs


def search_tuner(
    search: Search,
    store: Store,
    *,
    on: On,
    searcher: Proposals,
    scratch: str | None = None,
    callbacks: Sequence[Any] = (),
) -> tune.Tuner:
    """A Tuner for what is left of a search."""
    wait_for_room(*wanted_by(on, search.cells))
    waits = pauses(search.stop)  # then more runs live than train at a time, and Tune's own slots bound those that train
    plain = replace(search, sampler="random", stop=None, objectives=("valid_loss",))  # what a trial has to know of it
    plan = Plan(store.url, on, search=plain, saved="measured" if waits else "timed", stoppable=True)
    admission, cleaners = None if waits else Sampled(plan, searcher), Cleaners(plan)
    word = DriverWord(plan, search.name, searcher.endings)
    return tune.Tuner(
        trainable_of(plan),
        tune_config=tune.TuneConfig(
            search_alg=admission or searcher,
            scheduler=yielding(scheduler_of(search, store) or FIFOScheduler(), cleaners),
            metric="valid_loss",
            mode="min",
            num_samples=searcher.trials,
            reuse_actors=True,
        ),
        run_config=_run_config(word, cleaners, admission, search.name, scratch, callbacks),
    )


def design_tuner(
    runs: Sequence[RunSpec],
    store: Store,
    *,
    on: On,
    study: str,
    searcher: Designed,
    scratch: str | None = None,
    callbacks: Sequence[Any] = (),
) -> tune.Tuner:
    """A Tuner over those of these runs that a design proposes, one after another."""
    wait_for_room(*wanted_by(on, runs))
    plan = Plan(store.url, on, runs={run.id: run for run in runs}, costs=_counted(runs))
    admission, cleaners = Sampled(plan, searcher), Cleaners(plan)
    return tune.Tuner(
        trainable_of(plan),
        tune_config=tune.TuneConfig(
            search_alg=admission,
            scheduler=yielding(FIFOScheduler(), cleaners),
            num_samples=searcher.trials,
            reuse_actors=True,
        ),
        run_config=_run_config(DriverWord(plan, study), cleaners, admission, study, scratch, callbacks),
    )


def trainable_of(plan: Plan) -> Any:
    """The function that Tune runs, with its plan and what each trial reserves."""
    return tune.with_resources(tune.with_parameters(trial, plan=Shared(ray.put(plan))), _reservations(plan))


def _reservations(plan: Plan) -> Any:
    if isinstance(plan.on, Resources):
        return reserved(plan.on)
    if plan.search is not None:
        return lambda config: reserved(plan.resources_of(plan.run(config)))
    each = {run_id: plan.resources_of(run) for run_id, run in plan.runs.items()}  # small: it travels with the function
    return lambda config: reserved(each[config[RUN_ID]])


def reserved(on: Resources) -> tune.PlacementGroupFactory:
    """What Tune reserves for the process of one trial."""
    if on.workers == 1:
        return tune.PlacementGroupFactory([{"CPU": on.cpus, **({"GPU": on.gpus} if on.gpus else {})}])
    # Ray Train reserves the workers itself; the trial that starts them takes no processor from them.
    place = DRIVERS if ray.is_initialized() and DRIVERS in ray.cluster_resources() else HEAD
    return tune.PlacementGroupFactory([{"CPU": 0, place: 0.001}])


def _run_config(
    word: DriverWord,
    cleaners: Cleaners,
    admission: Admission | None,
    study: str,
    scratch: str | None,
    callbacks: Sequence[Any],
) -> tune.RunConfig:
    plan = cleaners.plan
    ushers = [Ushers(admission, plan)] if admission else []
    return tune.RunConfig(
        name=study,
        storage_path=scratch or tempfile.mkdtemp(prefix="chemscale-tune-"),
        failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
        callbacks=[word, cleaners, *ushers, *informed(callbacks, plan)],
        verbose=0,
    )
