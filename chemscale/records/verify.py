"""Is a store whole? Every file read, every claim of one part held against the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from chemscale.records.history import read_points
from chemscale.records.manifests import Manifest
from chemscale.records.place import DamagedError, Place
from chemscale.records.schema import DIVERGED, FINISHED, STATUSES
from chemscale.records.store import Store
from chemscale.spec.run import id_of

OLD = 24 * 3600.0  # seconds after which a temporary file or an unnamed snapshot is nobody's any more

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Fault:
    """Something wrong.

    Attributes:
        what: the file or the run. wrong: what is wrong with it. todo: what to do about it.
        repair: files that can go without loss; () where a person has to decide.
    """

    what: str
    wrong: str
    todo: str
    repair: tuple[str, ...] = ()


def verify(store: Store, *, progress: Told = lambda done, total: None) -> list[Fault]:
    """Everything that is wrong with a store; [] where nothing is.

    Args:
        progress: told how many runs have been looked at.
    """
    unread = list(_files(store.place))
    if any(fault.what.startswith("manifests/") for fault in unread):
        return unread
    manifest = store.snapshots.manifest()
    faults = [*unread, *_snapshots(store, manifest)]
    if any(fault.what.startswith(("manifests/", "snapshots/")) and not fault.repair for fault in faults):
        return faults  # what the snapshots held cannot be held against anything
    kept = store.place.names("checkpoints")  # listed before the runs: a run claims its attempt before it saves
    live = store.place.names("runs")
    faults += _lost(kept, {*live, *store.snapshots.where(manifest)})
    faults += _rows(store.snapshots.runs(manifest, ("run_id", "spec", "status", "law_loss", "law_metric")))
    faults += _points(store.snapshots.points(manifest))
    for done, run_id in enumerate(live, 1):
        faults += _live(store, manifest, run_id)
        progress(done, len(live))
    return faults


def repair(store: Store, faults: list[Fault]) -> list[str]:
    """Remove what can go without loss; returns the names of the files."""
    gone = [name for fault in faults for name in fault.repair]
    for name in gone:
        store.place.remove(name)
    return gone


def identity_of(spec: str) -> str:
    """The id of a stored spec, without the code of its model.

    Raises:
        ValueError: the spec is no JSON of a run.
    """
    try:
        return id_of(json.loads(spec))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the spec lacks {error}") from None


def _files(place: Place) -> Iterator[Fault]:
    for name, _ in place.files():
        file = name.rsplit("/", 1)[-1]
        if file.startswith(".") and file.endswith(".tmp"):
            if _is_old(place, name):
                yield Fault(name, "a temporary file that nobody finished", "`--repair` removes it", (name,))
        elif file.endswith((".json", ".parquet")) and not name.startswith("tensorboard/"):
            try:
                place.read_json(name) if file.endswith(".json") else place.read_table(name)
            except DamagedError as error:
                yield Fault(name, f"does not read: {error.why}", "restore it from a copy or remove it")


def _snapshots(store: Store, manifest: Manifest) -> Iterator[Fault]:
    there = set(store.place.names("snapshots"))
    named = set()
    for snapshot in manifest.snapshots:
        for kind, rows in (("runs", snapshot.runs), ("points", snapshot.points)):
            name = f"{snapshot.name}.{kind}.parquet"
            named.add(name)
            if rows and name not in there:
                yield Fault(
                    f"manifests/{manifest.number:09d}.json",
                    f"names snapshots/{name}, which is missing ({rows} rows)",
                    "restore that file from a copy; without it those records are lost",
                )
    for name in sorted(there - named):
        written = int(name.split("-", 1)[0]) / 1e9
        if time.time() - written > OLD:
            whole = f"snapshots/{name}"
            yield Fault(whole, "a snapshot that no manifest names", "`--repair` removes it", (whole,))


def _lost(kept: Iterable[str], known: Collection[str]) -> Iterator[Fault]:
    """Weights and states whose run has left no record: pruning takes both."""
    for run_id in kept:
        if run_id not in known:
            yield Fault(
                f"checkpoints/{run_id}", "belongs to a run without any record",
                f"restore runs/{run_id} from a copy, or remove the folder",
            )  # fmt: skip


def _rows(table: pa.Table) -> Iterator[Fault]:
    for row in table.to_pylist():
        yield from _row(row)


def _row(row: Mapping[str, Any]) -> Iterator[Fault]:
    run_id = row["run_id"]
    try:
        found = identity_of(row["spec"])
    except ValueError as error:
        found = f"unknown ({error})"
    if found != run_id:
        yield Fault(run_id, f"its spec has the id {found}", "the row was changed or damaged; run it again")
    if row["status"] not in STATUSES:
        yield Fault(run_id, f"its status is {row['status']!r}", "the row was changed or damaged; run it again")
    if row["status"] == FINISHED and row.get("law_metric") and row.get("law_loss") is None:
        yield Fault(run_id, "it finished without a law_loss", "run it again")


def _points(table: pa.Table) -> Iterator[Fault]:
    """Of each run, steps and examples grow, and no step is there twice."""
    before: Mapping[str, Any] = {"run_id": None}
    accused: set[str] = set()
    for row in table.select(["run_id", "step", "examples"]).to_pylist():
        same = row["run_id"] == before["run_id"]
        if (
            same
            and row["run_id"] not in accused
            and not (row["step"] > before["step"] and row["examples"] >= before["examples"])
        ):
            accused.add(row["run_id"])
            yield Fault(row["run_id"], f"its points do not grow at step {row['step']}", "run it again in a new store")
        before = row


def _live(store: Store, manifest: Manifest, run_id: str) -> Iterator[Fault]:
    try:
        history = store.history_at(manifest, run_id)
        if not history.known and not store.files_of_version_1(run_id):
            files = tuple(name for name, _ in store.place.files(f"runs/{run_id}"))
            wrong = f"has {len(files)} files without a claim"
            yield Fault(f"runs/{run_id}", wrong, "an attempt that never began; remove the folder when nothing runs")
            return
        if read_points(store.place, history) is None:
            return  # a worker is merging them right now
        if history.row is not None:
            yield from _row(history.row)
            word = history.word or {}
            if history.row["status"] not in (FINISHED, DIVERGED):
                yield Fault(run_id, f"its worker's word is {history.row['status']!r}", "run it again")
            if word.get("attempt", 0) > history.newest:
                yield Fault(run_id, "its driver spoke of an attempt that is not there", "run it again")
        yield from _points(store.points(run_id))
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        yield Fault(f"runs/{run_id}", f"does not read: {text}", "restore it from a copy or remove it")


def _is_old(place: Place, name: str) -> bool:
    path = getattr(place, "path", None)
    return path is not None and time.time() - (path / name).stat().st_mtime > OLD
