"""One attempt at a run: the only folders that its worker writes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from chemscale.records.place import Place, as_json
from chemscale.records.schema import POINTS, RUNS

STATE, WEIGHTS = "state.pt", "weights.pt"  # checkpoint files: what resuming needs, the trained model
PULSE_SECONDS = 2.0  # least time between two heartbeats


@dataclass(frozen=True)
class Kept:
    """What a snapshot holds of an attempt: its claim where it is the newest, its terminal row, its points."""

    claim: Mapping[str, Any]
    row: Mapping[str, Any] | None
    points: Callable[[], Sequence[Mapping[str, Any]]]


@dataclass
class Attempt:
    """Writes points, heartbeats, states and the terminal row; reads them back.

    Attributes:
        root: the place of the store.
        run_id, number: the run, and which attempt at it, from 1.
        changed: JSON of hyperparameters that differ from the run's first ones; every point carries it.
        kept: what a snapshot holds of it.
        place: the attempt's own. checkpoints: where its states and weights lie.
    """

    root: Place
    run_id: str
    number: int
    changed: str | None = None
    kept: Kept | None = None
    _parts: int = 0
    _beat: float = 0.0
    _pending: list[dict[str, Any]] = field(default_factory=list)
    _flushed: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = self.root.at(f"runs/{self.run_id}/attempts/{self.number:04d}")
        self.checkpoints = self.root.at(f"checkpoints/{self.run_id}/{self.number:04d}")

    @classmethod
    def claim(
        cls,
        root: Place,
        run_id: str,
        opening: Mapping[str, Any],
        driver: Mapping[str, Any],
        *,
        to_see: int,
        folded: Callable[[], int] = lambda: 0,
    ) -> Attempt:
        """The next free number, taken by creating its claim exclusively.

        Args:
            opening: what RUNS says of the run before it starts.
            to_see: examples that its budget asks for.
            folded: the highest number that a snapshot holds by now.
        """
        claim = {"row": dict(opening), "driver": dict(driver), "claimed": time.time(), "to_see": to_see}
        while True:
            number = max([*numbers(root, run_id), folded()]) + 1  # files first: what is folded meanwhile is counted
            attempt = cls(root, run_id, number)
            if attempt.place.create("claim.json", as_json({**claim, "attempt": number})):
                if folded() < number:
                    return attempt
                attempt.place.remove("claim.json")  # another took the number, ended and was folded since it was chosen

    def opening(self) -> dict[str, Any]:
        """What was known when the attempt was claimed: {"row", "driver", "claimed", "attempt", "to_see"}."""
        return self.place.read_json("claim.json") or (dict(self.kept.claim) if self.kept is not None else {})

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
        self._flushed += self._pending
        self._pending = []

    def beat(self, step: int, examples: int) -> None:
        """Say that the run lives and how far it is; at most every two seconds."""
        if time.time() - self._beat >= PULSE_SECONDS:
            self._beat = time.time()
            self.place.write_json("heartbeat.json", {"time": self._beat, "step": step, "examples": examples})

    def pulse(self) -> dict[str, Any]:
        """The newest heartbeat, or the moment of the claim."""
        beat = self.place.read_json("heartbeat.json")
        return beat or {"time": self.opening().get("claimed", 0.0), "step": 0, "examples": 0}

    def save(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """A checkpoint file, whole or not at all; points measured before it are safe before it is."""
        self.flush()
        self.checkpoints.write(name, write)

    def open(self, name: str) -> BinaryIO | None:
        """A checkpoint file to read; None where there is none."""
        return self.checkpoints.open(name) or self.place.open(name)  # version 1 kept them beside the points

    def holds(self, name: str) -> bool:
        """Whether there is a checkpoint file of this name."""
        return self.checkpoints.exists(name) or self.place.exists(name)

    # -- at its end ---------------------------------------------------------------------------------------------------

    def end(self, row: Mapping[str, Any]) -> None:
        """The terminal RUNS row; afterwards all points are one file and what only resuming needed is gone.

        The state of a member of a population stays: another member may copy it (`forget`).
        """
        self.flush()
        if self._flushed:
            rows = {row["step"]: row for row in self._flushed}
            self.place.write_table("points.parquet", POINTS.table([rows[step] for step in sorted(rows)]))
        self.place.write_json("run.json", plain({**row, "attempt": self.number}))
        for part in _parts(self.place.names()):
            self.place.remove(part)
        if row.get("lineage") is None:
            forget(self.root, self.run_id)
        self.place.settle()  # the process may end right after

    @property
    def ended(self) -> bool:
        """Whether the worker wrote a terminal row."""
        folded = self.kept is not None and self.kept.row is not None
        return folded or self.place.exists("run.json") or self.place.exists("run.parquet")

    def row(self) -> dict[str, Any]:
        """The terminal RUNS row.

        Raises:
            ValueError: there is none yet.
        """
        row = read_row(self.place, "run.json") or read_row(self.place, "run.parquet")
        if row is None and self.kept is not None:
            row = self.kept.row
        if row is None:
            raise ValueError(f"attempt {self.number} at run {self.run_id} has no terminal row; it has not ended.")
        return RUNS.read(RUNS.table([row])).to_pylist()[0]

    def points(self) -> list[dict[str, Any]]:
        """All points on disk, by step; a part that another process just merged away is in the merged file."""
        names = [*_parts(self.place.names()), "points.parquet"]
        tables = [t for t in map(self.place.read_table, names) if t is not None]
        rows = {row["step"]: dict(row) for row in (self.kept.points() if self.kept is not None else ())}
        rows |= {row["step"]: row for table in tables for row in POINTS.read(table).to_pylist()}
        return [rows[step] for step in sorted(rows)]


def numbers(root: Place, run_id: str) -> list[int]:
    """Numbers of the attempts that have files, lowest first."""
    return [int(name) for name in root.names(f"runs/{run_id}/attempts") if name.isdigit()]


def read_row(place: Place, name: str) -> dict[str, Any] | None:
    """A terminal RUNS row as JSON, or as version 1 wrote it; None where there is none."""
    if name.endswith(".json"):
        return place.read_json(name)
    table = place.read_table(name)
    return None if table is None else RUNS.read(table).to_pylist()[0]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A RUNS row as JSON holds it: checked, without nulls, numbers of numpy as Python's.

    Raises:
        KeyError, ValueError: as `RUNS.table`.
    """
    given = {name: value for name, value in RUNS.checked(row).items() if value is not None}
    return {name: value.item() if hasattr(value, "item") else value for name, value in given.items()}


def _parts(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("points-")]


def forget(root: Place, run_id: str) -> None:
    """Take away the states of a run, which only resuming needs."""
    kept = root.at(f"checkpoints/{run_id}")
    for folder in kept.names():
        kept.remove(f"{folder}/{STATE}")
        kept.tidy(folder)
    root.tidy(f"checkpoints/{run_id}")
