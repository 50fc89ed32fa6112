"""One run against a store: open the data, claim an attempt, train. Every harness calls this, in every process."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chemscale import data
from chemscale.models.cost import Cost
from chemscale.records.attempt import STATE, Attempt
from chemscale.records.board import KeptBoard
from chemscale.records.schema import FAILED
from chemscale.records.spool import patient
from chemscale.records.store import Store
from chemscale.records.tensorboard import Board, run_folder
from chemscale.spec import CHANGING, Data, Resources, RunSpec
from chemscale.train.beside import Beside
from chemscale.train.journal import REPORT_SECONDS, Report
from chemscale.train.loop import train
from chemscale.train.ranks import Ranks, visible_device

OPENED = 4  # data sets that a reused worker process keeps open


@dataclass(frozen=True)
class Descent:
    """Where a member of a population goes on.

    Args:
        source: id of the run that it copied last; None where it goes on from its own newest state.
        before: its own attempts up to this number came before that copy.
    """

    source: str | None = None
    before: int = 0


def opened(source: Data, view: tuple[tuple[str, Any], ...]) -> Any:
    """The opened data, kept between the runs of one process; which subset a run takes makes no difference to them.

    A node that shares no disk with the driver builds them itself; `Data.content` holds it to the same examples.
    """
    return _opened(replace(source, size=None, key=0, per_group=None, order="shuffled"), view)


@functools.lru_cache(maxsize=OPENED)
def _opened(source: Data, view: tuple[tuple[str, Any], ...]) -> Any:
    written, reading = source.representation, source.reading
    data.build(source.source, representation=written, reading=reading, processes=1, progress=False)
    return data.open_data(source, dict(view))


def train_in_store(
    run: RunSpec,
    store: str | Path,
    *,
    resources: Resources,
    driver: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
    report: Report = lambda row: None,
    counted: Cost | None = None,
    descent: Descent | None = None,
    saved: str = "timed",
    stoppable: bool = False,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Train a complete run to its end, or go on where an earlier attempt was killed; all is written to the store.

    Args:
        driver: identity of the process that answers for the run (`records.store.process_identity`).
        ranks: this process among the workers; None is one process on the device that `resources` asks for.
        report: told of progress at least every second.
        counted: FLOPs per example, where they have been counted already.
        descent: of a member of a population; None for any other run.
        saved: when its state is saved (`loop.SAVED`).
        stoppable: whether a report may be the last that this process does: what was measured is then in the store, and
            not on its way there, before it is reported.
        beside: what is measured of the trained model beside its losses.

    Returns:
        The terminal RUNS row.
    """
    told: dict[str, Any] = {"examples": 0, "step": 0}

    def telling(row: dict[str, Any]) -> None:
        if stoppable and "valid_loss" in row:
            records.place.settle()
        told.update({name: row[name] for name in told if name in row})
        report(row)

    alone = ranks is None or ranks.world == 1  # with several workers a report is a barrier that one cannot reach
    records = Store(patient(store, resources, waiting=_paced(lambda: report(dict(told)), alone)))
    examples = opened(run.data, tuple(sorted(run.model.view.items())))
    return train(
        run,
        examples,
        claim=functools.partial(_claim, records, run, driver, descent),
        board=functools.partial(_board, records),
        resources=resources,
        ranks=ranks or Ranks(device=visible_device(resources.gpus)),
        report=telling,
        counted=counted,
        saved=saved,
        beside=beside,
    )


def _claim(
    records: Store,
    run: RunSpec,
    driver: Mapping[str, Any] | None,
    descent: Descent | None,
    opening: dict[str, Any],
) -> tuple[Attempt, list[Attempt]]:
    own = records.attempts(run.id)
    if descent is None:
        attempt = records.claim(run, opening, driver)
        return attempt, [a for a in records.attempts(run.id) if a.number < attempt.number]
    known = own[-1].opening()["row"].get("lineage") if own else None
    opening["lineage"] = descent.source or known or run.id  # a member that copied nobody continues itself
    attempt = records.claim(run, opening, driver)
    attempt.changed = _changed(records.spec(run.id), run)
    return attempt, _newest_state(own, descent.before) or _newest_state(records.attempts(descent.source or run.id))


def _newest_state(history: Sequence[Attempt], before: int = 0) -> list[Attempt]:
    """The newest attempt with a state, alone: what was copied may be of an earlier step than what it replaced."""
    held = [a for a in history if a.number > before and a.holds(STATE)]
    return held[-1:]


def _changed(first: RunSpec, now: RunSpec) -> str | None:
    """JSON of the optimiser's fields that are no longer what the member started with."""
    fields = {f"optim.{name}": getattr(now.optim, name) for name in CHANGING}
    changed = {k: v for k, v in fields.items() if v != getattr(first.optim, k.removeprefix("optim."))}
    return json.dumps(changed, sort_keys=True) if changed else None


def _board(records: Store, opening: dict[str, Any], seen: int) -> Any:
    before = records.points(opening["run_id"]).to_pylist() if seen else []
    measured = [row for row in before if row["examples"] <= seen]
    place = records.place.at(f"tensorboard/{run_folder(opening)}")
    return KeptBoard(lambda folder: Board(folder, opening, measured), place)


def _paced(tell: Callable[[], None], alone: bool) -> Callable[[], None]:
    """`tell`, about once a second however often it is called; nothing where this process may not tell."""
    due = 0.0

    def paced() -> None:
        nonlocal due
        if alone and time.monotonic() >= due:
            due = time.monotonic() + REPORT_SECONDS
            tell()

    return paced


def train_here(
    run: RunSpec,
    store: Store,
    resources: Resources,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Train in this process, which also answers for the run: what raises is recorded as failed and raised again."""
    try:
        return train_in_store(run, store.url, resources=resources, report=report, beside=beside)
    except Exception as error:
        store.mark(run.id, FAILED, f"{type(error).__name__}: {error}")
        raise
