"""Runs that have ended as rows of a snapshot's two tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from chemscale.records.history import History, RunState, visible
from chemscale.records.schema import POINTS, RUNS

LIGHT = ("run_id", "status", "stop_reason", "forecast_loss", "forecast_low", "forecast_high", "failures", "reached")
EXTRA = (  # columns of a snapshot beside those of RUNS
    pa.field("failures", pa.int64()),
    pa.field("reached", pa.int64()),  # RunState.examples
    pa.field("history", pa.string()),  # JSON of the History, but for the row
)
HIDDEN = pa.field("hidden", pa.bool_())  # a point that a higher attempt measured again, or after the run's end


@dataclass(frozen=True)
class Folded:
    """One run as a snapshot holds it: its history, and all its points with the attempt that measured each."""

    history: History
    about: Mapping[str, Any]
    to_see: int | None
    state: RunState
    points: Sequence[Mapping[str, Any]]


def runs_of(folded: Sequence[Folded]) -> pa.Table:
    """One row for each run: its RUNS row with the columns of `EXTRA`."""
    rows = [one.history.as_row(one.about, one.state) for one in folded]
    runs = RUNS.read(RUNS.table([{**row, "studies": None} for row in rows]))
    for extra, values in zip(EXTRA, zip(*map(_extras, folded), strict=True), strict=True):
        runs = runs.append_column(extra, pa.array(values, extra.type))
    return runs


def _extras(one: Folded) -> tuple[int, int, str]:
    history = one.history
    claim = {k: v for k, v in history.claim.items() if k != "row" or history.row is None}
    kept = {"attempts": history.attempts, "claim": claim, "pulse": history.pulse, "ended": history.ended,
            "word": history.word, "said": history.said, "to_see": one.to_see}  # fmt: skip
    return one.state.failures, one.state.examples, json.dumps(kept, sort_keys=True)


def points_of(folded: Sequence[Folded]) -> pa.Table:
    """All points of the runs, with the column `HIDDEN`."""
    rows, hidden = [], []
    for one in folded:
        chosen = visible(one.points, one.history.ended)
        mine = sorted(one.points, key=lambda row: (row["step"], row["attempt"]))
        rows += mine
        hidden += [chosen.get(row["step"]) != row["attempt"] for row in mine]
    return POINTS.read(POINTS.table(rows)).append_column(HIDDEN, pa.array(hidden, pa.bool_()))


def as_runs(table: pa.Table) -> pa.Table:
    """A snapshot's table of runs, of an older version too, in today's columns."""
    runs = RUNS.read(table)
    for extra in EXTRA:
        runs = runs.append_column(extra, table[extra.name])
    return runs


def as_points(table: pa.Table) -> pa.Table:
    """A snapshot's table of points, of an older version too, in today's columns."""
    return POINTS.read(table).append_column(HIDDEN, table["hidden"])


def no_points() -> pa.Table:
    """A table of points without rows."""
    return POINTS.read(POINTS.table([])).append_column(HIDDEN, pa.array([], pa.bool_()))


def state_of(run_id: str, columns: Mapping[str, list[Any]], row: int) -> RunState:
    """Where a run stood when it was folded, from a row of the `LIGHT` columns."""
    loss = columns["forecast_loss"][row]
    bounds = {"loss": loss, "low": columns["forecast_low"][row], "high": columns["forecast_high"][row]}
    return RunState(
        run_id, columns["status"][row], columns["stop_reason"][row], columns["failures"][row], columns["reached"][row],
        forecast={k: v for k, v in bounds.items() if v is not None} if loss is not None else None,
    )  # fmt: skip


def history_of(row: Mapping[str, Any]) -> History:
    """The history of a run, from its row of the table of runs."""
    kept = json.loads(row["history"])
    terminal = {k: row[k] for k in RUNS.arrow.names if k in row} if kept["ended"] is not None else None
    attempts = tuple(kept["attempts"])
    word = kept["word"]
    said = kept.get("said", (word or {}).get("number", 0))
    return History(row["run_id"], attempts, kept["claim"], kept["pulse"], kept["ended"], terminal, word, said)
