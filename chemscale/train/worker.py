"""Runs with several workers, by Ray Train: a process group, shards of every batch, one record."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chemscale.models.cost import Cost
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec

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
        trainer = TorchTrainer(
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
    return Store(patient(store, resources)).runs(run_id=run.id).to_pylist()[0]


def require_room(resources: Resources) -> None:
    """Refuse what the cluster can never hold, instead of waiting for ever; asked before anything is written.

    Before Ray is initialised this machine is the cluster, unless RAY_ADDRESS names one that is still to be joined.

    Raises:
        ValueError: with what is asked for and what there is.
    """
    import ray

    if ray.is_initialized():
        total, where = ray.cluster_resources(), "the cluster"
    elif os.environ.get("RAY_ADDRESS"):
        return  # known once it has been joined
    else:
        import torch

        total, where = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}, "this machine"
    for name, each in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        asked, there = each * resources.workers, total.get(name, 0)
        if asked > there:
            raise ValueError(
                f"Resources(workers={resources.workers}, {name.lower()}s={each:g}) asks for {asked:g} {name}s, {where} "
                f"has {there:g}; ask for less or start a larger cluster."
            )


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
