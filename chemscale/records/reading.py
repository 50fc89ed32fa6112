"""What a store holds, read back as states, tables and attempts: live files over what its snapshots hold."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from chemscale.records.attempt import Attempt, Kept
from chemscale.records.columns import by_run, equals, without
from chemscale.records.history import History, RunState, read_history, read_points, visible
from chemscale.records.manifests import Manifest
from chemscale.records.place import Place
from chemscale.records.schema import PENDING, POINTS, RUNS, SPEC_COLUMNS
from chemscale.records.snapshots import Snapshots
from chemscale.records.studies import Asked, Studies
from chemscale.spec import RunSpec, from_json

FEW = 8  # runs that are looked at one by one, without listing the folder of all runs


class Reading:
    """The half of a store (`records.store.Store`) that changes nothing.

    Args:
        place: of the store. legacy: whether version 1 began it.
    """

    def __init__(self, place: Place, *, legacy: bool):
        self.place, self.url, self._legacy = place, place.url, legacy
        self.studied = Studies(place)
        self.snapshots = Snapshots(place)

    # -- what is asked ------------------------------------------------------------------------------------------------

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
