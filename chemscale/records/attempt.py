"""One attempt at a run: the only folder that its worker writes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from chemscale.records.place import Place, as_json
from chemscale.records.schema import POINTS, RUNS

PULSE_SECONDS = 2.0  # least time between two heartbeats


@dataclass
class Attempt:
    """Writes points, heartbeats, states and the terminal row; reads them back.

    Attributes:
        run: the place of the run.
        number: of the attempt, from 1.
        place: the attempt's own.
        changed: JSON of hyperparameters that differ from the run's first ones; every point carries it.
    """

    run: Place
    number: int
    changed: str | None = None
    _parts: int = 0
    _beat: float = 0.0
    _pending: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = self.run.at(f"attempts/{self.number:04d}")

    @classmethod
    def claim(cls, run: Place, opening: Mapping[str, Any], driver: Mapping[str, Any]) -> Attempt:
        """The next free number, taken by creating its claim exclusively."""
        number = max((a.number for a in attempts(run)), default=0) + 1
        while True:
            attempt = cls(run, number)
            claim = {"row": dict(opening), "driver": dict(driver), "claimed": time.time(), "attempt": number}
            if attempt.place.create("claim.json", as_json(claim)):
                return attempt
            number += 1

    def opening(self) -> dict[str, Any]:
        """What was known when the attempt was claimed: {"row", "driver", "claimed", "attempt"}."""
        return self.place.read_json("claim.json") or {}

    # -- while the run lives ------------------------------------------------------------------------------------------

    def point(self, row: Mapping[str, Any]) -> None:
        """Add one measurement; it is safe after `flush`."""
        self._pending.append({**row, "attempt": self.number, "changed": self.changed})

    def flush(self) -> None:
        """Write the pending points as one immutable part."""
        if not self._pending:
            return
        self._parts += 1
        self.place.write_table(f"points-{self._parts:06d}.parquet", POINTS.table(self._pending))
        self._pending = []

    def beat(self, step: int, examples: int, *, now: bool = False) -> None:
        """Say that the run lives and how far it is; at most every two seconds unless `now`."""
        if now or time.time() - self._beat >= PULSE_SECONDS:
            self._beat = time.time()
            self.place.write_json("heartbeat.json", {"time": self._beat, "step": step, "examples": examples})

    def pulse(self) -> dict[str, Any]:
        """The newest heartbeat, or the moment of the claim."""
        beat = self.place.read_json("heartbeat.json")
        return beat or {"time": self.opening().get("claimed", 0.0), "step": 0, "examples": 0}

    def save(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """A checkpoint file, whole or not at all; points measured before it are safe before it is."""
        self.flush()
        self.place.write(name, write)

    # -- at its end ---------------------------------------------------------------------------------------------------

    def end(self, row: Mapping[str, Any]) -> None:
        """The terminal RUNS row; afterwards all points are one file and what only resuming needed is gone.

        The state of a member of a population stays: another member may copy it (`forget`).
        """
        self.flush()
        rows = self.points()
        if rows:
            self.place.write_table("points.parquet", POINTS.table(rows))
        self.place.write_table("run.parquet", RUNS.table([{**row, "attempt": self.number}]))
        for part in self._part_names():
            self.place.remove(part)
        if row.get("lineage") is None:
            forget(self.run)
        self.place.settle()  # the process may end right after

    @property
    def ended(self) -> bool:
        """Whether the worker wrote a terminal row."""
        return self.place.exists("run.parquet")

    def row(self) -> dict[str, Any]:
        """The terminal RUNS row.

        Raises:
            ValueError: there is none yet.
        """
        table = self.place.read_table("run.parquet")
        if table is None:
            raise ValueError(f"attempt {self.number} in {self.run.url} has no terminal row; it has not ended.")
        return RUNS.read(table).to_pylist()[0]

    def points(self) -> list[dict[str, Any]]:
        """All points on disk, by step; a part that another process just merged away is in the merged file."""
        names = [*self._part_names(), "points.parquet"]
        tables = [t for t in map(self.place.read_table, names) if t is not None]
        rows = {row["step"]: row for table in tables for row in POINTS.read(table).to_pylist()}
        return [rows[step] for step in sorted(rows)]

    def _part_names(self) -> list[str]:
        return [name for name in self.place.names() if name.startswith("points-")]


def forget(run: Place) -> None:
    """Take away the states of a run, which only resuming needs."""
    for attempt in attempts(run):
        attempt.place.remove("state.pt")


def attempts(run: Place) -> list[Attempt]:
    """Claimed attempts of a run, oldest first; a folder without a claim is nobody's yet."""
    found = [Attempt(run, int(name)) for name in run.names("attempts") if name.isdigit()]
    return [attempt for attempt in found if attempt.place.exists("claim.json")]
