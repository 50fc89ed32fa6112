"""Runs with several workers, by Ray Train: a process group, shards of every batch, one record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chemscale.models.cost import Cost
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec
from chemscale.train.beside import Beside
from chemscale.train.environment import environment
from chemscale.train.ranks import require_sharding
from chemscale.train.room import require_room

MAX_FAILURES = 2  # restarts of the whole group after a worker died
EXCHANGE_SECONDS = 600  # longest exchange between workers: a peer that hangs, dead or not, costs no more than this
# How long Ray Train waits for room for a group before it counts again what the cluster has. Ray's own count of nodes is
# up to 20 s old, so that after the loss of a node a first try may wait for workers that cannot come.
START_SECONDS = 20
POLL_SECONDS = 0.5  # between Ray Train's looks at the workers, in which it takes their reports: they wait for it
WAIT_SECONDS = 24 * 3600  # longest wait for room, in a queue behind others or for a lost node to come back
GROW_SECONDS = 60.0  # how often a group that lost workers looks for room to grow back


def train_on_workers(
    run: RunSpec,
    store: str | Path,
    *,
    resources: Resources,
    driver: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
    counted: Cost | None = None,
    stoppable: bool = False,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Train one run on `resources.workers` processes, with a copy (DDP) or a share (FSDP2) of the model on each.

    A group that loses a worker starts again from the last checkpoint. With `resources.min_workers` it starts with as
    many as the cluster has room for, and grows back when there is room again; the global batch stays the run's.

    Args:
        driver: identity of the process that answers for the run; None is this one.
        callbacks: of Ray Train, e.g. `TuneReportCallback` inside a Tune trial.
        counted: FLOPs per example, where they have been counted already.
        stoppable: whether a report may be the last that the workers do (`session.train_in_store`).
        beside: what is measured of the trained model beside its losses.

    Returns:
        The terminal RUNS row, as rank 0 wrote it.

    Raises:
        ValueError: the cluster can never hold so many workers (the message has both numbers), or the model cannot be
            sharded.
        ray.train.TrainingFailedError: a worker raised, or died more than twice.
    """
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.constants import (
        HEALTH_CHECK_INTERVAL_S_ENV_VAR,
        WORKER_GROUP_START_TIMEOUT_S_ENV_VAR,
    )

    require_room(resources)
    require_sharding(run, resources)
    timing = {
        WORKER_GROUP_START_TIMEOUT_S_ENV_VAR: str(START_SECONDS),
        HEALTH_CHECK_INTERVAL_S_ENV_VAR: str(POLL_SECONDS),
    }
    with (
        environment(timing),
        tempfile.TemporaryDirectory(prefix="chemscale-train-") as scratch,
    ):
        trainer = _trainer(TorchTrainer)(
            _worker,
            train_loop_config={
                "run": run,
                "store": str(store),
                "resources": resources,
                "driver": dict(driver or process_identity()),
                "counted": counted,
                "stoppable": stoppable,
                "beside": beside,
            },
            scaling_config=scaling_of(resources),
            torch_config=process_group_of(resources),
            run_config=ray.train.RunConfig(
                name=f"chemscale-{run.id}",  # from the run's id, so that a restarted controller finds its own
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(
                    max_failures=MAX_FAILURES, controller_failure_limit=WAIT_SECONDS // START_SECONDS
                ),
                callbacks=list(callbacks),
            ),
        )
        trainer.fit()
    return Store(patient(store, resources)).runs(run_id=run.id).to_pylist()[0]


def scaling_of(resources: Resources) -> Any:
    """Ray Train's `ScalingConfig`: how many workers, with what each."""
    import ray.train

    fewest, most = resources.min_workers or resources.workers, resources.workers
    return ray.train.ScalingConfig(
        num_workers=most if fewest == most else (fewest, most),
        use_gpu=resources.gpus > 0,
        resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
        elastic_resize_monitor_interval_s=GROW_SECONDS,
    )


def process_group_of(resources: Resources) -> Any:
    """Ray Train's `TorchConfig`: how the workers talk."""
    from ray.train.torch import TorchConfig

    backend = "nccl" if resources.gpus >= 1 else "gloo"  # NCCL does not let two workers share a GPU
    return TorchConfig(backend=backend, timeout_s=EXCHANGE_SECONDS)


def _trainer(ray_trainer: type) -> type:
    """Ray's trainer without its detached watcher, which outlives a stopped run on clusters without a dashboard.

    The watcher removes what a dead controller reserved; below Tune that is the sweep's own work (`sweep.groups`), and
    elsewhere Ray does it when the program ends.
    """

    class Trainer(ray_trainer):
        def _create_default_callbacks(self) -> list[Any]:
            made = super()._create_default_callbacks()
            return [c for c in made if type(c).__name__ != "PlacementGroupCleanerCallback"]

    return Trainer


def _worker(config: dict[str, Any]) -> None:
    import ray.train
    from ray.train.torch import get_device

    from chemscale.train.ranks import Ranks, visible_device
    from chemscale.train.session import train_in_store

    run, resources, context = config["run"], config["resources"], ray.train.get_context()
    visible_device(resources.gpus)  # a worker that should have a GPU does not train on its processor
    device = get_device()
    assert not isinstance(device, list)
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), device)
    store = patient(config["store"], resources)
    if ranks.from_first(ranks.first and Store(store).state(run.id).status in (FINISHED, DIVERGED)):
        return  # a worker died after the last word was written: there is nothing left to do
    train_in_store(
        run,
        config["store"],
        resources=resources,
        driver=config["driver"],
        ranks=ranks,
        report=_report,
        counted=config["counted"],
        stoppable=config["stoppable"],
        beside=config["beside"],
    )


def _report(row: dict[str, Any]) -> None:
    """Tell Ray Train of measurements only: it takes a report at its next look at the worker (`POLL_SECONDS`), and
    the worker waits. A worker left alone would do nothing else."""
    import ray.train

    if "valid_loss" in row or "status" in row:
        ray.train.report(row)
