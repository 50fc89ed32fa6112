"""Snapshots of runs that have ended, and the manifest that says which of them count.

A manifest is a small file with the next free number, created exclusively: of two writers that build on the same one,
only the first is heard. Snapshots never change; one that no manifest names any more is removed.
"""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.records.columns import unset, without
from chemscale.records.history import History, RunState, visible
from chemscale.records.place import Place, as_json
from chemscale.records.schema import POINTS, RUNS

RUN_GROUP, POINT_GROUP = 8192, 32768  # rows of a row group: what one run costs to look up
TRIES = 50  # a reader starts again where a newer manifest appeared while it read
KEPT_HISTORIES = 10_000  # that a reader remembers
KEPT_OPEN = 64  # light tables of snapshots that a process remembers

LIGHT = ("run_id", "status", "stop_reason", "forecast_loss", "forecast_low", "forecast_high", "failures", "reached")
EXTRA = (  # columns of a snapshot beside those of RUNS
    pa.field("failures", pa.int64()),
    pa.field("reached", pa.int64()),  # RunState.examples
    pa.field("history", pa.string()),  # JSON of the History, but for the row
)
HIDDEN = pa.field("hidden", pa.bool_())  # a point that a higher attempt measured again, or after the run's end

T = TypeVar("T")


class SupersededError(Exception):
    """A file of a manifest has gone: there is a newer manifest, or something is wrong."""


