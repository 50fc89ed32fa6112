"""How long `chemscale report` and `chemscale audit` take on a store of a hundred thousand runs, and how large they get.

    python -m tests.benchmarks.report_large [--runs 100000] [--points 8] [--folder DIR]

Three architectures whose losses follow known laws: half of the runs are seeds of a grid of 8 x 8 sizes, half are
trials of searches in its cells (learning rate and batch; one in twenty diverged). The store is made by `enlist` and
by compaction's own `publish`, as one is that has been swept for months. Each verb runs in a process of its own; printed
are its processor seconds, its largest memory, and the size of the page beside that of a store of a hundredth of the
runs: what a page says does not grow with the number of runs, so neither may the page.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chemscale.records.compact import publish
from chemscale.records.folded import Folded
from chemscale.records.history import History
from chemscale.records.provenance import processor
from chemscale.records.store import Store, process_identity
from chemscale.spec import RunSpec
from tests.report.planted import ALL, Planted, row_of, spec

BATCH = 2_000
TRIALS = 50  # of a search
SIDE = 8  # sizes of models, and of data
LOST = 0.05  # share of trials that diverge
MB = 2**20

Made = tuple[RunSpec, dict[str, Any], list[dict[str, Any]]]


def grid_of(law: Planted) -> list[tuple[int, int, int]]:
    """(width, parameters, size) of every cell: the planted law's range in `SIDE` steps of each axis."""
    low, high = law.params[0], law.params[-1]
    widths = [4 * (k + 1) for k in range(SIDE)]
    sizes = [round(law.sizes[0] * (law.sizes[-1] / law.sizes[0]) ** (k / (SIDE - 1))) for k in range(SIDE)]
    params = [round(low * (high / low) ** (k / (SIDE - 1))) for k in range(SIDE)]
    return [(width, n, size) for width, n in zip(widths, params, strict=True) for size in sizes]


def made(runs: int, points: int, laws: Sequence[Planted] = ALL) -> Iterator[tuple[str, Made]]:
    """(study, a run with its row and its points), so many of them."""
    chance = random.Random(0)
    for law in laws:
        cells, share = grid_of(law), runs // len(laws)
        for k in range(share):
            if k < share // 2:  # a seed of the grid
                width, params, size = cells[k % len(cells)]
                run = spec(law, width, size, seed=k // len(cells))
                yield f"grid-{run.model.architecture}", _run(law, run, params, size, 0.0, chance, points)
                continue
            cell = (k - share // 2) // TRIALS
            width, params, size = cells[cell % len(cells)]
            run = spec(law, width, size, seed=10**6 + cell // len(cells))
            lr, batch = 10 ** chance.uniform(-4, -1), chance.choice((8, 16, 32, 64))
            run = replace(run, optim=replace(run.optim, lr=lr, batch=batch))
            worse = 0.3 * (-2.5 - math.log10(lr)) ** 2
            yield f"search-{run.model.architecture}", _run(law, run, params, size, worse, chance, points)


def _run(law: Planted, run: RunSpec, params: int, size: int, worse: float, chance: random.Random, count: int) -> Made:
    loss = law.loss(params, size) * (1 + worse) * (1 + chance.gauss(0, law.error))
    row = {**row_of(law, run, params, loss, law.error), "attempt": 1, "test_checksum": "0" * 16}
    if worse and chance.random() < LOST:
        row = {k: v for k, v in row.items() if not k.startswith(("force", "energy", "nats", "law", "valid", "best"))}
        row |= {"status": "diverged", "stop_reason": "not finite (nan)"}
    curve = [
        {
            "run_id": run.id, "attempt": 1, "step": max(1, run.updates * k // count),
            "examples": run.examples * k // count, "valid_loss": (y := loss * (1 + 0.9 / k**1.5)),
            "valid_loss_se": y * law.error, f"valid_{law.metric}": y, "lr": run.optim.lr, "train_loss": y,
        }
        for k in range(1, count + 1)
    ]  # fmt: skip
    return run, row, curve


def build(folder: Path, runs: int, points: int, laws: Sequence[Planted] = ALL) -> None:
    """Write the store."""
    store = Store(folder, create=True)
    batch: list[Folded] = []
    studies: dict[str, list[RunSpec]] = {}
    for study, (run, row, curve) in made(runs, points, laws):
        studies.setdefault(study, []).append(run)
        claim = {"driver": process_identity(), "claimed": 1.0, "attempt": 1, "to_see": run.examples}
        history = History(run.id, (1,), claim, {"time": 1.0, "step": 1, "examples": run.examples}, 1, row)
        batch.append(Folded(history, {}, run.examples, history.state(), curve))
        if len(batch) == BATCH:
            assert publish(store, store.snapshots.manifest(), batch)
            batch = []
    if batch:
        assert publish(store, store.snapshots.manifest(), batch)
    for study, asked in studies.items():
        store.enlist(study, asked, question=f"What does {study} say?")


def timed(*words: str) -> tuple[float, float]:
    """Processor seconds and largest memory (MiB) of one command."""
    code = (
        "import resource, sys; from chemscale.cli import main; sys.argv[0] = 'chemscale'; code = main(sys.argv[1:]); "
        "use = resource.getrusage(resource.RUSAGE_SELF); "
        "print(use.ru_utime + use.ru_stime, use.ru_maxrss / 1024, file=sys.stderr); sys.exit(code)"
    )
    out = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    seconds, memory = out.stderr.split()[-2:]
    return float(seconds), float(memory)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--folder", help="keep the stores here, and use them if they are there")
    given = parser.parse_args()
    print(f"{processor()}; {given.points} points a run")
    with tempfile.TemporaryDirectory() as scratch:
        for runs in (given.runs // 100, given.runs):
            folder = Path(given.folder or scratch) / f"store-{runs}"
            begin = time.process_time()
            if not folder.exists():
                build(folder, runs, given.points)
                print(f"{runs:>8,} runs: written in {time.process_time() - begin:.0f} s of the processor", flush=True)
            out = f"{scratch}/page-{runs}"
            seconds, memory = timed("report", str(folder), "--out", out)
            size = Path(out, "index.html").stat().st_size / MB
            print(f"{runs:>8,} runs: report {seconds:6.1f} s, {memory:6,.0f} MiB, page {size:.1f} MiB", flush=True)
            seconds, memory = timed("audit", str(folder), "--json")
            print(f"{runs:>8,} runs: audit  {seconds:6.1f} s, {memory:6,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
