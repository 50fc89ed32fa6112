"""Faults at random moments over a sweep, the same command again and again, and what must be true in the end.

    python -m tests.chaos --faults 50

prints one line per fault. A sweep that ends before all faults have happened is followed by one into a new store.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from chemscale.records.schema import DIVERGED, FAILED, FINISHED, POINTS, RUNS, equal
from chemscale.records.store import MAX_RETRIES, Store
from chemscale.sweep.recipe import load_recipe
from tests.chaos.faults import FAULTS
from tests.chaos.names import RAISING, SHARED
from tests.chaos.world import STUDY, World, three_nodes, world

BETWEEN_SECONDS = (1.0, 7.0)  # between two faults
VICTIM_SECONDS = 20.0  # a trial that was killed takes a while to train again
PATIENCE = 900.0  # seconds that one undisturbed sweep may take at most
ROUNDING = 1e-3  # relative, of losses of runs on several workers, whose sums come in another order


@dataclass
class Log:
    """What happened, told as it happens and kept."""

    say: Callable[[str], None]
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)  # kinds that found nothing to harm, e.g. no shared run
    sweeps: int = 0
    starts: int = 0
    _began: float = field(default_factory=time.monotonic)

    def line(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._began:7.1f} s  {text}")


def chaos(
    folder: Path, options: dict[str, Any], *, faults: int, seed: int, kinds: Sequence[str], say: Callable[[str], None]
) -> Log:
    """Let `faults` faults happen over as many sweeps as that takes; check every sweep.

    Args:
        folder: empty; holds disks, stores and the driver's log.
        options: arguments of the recipe `study.py`.
        kinds: names of faults; each is used about equally often.

    Raises:
        AssertionError: something was lost, doubled, done twice, or is not as in an undisturbed sweep.
    """
    log, chance = Log(say), random.Random(seed)
    with three_nodes() as cluster:
        calm = undisturbed(folder / "calm", options, log, cluster)
        while sum(log.faults.values()) < faults:
            log.sweeps += 1
            with world(folder / f"sweep-{log.sweeps}", options, cluster) as made:
                ended = disturb(made, log, chance, faults, kinds)
                try:
                    check(Store(made.store), calm, ended, options)
                except AssertionError:  # its disk goes with the world
                    kept = shutil.copytree(made.store, folder / f"store-{log.sweeps}")
                    log.line(f"sweep {log.sweeps} did not end as an undisturbed one; its store is kept in {kept}")
                    raise
                log.starts += made.starts
            log.line(f"sweep {log.sweeps} ended as an undisturbed one after {made.starts} starts of its command")
    return log


def undisturbed(folder: Path, options: dict[str, Any], log: Log, cluster: Any) -> dict[str, Any]:
    """The tables of a sweep that nothing harmed."""
    with world(folder, options, cluster) as made:
        made.driver.wait(timeout=PATIENCE)
        store = Store(made.store)
        tables = {"runs": store.runs(), "points": store.points()}
    log.line(f"undisturbed: {dict(Counter(tables['runs']['status'].to_pylist()))}")
    return tables


def disturb(made: World, log: Log, chance: random.Random, faults: int, kinds: Sequence[str]) -> dict[str, Any]:
    """One sweep under faults, until its command ends by itself; what was finished when it was started again."""
    ended: dict[str, Any] = {}
    deadline = time.monotonic() + PATIENCE + 60 * faults
    while True:
        assert time.monotonic() < deadline, f"the sweep does not end; see {made.folder / 'driver.log'}"
        try:
            made.driver.wait(timeout=chance.uniform(*BETWEEN_SECONDS))
        except subprocess.TimeoutExpired:
            if sum(log.faults.values()) < faults:
                _harm(made, log, chance, kinds)
            continue
        store = _opened(made.store)
        if store is not None:
            ended = _still_so(ended, _finished(store))
            if made.driver.returncode in (0, 1) and not _open_cells(store, made.options):
                return ended
        log.line(f"the command ended with {made.driver.returncode}; it is started again")
        made.start_driver(made.store)


def _harm(made: World, log: Log, chance: random.Random, kinds: Sequence[str]) -> None:
    """One fault: the kind that there has been the fewest of, or the next one where that finds nothing to harm."""
    for kind in sorted(kinds, key=lambda k: (log.faults[k] + log.missed[k], chance.random())):
        deadline = time.monotonic() + VICTIM_SECONDS
        while (done := FAULTS[kind](made, chance)) is None and time.monotonic() < deadline:
            if made.driver.poll() is not None:
                return
            time.sleep(0.2)
        if done is not None:
            log.faults[kind] += 1
            log.line(f"fault {sum(log.faults.values())}: {kind}, {done}")
            return
        log.missed[kind] += 1


def _opened(path: str) -> Store | None:
    """The store, unless its driver was killed before it was made."""
    return Store(path) if (Path(path) / "store.json").exists() else None


def _finished(store: Store) -> dict[str, Any]:
    rows = store.runs().select(["run_id", "status", "attempt", "ended"]).to_pylist()
    return {row["run_id"]: (row["attempt"], row["ended"]) for row in rows if row["status"] in (FINISHED, DIVERGED)}


def _still_so(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """No finished cell ran again: the attempt that ended it is the one that ended it before."""
    again = [run_id for run_id in before if now.get(run_id) != before[run_id]]
    assert not again, f"finished cells changed: {again}"
    return now


def _open_cells(store: Store, options: dict[str, Any]) -> list[str]:
    asked = store.studies().get("chaos", {}).get("runs", [])
    states = [store.state(run_id) for run_id in asked]
    done = (FINISHED, DIVERGED)
    open_ones = [s.run_id for s in states if s.status not in done and not (s.status == FAILED and _spent(s))]
    return open_ones if asked else ["all"]


def _spent(state: Any) -> bool:
    return state.failures > MAX_RETRIES


def check(store: Store, calm: dict[str, Any], ended: dict[str, Any], options: dict[str, Any]) -> None:
    """Every cell has a true status, no point is lost or doubled, the tables equal those of the undisturbed sweep."""
    runs, points = store.runs(), store.points()
    status = dict(zip(calm["runs"]["run_id"].to_pylist(), calm["runs"]["status"].to_pylist(), strict=True))
    now = {row["run_id"]: row for row in runs.to_pylist()}
    wrong = {i: (now[i]["status"], now[i]["stop_reason"]) for i in status if i in now and now[i]["status"] != status[i]}
    assert now.keys() == status.keys()
    assert not wrong, f"not as in an undisturbed sweep: {wrong}"
    assert _finished(store) == ended
    failed = runs.filter(pc.equal(runs["status"], FAILED)).to_pylist()
    assert [row["architecture"] for row in failed] == [RAISING]
    assert "this model raises" in failed[0]["stop_reason"]
    alone, shared = _by_workers(store, options)
    for name, table, schema in (("runs", runs, RUNS), ("points", points, POINTS)):
        ours, theirs = _of(table, alone), _of(calm[name], alone)
        assert len(ours) == len(theirs), f"{name}: {len(ours)} rows, undisturbed {len(theirs)}"
        assert equal(ours, theirs, schema), f"{name} differ from those of the undisturbed sweep"
    steps = [_of(t, shared).select(["run_id", "step"]).sort_by([("run_id", "ascending"), ("step", "ascending")])
             for t in (points, calm["points"])]  # fmt: skip
    assert steps[0].equals(steps[1])
    losses = [dict(zip(t["run_id"].to_pylist(), t["law_loss"].to_pylist(), strict=True)) for t in (runs, calm["runs"])]
    for run_id in shared:
        assert abs(losses[0][run_id] / losses[1][run_id] - 1) < ROUNDING, (run_id, losses[0][run_id])


def _by_workers(store: Store, options: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Ids of the cells of one worker, which must agree bitwise, and of those of several; the raising one apart."""
    alone, shared = set(), set()
    for run_id in store.studies()["chaos"]["runs"]:
        row = store.about(run_id)["row"]
        if row["architecture"] != RAISING:
            (shared if (row["architecture"], row["width"]) == SHARED else alone).add(run_id)
    assert alone
    assert shared
    return alone, shared


def _of(table: pa.Table, ids: set[str]) -> pa.Table:
    return table.filter(pc.is_in(table["run_id"], pa.array(sorted(ids))))


def cells(options: dict[str, Any]) -> int:
    """How many cells the study has."""
    study = load_recipe(str(STUDY), options)
    return len(study.runs())  # type: ignore[union-attr]


def as_json(log: Log) -> str:
    """The sums of a log."""
    return json.dumps({"faults": dict(log.faults), "sweeps": log.sweeps, "starts": log.starts})
