"""What a store holds on disk, and what of it can go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from chemscale.records.attempt import STATE, WEIGHTS
from chemscale.records.manifests import Manifest, Snapshot
from chemscale.records.schema import FAILED, FINISHED, INTERRUPTED, PENDING, RUNNING, STOPPED
from chemscale.records.store import Store
from chemscale.spec import ID_LENGTH, KEEP

KINDS = ("points", "states", "weights", "events", "snapshots", "rest")
TRUNKS = "trunks"  # folder of the states that runs of one trunk hand on (`chemscale.train.trunk`)
RUN_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}")

Told = Callable[[int, int], None]


@dataclass
class Usage:
    """Bytes and files by kind."""

    bytes: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, size: int) -> None:
        """One more file."""
        self.bytes[kind] += size
        self.files[kind] += 1


@dataclass
class Usages:
    """Disk use of a store: in all, by study (a run of two studies counts in both) and by architecture."""

    whole: Usage = field(default_factory=Usage)
    studies: dict[str, Usage] = field(default_factory=dict)
    architectures: dict[str, Usage] = field(default_factory=dict)


def usage(store: Store) -> Usages:
    """What a store takes on disk. Snapshots hold many runs and count in the whole only."""
    asked = store.asked()
    of_run: dict[str, list[str]] = {}
    made_by: dict[str, str] = {}
    for name, study in asked.items():
        for run_id, architecture in zip(study.runs, study.table["architecture"].to_pylist(), strict=True):
            of_run.setdefault(run_id, []).append(name)
            made_by[run_id] = architecture
    found = Usages()
    for name, size in store.place.files():
        kind, run_id = kind_of(name), run_of(name)
        found.whole.add(kind, size)
        for study in of_run.get(run_id or "", ()):
            found.studies.setdefault(study, Usage()).add(kind, size)
        if run_id in made_by:
            found.architectures.setdefault(made_by[run_id], Usage()).add(kind, size)
    return found


def kind_of(name: str) -> str:
    """Which kind of file has this name below a store."""
    folder, file = name.split("/", 1)[0], name.rsplit("/", 1)[-1]
    if file == STATE or folder == TRUNKS:
        return "states"
    if folder == "checkpoints" or file == WEIGHTS:
        return "weights"
    if folder == "tensorboard":
        return "events"
    if folder == "snapshots":
        return "snapshots"
    return "points" if file.startswith("points") else "rest"


def run_of(name: str) -> str | None:
    """The run whose file has this name below a store; None for what belongs to no single run."""
    return next((part for part in name.split("/")[1:-1] if RUN_ID.fullmatch(part)), None)


@dataclass(frozen=True)
class Pruning:
    """What goes: files (with their bytes), and runs whose records go altogether."""

    files: tuple[tuple[str, int], ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that this frees."""
        return sum(size for _, size in self.files)


def plan_pruning(
    store: Store,
    *,
    keep: str = "final",
    unfinished: bool = False,
    events: bool = False,
    runs: Collection[str] | None = None,
) -> Pruning:
    """What can go; nothing of a run that is training, and never the records of a run that finished or diverged.

    States of trunks go where nothing trains: a run without its trunk's state makes the updates itself.

    Args:
        keep: "final" keeps the weights of every finished run, "best" those with the lowest law_loss of each study,
            architecture and metric, "none" keeps none. States of runs that have finished or diverged go in any case.
        unfinished: interrupted and failed runs go altogether; a stopped run keeps its records and loses its state.
        events: event files go.
        runs: only of these.

    Raises:
        ValueError: `keep` is unknown.
    """
    if keep not in KEEP:
        raise ValueError(f"keep={keep!r} is not allowed: it must be one of {', '.join(KEEP)}.")
    states = store.states()
    gone = {
        i for i, s in states.items()
        if unfinished and s.status in (INTERRUPTED, FAILED) and (runs is None or i in runs)
    }  # fmt: skip
    kept = _kept_weights(store, keep)
    files = []
    living = any(state.status == RUNNING for state in states.values())
    for name, size in store.place.files():
        run_id = run_of(name)
        if name.startswith(f"{TRUNKS}/") and not living and runs is None:
            files.append((name, size))
        status = states[run_id].status if run_id in states else None
        if run_id is None or status in (None, RUNNING) or (runs is not None and run_id not in runs):
            continue
        if run_id in gone or _may_go(name, run_id, status, kept, unfinished=unfinished, events=events):
            files.append((name, size))
    return Pruning(tuple(sorted(files)), tuple(sorted(gone)))


def _may_go(
    name: str, run_id: str, status: str | None, kept: set[str] | None, *, unfinished: bool, events: bool
) -> bool:
    kind = kind_of(name)
    if kind == "events":
        return events
    if kind == "states":
        return status not in (STOPPED, INTERRUPTED, FAILED, PENDING) or (unfinished and status == STOPPED)
    return kind == "weights" and status == FINISHED and kept is not None and run_id not in kept


def _kept_weights(store: Store, keep: str) -> set[str] | None:
    """Runs whose weights stay; None where all do."""
    if keep == "final":
        return None
    best: dict[tuple[str, str, str], tuple[float, str]] = {}
    names = ("run_id", "studies", "architecture", "law_metric", "law_loss", "status")
    for row in store.runs(columns=names, status=FINISHED).to_pylist() if keep == "best" else ():
        for study in row["studies"] or [""]:
            if row["law_loss"] is not None:
                cell = (study, row["architecture"], row["law_metric"])
                best[cell] = min(best.get(cell, (float("inf"), "")), (row["law_loss"], row["run_id"]))
    return {run_id for _, run_id in best.values()}


def prune(store: Store, plan: Pruning, *, progress: Told = lambda done, total: None) -> Pruning:
    """Carry out a plan; a run that was started since is left alone. Killed, it goes on when it is started again.

    Returns:
        What went.
    """
    touched = {run_id for name, _ in plan.files if (run_id := run_of(name)) is not None}
    again = {run_id for run_id, state in store.states(touched).items() if state.status == RUNNING}
    runs = tuple(run_id for run_id in plan.runs if run_id not in again)
    forget(store, runs)
    files = [(name, size) for name, size in plan.files if run_of(name) not in again]
    for done, (name, _) in enumerate(files, 1):
        store.place.remove(name)
        progress(done, len(files))
    for folder in sorted({name.rsplit("/", 1)[0] for name, _ in files}, key=len, reverse=True):
        while "/" in folder:
            store.place.tidy(folder)
            folder = folder.rsplit("/", 1)[0]
    return Pruning(tuple(files), runs)


def forget(store: Store, run_ids: Iterable[str]) -> None:
    """Let snapshots hold these runs no more."""
    gone = set(run_ids)
    while True:
        base, left = store.snapshots.steadily(lambda manifest: (manifest, _without(store, manifest, gone)))
        if left is None or store.snapshots.publish(base, left):
            return


def _without(store: Store, base: Manifest, gone: Collection[str]) -> list[Snapshot] | None:
    """The snapshots of a manifest with these runs taken out; None where they hold none of them."""
    where = store.snapshots.where(base)
    mine = {i: where[i][0] for i in gone if i in where}
    if not mine:
        return None
    return [
        replace(s, without=tuple(sorted({*s.without, *(i for i, name in mine.items() if name == s.name)})))
        for s in base.snapshots
    ]
