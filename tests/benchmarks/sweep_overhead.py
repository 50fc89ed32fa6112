"""Overhead of the service per cell: (wall x slots - time in the loops) / cells, and the driver's memory on the way.

    python -m tests.benchmarks.sweep_overhead [--cells 1000] [--slots 2] [--seconds 0.5]

The time in the loops is the sum of RUNS.seconds: steps, evaluations, checkpoints. The wall time begins with the call of
`sweep` and ends when it returns; Ray's start, which does not grow with the cells, is told apart, and so is the whole
with it. Memory is the driver's resident set when a fifth of the cells had started and at the end. The peer is no other
library but none at all: the same runs, one after the other, in one process without Ray, timed the same way.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from chemscale.models import ChemGPT
from chemscale.records.provenance import processor
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep import Grid
from chemscale.sweep.cluster import cluster
from chemscale.sweep.drive import sweep
from chemscale.sweep.preparation import prepare
from chemscale.train.session import train_in_store

PEER_CELLS = 4


def cells(count: int, updates: int) -> list[RunSpec]:
    """So many different runs of this many updates."""
    base = RunSpec(
        model=ChemGPT.sized(width=16),
        data=Data("moses", size=2_000),
        optim=Optim(batch=16),
        budget=Budget(updates=updates),
        evaluation=Evaluation(points=4, valid=128, test=128),
    )
    return prepare(Grid(base, seeds=range(count)).runs(), Resources())


def updates_for(seconds: float) -> int:
    """Updates that take about so long here, from a trial run; the one before it warms the process up."""
    with tempfile.TemporaryDirectory() as folder:
        for name, trial in zip("ab", cells(2, 60), strict=True):
            row = train_in_store(trial, Store(Path(folder) / name, create=True).url, resources=Resources())
    return max(30, round(60 * seconds / row["seconds"]))


class Memory:
    """The driver's resident megabytes, each time so many more cells of a store have started."""

    def __init__(self, folder: Path):
        self._events, self._stop, self.seen = folder / "tensorboard", threading.Event(), []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    def at(self, cells: int) -> float:
        """When at least so many cells had started."""
        return next(megabytes for count, megabytes in self.seen if count >= cells)

    def _watch(self) -> None:
        while not self._stop.wait(5.0):
            self._note()

    def _note(self) -> None:
        started = sum(1 for _ in self._events.glob("*/*/*")) if self._events.is_dir() else 0
        self.seen.append((started, psutil.Process().memory_info().rss / 1e6))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs = cells(given.cells, updates_for(given.seconds))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        alone = Store(Path(folder) / "alone", create=True)
        for run in runs[:PEER_CELLS]:
            train_in_store(run, alone.url, resources=Resources())
        bare = time.perf_counter() - begin - sum(alone.runs()["seconds"].to_pylist())
        begin = time.perf_counter()
        with cluster():
            start, cpu = time.perf_counter() - begin, time.process_time()
            with Memory(Path(folder) / "swept") as memory:
                store = sweep(runs, store=Path(folder) / "swept", on=Resources(concurrent=given.slots))
            wall, cpu = time.perf_counter() - begin - start, time.process_time() - cpu
        inside = store.runs()["seconds"].to_pylist()
    assert len(inside) == given.cells
    overhead = (wall * given.slots - sum(inside)) / given.cells
    print(f"{processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    print(f"{given.cells} cells of {sum(inside) / given.cells:.2f} s on {given.slots} slots: wall {wall:.1f} s")
    print(f"overhead per cell: {overhead:.2f} s; with Ray's start of {start:.1f} s", end=" ")
    print(
        f"{overhead + start * given.slots / given.cells:.2f} s; processor time of the driver {cpu / given.cells:.3f} s"
    )
    print(f"without Ray, in one process: {bare / PEER_CELLS:.2f} s; ratio {overhead / (bare / PEER_CELLS):.1f}")
    fifth = memory.at(given.cells // 5)
    print(f"driver's memory: {fifth:.0f} MB at a fifth of the cells, {memory.seen[-1][1]:.0f} MB at the end")


if __name__ == "__main__":
    main()
