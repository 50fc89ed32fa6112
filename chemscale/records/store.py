"""A folder of runs: claim an attempt, write what is measured, read everything back as one table.

The layout is written down in `records.schema`. The store is the only truth for resuming.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from chemscale.records.attempt import Attempt, attempts
from chemscale.records.place import Place, as_json, place_at
from chemscale.records.schema import (
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PENDING,
    POINTS,
    RUNNING,
    RUNS,
    STOPPED,
    STORE_VERSION,
)
from chemscale.spec import RunSpec, from_json

STALE_SECONDS = 60.0  # a heartbeat older than this on another machine means that its run is gone
MAX_RETRIES = 2  # a failed run is tried again at most so often


@dataclass(frozen=True)
class RunState:
    """Where one run stands.

    Attributes:
        status: one of `records.schema.STATUSES`.
        reason: why it stopped, failed or diverged.
        failures: how often it has failed.
        step, examples: progress, from the newest heartbeat.
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


class Store:
    """Runs, points, studies and forecasts below one folder.

    Args:
        path: the folder, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or a place; `create=True` makes a store where there is
            nothing yet.

    Raises:
        ValueError: the folder is no store, or a store of a newer version.
        OSError: it cannot be reached.
    """

    def __init__(self, path: str | Path | Place, *, create: bool = False):
        if not str(path).strip():
            raise ValueError("store='' is empty; give the path of a folder, e.g. runs/mine.")
        self.place = place_at(path)
        self.url = self.place.url
        if create and not self.place.exists("store.json"):
            self._create()
        header = self.place.read_json("store.json")
        if header is None:
            made = f"`chemscale sweep RECIPE --store {self.url}` makes one"
            raise ValueError(f"{self.url} is not a chemscale store; {made}.")
        if header["version"] > STORE_VERSION:
            raise ValueError(
                f"{self.url} has layout version {header['version']}, this chemscale reads up to {STORE_VERSION}; "
                "upgrade chemscale."
            )
        self.place = self.place.anchored("store.json")

    def _create(self) -> None:
        if self.place.names():
            raise ValueError(f"{self.url} holds other files and is not a chemscale store; give a new or empty folder.")
        try:
            self.place.create("store.json", as_json({"version": STORE_VERSION}))
        except OSError as error:
            if isinstance(error, FileExistsError | NotADirectoryError):
                raise ValueError(f"store={self.url!r} is a file; give the path of a folder.") from None
            raise ValueError(f"store={self.url!r} cannot be made: {error.strerror}; give another folder.") from None

    @property
    def path(self) -> Path:
        """The folder of a store on a disk.

        Raises:
            ValueError: the store is not on a disk.
        """
        local = self.place.local()
        if local is None:
            raise ValueError(f"{self.url} is no folder on a disk; read it through Store.")
        return local.path

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def _run(self, run_id: str) -> Place:
        return self.place.at(f"runs/{run_id}")

    # -- what is asked ------------------------------------------------------------------------------------------------

    def enlist(self, study: str, runs: Sequence[RunSpec], **facts: Any) -> None:
        """Write down that `study` asks for these runs, in this order; a study that grew keeps its earlier runs.

        Args:
            facts: more about the study, e.g. `work` (run id -> estimated seconds), `question`, `limits`. Mappings grow,
                other values replace what was there.
        """
        for run in runs:
            self._introduce(run)
        name = f"studies/{study}.json"
        before = self.place.read_json(name) or {"runs": [], "work": {}}
        ids = list(dict.fromkeys([*before["runs"], *(run.id for run in runs)]))
        merged = {k: {**before.get(k, {}), **v} if isinstance(v, Mapping) else v for k, v in facts.items()}
        self.place.write_json(name, {**before, **merged, "name": study, "runs": ids})

    def studies(self) -> dict[str, dict[str, Any]]:
        """Name -> {"name", "runs": [ids], "work": {id: estimated seconds}, and what else `enlist` was told}."""
        return self._read_all("studies")

    def run_ids(self) -> list[str]:
        """Ids of all runs that the store knows, sorted."""
        return [name for name in self.place.names("runs") if self.place.exists(f"runs/{name}/spec.json")]

    def spec(self, run_id: str) -> RunSpec:
        """The run with this id.

        Raises:
            ValueError: there is none; an unambiguous beginning of an id is enough.
        """
        content = self._run(self.find(run_id)).read("spec.json")
        assert content is not None, run_id
        return from_json(content.decode())

    def find(self, prefix: str) -> str:
        """The one run id that starts with `prefix`."""
        found = [i for i in self.run_ids() if i.startswith(prefix)]
        if len(found) != 1:
            what = "matches no run" if not found else f"matches {len(found)} runs"
            raise ValueError(f"run={prefix!r} {what} in {self.url}; `chemscale store list {self.url}` shows them.")
        return found[0]

    # -- writing ------------------------------------------------------------------------------------------------------

    def claim(self, run: RunSpec, opening: Mapping[str, Any], driver: Mapping[str, Any] | None = None) -> Attempt:
        """Take the next attempt of a run; whoever claimed earlier ones may write on, nobody reads it over this one."""
        return Attempt.claim(self._introduce(run), opening, driver or process_identity())

    def _introduce(self, run: RunSpec) -> Place:
        place = self._run(run.id)
        if not place.exists("spec.json"):
            place.write_json("about.json", {"row": spec_columns(run), "examples": run.examples})
            place.write_json("spec.json", json.loads(run.to_json()))
        return place

    def about(self, run_id: str) -> dict[str, Any]:
        """What a run is, without its model's code: {"row": columns of RUNS that its spec knows, "examples": to see}."""
        return self._run(run_id).read_json("about.json") or {}

    def mark(self, run_id: str, status: str, reason: str, forecast: Mapping[str, float] | None = None) -> None:
        """The driver's word on a run that ended without one of its worker: stopped or failed.

        Args:
            forecast: where a stopped run would have ended: {"loss", "low", "high"}, a 95 % interval.
        """
        place = self._run(run_id)
        before = place.read_json("driver.json") or {"failures": 0}
        failures = before["failures"] + (status == FAILED)
        after = max((a.number for a in attempts(place)), default=0)
        word = {"status": status, "reason": reason, "failures": failures, "attempt": after}
        place.write_json("driver.json", word | ({"forecast": dict(forecast)} if forecast else {}))

    def register_forecast(self, run_id: str, forecast: Mapping[str, Any]) -> bool:
        """Freeze a prediction of a run that has not started; False where one is already there.

        Raises:
            ValueError: the run has started, so that a prediction would come too late.
        """
        name = f"forecasts/{run_id}.json"
        if self.place.exists(name):
            return False
        if self.attempts(run_id):
            raise ValueError(f"run {run_id} has already started; a forecast must be registered before that.")
        return self.place.create(name, as_json({**forecast, "run_id": run_id, "registered": time.time()}))

    def forecasts(self) -> dict[str, dict[str, Any]]:
        """Run id -> the forecast registered before it started."""
        return self._read_all("forecasts")

    def _read_all(self, folder: str) -> dict[str, dict[str, Any]]:
        names = [name for name in self.place.names(folder) if name.endswith(".json")]
        return {name.removesuffix(".json"): self.place.read_json(f"{folder}/{name}") or {} for name in names}

    # -- reading ------------------------------------------------------------------------------------------------------

    def state(self, run_id: str) -> RunState:
        """Where a run stands: a worker's terminal word wins, then the driver's, then the newest heartbeat."""
        history = self.attempts(run_id)
        driver = self._run(run_id).read_json("driver.json") or {}
        failures = driver.get("failures", 0)
        ended = next((a for a in reversed(history) if a.ended), None)
        if ended is not None:
            row = ended.row()
            return RunState(run_id, row["status"], row["stop_reason"], failures, row["examples_seen"] or 0)
        newest = history[-1] if history else None
        pulse = newest.pulse() if newest else {}
        examples = pulse.get("examples", 0)
        if driver.get("status") and driver["attempt"] >= (newest.number if newest else 0):
            forecast = driver.get("forecast")
            return RunState(run_id, driver["status"], driver["reason"], failures, examples, forecast=forecast)
        if newest is None:
            return RunState(run_id, PENDING, failures=failures)
        owner = newest.opening()["driver"]
        status = RUNNING if _alive(owner, pulse.get("time", 0.0)) else INTERRUPTED
        return RunState(run_id, status, None, failures, examples, f"{owner['pid']}@{owner['host']}")

    def runs(self, **where: Any) -> pa.Table:
        """RUNS: one row per run that has started or failed, filtered by equality, e.g. `runs(architecture="painn")`.

        Raises:
            ValueError: a filter names no column.
        """
        ids = self.run_ids()
        asked = self._asked_by()
        rows = [row for run_id in ids if (row := self._row(run_id, asked.get(run_id, []))) is not None]
        table = RUNS.read(RUNS.table(rows))
        for name, value in where.items():
            if name not in table.column_names:
                raise ValueError(f"{name}={value!r} filters by no column of RUNS; it has {', '.join(RUNS.lasting)}.")
            table = table.filter(pa.array([found == value for found in table[name].to_pylist()], pa.bool_()))
        return table

    def points(self, run_id: str | None = None) -> pa.Table:
        """POINTS of one run or of all, one row per run and step, from the highest attempt that measured it."""
        ids = self.run_ids() if run_id is None else [self.find(run_id)]
        tables = [table for i in ids if (table := self._points(i)) is not None]
        return pa.concat_tables(tables) if tables else POINTS.read(POINTS.table([]))

    def attempts(self, run_id: str) -> list[Attempt]:
        """All attempts of a run, oldest first."""
        return attempts(self._run(run_id))

    def _points(self, run_id: str) -> pa.Table | None:
        rows: dict[int, dict[str, Any]] = {}
        history = self.attempts(run_id)
        ended = next((a.number for a in reversed(history) if a.ended), None)
        for attempt in history:
            if ended is not None and attempt.number > ended:
                break  # a later attempt found the run ended
            rows.update({row["step"]: row for row in attempt.points()})
        return POINTS.read(POINTS.table([rows[step] for step in sorted(rows)])) if rows else None

    def _row(self, run_id: str, studies: list[str]) -> dict[str, Any] | None:
        history = self.attempts(run_id)
        ended = next((a for a in reversed(history) if a.ended), None)
        if ended is not None:
            return {**ended.row(), "studies": studies}
        state = self.state(run_id)
        if state.status == PENDING:
            return None
        opening = history[-1].opening()["row"] if history else self.about(run_id)["row"]
        seen = state.examples or None
        return {
            **opening,
            "studies": studies,
            "status": state.status,
            "stop_reason": state.reason,
            "examples_seen": seen,
            "attempt": history[-1].number if history else None,
            **{f"forecast_{name}": value for name, value in (state.forecast or {}).items()},
        }

    def _asked_by(self) -> dict[str, list[str]]:
        asked: dict[str, list[str]] = {}
        for name, study in self.studies().items():
            for run_id in study.get("runs", ()):
                asked.setdefault(run_id, []).append(name)
        return asked