@dataclass(frozen=True)
class Snapshot:
    """Two files of one name.

    Attributes:
        runs, points: rows in them.
        without: runs in them that a later snapshot holds again, or that were pruned.
    """

    name: str
    runs: int
    points: int
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Which snapshots count, oldest first."""

    number: int = 0
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True)
class Folded:
    """One run as a snapshot holds it: its history, and all its points with the attempt that measured each."""

    history: History
    about: Mapping[str, Any]
    to_see: int | None
    state: RunState
    points: Sequence[Mapping[str, Any]]


class Snapshots:
    """The snapshots of one store."""

    def __init__(self, place: Place):
        self.place = place
        self._manifest = Manifest()
        self._histories: dict[tuple[str, str], History] = {}
        self._where: tuple[int, dict[str, tuple[str, int]]] = (0, {})

    # -- the manifest -------------------------------------------------------------------------------------------------

    def newest(self) -> int:
        """The number of the manifest that holds; 0 where nothing has been folded yet."""
        return max((int(n.removesuffix(".json")) for n in self.place.names("manifests")), default=0)

    def manifest(self) -> Manifest:
        """The manifest that holds."""
        while (number := self.newest()) != self._manifest.number:
            found = self.place.read_json(f"manifests/{number:09d}.json")
            if found is not None:  # else it was replaced and removed since it was listed
                self._manifest = read_manifest(number, found)
        return self._manifest

    def steadily(self, read: Callable[[Manifest], T]) -> T:
        """What `read` makes of a manifest and the live files, all of one moment of the manifest.

        Raises:
            OSError: a manifest names a snapshot that is missing, or a new one appears faster than it can be read.
        """
        gone = None
        for _ in range(TRIES):
            manifest = self.manifest()
            try:
                found = read(manifest)
            except SupersededError as error:
                self.require_newer(manifest, error)
                gone = error
                continue
            if self.newest() == manifest.number:
                return found
        raise OSError(f"{self.place.url} changed {TRIES} times while it was read{f' ({gone})' if gone else ''}.")

    def require_newer(self, manifest: Manifest, gone: SupersededError) -> None:
        """There is a newer manifest, which explains why a file of this one has gone.

        Raises:
            OSError: there is none.
        """
        if self.newest() == manifest.number:
            raise OSError(
                f"{self.place.url} names {gone} in its manifest, but there is no such file; "
                f"`chemscale store verify {self.place.url}` says what is left."
            ) from None

    def publish(self, base: Manifest, snapshots: Sequence[Snapshot]) -> bool:
        """Make these the snapshots that count; False, and nothing changed, where another did since `base`."""
        content = as_json({"snapshots": [asdict(snapshot) for snapshot in snapshots]})
        name = f"manifests/{base.number + 1:09d}.json"
        if self.newest() != base.number:
            return False
        if not self.place.create(name, content) and self.place.read(name) != content:
            return False  # equal, it is this one, and only the answer to its creation was lost
        kept = {snapshot.name for snapshot in snapshots}
        for old in base.snapshots:
            if old.name not in kept:
                self.discard(old.name)
        for name in self.place.names("manifests"):
            if int(name.removesuffix(".json")) < base.number:
                self.place.remove(f"manifests/{name}")
        return True

    def discard(self, name: str) -> None:
        """Remove the files of a snapshot that does not count."""
        for file in _files(name):
            self.place.remove(file)

    # -- reading ------------------------------------------------------------------------------------------------------

    def where(self, manifest: Manifest) -> dict[str, tuple[str, int]]:
        """Run id -> (snapshot, row of its light table)."""
        if self._where[0] != manifest.number:
            found: dict[str, tuple[str, int]] = {}
            for snapshot in manifest.snapshots:
                ids = self._light(snapshot.name)["run_id"].to_pylist()
                without = set(snapshot.without)
                found.update({i: (snapshot.name, k) for k, i in enumerate(ids) if i not in without})
            self._where = (manifest.number, found)
        return self._where[1]

    def states(self, manifest: Manifest, run_ids: Iterable[str]) -> dict[str, RunState]:
        """Where the folded ones of these runs stood when they were folded."""
        where = self.where(manifest)
        columns = {s.name: self._columns(s.name) for s in manifest.snapshots}
        return {i: _state(i, columns[at[0]], at[1]) for i in run_ids if (at := where.get(i)) is not None}

    def history(self, manifest: Manifest, run_id: str) -> History | None:
        """The history of a folded run; None where it is not folded."""
        at = self.where(manifest).get(run_id)
        if at is None:
            return None
        if (at[0], run_id) not in self._histories:
            self.look_up(manifest, [run_id])
        return self._histories[at[0], run_id]

    def look_up(self, manifest: Manifest, run_ids: Iterable[str]) -> None:
        """Read the histories of the folded ones of these runs at once, each snapshot once."""
        where = self.where(manifest)
        wanted: dict[str, list[str]] = {}
        for run_id in run_ids:
            at = where.get(run_id)
            if at is not None and (at[0], run_id) not in self._histories:
                wanted.setdefault(at[0], []).append(run_id)
        if len(self._histories) > KEPT_HISTORIES:
            self._histories.clear()
        for name, ids in wanted.items():
            table = self._read(f"snapshots/{name}.runs.parquet", filters=[("run_id", "in", ids)])
            for row in table.to_pylist():
                self._histories[name, row["run_id"]] = _history(row)

    def about(self, manifest: Manifest, run_id: str) -> dict[str, Any] | None:
        """The RUNS row of a folded run with "to_see"; None where it is not folded."""
        at = self.where(manifest).get(run_id)
        if at is None:
            return None
        (row,) = self._read(f"snapshots/{at[0]}.runs.parquet", filters=[("run_id", "=", run_id)]).to_pylist()
        return {**row, "to_see": json.loads(row["history"])["to_see"]}

    def last_attempt(self, manifest: Manifest, run_id: str) -> int:
        """The highest attempt of a folded run; 0 where it is not folded."""
        history = self.history(manifest, run_id)
        return history.newest if history is not None else 0

    def runs(self, manifest: Manifest, columns: Sequence[str]) -> pa.Table:
        """These columns of RUNS of all folded runs."""
        schema = RUNS.of({*columns, "run_id"})
        tables = []
        for snapshot in manifest.snapshots:
            table = schema.read(self._read(f"snapshots/{snapshot.name}.runs.parquet", columns=schema.arrow.names))
            tables.append(without(table, snapshot.without))
        return pa.concat_tables(tables) if tables else schema.read(schema.table([]))

    def points(self, manifest: Manifest, run_ids: Iterable[str] | None = None, *, hidden: bool = False) -> pa.Table:
        """The points of these folded runs, or of all; `hidden` adds those that do not count, and the column."""
        wanted = None if run_ids is None else sorted(run_ids)
        tables = [_empty_points()]
        for snapshot in manifest.snapshots:
            filters = None
            if wanted is not None:
                where = self.where(manifest)
                here = [i for i in wanted if where.get(i, ("",))[0] == snapshot.name]
                if not here:
                    continue
                filters = [("run_id", "in", here)]
            if snapshot.points:
                table = self._read(f"snapshots/{snapshot.name}.points.parquet", filters=filters)
                tables.append(without(_as_points(table), snapshot.without))
        table = pa.concat_tables(tables)
        return table if hidden else unset(table, "hidden")

    def _columns(self, name: str) -> dict[str, list[Any]]:
        return _remembered(_LISTS, (self.place.url, name), lambda: self._light(name).to_pydict())

    def _light(self, name: str) -> pa.Table:
        return _remembered(
            _TABLES, (self.place.url, name), lambda: self._read(f"snapshots/{name}.runs.parquet", columns=list(LIGHT))
        )

    def _read(self, name: str, **options: Any) -> pa.Table:
        file = self.place.open(name)
        if file is None:
            raise SupersededError(name)
        with file:
            try:
                return pq.read_table(file, **options)
            except FileNotFoundError:  # an object is asked for piece by piece, and may go between two of them
                raise SupersededError(name) from None

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, folded: Sequence[Folded]) -> Snapshot:
        """These runs as a new snapshot, which counts once a manifest names it."""
        folded = sorted(folded, key=lambda one: one.history.run_id)
        rows = [one.history.as_row(one.about, one.state) for one in folded]
        runs = RUNS.read(RUNS.table([{**row, "studies": None} for row in rows]))
        for extra, values in zip(EXTRA, zip(*map(_extras, folded), strict=True), strict=True):
            runs = runs.append_column(extra, pa.array(values, extra.type))
        return self.write_tables(runs, _points_of(folded))

    def write_tables(self, runs: pa.Table, points: pa.Table) -> Snapshot:
        """Tables of older snapshots as a new one."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        for kind, table, group in (("runs", runs, RUN_GROUP), ("points", points, POINT_GROUP)):
            write = functools.partial(_write, table, group)
            if len(table):
                self.place.write(f"snapshots/{name}.{kind}.parquet", write)
        return Snapshot(name, len(runs), len(points))

    def merge(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Several snapshots as one, without the runs that do not count in them."""
        runs, points = [], [_empty_points()]
        for snapshot in snapshots:
            runs.append(without(_as_runs(self._read(f"snapshots/{snapshot.name}.runs.parquet")), snapshot.without))
            if snapshot.points:
                table = _as_points(self._read(f"snapshots/{snapshot.name}.points.parquet"))
                points.append(without(table, snapshot.without))
        keys = [("run_id", "ascending"), ("step", "ascending"), ("attempt", "ascending")]
        return self.write_tables(pa.concat_tables(runs).sort_by("run_id"), pa.concat_tables(points).sort_by(keys))


def read_manifest(number: int, content: Mapping[str, Any]) -> Manifest:
    """A manifest as its file says it."""
    found = [Snapshot(**{**each, "without": tuple(each["without"])}) for each in content["snapshots"]]
    return Manifest(number, tuple(found))


_TABLES: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()  # snapshots never change, and reused workers open
_LISTS: OrderedDict[tuple[str, str], dict[str, list[Any]]] = OrderedDict()  # a store anew for every run


def _remembered(memory: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    if key not in memory:
        memory[key] = make()
        while len(memory) > KEPT_OPEN:
            memory.popitem(last=False)
    return memory[key]


def _state(run_id: str, columns: Mapping[str, list[Any]], row: int) -> RunState:
    loss = columns["forecast_loss"][row]
    bounds = {"loss": loss, "low": columns["forecast_low"][row], "high": columns["forecast_high"][row]}
    return RunState(
        run_id, columns["status"][row], columns["stop_reason"][row], columns["failures"][row], columns["reached"][row],
        forecast={k: v for k, v in bounds.items() if v is not None} if loss is not None else None,
    )  # fmt: skip


def _history(row: Mapping[str, Any]) -> History:
    kept = json.loads(row["history"])
    terminal = {k: row[k] for k in RUNS.arrow.names if k in row} if kept["ended"] is not None else None
    attempts = tuple(kept["attempts"])
    word = kept["word"]
    said = kept.get("said", (word or {}).get("number", 0))
    return History(row["run_id"], attempts, kept["claim"], kept["pulse"], kept["ended"], terminal, word, said)


def _extras(one: Folded) -> tuple[int, int, str]:
    history = one.history
    claim = {k: v for k, v in history.claim.items() if k != "row" or history.row is None}
    kept = {"attempts": history.attempts, "claim": claim, "pulse": history.pulse, "ended": history.ended,
            "word": history.word, "said": history.said, "to_see": one.to_see}  # fmt: skip
    return one.state.failures, one.state.examples, json.dumps(kept, sort_keys=True)


def _points_of(folded: Sequence[Folded]) -> pa.Table:
    rows, hidden = [], []
    for one in folded:
        chosen = visible(one.points, one.history.ended)
        mine = sorted(one.points, key=lambda row: (row["step"], row["attempt"]))
        rows += mine
        hidden += [chosen.get(row["step"]) != row["attempt"] for row in mine]
    return POINTS.read(POINTS.table(rows)).append_column(HIDDEN, pa.array(hidden, pa.bool_()))


def _as_points(table: pa.Table) -> pa.Table:
    return POINTS.read(table).append_column(HIDDEN, table["hidden"])


def _as_runs(table: pa.Table) -> pa.Table:
    runs = RUNS.read(table)
    for extra in EXTRA:
        runs = runs.append_column(extra, table[extra.name])
    return runs


def _empty_points() -> pa.Table:
    return POINTS.read(POINTS.table([])).append_column(HIDDEN, pa.array([], pa.bool_()))


def _write(table: pa.Table, group: int, file: Any) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=group)


def _files(name: str) -> tuple[str, str]:
    return f"snapshots/{name}.runs.parquet", f"snapshots/{name}.points.parquet"
