"""A folder of runs: claim an attempt, write what is measured, read everything back as one table.

The layout is written down in `records.schema`. The store is the only truth for resuming.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from chemscale.records.attempt import Attempt, Kept
from chemscale.records.columns import by_run, equals, without
from chemscale.records.history import (
    History,
    RunState,
    process_identity,
    read_history,
    read_points,
    spoken,
    visible,
)
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
    SPEC_COLUMNS,
    STOPPED,
    STORE_VERSION,
)
from chemscale.records.snapshots import Manifest, Snapshots
from chemscale.records.studies import Asked, Studies, asked_row, spec_columns
from chemscale.spec import RunSpec, from_json

__all__ = ["RunState", "Store", "outstanding", "process_identity", "spec_columns"]

MAX_RETRIES = 2  # a failed run is tried again at most so often
FEW = 8  # runs that are looked at one by one, without listing the folder of all runs


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
        self._version = header["version"]
        self._legacy = header.get("began", header["version"]) < 2
        self.studied = Studies(self.place)
        self.snapshots = Snapshots(self.place)

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

    # -- what is asked ------------------------------------------------------------------------------------------------

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

    def studies(self) -> dict[str, dict[str, Any]]:
        """Name -> {"name", "runs": [ids], "work": {id: estimated seconds}, and what else `enlist` was told}."""
        return {name: study.as_dict() for name, study in self.studied.all().items()}

    def asked(self) -> dict[str, Asked]:
        """Name -> the study as a table: what a display of many runs reads."""
        return self.studied.all()

    def run_ids(self) -> list[str]:
        """Ids of all runs that the store knows, sorted."""
        return self.snapshots.steadily(self._ids)

    def _ids(self, manifest: Manifest) -> list[str]:
        known = {i for study in self.studied.all().values() for i in study.runs}
        known.update(self.snapshots.where(manifest))
        known.update(i for i in self.place.names("runs") if i not in known and self._claimed(i))
        return sorted(known)

    def _claimed(self, run_id: str) -> bool:
        place = self.place.at(f"runs/{run_id}")
        return self.history_at(None, run_id).known or (self._legacy and place.exists("spec.json"))

    def spec(self, run_id: str) -> RunSpec:
        """The run with this id.

        Raises:
            ValueError: there is none; an unambiguous beginning of an id is enough.
        """
        return from_json(self.about(run_id)["row"]["spec"])

    def find(self, prefix: str) -> str:
        """The one run id that starts with `prefix`."""
        if self.studied.asked(prefix) is not None:
            return prefix
        found = [i for i in self.run_ids() if i.startswith(prefix)]
        if len(found) != 1:
            what = "matches no run" if not found else f"matches {len(found)} runs"
            raise ValueError(f"run={prefix!r} {what} in {self.url}; `chemscale store list {self.url}` shows them.")
        return found[0]

    def about(self, run_id: str) -> dict[str, Any]:
        """What a run is, without its model's code: {"row": columns of RUNS that its spec knows, "examples": to see}.

        Raises:
            ValueError: there is no such run; an unambiguous beginning of an id is enough.
        """
        row = self.studied.asked(run_id)
        if row is None:
            run_id = self.find(run_id)
            row = self.studied.asked(run_id) or self.snapshots.steadily(lambda manifest: self._about(run_id, manifest))
        return {"row": {name: row.get(name) for name in SPEC_COLUMNS}, "examples": row["to_see"]}

    def files_of_version_1(self, run_id: str) -> list[str]:
        """What only version 1 wrote of a run beside its attempts."""
        names = self.place.names(f"runs/{run_id}") if self._legacy else []
        return [f"runs/{run_id}/{name}" for name in names if name in ("spec.json", "about.json")]

    def _about(self, run_id: str, manifest: Manifest) -> dict[str, Any]:
        folded = self.snapshots.about(manifest, run_id)
        if folded is not None:
            return folded
        history = self.history_at(None, run_id)
        if history.claim:
            return {**history.claim["row"], "to_see": history.claim.get("to_see")}
        return self.studied.old_about(run_id)

    # -- writing ------------------------------------------------------------------------------------------------------

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
            ValueError: the run has started, so that a prediction would come too late.
        """
        name = f"forecasts/{run_id}.json"
        if self.place.exists(name):
            return False
        if self.history(run_id).attempts:
            raise ValueError(f"run {run_id} has already started; a forecast must be registered before that.")
        return self.place.create(name, as_json({**forecast, "run_id": run_id, "registered": time.time()}))

    def forecasts(self) -> dict[str, dict[str, Any]]:
        """Run id -> the forecast registered before it started."""
        names = [name for name in self.place.names("forecasts") if name.endswith(".json")]
        return {name.removesuffix(".json"): self.place.read_json(f"forecasts/{name}") or {} for name in names}

    # -- reading ------------------------------------------------------------------------------------------------------

    def state(self, run_id: str) -> RunState:
        """Where a run stands: a worker's terminal word wins, then the driver's, then the newest heartbeat."""
        return self.states([run_id])[run_id]

    def states(self, run_ids: Iterable[str] | None = None) -> dict[str, RunState]:
        """Where these runs stand, or all; a thousand at once cost little more than those of them that are live."""
        wanted = None if run_ids is None else list(run_ids)
        return self.snapshots.steadily(lambda manifest: self._states(manifest, wanted))

    def _states(self, manifest: Manifest, wanted: Sequence[str] | None) -> dict[str, RunState]:
        ids = self._ids(manifest) if wanted is None else wanted
        live = set(ids) if len(ids) <= FEW else set(self.place.names("runs"))
        states = self.snapshots.states(manifest, ids)
        self.snapshots.look_up(manifest, (i for i in live if i in states) if len(ids) > FEW else ())
        for run_id in ids:
            if run_id in live or run_id not in states:
                history = self.history_at(manifest, run_id) if run_id in live else History(run_id)
                if history.files or run_id not in states:
                    states[run_id] = history.state()
        return {run_id: states[run_id] for run_id in ids}

    def history(self, run_id: str) -> History:
        """The attempts and words of a run."""
        return self.snapshots.steadily(lambda manifest: self.history_at(manifest, run_id))

    def history_at(self, manifest: Manifest | None, run_id: str) -> History:
        """Live files over what the manifest's snapshots hold; without a manifest, the live files alone."""
        at = self.snapshots.where(manifest).get(run_id) if manifest is not None else None
        if at is None or manifest is None:
            return read_history(self.place, run_id, legacy=self._legacy)
        if not self.place.names(f"runs/{run_id}/attempts"):
            return self.snapshots.history(manifest, run_id) or History(run_id)
        folded = self.snapshots.history(manifest, run_id)
        assert folded is not None
        return read_history(self.place, run_id, folded.attempts, legacy=self._legacy).over(folded)

    def runs(self, *, columns: Sequence[str] | None = None, **where: Any) -> pa.Table:
        """RUNS: one row per run that has started or failed, filtered by equality, e.g. `runs(architecture="painn")`.

        Args:
            columns: only these, which is faster.

        Raises:
            ValueError: a filter or `columns` names no column.
        """
        for name, value in where.items():
            if name not in RUNS.arrow.names:
                raise ValueError(f"{name}={value!r} filters by no column of RUNS; it has {', '.join(RUNS.lasting)}.")
        for name in columns or ():
            if name not in RUNS.arrow.names:
                raise ValueError(f"columns={name!r} is no column of RUNS; it has {', '.join(RUNS.arrow.names)}.")
        names = RUNS.arrow.names if columns is None else [*columns]
        only = where.get("run_id")
        table = self.snapshots.steadily(lambda manifest: self._runs(manifest, {*names, *where}, only))
        for name, value in where.items():
            table = table.filter(equals(table[name], value))
        return table.select(names)

    def _runs(self, manifest: Manifest, names: set[str], only: str | None) -> pa.Table:
        schema = RUNS.of({*names, "run_id"})
        asked = self._asked_by() if "studies" in names else {}
        ids = self.place.names("runs") if only is None else [only]
        self.snapshots.look_up(manifest, ids)
        fresh = {i: row for i in ids if (row := self._row(i, manifest, whole=only is not None)) is not None}
        kept = set(schema.arrow.names)
        rows = [{k: v for k, v in row.items() if k in kept} for row in fresh.values()]
        table = schema.read(schema.table(rows))
        if only is None and manifest.snapshots:
            old = self.snapshots.runs(manifest, [*names])
            where = self.snapshots.where(manifest)
            table = pa.concat_tables([without(old, [i for i in fresh if i in where]), table])
        table = by_run(table)
        if "studies" not in names:
            return table
        field = table.schema.field("studies")
        studies = pa.array([asked.get(i, []) for i in table["run_id"].to_pylist()], field.type)
        return table.set_column(table.column_names.index("studies"), field, studies)

    def _row(self, run_id: str, manifest: Manifest, *, whole: bool) -> dict[str, Any] | None:
        """The row of a run with live files, but for its studies; of a folded one too where `whole`."""
        history = self.history_at(manifest, run_id)
        if not history.files and not whole:
            return None
        state = history.state()
        if state.status == PENDING:
            return None
        if history.row is None and not history.files and (folded := self.snapshots.about(manifest, run_id)):
            return {name: folded.get(name) for name in RUNS.arrow.names}
        about = {} if history.row is not None or history.claim else self.about(run_id)["row"]
        return history.as_row(about, state)

    def points(self, run_id: str | Iterable[str] | None = None) -> pa.Table:
        """POINTS of one run, of several or of all, one row per run and step, from the highest attempt that counts."""
        one = self.find(run_id) if isinstance(run_id, str) else None
        wanted = [one] if one is not None else (None if run_id is None else sorted(set(run_id)))
        return self.snapshots.steadily(lambda manifest: self._points(manifest, wanted))

    def _points(self, manifest: Manifest, wanted: Sequence[str] | None) -> pa.Table:
        live = set(self.place.names("runs") if wanted is None or len(wanted) > FEW else wanted)
        if wanted is not None:
            live &= set(wanted)
        self.snapshots.look_up(manifest, live if len(live) > FEW else ())
        histories = {i: h for i in sorted(live) if (h := self.history_at(manifest, i)).files}
        where = self.snapshots.where(manifest)
        again = [i for i in histories if i in where]  # folded, and yet there are live files
        before = self.snapshots.points(manifest, again, hidden=True).to_pylist() if again else []
        tables = []
        for run_id, history in histories.items():
            rows = {(r["attempt"], r["step"]): _shown(r) for r in before if r["run_id"] == run_id}
            rows.update({(r["attempt"], r["step"]): r for r in read_points(self.place, history) or ()})
            chosen = visible(rows.values(), history.ended)
            tables.append(POINTS.table([rows[chosen[step], step] for step in sorted(chosen)]))
        fresh = POINTS.read(pa.concat_tables([POINTS.table([]), *tables]))
        if not manifest.snapshots:
            return fresh
        rest = None if wanted is None else [i for i in wanted if i not in histories]
        old = self.snapshots.points(manifest, rest)
        if again and rest is None:
            old = without(old, again)
        return by_run(pa.concat_tables([old, fresh]))

    def attempts(self, run_id: str) -> list[Attempt]:
        """All attempts of a run, oldest first, those that a snapshot holds included."""
        return self.snapshots.steadily(lambda manifest: self._attempts(manifest, run_id))

    def _attempts(self, manifest: Manifest, run_id: str) -> list[Attempt]:
        folded = self.snapshots.history(manifest, run_id)
        made = [Attempt(self.place, run_id, number) for number in self.history_at(manifest, run_id).attempts]
        for attempt in made:
            if folded is not None and attempt.number in folded.attempts:
                claim = folded.claim if attempt.number == folded.newest else {}
                row = folded.row if attempt.number == folded.ended else None
                attempt.kept = Kept(claim, row, functools.partial(self._kept_points, run_id, attempt.number))
        return made

    def _kept_points(self, run_id: str, number: int) -> list[dict[str, Any]]:
        table = self.snapshots.steadily(lambda manifest: self.snapshots.points(manifest, [run_id], hidden=True))
        return [_shown(row) for row in table.to_pylist() if row["attempt"] == number]

    def _asked_by(self) -> dict[str, list[str]]:
        asked: dict[str, list[str]] = {}
        for name, study in self.studied.all().items():
            for run_id in study.runs:
                asked.setdefault(run_id, []).append(name)
        return asked


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "hidden"}


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
