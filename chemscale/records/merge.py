"""Several stores as one: runs, studies and forecasts, each run whole or not at all.

Runs come as snapshots, published by one manifest for each batch, so a merge that is killed goes on where it was.
Checkpoints are copied before the runs that they belong to. Event files are not: they only show what POINTS hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chemscale.records.attempt import STATE, WEIGHTS
from chemscale.records.compact import copy_file, gathered, publish
from chemscale.records.folded import Folded
from chemscale.records.history import History, RunState, read_points
from chemscale.records.manifests import SupersededError
from chemscale.records.place import as_json
from chemscale.records.schema import DIVERGED, FINISHED, PENDING, POINTS, RUNNING, RUNS, equal
from chemscale.records.store import Store

BATCH = 500  # runs that one manifest brings

Told = Callable[[int, int], None]  # runs done, runs in all


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        copied: runs that came. same: runs that were there already.
        running: runs that are training in their store, left for another time.
        conflicts: runs whose finished tables differ, by id, with the columns that do; nothing of them was copied.
    """

    copied: int = 0
    same: int = 0
    running: tuple[str, ...] = ()
    conflicts: Mapping[str, tuple[str, ...]] | None = None


def merge(
    sources: Sequence[Store], into: Store, *, prefer: Store | None = None, progress: Told = lambda done, total: None
) -> Merged:
    """Bring the runs, studies and forecasts of these stores into another.

    A run that several hold: a finished one wins over one that has not finished, equal ones come once, and of unfinished
    ones that with most progress comes. Finished ones that differ in a column that is not volatile are a conflict.

    Args:
        prefer: the store whose run wins a conflict.

    Returns:
        With conflicts and no store to prefer: those conflicts, and nothing has been written.
    """
    chosen, running, conflicts = _choose([into, *sources], prefer)
    if conflicts and prefer is None:
        return Merged(0, 0, running, conflicts)
    for source in sources:
        _studies(source, into)
    todo = [(run_id, source) for run_id, source in sorted(chosen.items()) if source is not into]
    for start in range(0, len(todo), BATCH):
        _bring(todo[start : start + BATCH], into)
        progress(min(start + BATCH, len(todo)), len(todo))
    return Merged(len(todo), len(chosen) - len(todo), running, conflicts)


def _choose(
    stores: Sequence[Store], prefer: Store | None
) -> tuple[dict[str, Store], tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Run id -> the store whose run comes; runs that are training; conflicts."""
    holders: dict[str, list[tuple[Store, RunState]]] = {}
    running = []
    for store in stores:
        for run_id, state in store.states().items():
            if state.status == RUNNING:
                running.append(run_id)
            elif state.status != PENDING:
                holders.setdefault(run_id, []).append((store, state))
    several = [run_id for run_id, held in holders.items() if len(held) > 1]
    rows = {id(store): _rows(store, several) for store in stores}
    chosen, conflicts = {}, {}
    for run_id, held in holders.items():
        ended = [store for store, state in held if state.status in (FINISHED, DIVERGED)]
        if not ended:
            chosen[run_id] = max(held, key=lambda one: one[1].examples)[0]
            continue
        chosen[run_id] = ended[0]
        for other in ended[1:]:
            differing = _differences(run_id, (ended[0], other), rows)
            if differing:
                conflicts[run_id] = differing
                chosen[run_id] = prefer if prefer is not None and prefer in ended else chosen[run_id]
    held_back = set(running)
    return {i: store for i, store in chosen.items() if i not in held_back}, tuple(sorted(held_back)), conflicts


def _rows(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted = set(run_ids)
    names = [name for name in RUNS.lasting if name != "studies"]
    return {row["run_id"]: row for row in store.runs(columns=names).to_pylist() if row["run_id"] in wanted}


def _differences(run_id: str, pair: tuple[Store, Store], rows: Mapping[int, Mapping[str, Any]]) -> tuple[str, ...]:
    one, other = (rows[id(store)][run_id] for store in pair)
    columns = tuple(name for name in one if one[name] != other[name] and name != "spec")  # a spec names its source
    if not columns and not equal(pair[0].points(run_id), pair[1].points(run_id), POINTS):
        return ("points",)
    return columns


def _studies(source: Store, into: Store) -> None:
    for name, study in source.asked().items():
        before = into.asked().get(name)
        known = set(before.runs) if before is not None else set()
        rows = [row for row in study.table.to_pylist() if row["run_id"] not in known]
        facts = {k: v for k, v in study.facts.items() if before is None or before.facts.get(k) != v}
        if rows or facts or before is None:
            into.studied.add(name, rows, facts)
    for run_id, forecast in source.forecasts().items():
        into.place.create(f"forecasts/{run_id}.json", as_json(forecast))  # one that is there is never overwritten
    for name in source.place.names("samples"):
        if not into.place.exists(f"samples/{name}"):
            into.place.write_json(f"samples/{name}", source.place.read_json(f"samples/{name}") or {})


def _bring(batch: Sequence[tuple[str, Store]], into: Store) -> None:
    folds = []
    for run_id, source in batch:
        known = into.history(run_id)
        found = _whole(source, run_id)
        _copy_checkpoints(source, into, run_id, known.newest)
        folds.append(_shifted(found, known))
    while not _published(into, folds):
        pass  # something was compacted meanwhile, which changes nothing of these runs


def _published(into: Store, folds: Sequence[Folded]) -> bool:
    base = into.snapshots.manifest()
    try:
        return publish(into, base, folds)
    except SupersededError as gone:
        into.snapshots.require_newer(base, gone)
        return False


def _whole(source: Store, run_id: str) -> Folded:
    def read(manifest: Any) -> Folded:
        history = source.history_at(manifest, run_id)
        return gathered(source, manifest, history, read_points(source.place, history) or [])

    return source.snapshots.steadily(read)


def _shifted(fold: Folded, known: History) -> Folded:
    """The same run with its attempts and words numbered after those that the other store knows, over which it wins."""
    history, shift = fold.history, known.newest
    word = history.word and {
        **history.word,
        "attempt": history.word["attempt"] + shift,
        "number": history.word.get("number", 0) + known.said,
    }
    moved = replace(
        history,
        attempts=tuple(number + shift for number in history.attempts),
        ended=None if history.ended is None else history.ended + shift,
        row=history.row and {**history.row, "attempt": (history.row.get("attempt") or history.ended or 0) + shift},
        word=word,
        said=history.said + known.said,
        files=(),
    )
    return replace(fold, history=moved, points=[{**row, "attempt": row["attempt"] + shift} for row in fold.points])


def _copy_checkpoints(source: Store, into: Store, run_id: str, shift: int) -> None:
    for attempt in source.attempts(run_id):
        for name in (STATE, WEIGHTS):
            file = attempt.open(name)
            if file is not None:
                copy_file(file, into.place, f"checkpoints/{run_id}/{attempt.number + shift:04d}/{name}")
