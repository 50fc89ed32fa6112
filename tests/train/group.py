"""Trainings on a process group of this machine, without Ray: the same loop, two gloo workers, many tasks in a row."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.train.ranks import Ranks
from chemscale.train.session import train_in_store

WORLD = 2


class Interruption(Exception):
    """What a test raises in a report, in place of a kill."""


@dataclass(frozen=True)
class Job:
    """Trains a run to its end, or up to its first measurement from step `stop_at` on."""

    run: RunSpec
    store: str
    resources: Resources
    stop_at: int | None = None

    def __call__(self, ranks: Ranks) -> None:
        def report(row):
            if self.stop_at is not None and "valid_loss" in row and row["step"] >= self.stop_at:
                raise Interruption

        try:
            train_in_store(self.run, self.store, resources=self.resources, ranks=ranks, report=report)
        except Interruption:
            assert self.stop_at is not None

    def alone(self) -> Store:
        """Carry it out in this process."""
        store = Store(self.store, create=True)
        self(Ranks())
        return store


def on_two_workers(tasks: Sequence[Callable[[Ranks], None]], folder) -> None:
    """Carry out these tasks one after the other on two workers, which meet in `folder`."""
    for task in tasks:
        if isinstance(task, Job):
            Store(task.store, create=True)
    mp.spawn(_worker, (str(folder), tasks, os.environ["CHEMSCALE_HOME"]), nprocs=WORLD)


def _worker(rank: int, folder: str, tasks: Sequence[Callable[[Ranks], None]], home: str) -> None:
    os.environ["CHEMSCALE_HOME"] = home
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    for task in tasks:
        task(Ranks(rank, WORLD))
        dist.barrier()
    dist.destroy_process_group()
