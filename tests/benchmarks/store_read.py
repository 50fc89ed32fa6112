"""How long a store of a hundred thousand runs takes to open and read, while another process writes new runs.

    python -m tests.benchmarks.store_read [--runs 100000] [--points 8] [--live 200] [--folder DIR]

The store is made by `enlist` and by compaction's own `publish`, in batches; `--live` runs stay as the files that their
workers wrote. Each question is asked in a fresh process, without its imports; the files are in the page cache.
The peer is pyarrow alone, reading the same rows from one Parquet file that it wrote: what no store can be faster than.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from chemscale.models import ChemGPT
from chemscale.records.compact import publish
from chemscale.records.folded import Folded
from chemscale.records.history import History
from chemscale.records.provenance import processor, versions
from chemscale.records.schema import RUNS
from chemscale.records.store import Store, process_identity, spec_columns
from chemscale.spec import Budget, Data, Optim, RunSpec

BATCH = 2_000
REPEATS = 5

QUESTIONS = {
    "open, read RUNS": "Store(path).runs()",
    "open, read four columns": "Store(path).runs(columns=('run_id', 'status', 'params', 'law_loss'))",
    "open, RUNS of one architecture": "Store(path).runs(architecture='chemgpt')",
    "open, one run": "Store(path).runs(run_id=first)",
    "open, state of one run": "Store(path).state(first)",
    "open, states of all": "Store(path).states()",
    "open, one spec": "Store(path).spec(first)",
    "open, points of one run": "Store(path).points(first)",
    "open, read POINTS": "Store(path).points()",
    "chemscale status": "(s := Store(path)) and Watch(s, cells_of(s)).look()",
    "pyarrow reads the same RUNS": "pq.read_table(path + '.peer.parquet')",
}
ASK = """
import sys, time, json
import pyarrow.parquet as pq
from chemscale.records.store import Store
from chemscale.sweep.progress import Watch, cells_of
path, first, question = sys.argv[1:]
begin, cpu = time.perf_counter(), time.process_time()
eval(question)
print(time.perf_counter() - begin, time.process_time() - cpu)
"""
WRITE = """
import sys, time
from dataclasses import replace
from chemscale.records.compact import Upkeep
from chemscale.records.store import Store
from tests.benchmarks.store_read import BASE, finish
store = Store(sys.argv[1])
upkeep = Upkeep(store)
for seed in range(10**6, 2 * 10**6):
    store.enlist("beside", [replace(BASE, seed=seed)])
    finish(store, replace(BASE, seed=seed), 4)
    upkeep.count()
    time.sleep(0.2)
"""

BASE = RunSpec(
    model=ChemGPT.sized(width=64), data=Data("moses", size=10_000, content="0" * 64), optim=Optim(lr=1e-3),
    budget=Budget(epochs=1),
)  # fmt: skip


def row_of(run: RunSpec) -> dict[str, Any]:
    """A terminal row with every column that a real one has."""
    number = run.seed % 997 / 7
    reals = {c.name: number for c in RUNS.columns if str(c.type) == "double" and not c.name.startswith("forecast")}
    whole = {c.name: run.seed % 997 for c in RUNS.columns if str(c.type) == "int64"}
    text = {"cluster": f"c{run.seed % 97}", "law_metric": "nats_per_token", "law_rule": "final", "device": processor()}
    more = {
        "host": "node",
        "versions": versions(),
        "test_checksum": "0" * 16,
        "params_by_group": {"head": 1, "body": 9},
    }
    return {**reals, **whole, **text, **more, **spec_columns(run), "attempt": 1, "status": "finished"}


def points_of(run: RunSpec, count: int) -> list[dict[str, Any]]:
    """So many points."""
    steps = range(1, count + 1)
    return [
        {"run_id": run.id, "attempt": 1, "step": 10 * k, "examples": 320 * k, "tokens": 9999 * k, "epochs": k / count,
         "flops": 1e12 * k, "lr": 1e-3 / k, "train_loss": run.seed % 997 / k, "valid_loss": run.seed % 991 / k,
         "valid_nats_per_token": run.seed % 991 / k, "gradient_norm": 1.0 / k, "seconds": 0.5 * k}
        for k in steps
    ]  # fmt: skip


def folded(run: RunSpec, points: int) -> Folded:
    """A finished run as compaction would have read it."""
    row = row_of(run)
    claim = {"driver": process_identity(), "claimed": 1.0, "attempt": 1, "to_see": run.examples}
    history = History(run.id, (1,), claim, {"time": 1.0, "step": 10, "examples": 320}, 1, row)
    return Folded(history, {}, run.examples, history.state(), points_of(run, points))


def finish(store: Store, run: RunSpec, points: int) -> None:
    """The files that a real worker leaves."""
    row = row_of(run)
    attempt = store.claim(run, {name: row[name] for name in spec_columns(run)})
    for point in points_of(run, points):
        attempt.point({k: v for k, v in point.items() if k != "attempt"})
    attempt.end(row)


def build(folder: Path, runs: int, points: int, live: int) -> dict[str, float]:
    """Write the store; seconds of each part."""
    store = Store(folder, create=True)
    specs = [replace(BASE, seed=k) for k in range(runs)]
    begin = time.perf_counter()
    store.enlist("benchmark", specs, work={run.id: 1.0 for run in specs})
    asked = time.perf_counter()
    for start in range(0, runs - live, BATCH):
        chunk = [folded(run, points) for run in specs[start : min(start + BATCH, runs - live)]]
        assert publish(store, store.snapshots.manifest(), chunk)
    snapshots = time.perf_counter()
    for run in specs[runs - live :]:
        finish(store, run, points)
    pq.write_table(store.runs(), f"{folder}.peer.parquet", compression="zstd")
    return {"enlist": asked - begin, "snapshots": snapshots - asked}


def ask(folder: Path, question: str) -> tuple[float, float]:
    """Seconds and processor seconds of one question in a process of its own."""
    first = replace(BASE, seed=1).id
    out = subprocess.run([sys.executable, "-c", ASK, str(folder), first, question], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    wall, cpu = map(float, out.stdout.split())
    return wall, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--folder", help="keep the store here, and use it if it is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.folder or f"{scratch}/store")
        if not folder.exists():
            built = build(folder, given.runs, given.points, given.live)
            print(f"built: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in built.items())}")
        print(
            f"{processor()}; {given.runs:,} runs, {given.runs * given.points:,} points, {given.live} live", flush=True
        )
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(folder)])
        try:
            measured = {}
            for name, question in QUESTIONS.items():
                walls, cpus = zip(*(ask(folder, question) for _ in range(REPEATS)), strict=True)
                measured[name] = statistics.median(walls)
                span = f"({min(walls):.3f} to {max(walls):.3f}), processor {statistics.median(cpus):.3f} s"
                print(f"{name:<32} {measured[name]:7.3f} s  {span}", flush=True)
        finally:
            writer.kill()
            writer.wait()
        ratio = measured["open, read RUNS"] / measured["pyarrow reads the same RUNS"]
        print(f"{ratio:.2f} x the time of pyarrow alone")
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
