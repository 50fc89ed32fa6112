"""The runs that `tests.benchmarks.forecast` replays: random searches trained to their ends, one after the other.

    python -m tests.benchmarks.forecast_runs STORE [--architecture chemgpt] [--samples 64] [--replicates 6]

One process, one thread, no Ray. Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.sweep import Search
from chemscale.sweep.preparation import prepare
from chemscale.train.session import train_here
from tune_jobs.frey2023_tpe import recipe

REPLICATES = "seeds_"  # before the name of a search: its best configuration with other seeds


def drawn(plan: Search) -> list[RunSpec]:
    """As many random points of a space as the search asks for; a longer search begins with those of a shorter one."""
    rng = np.random.default_rng(plan.seed)
    return [plan.run(plan.choices.draw(rng)) for _ in range(plan.samples)]


def train_all(store: Store, study: str, runs: list[RunSpec]) -> None:
    """Train those of these runs that have not ended."""
    store.enlist(study, runs)
    for number, run in enumerate(runs, 1):
        if store.state(run.id).status in (FINISHED, DIVERGED):
            continue
        row = train_here(run, store, Resources(keep="none"))
        print(
            f"{study} {number}/{len(runs)}: {row['status']} {row['valid_loss']} in {row['seconds']:.1f} s", flush=True
        )


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--architecture", default="chemgpt")
    parser.add_argument("--width", type=int)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--replicates", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(given.store, create=True)
    plan = recipe(given.architecture, width=given.width, samples=given.samples)
    runs = prepare(drawn(plan), None)
    train_all(store, plan.name, runs)
    best = min(runs, key=lambda run: store.runs(run_id=run.id)["valid_loss"].to_pylist()[0] or float("inf"))
    train_all(store, REPLICATES + plan.name, [replace(best, seed=seed) for seed in range(1, given.replicates + 1)])


if __name__ == "__main__":
    main()
