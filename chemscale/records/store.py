"""A folder of runs: claim an attempt, write what is measured, read everything back as one table (`records.reading`).

The layout is written down in `records.schema`. The store is the only truth for resuming.
"""

from __future__ import annotations

import errno
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chemscale.records.attempt import Attempt
from chemscale.records.history import RunState, process_identity, spoken
from chemscale.records.place import DamagedError, Place, as_json, place_at
from chemscale.records.reading import Reading
from chemscale.records.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, PENDING, RUNNING, STOPPED, STORE_VERSION
from chemscale.records.studies import asked_row, spec_columns
from chemscale.spec import RunSpec

__all__ = ["RunState", "Store", "outstanding", "process_identity", "spec_columns"]

FORECAST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
MAX_RETRIES = 2  # a failed run is tried again at most so often


class Store(Reading):
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
        place = place_at(path)
        if create and not place.exists("store.json"):
            _create(place)
        header = place.read_json("store.json")
        if header is None:
            made = f"`chemscale sweep RECIPE --store {place.url}` makes one"
            raise ValueError(f"{place.url} is not a chemscale store; {made}.")
        if not isinstance(header, dict) or not isinstance(header.get("version"), int):
            raise DamagedError(f"{place.url}/store.json", "it has no version")
        if header["version"] > STORE_VERSION:
            raise ValueError(
                f"{place.url} has layout version {header['version']}, this chemscale reads up to {STORE_VERSION}; "
                "upgrade chemscale."
            )
        self._version = header["version"]
        super().__init__(place.anchored("store.json"), legacy=header.get("began", self._version) < 2)

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

    def enlist(self, study: str, runs: Sequence[RunSpec], **facts: Any) -> None:
        """Write down that `study` asks for these runs, in this order; a study that grew keeps its earlier runs.

        Two drivers may do so at once; nothing that either says is lost.

        Args:
            facts: more about the study, e.g. `work` (run id -> estimated seconds), `question`, `limits`. Mappings grow,
                other values replace what was there.
        """
        self._modernise()
        before = self.studied.all().get(study)
        known, estimates = (before.position, before.work) if before is not None else ({}, {})
        work = dict(facts.pop("work", {}))
        asked = {run.id: run for run in runs}
        rows = [
            asked_row(run, work.get(i))
            for i, run in asked.items()
            if i not in known or (i in work and work[i] != estimates.get(i))
        ]
        others = {i: seconds for i, seconds in work.items() if i not in asked and seconds != estimates.get(i)}
        more = {**facts, **({"work": others} if others else {})}
        new = {k: v for k, v in more.items() if before is None or before.facts.get(k) != v}
        if rows or new or before is None:
            self.studied.add(study, rows, new)

    def _modernise(self) -> None:
        """A store of version 1 becomes one of version 2 with what is written first; what it holds still reads."""
        if self._version < STORE_VERSION:
            self.place.write_json("store.json", {"version": STORE_VERSION, "began": self._version})
            self._version = STORE_VERSION

    def claim(self, run: RunSpec, opening: Mapping[str, Any], driver: Mapping[str, Any] | None = None) -> Attempt:
        """Take the next attempt of a run; whoever claimed earlier ones may write on, nobody reads it over this one."""
        self._modernise()
        return Attempt.claim(
            self.place,
            run.id,
            {**spec_columns(run), **opening},
            driver or process_identity(),
            to_see=run.examples,
            folded=lambda: self.snapshots.steadily(lambda manifest: self.snapshots.last_attempt(manifest, run.id)),
        )

    def mark(
        self,
        run_id: str,
        status: str,
        reason: str,
        forecast: Mapping[str, float] | None = None,
        *,
        token: str | None = None,
    ) -> None:
        """The driver's word on a run that ended without one of its worker: stopped, failed or interrupted.

        Two drivers may speak at once; every failure counts, and counts once.

        Args:
            forecast: where a stopped run would have ended: {"loss", "low", "high"}, a 95 % interval.
            token: random, one for each word; who tries a word again after an OSError gives the token of the first try,
                and the word is said once, whether the first try wrote it or not.
        """
        self._modernise()
        token = token or secrets.token_hex(8)
        while True:
            before = self.history(run_id)
            if token in (before.word or {}).get("tokens", ()):
                return  # it was written, and only the answer was lost
            more = {"forecast": dict(forecast)} if forecast else {}
            word = {**spoken(before, status, reason, token), **more}
            name = f"runs/{run_id}/attempts/word-{word['number']:04d}.json"
            if not self.place.create(name, as_json(word)):
                continue  # another driver spoke meanwhile, or the answer to a first request was lost
            folded = self.snapshots.steadily(lambda manifest: self.snapshots.history(manifest, run_id))
            if folded is None or folded.said < word["number"]:
                return
            self.place.remove(name)  # as in Attempt.claim

    def register_forecast(self, run_id: str, forecast: Mapping[str, Any]) -> bool:
        """Freeze a prediction of a run that has not started; False where one is already there.

        Raises:
            ValueError: the name cannot be a file's, or the run has started, so that a prediction would come too late.
        """
        require_forecast_name(run_id)
        name = f"forecasts/{run_id}.json"
        if self.place.exists(name):
            return False
        if self.history(run_id).attempts:
            raise ValueError(f"run {run_id} has already started; a forecast must be registered before that.")
        return self.place.create(name, as_json({**forecast, "run_id": run_id, "registered": time.time()}))


def require_forecast_name(name: str) -> None:
    """Raise ValueError for what can be no name of a forecast: a run id or a name of the user's."""
    if FORECAST_NAME.fullmatch(name) is None:
        raise ValueError(f"the name {name!r} of a forecast is not allowed: use letters, digits, '-', '_' and '.'.")


def _create(place: Place) -> None:
    if place.names():
        raise ValueError(f"{place.url} holds other files and is not a chemscale store; give a new or empty folder.")
    found = place.exists("")
    try:
        place.create("store.json", as_json({"version": STORE_VERSION}))
    except OSError as error:
        if not found:
            place.tidy("")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise ValueError(f"store={place.url!r} is a file; give the path of a folder.") from None
        raise ValueError(f"store={place.url!r} cannot be made: {error.strerror}; give another folder.") from None


def outstanding(store: Store, runs: Iterable[RunSpec], *, keep_stopped: bool) -> tuple[list[RunSpec], list[RunState]]:
    """The runs still to do, and the states of those that another driver is training right now.

    Finished and diverged runs are done. Stopped ones are done in the search that stopped them (`keep_stopped`) and go
    on in a grid. Failed ones are tried again at most twice, interrupted ones go on.
    """
    asked = {run.id: run for run in runs}
    todo, elsewhere = [], []
    for run_id, state in store.states(asked).items():
        if state.status == RUNNING:
            elsewhere.append(state)
        elif (
            state.status in (PENDING, INTERRUPTED)
            or (state.status == FAILED and state.failures <= MAX_RETRIES)
            or (state.status == STOPPED and not keep_stopped)
        ):
            todo.append(asked[run_id])
        else:
            assert state.status in (FINISHED, DIVERGED, STOPPED, FAILED), state.status
    return todo, elsewhere
