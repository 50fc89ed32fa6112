"""Runs with several workers, by Ray Train: a process group, shards of every batch, one record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chemscale.models.cost import Cost
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec
from chemscale.train.room import require_room

MAX_FAILURES = 2  # restarts of the whole group after a worker died


def train_on_workers(
    run: RunSpec,
    store: str | Path,
    *,
    resources: Resources,
    driver: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
    counted: Cost | None = None,
) -> dict[str, Any]:
    """Train one run on `resources.workers` processes with DistributedDataParallel.

    Args:
        driver: identity of the process that answers for the run; None is this one.
        callbacks: of Ray Train, e.g. `TuneReportCallback` inside a Tune trial.
        counted: FLOPs per example, where they have been counted already.

    Returns:
        The terminal RUNS row, as rank 0 wrote it.

    Raises:
        ValueError: the cluster can never hold so many workers; the message has both numbers.
        ray.train.TrainingFailedError: a worker raised, or died more than twice.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    require_room(resources)
    with tempfile.TemporaryDirectory(prefix="chemscale-train-") as scratch:
        trainer = _trainer(TorchTrainer)(
            _worker,
            train_loop_config={
                "run": run,
                "store": str(store),
                "resources": resources,
                "driver": dict(driver or process_identity()),
                "counted": counted,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
            ),
            torch_config=TorchConfig(backend="nccl" if resources.gpus >= 1 else "gloo"),
            run_config=ray.train.RunConfig(
                name=f"chemscale-{run.id}",  # from the run's id, so that a restarted controller finds its own
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
                callbacks=list(callbacks),
            ),
        )
        trainer.fit()
    return Store(store).runs(run_id=run.id).to_pylist()[0]


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

    from chemscale.train.ranks import Ranks
    from chemscale.train.session import train_in_store

    context = ray.train.get_context()
    device = get_device()
    assert not isinstance(device, list)
    train_in_store(
        config["run"],
        config["store"],
        resources=config["resources"],
        driver=config["driver"],
        ranks=Ranks(context.get_world_rank(), context.get_world_size(), device),
        report=lambda row: ray.train.report(row),
        counted=config["counted"],
    )
