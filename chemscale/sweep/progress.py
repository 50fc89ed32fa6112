"""How far a study is, read from its store: the same for the driver that runs it and for a second terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chemscale.records.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED
from chemscale.records.store import RunState, Store

SHOWN = ["run_id", "architecture", "width", "examples", "seed", "to_see"]
RESTING_SECONDS = 10.0  # how long a stopped or failed run is taken to stay so
LEAST_SHARE = 0.02  # of the work, before its pace tells anything: first steps are slow ones …
LEAST_SECONDS = 120.0  # … unless this long has passed
ENDED = (FINISHED, DIVERGED, STOPPED, FAILED)


@dataclass(frozen=True)
class Cell:
    """One run as a display shows it."""

    run_id: str
    label: str
    work: float
    examples: int


@dataclass(frozen=True)
class Progress:
    """A study at one moment.

    Attributes:
        counts: runs by status.
        running: (label, share done) of runs that are training now.
        share: done, weighted by the estimated seconds of the runs.
        eta: seconds to the end at the pace so far; None before there is one.
    """

    counts: Mapping[str, int]
    running: tuple[tuple[str, float], ...]
    share: float
    eta: float | None
    trouble: tuple[tuple[str, str], ...]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        return sum(self.counts.get(s, 0) for s in ENDED)

    def line(self) -> str:
        """One line for people."""
        parts = [f"{self.ended}/{self.total} runs", f"{100 * self.share:3.0f} % of the work", *self.notes()]
        if self.eta is not None and self.ended < self.total:
            parts.append(f"about {duration(self.eta)} left")
        return " · ".join(parts)

    def notes(self) -> list[str]:
        """What ended otherwise than finished, and what is training now."""
        parts = []
        for status in (STOPPED, DIVERGED, FAILED, INTERRUPTED):
            if self.counts.get(status):
                parts.append(f"{self.counts[status]} {status}")
        if self.running:
            parts.append("now " + ", ".join(f"{label} {100 * share:.0f} %" for label, share in self.running))
        return parts


@dataclass
class Watch:
    """Reads states again and again, each ended run only once."""

    store: Store
    cells: tuple[Cell, ...]
    _ended: dict[str, RunState] = field(default_factory=dict)
    _resting: dict[str, tuple[RunState, float]] = field(default_factory=dict)
    _start: tuple[float, float] | None = None

    def look(self) -> Progress:
        """The study now."""
        states = self._states()
        done = {c.run_id: _share(c, states[c.run_id]) for c in self.cells}
        work = sum(c.work * done[c.run_id] for c in self.cells)
        whole = sum(c.work for c in self.cells)
        running = tuple((c.label, done[c.run_id]) for c in self.cells if states[c.run_id].status == RUNNING)
        trouble = tuple(
            (c.label, states[c.run_id].reason or "")
            for c in self.cells
            if states[c.run_id].status in (FAILED, DIVERGED)
        )
        share = work / whole if whole else 1.0
        return Progress(Counter(s.status for s in states.values()), running, share, self._eta(work, whole), trouble)

    def _states(self) -> dict[str, RunState]:
        """Finished and diverged runs are asked for once, stopped and failed ones, which may go on, now and then."""
        now = time.monotonic()
        rested = {i: state for i, (state, seen) in self._resting.items() if now - seen < RESTING_SECONDS}
        asked = [c.run_id for c in self.cells if c.run_id not in self._ended and c.run_id not in rested]
        found = self.store.states(asked) if asked else {}
        self._ended |= {i: state for i, state in found.items() if state.status in (FINISHED, DIVERGED)}
        self._resting |= {i: (state, now) for i, state in found.items() if state.status in (STOPPED, FAILED)}
        known = {**rested, **found, **self._ended}
        return {cell.run_id: known[cell.run_id] for cell in self.cells}

    def _eta(self, work: float, whole: float) -> float | None:
        """The pace counts from the last look before the first step: starting workers is no work."""
        now = time.monotonic()
        if self._start is None or work <= self._start[1]:
            self._start = (now, work)
        since, before = self._start
        enough = work - before >= LEAST_SHARE * (whole - before) or now - since >= LEAST_SECONDS
        return (whole - work) * (now - since) / (work - before) if work > before and enough else None


def _share(cell: Cell, state: RunState) -> float:
    if state.status in ENDED:
        return 1.0
    return min(1.0, state.examples / cell.examples) if cell.examples else 0.0


def cells_of(store: Store, studies: Iterable[str] | None = None) -> tuple[Cell, ...]:
    """The runs that the studies of a store asked for, each once."""
    cells: dict[str, Cell] = {}
    for name, study in store.asked().items():
        if studies is not None and name not in studies:
            continue
        for row in study.table.select(SHOWN).to_pylist():
            run_id = row["run_id"]
            if run_id not in cells:
                cells[run_id] = Cell(run_id, label_of(row), study.work.get(run_id, 1.0), row["to_see"])
    return tuple(cells.values())


def label_of(row: Mapping[str, Any]) -> str:
    """A short name for people: architecture, width, size, and the seed where it is not the first."""
    seed = f" seed {row['seed']}" if row["seed"] else ""
    return f"{row['architecture']} w{row['width']} n{row['examples']}{seed}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
