"""What Ray Tune runs: one trial is one run of a grid or of a search, trained in the store."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune

from chemscale.models.cost import Cost
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.placement import On, resources_for
from chemscale.sweep.population import descent_of
from chemscale.sweep.search import Search
from chemscale.train.beside import Beside
from chemscale.train.rows import cost_key
from chemscale.train.session import train_in_store
from chemscale.train.worker import train_on_workers

RUN_ID = "run_id"  # the key of a grid's trial configuration


@dataclass(frozen=True)
class Plan:
    """What a trial needs to know to find its run: either the runs of a grid by id, or a search.

    `costs` maps a run's `cost_key` to FLOPs per example where the driver has counted them; `saved` says when a run's
    state is saved (`train.loop.SAVED`); `stoppable` whether a scheduler may end it; `beside` what is measured of each
    finished run beside its losses.
    """

    store: str
    on: On
    driver: Mapping[str, Any] = field(default_factory=process_identity)
    runs: Mapping[str, RunSpec] = field(default_factory=dict)
    search: Search | None = None
    costs: Mapping[Any, Cost] = field(default_factory=dict)
    saved: str = "timed"
    stoppable: bool = False
    beside: Beside | None = None

    def run(self, config: Mapping[str, Any]) -> RunSpec:
        """The run of a trial with this configuration."""
        return self.search.run(config) if self.search is not None else self.runs[config[RUN_ID]]

    def resources_of(self, run: RunSpec) -> Resources:
        """Where a run trains."""
        return resources_for(self.on, run)

    @property
    def patience(self) -> float:
        """Seconds that the driver waits for its store: as long as the most patient run."""
        runs = self.search.cells if self.search is not None else list(self.runs.values())
        return max((self.resources_of(run).patience for run in runs), default=Resources.patience)


@dataclass(frozen=True)
class Shared:
    """A plan in Ray's object store, read once by every process: a thousand runs take a while to unpack."""

    reference: Any

    def plan(self) -> Plan:
        """The plan."""
        return _read(self.reference)


@functools.lru_cache(maxsize=1)
def _read(reference: Any) -> Plan:
    return ray.get(reference)


def trial(config: Mapping[str, Any], plan: Plan | Shared) -> None:
    """The function that Tune runs: one run to its end, told to Tune as it goes.

    A run that the store already holds is reported, not trained again.
    """
    plan = plan.plan() if isinstance(plan, Shared) else plan
    report = tune.report if plan.search is not None else Steady(tune.report)  # `PerCell` sorts out what has no loss
    run = plan.run(config)
    on = plan.resources_of(run)
    counted = plan.costs.get(cost_key(run, run.data.content)) if plan.costs else None
    store = Store(patient(plan.store, on))
    before = store.state(run.id)
    if before.status in (FINISHED, DIVERGED):
        row = store.runs(run_id=run.id).to_pylist()[0]
        loss = math.inf if before.status == DIVERGED else row["valid_loss"]
        report({"examples": run.examples, "status": before.status, "valid_loss": loss, "law_loss": row["law_loss"]})
        return
    if on.workers == 1:
        train_in_store(
            run, plan.store, resources=on, driver=plan.driver, report=report, counted=counted,
            descent=descent_of(config), saved=plan.saved, stoppable=plan.stoppable, beside=plan.beside,
        )  # fmt: skip
        return
    from ray.tune.integration.ray_train import TuneReportCallback

    from chemscale.sweep.groups import group

    with group() as announcing:
        callbacks = [TuneReportCallback(), announcing]
        train_on_workers(
            run, plan.store, resources=on, driver=plan.driver, callbacks=callbacks, counted=counted,
            stoppable=plan.stoppable, beside=plan.beside,
        )  # fmt: skip


class Steady:
    """Reports in which the metric is never missing, as Tune demands of whoever names one."""

    def __init__(self, report: Callable[[dict[str, Any]], None]):
        self._report = report
        self._loss: float | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        self._loss = row.get("valid_loss", self._loss)
        if self._loss is not None:
            self._report({**row, "valid_loss": self._loss})
