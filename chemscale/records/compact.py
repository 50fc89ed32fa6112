"""Fold runs that have ended into snapshots, so that a store of a hundred thousand runs opens like one of a hundred.

The order makes a kill harmless: the new snapshot is written, then the manifest that names it, then the files that it
holds are removed, each by its name. Killed before the manifest, the snapshot is an orphan; killed after it, files that
are left say what the snapshot says. Of two that fold at once only one is heard; the other drops its snapshot.

New snapshots are merged with older ones that hold no more than they do, so that a store of n runs has at most about
log2(n) snapshots, and no run is written more than about log2(n) times.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from chemscale.records.attempt import STATE, WEIGHTS
from chemscale.records.folded import Folded
from chemscale.records.history import History, read_points
from chemscale.records.manifests import Manifest, Snapshot, SupersededError
from chemscale.records.place import Place
from chemscale.records.schema import DIVERGED, FAILED, FINISHED, STOPPED
from chemscale.records.store import Store

ENDED = (FINISHED, DIVERGED, STOPPED, FAILED)
CHUNK = 2_000  # runs folded at a time: memory, and what a kill costs
MOST_POINTS = 3_000_000  # of a merged snapshot; merging happens in memory
WORTH = 100  # ended live runs that make it worth a driver's while
EVERY = 500  # runs that end between two compactions of a driver

Told = Callable[[int, int], None]  # runs done, runs in all


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: runs folded, files removed, snapshots there are now."""

    runs: int = 0
    files: int = 0
    snapshots: int = 0


def compact(store: Store, *, least: int = 1, progress: Told = lambda done, total: None) -> Compacted:
    """Fold every run that has ended, where there are at least so many of them, and merge the parts of studies.

    May run at any time, beside workers, readers and other compactions; killed, it goes on when it is started again.

    Args:
        progress: told how many runs are folded, of how many.
    """
    store.studied.merge()
    live = store.place.names("runs")
    ended = [i for i, state in store.states(live).items() if state.status in ENDED] if len(live) >= least else []
    runs = files = 0
    for start in range(0, len(ended) if len(ended) >= least else 0, CHUNK):
        one = _fold(store, ended[start : start + CHUNK])
        runs, files = runs + one.runs, files + one.files
        progress(min(start + CHUNK, len(ended)), len(ended))
    return Compacted(runs, files, len(store.snapshots.manifest().snapshots))


def _fold(store: Store, run_ids: Sequence[str]) -> Compacted:
    base = store.snapshots.manifest()
    try:
        store.snapshots.look_up(base, run_ids)
        found = [fold for run_id in run_ids if (fold := _folded(store, run_id, base)) is not None]
        if not found or not publish(store, base, [fold for fold, _ in found]):
            return Compacted()
    except SupersededError:
        return Compacted()  # another compaction was faster; what it left is folded next time
    for fold, files in found:
        for name in files:
            store.place.remove(name)
        _tidy(store, fold.history)
    return Compacted(len(found), sum(len(files) for _, files in found))


def publish(store: Store, base: Manifest, folds: Sequence[Folded]) -> bool:
    """Let a snapshot of these runs count from now on; False, and nothing changed, where the manifest has moved on."""
    snapshots, where = store.snapshots, store.snapshots.where(base)
    ids = {fold.history.run_id for fold in folds}
    again: dict[str, list[str]] = {}
    for run_id in sorted(ids & set(where)):
        again.setdefault(where[run_id][0], []).append(run_id)
    older = [replace(s, without=tuple(sorted({*s.without, *again.get(s.name, ())}))) for s in base.snapshots]
    newest = snapshots.write(folds)
    merged = [newest]
    while older and _worth_merging(older[-1], merged):
        merged.insert(0, older.pop())
    if len(merged) > 1:
        newest = snapshots.merge(merged)
        snapshots.discard(merged[-1].name)
    if snapshots.publish(base, [*older, newest]):
        return True
    snapshots.discard(newest.name)
    return False


def _worth_merging(older: Snapshot, newer: Sequence[Snapshot]) -> bool:
    points = older.points + sum(each.points for each in newer)
    return older.runs <= sum(each.runs for each in newer) and points <= MOST_POINTS


def _folded(store: Store, run_id: str, base: Manifest) -> tuple[Folded, list[str]] | None:
    """A run that has ended as a snapshot holds it, and the files that say the same; None where it has not ended."""
    history = store.history_at(base, run_id)
    points = read_points(store.place, history)
    if history.state().status not in ENDED or points is None:
        return None  # points None: its worker is merging them right now
    files = [*history.files, *store.files_of_version_1(run_id)]
    for name in files:
        if name.endswith((STATE, WEIGHTS)) and (file := store.place.open(name)) is not None:
            # version 1 kept them among what is removed now
            copy_file(file, store.place, f"checkpoints/{run_id}/{'/'.join(name.split('/')[-2:])}")
    return gathered(store, base, history, points), files


def gathered(store: Store, base: Manifest, history: History, points: Sequence[Mapping[str, Any]]) -> Folded:
    """What live files and snapshots know of a run, together.

    Args:
        history: of both. points: of the live files.
    """
    run_id = history.run_id
    rows = {(row["attempt"], row["step"]): row for row in points}
    if run_id in store.snapshots.where(base):
        before = store.snapshots.points(base, [run_id], hidden=True).drop_columns(["hidden"]).to_pylist()
        rows = {(row["attempt"], row["step"]): row for row in before} | rows
    to_see = history.claim.get("to_see")
    known = history.row is not None or "row" in history.claim
    about = {"row": {}, "examples": to_see} if known and to_see is not None else store.about(run_id)
    return Folded(history, about["row"], about["examples"], history.state(), list(rows.values()))


def copy_file(file: BinaryIO, into: Place, name: str) -> None:
    """An open file under another name, without holding it in memory."""
    with file:
        into.write(name, lambda copy: shutil.copyfileobj(file, copy))


def _tidy(store: Store, history: History) -> None:
    folder = f"runs/{history.run_id}"
    for number in history.attempts:
        store.place.tidy(f"{folder}/attempts/{number:04d}")
    store.place.tidy(f"{folder}/attempts")
    store.place.tidy(folder)


class Upkeep:
    """Compacts a store beside its driver: in a thread whenever many more runs have ended, and once at the end."""

    def __init__(self, store: Store):
        self._store = store
        self._ended = 0
        self._thread: threading.Thread | None = None

    def count(self) -> None:
        """One more run has ended."""
        self._ended += 1
        if self._ended >= EVERY and not (self._thread and self._thread.is_alive()):
            self._ended = 0
            self._thread = threading.Thread(target=self._compact, daemon=True, name="chemscale-compaction")
            self._thread.start()

    def finish(self) -> None:
        """Wait for the thread and fold what is left, if it is worth it."""
        if self._thread is not None:
            self._thread.join()
        self._compact()

    def _compact(self) -> None:
        try:
            compact(self._store, least=WORTH)
        except OSError as error:  # records are whole without it, and the next compaction makes up for it
            logging.getLogger(__name__).warning("compaction of %s is put off: %s", self._store.url, error)
