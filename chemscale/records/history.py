"""What became of one run: its attempts, the words of worker and driver, and where it stands by them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from chemscale.records.attempt import read_row
from chemscale.records.place import Place
from chemscale.records.schema import FAILED, INTERRUPTED, PENDING, POINTS, RUNNING

STALE_SECONDS = 60.0  # a heartbeat older than this on another machine means that its run is gone
ROWS = ("run.json", "run.parquet")  # a terminal row, now and in version 1
RECENT = 8  # words whose tokens the next one carries: more than are said while one is tried again


@dataclass(frozen=True)
class RunState:
    """Where one run stands.

    Attributes:
        status: one of `records.schema.STATUSES`.
        reason: why it stopped, failed or diverged.
        failures: how often it has failed.
        examples: progress, from the newest heartbeat.
        owner: "pid@host" of the driver of a running attempt.
        forecast: of a stopped run, where it would have ended: {"loss", "low", "high"}.
    """

    run_id: str
    status: str
    reason: str | None = None
    failures: int = 0
    examples: int = 0
    owner: str | None = None
    forecast: Mapping[str, float] | None = None


@dataclass(frozen=True)
class History:
    """What is known of a run that was claimed or spoken of.

    Attributes:
        attempts: numbers of the claimed attempts, lowest first.
        claim, pulse: of the newest; {} where it has none.
        ended: the highest attempt with a terminal row. row: that row.
        word: the driver's, of the highest attempt and then the highest number: {"status", "reason", "failures",
            "attempt", "number", "tokens", perhaps "forecast"}.
        said: the highest number that any word of it took; the next one takes the next.
        files: what was read or listed of it, below the store.
    """

    run_id: str
    attempts: tuple[int, ...] = ()
    claim: Mapping[str, Any] = field(default_factory=dict)
    pulse: Mapping[str, Any] = field(default_factory=dict)
    ended: int | None = None
    row: Mapping[str, Any] | None = None
    word: Mapping[str, Any] | None = None
    said: int = 0
    files: tuple[str, ...] = ()

    @property
    def newest(self) -> int:
        """Number of the newest attempt; 0 where there is none."""
        return self.attempts[-1] if self.attempts else 0

    @property
    def known(self) -> bool:
        """Whether anybody claimed the run or spoke of it."""
        return bool(self.attempts) or self.word is not None

    def state(self) -> RunState:
        """Where the run stands: a worker's terminal word wins, then the driver's, then the newest heartbeat."""
        word = self.word or {}
        failures = word.get("failures", 0)
        if self.row is not None:
            row = self.row
            return RunState(self.run_id, row["status"], row.get("stop_reason"), failures, row.get("examples_seen") or 0)
        examples = self.pulse.get("examples", 0)
        if word.get("status") and word["attempt"] >= self.newest:
            forecast = word.get("forecast")
            return RunState(self.run_id, word["status"], word["reason"], failures, examples, forecast=forecast)
        if not self.attempts:
            return RunState(self.run_id, PENDING, failures=failures)
        if not self.claim:  # taken away while it was read, by who folds the run: a newer manifest knows it
            return RunState(self.run_id, INTERRUPTED, None, failures, examples)
        owner = self.claim["driver"]
        status = RUNNING if _alive(owner, self.pulse.get("time", self.claim["claimed"])) else INTERRUPTED
        return RunState(self.run_id, status, None, failures, examples, f"{owner['pid']}@{owner['host']}")

    def as_row(self, about: Mapping[str, Any], state: RunState) -> dict[str, Any]:
        """The row of RUNS but for its studies.

        Args:
            about: what the spec alone says, for a run that failed before it was claimed.
            state: where it stands.
        """
        if self.row is not None:
            return dict(self.row)
        return {
            **(self.claim.get("row") or about),
            "status": state.status,
            "stop_reason": state.reason,
            "examples_seen": state.examples or None,
            "attempt": self.newest or None,
            **{f"forecast_{name}": value for name, value in (state.forecast or {}).items()},
        }

    def over(self, older: History) -> History:
        """This history laid over what was known before, e.g. files that came after a snapshot."""
        newest = self.newest >= older.newest
        wins = self.ended is not None and self.ended >= (older.ended or 0)
        return replace(
            self,
            attempts=tuple(sorted({*self.attempts, *older.attempts})),
            claim=self.claim if newest and self.claim else older.claim,
            pulse=self.pulse if newest and (self.pulse or self.newest > older.newest) else older.pulse,
            ended=self.ended if wins else older.ended,
            row=self.row if wins else older.row,
            word=max((word for word in (older.word, self.word) if word), key=_rank, default=None),  # equal: folded
            said=max(self.said, older.said),
        )


def read_history(root: Place, run_id: str, folded: Sequence[int] = (), *, legacy: bool = False) -> History:
    """What the live files of a run say, without what a snapshot holds of it.

    Args:
        folded: attempts that a snapshot holds; their claims may be gone.
        legacy: also look for the driver's word where version 1 wrote it.
    """
    place = root.at(f"runs/{run_id}")
    names = place.names("attempts")
    listed = {int(name): place.names(f"attempts/{name}") for name in names if name.isdigit()}
    claimed = sorted(n for n, files in listed.items() if "claim.json" in files or n in folded)
    words = {_number(name): name for name in names if name.startswith("word-")}
    claim, pulse, ended, row = {}, {}, None, None
    for number in reversed(claimed):
        name = next((name for name in ROWS if name in listed[number]), None)
        if name is not None and (row := read_row(place.at(f"attempts/{number:04d}"), name)) is not None:
            ended = number
            break
    if claimed:
        newest = f"attempts/{claimed[-1]:04d}"
        claim = place.read_json(f"{newest}/claim.json") or {}
        pulse = place.read_json(f"{newest}/heartbeat.json") or {}
    said = max(words, default=0)
    newest_word = f"attempts/{words[said]}" if words else "driver.json" if legacy else None
    word = None if newest_word is None else place.read_json(newest_word)
    files = [f"attempts/{n:04d}/{name}" for n in claimed for name in listed[n]]
    files += [f"attempts/{name}" for name in words.values()]
    files += ["driver.json"] if word is not None and not words else []
    whole = tuple(f"runs/{run_id}/{name}" for name in files)
    return History(run_id, tuple(claimed), claim, pulse, ended, row, word, said, whole)


def read_points(root: Place, history: History) -> list[dict[str, Any]] | None:
    """Every point of a run's live files, of each attempt at most one a step; None where a listed file has gone."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for name in history.files:
        file = name.rsplit("/", 1)[1]
        if not (file.startswith("points-") or file == "points.parquet"):
            continue
        table = root.read_table(name)
        if table is None:
            return None
        rows.update({(row["attempt"], row["step"]): row for row in POINTS.read(table).to_pylist()})
    return [rows[key] for key in sorted(rows)]


