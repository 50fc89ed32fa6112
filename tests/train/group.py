"""Trainings on a process group of this machine, without Ray: the same loop, two gloo workers, many runs in a row."""

import os
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
    """A run, its store, how it is trained; `stop_at` interrupts it at the first measurement from that step on."""

    run: RunSpec
    store: str
    resources: Resources
    stop_at: int | None = None


def carry_out(job: Job, ranks: Ranks | None = None) -> None:
    """Train to the end, or to the interruption."""

    def report(row):
        if job.stop_at is not None and "valid_loss" in row and row["step"] >= job.stop_at:
            raise Interruption

    try:
        train_in_store(job.run, job.store, resources=job.resources, ranks=ranks, report=report)
    except Interruption:
        assert job.stop_at is not None


def on_two_workers(jobs: list[Job], folder) -> None:
    """Carry out these jobs one after the other on two workers."""
    for job in jobs:
        Store(job.store, create=True)
    mp.spawn(_worker, (str(folder), jobs, os.environ["CHEMSCALE_HOME"]), nprocs=WORLD)


def _worker(rank: int, folder: str, jobs: list[Job], home: str) -> None:
    os.environ["CHEMSCALE_HOME"] = home
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    for job in jobs:
        import time

        t0 = time.time()
        carry_out(job, Ranks(rank, WORLD))
        print("JOB", rank, job.store[-16:], round(time.time() - t0, 2), flush=True)
        dist.barrier()
    dist.destroy_process_group()
