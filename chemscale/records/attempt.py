"""One attempt at a run: the only folder that its worker writes to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.records.files import create_once, read_json, write_json, write_table, write_whole
from chemscale.records.schema import POINTS, RUNS

PULSE_SECONDS = 2.0  # least time between two heartbeats


@dataclass
class Attempt:
    """Writes points, heartbeats, states and the terminal row; reads them back."""

    folder: Path
    number: int
    _parts: int = 0
    _beat: float = 0.0
    _pending: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def claim(cls, run_folder: Path, opening: Mapping[str, Any], driver: Mapping[str, Any]) -> Attempt:
        """The next free number, taken by creating its claim exclusively."""
        number = max((a.number for a in attempts(run_folder)), default=0) + 1
        while True:
            folder = run_folder / "attempts" / f"{number:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            claim = {"row": dict(opening), "driver": dict(driver), "claimed": time.time(), "attempt": number}
            if create_once(folder / "claim.json", claim):
                return cls(folder, number)
            number += 1

    def opening(self) -> dict[str, Any]:
        """What was known when the attempt was claimed: {"row", "driver", "claimed", "attempt"}."""
        return read_json(self.folder / "claim.json") or {}

    # -- while the run lives ------------------------------------------------------------------------------------------

    def point(self, row: Mapping[str, Any]) -> None:
        """Add one measurement; it is safe after `flush`."""
        self._pending.append({**row, "attempt": self.number})

    def flush(self) -> None:
        """Write the pending points as one immutable part."""
        if not self._pending:
            return
        self._parts += 1
        write_table(self.folder / f"points-{self._parts:06d}.parquet", POINTS.table(self._pending))
        self._pending = []

    def beat(self, step: int, examples: int, *, now: bool = False) -> None:
        """Say that the run lives and how far it is; at most every two seconds unless `now`."""
        if now or time.time() - self._beat >= PULSE_SECONDS:
            self._beat = time.time()
            write_json(self.folder / "heartbeat.json", {"time": self._beat, "step": step, "examples": examples})

    def pulse(self) -> dict[str, Any]:
        """The newest heartbeat, or the moment of the claim."""
        beat = read_json(self.folder / "heartbeat.json")
        return beat or {"time": self.opening().get("claimed", 0.0), "step": 0, "examples": 0}

    def save(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """A checkpoint file, whole or not at all; points measured before it are safe before it is."""
        self.flush()
        write_whole(self.folder / name, write)

    # -- at its end ---------------------------------------------------------------------------------------------------

    def end(self, row: Mapping[str, Any]) -> None:
        """The terminal RUNS row; afterwards all points are one file and what only resuming needed is gone."""
        self.flush()
        rows = self.points()
        if rows:
            write_table(self.folder / "points.parquet", POINTS.table(rows))
        write_table(self.folder / "run.parquet", RUNS.table([{**row, "attempt": self.number}]))
        for part in self.folder.glob("points-*.parquet"):
            part.unlink(missing_ok=True)
        for older in attempts(self.folder.parent.parent):
            (older.folder / "state.pt").unlink(missing_ok=True)

    @property
    def ended(self) -> bool:
        """Whether the worker wrote a terminal row."""
        return (self.folder / "run.parquet").exists()

    def row(self) -> dict[str, Any]:
        """The terminal RUNS row."""
        return RUNS.read(pq.read_table(self.folder / "run.parquet")).to_pylist()[0]

    def points(self) -> list[dict[str, Any]]:
        """All points on disk, by step; a part that another process just merged away is in the merged file."""
        whole = self.folder / "points.parquet"
        names = sorted(self.folder.glob("points-*.parquet"))
        tables = [t for t in map(_read, [*names, whole]) if t is not None]
        rows = {row["step"]: row for table in tables for row in POINTS.read(table).to_pylist()}
        return [rows[step] for step in sorted(rows)]


def attempts(run_folder: Path) -> list[Attempt]:
    """Claimed attempts of a run, oldest first; a folder without a claim is nobody's yet."""
    try:
        names = sorted(os.listdir(run_folder / "attempts"))
    except FileNotFoundError:
        return []
    return [
        Attempt(run_folder / "attempts" / name, int(name))
        for name in names
        if name.isdigit() and (run_folder / "attempts" / name / "claim.json").exists()
    ]


def _read(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        return None
