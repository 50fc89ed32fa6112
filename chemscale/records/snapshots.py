"""Snapshots of runs that have ended: tables that never change, read and written under the manifest that names them."""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from chemscale.records.columns import unset, without
from chemscale.records.folded import (
    LIGHT,
    Folded,
    as_points,
    as_runs,
    history_of,
    no_points,
    points_of,
    runs_of,
    state_of,
)  # fmt: skip
from chemscale.records.history import History, RunState
from chemscale.records.manifests import Manifest, Manifests, Snapshot, SupersededError
from chemscale.records.place import DamagedError, Place, read_parquet
from chemscale.records.schema import RUNS

RUN_GROUP, POINT_GROUP = 8192, 32768  # rows of a row group: what one run costs to look up
KEPT_HISTORIES = 10_000  # that a reader remembers
KEPT_OPEN = 64  # light tables of snapshots that a process remembers

T = TypeVar("T")


class Snapshots(Manifests):
    """The snapshots of one store."""

    def __init__(self, place: Place):
        super().__init__(place)
        self._histories: dict[tuple[str, str], History] = {}
        self._where: tuple[int, dict[str, tuple[str, int]]] = (0, {})

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
        return {i: state_of(i, columns[at[0]], at[1]) for i in run_ids if (at := where.get(i)) is not None}

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
            table = self._read(f"snapshots/{name}.runs.parquet", among=("run_id", ids))
            for row in table.to_pylist():
                self._histories[name, row["run_id"]] = history_of(row)

    def about(self, manifest: Manifest, run_id: str) -> dict[str, Any] | None:
        """The RUNS row of a folded run with "to_see"; None where it is not folded."""
        at = self.where(manifest).get(run_id)
        if at is None:
            return None
        (row,) = self._read(f"snapshots/{at[0]}.runs.parquet", among=("run_id", [run_id])).to_pylist()
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
        tables = [no_points()]
        for snapshot in manifest.snapshots:
            among = None
            if wanted is not None:
                where = self.where(manifest)
                here = [i for i in wanted if where.get(i, ("",))[0] == snapshot.name]
                if not here:
                    continue
                among = ("run_id", here)
            if snapshot.points:
                table = self._read(f"snapshots/{snapshot.name}.points.parquet", among=among)
                tables.append(without(as_points(table), snapshot.without))
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
                return read_parquet(file, **options)
            except FileNotFoundError:  # an object is asked for piece by piece, and may go between two of them
                raise SupersededError(name) from None
            except pa.ArrowInvalid as error:
                raise DamagedError(f"{self.place.url}/{name}", error) from None

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, folded: Sequence[Folded]) -> Snapshot:
        """These runs as a new snapshot, which counts once a manifest names it."""
        folded = sorted(folded, key=lambda one: one.history.run_id)
        return self.write_tables(runs_of(folded), points_of(folded))

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
        runs, points = [], [no_points()]
        for snapshot in snapshots:
            runs.append(without(as_runs(self._read(f"snapshots/{snapshot.name}.runs.parquet")), snapshot.without))
            if snapshot.points:
                table = as_points(self._read(f"snapshots/{snapshot.name}.points.parquet"))
                points.append(without(table, snapshot.without))
        keys = [("run_id", "ascending"), ("step", "ascending"), ("attempt", "ascending")]
        return self.write_tables(pa.concat_tables(runs).sort_by("run_id"), pa.concat_tables(points).sort_by(keys))


_TABLES: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()  # snapshots never change, and reused workers open
_LISTS: OrderedDict[tuple[str, str], dict[str, list[Any]]] = OrderedDict()  # a store anew for every run


def _remembered(memory: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    if key not in memory:
        memory[key] = make()
        while len(memory) > KEPT_OPEN:
            memory.popitem(last=False)
    return memory[key]


def _write(table: pa.Table, group: int, file: Any) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=group)
