"""What Ray Tune runs: one trial is one run of a grid or of a search, trained in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from chemscale.models.cost import Cost
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec
from chemscale.sweep.search import Search
from chemscale.train.session import train_in_store
from chemscale.train.worker import train_on_workers

RUN_ID = "run_id"  # the key of a grid's trial configuration


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
    store = Store(patient(plan.store, plan.resources))
    if store.state(run.id).status in (FINISHED, DIVERGED):
        row = store.runs(run_id=run.id).to_pylist()[0]
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