def visible(rows: Iterable[Mapping[str, Any]], ended: int | None) -> dict[int, int]:
    """Step -> the attempt whose point counts: the highest that measured it, none after the one that ended the run."""
    chosen: dict[int, int] = {}
    for row in rows:
        if ended is None or row["attempt"] <= ended:
            chosen[row["step"]] = max(row["attempt"], chosen.get(row["step"], 0))
    return chosen


def process_identity() -> dict[str, Any]:
    """This process, in a way that tells it from a later one with the same number."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def spoken(before: History, status: str, reason: str, token: str) -> dict[str, Any]:
    """The driver's next word on a run of this history."""
    word = before.word or {}
    return {
        "status": status,
        "reason": reason,
        "failures": word.get("failures", 0) + (status == FAILED),
        "attempt": before.newest,
        "number": before.said + 1,
        "tokens": [*word.get("tokens", ()), token][-RECENT:],
    }


def _rank(word: Mapping[str, Any]) -> tuple[int, int]:
    return word["attempt"], word.get("number", 0)  # version 1 had one word, without a number


def _number(name: str) -> int:
    return int(name.removeprefix("word-").removesuffix(".json"))


def _alive(owner: Mapping[str, Any], beat: float) -> bool:
    """Whether a driver lives: by its process on this machine, by its run's heartbeat elsewhere."""
    if owner["host"] != socket.gethostname():
        return time.time() - beat < STALE_SECONDS
    try:
        process = psutil.Process(owner["pid"])
        dead = process.status() == psutil.STATUS_ZOMBIE  # ended, and its parent has not asked for its status yet
        return not dead and abs(process.create_time() - owner["born"]) < 1.0
    except psutil.Error:
        return False
