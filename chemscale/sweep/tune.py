"""Ray Tuners for grids and searches: schedulers, resources, how many trials at a time."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray import tune

from chemscale import data
from chemscale.models.cost import Cost
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.proposals import Proposals
from chemscale.sweep.schedulers import pauses, scheduler_of
from chemscale.sweep.search import Search
from chemscale.sweep.trial import RUN_ID, Plan, trial
from chemscale.sweep.word import DriverWord
from chemscale.train.rows import training_cost
from chemscale.train.worker import MAX_FAILURES, require_room


def grid_tuner(
    runs: Sequence[RunSpec], store: Store, *, on: Resources, study: str, scratch: str | None = None
) -> tune.Tuner:
    """A plain `ray.tune.Tuner` over these runs; `fit()` it, or change its parts first."""
    plan = Plan(store.url, on, runs={run.id: run for run in runs}, costs=_counted(runs))
    return tune.Tuner(
        _trainable(plan),
        param_space={RUN_ID: tune.grid_search([run.id for run in runs])},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=slots(on)),
        run_config=_run_config(plan, study, scratch),
    )


def _counted(runs: Sequence[RunSpec]) -> dict[Any, Cost]:
    """FLOPs per example by model; a model that cannot be counted is left to fail in its own trial."""
    costs = {}
    for run in runs:
        if run.objective is None and run.model not in costs:
            with contextlib.suppress(Exception):
                costs[run.model] = training_cost(run, data.manifest(run.data))
    return costs


def search_tuner(
    search: Search, store: Store, *, on: Resources, searcher: Proposals, scratch: str | None = None
) -> tune.Tuner:
    """A Tuner for what is left of a search."""
    waits = pauses(search.stop)  # then more runs live than train at a time, and Ray's own slots bound those that train
    plain = replace(search, sampler="random", stop=None, objectives=("valid_loss",))  # what a trial has to know of it
    plan = Plan(str(store.path), on, search=plain, saved="measured" if waits else "timed")
    return tune.Tuner(
        _trainable(plan),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler_of(search, store),
            metric="valid_loss",
            mode="min",
            num_samples=searcher.trials,
            reuse_actors=True,
            max_concurrent_trials=None if waits else slots(on),
        ),
        run_config=_run_config(plan, search.name, scratch),
    )


def _trainable(plan: Plan) -> Any:
    on = plan.resources
    if on.workers == 1:
        asked: dict[str, float] = {"cpu": on.cpus, **({"gpu": on.gpus} if on.gpus else {})}
    else:  # Ray Train reserves the workers itself; the trial that starts them takes no processor from them
        asked = {"cpu": 0, "node:__internal_head__": 0.001}
    return tune.with_resources(tune.with_parameters(trial, plan=plan), asked)


def _run_config(plan: Plan, study: str, scratch: str | None) -> tune.RunConfig:
    return tune.RunConfig(
        name=study,
        storage_path=scratch or tempfile.mkdtemp(prefix="chemscale-tune-"),
        failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        callbacks=[DriverWord(plan, study)],
        verbose=0,
    )


def slots(on: Resources) -> int:
    """How many runs the cluster holds at a time.

    Raises:
        ValueError: it can never hold one.
    """
    import ray

    require_room(on)
    total = ray.cluster_resources()
    room = [total.get("CPU", 0) / (on.cpus * on.workers)]
    if on.gpus:
        room.append(total.get("GPU", 0) / (on.gpus * on.workers))
    fits = max(1, math.floor(min(room) + 1e-9))
    return min(fits, on.concurrent) if on.concurrent else fits
