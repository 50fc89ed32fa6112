"""Overhead of the service per cell: (wall x slots - time in the loops) / cells, over cells of about two seconds.

    python -m tests.benchmarks.sweep_overhead [--cells 40] [--slots 2]

The wall time begins with the call of `sweep` (Ray's start included) and ends when it returns. The time in the loops is
the sum of RUNS.seconds: steps, evaluations, checkpoints. The peer is no other library but none at all: the same runs,
one after the other, in one process without Ray, timed the same way.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from chemscale.models import ChemGPT
from chemscale.records.provenance import processor
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep import Grid
from chemscale.sweep.drive import prepare, sweep
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
            row = train_in_store(trial, Store(Path(folder) / name, create=True).path, resources=Resources())
    return max(30, round(60 * seconds / row["seconds"]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs = cells(given.cells, updates_for(given.seconds))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        alone = Store(Path(folder) / "alone", create=True)
        for run in runs[:PEER_CELLS]:
            train_in_store(run, alone.path, resources=Resources())
        bare = time.perf_counter() - begin - sum(alone.runs()["seconds"].to_pylist())
        begin = time.perf_counter()
        store = sweep(runs, store=Path(folder) / "swept", on=Resources(concurrent=given.slots))
        wall = time.perf_counter() - begin
        inside = store.runs()["seconds"].to_pylist()
    assert len(inside) == given.cells
    overhead = (wall * given.slots - sum(inside)) / given.cells
    print(f"{processor()}, torch {torch.__version__}")
    print(f"{given.cells} cells of {sum(inside) / given.cells:.2f} s on {given.slots} slots: wall {wall:.1f} s")
    print(f"overhead per cell: {overhead:.2f} s; without Ray, in one process: {bare / PEER_CELLS:.2f} s")
    print(f"ratio {overhead / (bare / PEER_CELLS):.1f}")


if __name__ == "__main__":
    main()
