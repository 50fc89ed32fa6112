"""Ray Tune carries out grids and searches: trials, the driver's word on them, resuming from the store."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from chemscale import data
from chemscale.models.cost import Cost
from chemscale.records.schema import DIVERGED, FAILED, FINISHED, STOPPED
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.search import Search
from chemscale.train.rows import training_cost
from chemscale.train.session import train_in_store
from chemscale.train.worker import MAX_FAILURES, require_room, train_on_workers

RUN_ID = "run_id"  # the key of a grid's trial configuration
LONGEST_REASON = 500  # characters


@dataclass(frozen=True)
class Plan:
    """What a trial needs to know to find its run: either the runs of a grid by id, or a search.

    `costs` maps a model configuration to FLOPs per example where the driver has counted them.
    """

    store: str
    resources: Resources
    driver: Mapping[str, Any] = field(default_factory=process_identity)
    runs: Mapping[str, RunSpec] = field(default_factory=dict)
    search: Search | None = None
    costs: Mapping[Any, Cost] = field(default_factory=dict)

    def run(self, config: Mapping[str, Any]) -> RunSpec:
        """The run of a trial with this configuration."""
        return self.search.run(config) if self.search is not None else self.runs[config[RUN_ID]]


def trial(config: Mapping[str, Any], plan: Plan) -> None:
    """The function that Tune runs: one run to its end, told to Tune as it goes.

    A run that the store already holds is reported, not trained again.
    """
    run = plan.run(config)
    before = Store(plan.store).state(run.id)
    if before.status in (FINISHED, DIVERGED):
        row = Store(plan.store).runs(run_id=run.id).to_pylist()[0]
        tune.report({"examples": run.examples, **({"valid_loss": v} if (v := row["valid_loss"]) is not None else {})})
    elif plan.resources.workers == 1:
        counted = plan.costs.get(run.model)
        train_in_store(
            run, plan.store, resources=plan.resources, driver=plan.driver, report=tune.report, counted=counted
        )
    else:
        from ray.tune.integration.ray_train import TuneReportCallback

        callbacks, counted = [TuneReportCallback()], plan.costs.get(run.model)
        train_on_workers(
            run, plan.store, resources=plan.resources, driver=plan.driver, callbacks=callbacks, counted=counted
        )


class DriverWord(tune.Callback):
    """Writes what only the driver knows: that a scheduler stopped a run, or that it failed and why."""

    def __init__(self, plan: Plan, study: str):
        self._plan, self._study = plan, study
        self._store = Store(plan.store)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._plan.search is not None:
            self._store.enlist(self._study, [self._plan.run(trial.config)])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run_id = self._plan.run(trial.config).id
        if self._store.state(run_id).status not in (FINISHED, DIVERGED):
            self._store.mark(run_id, STOPPED, "stopped early by the scheduler")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def _failed(self, trial: Any) -> None:
        run_id = self._plan.run(trial.config).id
        if self._store.state(run_id).status not in (FINISHED, DIVERGED):
            self._store.mark(run_id, FAILED, reason_of(trial))


def reason_of(trial: Any) -> str:
    """The last word of what a trial raised, on one line."""
    error = trial.get_pickled_error() or trial.get_error()
    while (cause := getattr(error, "cause", None)) is not None and cause is not error:
        error = cause
    if error is None:
        return "the trial's process died"
    if isinstance(error, str):  # all that Tune kept is the printed traceback, whose last line is the error
        return error.strip().splitlines()[-1][:LONGEST_REASON]
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]


def grid_tuner(
    runs: Sequence[RunSpec], store: Store, *, on: Resources, study: str, scratch: str | None = None
) -> tune.Tuner:
    """A plain `ray.tune.Tuner` over these runs; `fit()` it, or change its parts first."""
    plan = Plan(str(store.path), on, runs={run.id: run for run in runs}, costs=_counted(runs))
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
    search: Search, store: Store, *, on: Resources, samples: int, searcher: Any, scratch: str | None = None
) -> tune.Tuner:
    """A Tuner for what is left of a search."""
    plan = Plan(str(store.path), on, search=search)
    return tune.Tuner(
        _trainable(plan),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(search),
            metric="valid_loss",
            mode="min",
            num_samples=samples,
            reuse_actors=True,
            max_concurrent_trials=slots(on),
        ),
        run_config=_run_config(plan, search.name, scratch),
    )


def _scheduler(search: Search) -> Any:
    if search.stop is None:
        return None
    examples = search.base.examples
    return ASHAScheduler(
        time_attr="examples",  # survives a resume, unlike Tune's own count of reports
        max_t=examples,
        grace_period=max(1, math.floor(search.stop.grace * examples)),
        reduction_factor=search.stop.reduction,
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
