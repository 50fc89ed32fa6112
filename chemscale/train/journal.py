"""What a run tells of itself: points, heartbeats and the terminal row, by rank 0; reports, by every worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chemscale.records.attempt import WEIGHTS, Attempt
from chemscale.records.schema import DIVERGED
from chemscale.records.tensorboard import Board
from chemscale.train import state
from chemscale.train.rows import Ledger, outcome_columns

REPORT_SECONDS = 1.0  # a scheduler's stop takes effect at the next report

Report = Callable[[dict[str, Any]], None]


@dataclass
class Clock:
    """Wall time and energy of a run, over all its attempts.

    Args:
        before: what earlier attempts used.
        meter: joules since this attempt started; None where nothing honest can be read.
    """

    before: state.Progress
    meter: Callable[[], float] | None
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._seconds, self._joules = self.before.seconds, self.before.joules

    def seconds(self) -> float:
        """Wall time in the loop."""
        return self._seconds + time.perf_counter() - self._started

    def joules(self) -> float | None:
        """Energy of the devices; None where one attempt could not read it."""
        if self.meter is None or self._joules is None:
            return None
        return self._joules + self.meter()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Around what is no part of the training: neither its time nor its energy counts."""
        seconds, joules = self.seconds(), self.joules()
        try:
            yield
        finally:
            self._seconds -= self.seconds() - seconds
            if joules is not None and self._joules is not None:
                self._joules -= (self.joules() or joules) - joules


@dataclass
class Journal:
    """Writes and reports; what is reported is on disk already.

    Args:
        opening: columns of RUNS known from the start.
        attempt: rank 0's; None on the other workers. events: its event files, if it has any.
        alone: whether this process is the run's only one.
        report: told of progress at least every second, by several workers at measurements only.
    """

    ledger: Ledger
    opening: Mapping[str, Any]
    attempt: Attempt | None
    events: Board | None
    clock: Clock
    alone: bool
    report: Report
    _reported: float = 0.0

    def point(self, progress: state.Progress, row: Mapping[str, Any]) -> None:
        """One measurement, safe when this returns."""
        row = {**row, "seconds": self.clock.seconds(), "joules": self.clock.joules()}
        if self.attempt is not None:
            self.attempt.point(row)
            self.attempt.flush()
            self.attempt.beat(progress.step, progress.examples)
        if self.events is not None:
            self.events.point(row)

    def alive(self, progress: state.Progress) -> None:
        """A heartbeat and a report, where it is time for one."""
        if self.attempt is not None:
            self.attempt.beat(progress.step, progress.examples)
        # Ray Train's report is a barrier: several workers report at measurements only, which all of them reach.
        if self.alone and time.perf_counter() - self._reported >= REPORT_SECONDS:
            self.tell(progress, {})

    def tell(self, progress: state.Progress, row: Mapping[str, Any]) -> None:
        """Report; whoever listens may end the run inside this call."""
        self._reported = time.perf_counter()
        self.report({"examples": progress.examples, "step": progress.step, **row})

    def end(
        self,
        progress: state.Progress,
        status: str,
        reason: str | None,
        outcome: Mapping[str, Any],
        weights: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """The terminal row, with the weights that stay; then the last report."""
        row = {**self.opening, **outcome_columns(self.ledger, progress.examples, progress.step), **outcome}
        row |= {"status": status, "stop_reason": reason, **self._course(progress), "ended": time.time()}
        if self.attempt is not None:
            if weights is not None:
                state.save_weights(self.attempt, WEIGHTS, dict(weights))
            self.attempt.end(row)
        if self.events is not None:
            self.events.close(row)
            self.events = None
        loss = math.inf if status == DIVERGED else progress.valid  # what was measured before says nothing of the end
        told = {"valid_loss": loss} if loss is not None else {}
        self.tell(progress, {**told, "law_loss": row.get("law_loss"), "status": status})
        return row

    def _course(self, progress: state.Progress) -> dict[str, Any]:
        timed = progress.step_examples
        return {
            "valid_loss": progress.valid,
            "best_valid_loss": progress.best,
            "best_step": progress.best_step,
            "inherited": progress.inherited,
            "seconds": self.clock.seconds(),
            "device_seconds": progress.device_seconds * progress.examples / timed if timed else None,
            "joules": self.clock.joules(),
        }

    def close(self) -> None:
        """Let go of the event files; a run that ended has already."""
        if self.events is not None:
            self.events.close()