def spec_columns(run: RunSpec) -> dict[str, Any]:
    """The columns of RUNS that a complete spec alone knows."""
    model, data, optim = run.model, run.data, run.optim
    return {
        "run_id": run.id,
        "family": model.family,
        "architecture": model.architecture,
        "spec": run.to_json(),
        "depth": model.depth,
        "width": model.width,
        "examples": data.size,
        "batch": optim.batch,
        "seed": run.seed,
        "subset_key": data.key,
        "precision": run.precision,
        "optimiser": optim.name,
        "lr": optim.lr,
        "weight_decay": optim.weight_decay,
        "warmup": optim.warmup,
        "cooldown": optim.cooldown,
        "data_source": data.source,
        "data_content": data.content,
    }


def process_identity() -> dict[str, Any]:
    """This process, in a way that tells it from a later one with the same number."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


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


def outstanding(store: Store, runs: Iterable[RunSpec], *, keep_stopped: bool) -> tuple[list[RunSpec], list[RunState]]:
    """The runs still to do, and the states of those that another driver is training right now.

    Finished and diverged runs are done. Stopped ones are done in the search that stopped them (`keep_stopped`) and go
    on in a grid. Failed ones are tried again at most twice, interrupted ones go on.
    """
    todo, elsewhere = [], []
    for run in runs:
        state = store.state(run.id)
        if state.status == RUNNING:
            elsewhere.append(state)
        elif (
            state.status in (PENDING, INTERRUPTED)
            or (state.status == FAILED and state.failures <= MAX_RETRIES)
            or (state.status == STOPPED and not keep_stopped)
        ):
            todo.append(run)
        else:
            assert state.status in (FINISHED, DIVERGED, STOPPED, FAILED), state.status
    return todo, elsewhere
