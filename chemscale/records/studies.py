"""What the studies of a store asked for: immutable parts, one for each time a study asked, so that no writer waits.

A part is named after its study and its moment, e.g. `sweep.01764000000000000000-1f2e3d4c.parquet`; newer parts win. Two
drivers that ask at once write two parts. Many parts are merged into one that sorts right before them, and then removed,
oldest first: the study reads the same before, between and after.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from chemscale.records.place import Place
from chemscale.records.schema import ASKED
from chemscale.spec import RunSpec
from chemscale.spec.registry import kind_of

PART = re.compile(r"(?P<study>.+)\.(?P<stamp>\d{20}-[0-9a-f]{8})\.(?P<kind>parquet|json)")
BEFORE = f"{10**9:020d}-{0:08x}"  # the moment of what version 1 wrote: a second of 1970
SMALL = 64  # rows that read faster as JSON than as Parquet
NOTHING = ASKED.read(ASKED.table([]))
MANY = 32  # parts of a study that are worth merging
TRIES = 50

Said = tuple[str, Mapping[str, Any]]
Content = tuple[pa.Table | list[dict[str, Any]], tuple[Said, ...]]  # of a part: many runs as a table, few as rows


@dataclass(frozen=True)
class Asked:
    """A study: its runs as a table of ASKED, each once, in the order in which they were asked for, and its facts.

    Attributes:
        said: (moment, facts) as they were said; newer ones win, and mappings grow.
    """

    name: str
    table: pa.Table
    said: tuple[Said, ...] = ()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known of the study beside its runs."""
        found: dict[str, Any] = {}
        for _, facts in sorted(self.said, key=lambda said: said[0]):
            grown = {k: {**found.get(k, {}), **v} if isinstance(v, Mapping) else v for k, v in facts.items()}
            found = {**found, **grown}
        return found

    @cached_property
    def runs(self) -> list[str]:
        """Ids of its runs."""
        return self.table["run_id"].to_pylist()

    @cached_property
    def position(self) -> dict[str, int]:
        """Run id -> row of the table."""
        return {run_id: row for row, run_id in enumerate(self.runs)}

    @cached_property
    def work(self) -> dict[str, float]:
        """Run id -> estimated seconds, where somebody estimated them."""
        pairs = zip(self.runs, self.table["work"].to_pylist(), strict=True)
        return {**self.facts.get("work", {}), **{run_id: work for run_id, work in pairs if work is not None}}

    def as_dict(self) -> dict[str, Any]:
        """{"name", "runs": [ids], "work": {id: seconds}, and its other facts}."""
        return {**self.facts, "name": self.name, "runs": list(self.runs), "work": dict(self.work)}


class Studies:
    """The studies of one store."""

    def __init__(self, place: Place):
        self.place = place
        self._whole: dict[str, tuple[tuple[str, ...], Asked]] = {}
        self._old_abouts: dict[str, dict[str, Any]] = {}

    def add(self, name: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
        """One more part of a study: rows of ASKED, and facts."""
        stamp = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._write(f"studies/{name}.{stamp}", _table(rows), [[stamp, facts]] if facts else [])

    def _write(self, stem: str, table: pa.Table, said: Sequence[Any]) -> None:
        """The rows first: a part of a study that is there has them all."""
        small = len(table) <= SMALL
        if not small:
            self.place.write_table(f"{stem}.parquet", table)
        if small or said:
            self.place.write_json(f"{stem}.json", {"rows": table.to_pylist() if small else [], "said": said})

    def all(self) -> dict[str, Asked]:
        """Name -> study, by name.

        Raises:
            OSError: parts go faster than they can be read.
        """
        for _ in range(TRIES):
            parts = self._listed()
            read = {name: self._study(name, tuple(mine)) for name, mine in parts.items()}
            if None not in read.values():
                return {name: study for name, study in read.items() if study is not None}
        raise OSError(f"the studies of {self.place.url} changed {TRIES} times while they were read.")

    def asked(self, run_id: str) -> dict[str, Any] | None:
        """What any study that was read already, or any study at all, says of a run: a row of ASKED; None for none."""
        for fresh in (False, True):
            for study in self.all().values() if fresh else [study for _, study in self._whole.values()]:
                row = study.position.get(run_id)
                if row is not None:
                    return study.table.slice(row, 1).to_pylist()[0]
        return None

    def merge(self, least: int = MANY) -> int:
        """Merge the parts of every study that has at least so many, or that version 1 wrote; returns how many went."""
        gone = 0
        for name, parts in self._listed().items():
            old = not all(map(PART.fullmatch, parts))
            study = self._study(name, tuple(parts)) if old or len(parts) >= least else None
            if study is None:
                continue
            before = int((_moment(parts[0]) or BEFORE).split("-")[0]) - 1
            stamp = f"{name}.{before:020d}-{secrets.token_hex(4)}"
            self._write(f"studies/{stamp}", study.table, _still_true(study.said))
            for part in parts:
                self.place.remove(f"studies/{part}")
            gone += len(parts)
        return gone

    def _listed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in self.place.names("studies"):
            match = PART.fullmatch(part)
            if match is not None or part.endswith(".json"):
                found.setdefault(match["study"] if match else part.removesuffix(".json"), []).append(part)
        return {name: sorted(found[name], key=_moment) for name in sorted(found)}

    def _study(self, name: str, parts: tuple[str, ...]) -> Asked | None:
        """The study that these parts make; None where one of them has gone."""
        read, study = self._whole.get(name, ((), None))
        if study is None or parts[: len(read)] != read or not all(map(PART.fullmatch, read)):
            read, study = (), Asked(name, NOTHING)
        tables, rows, said = [study.table], [], study.said
        for part in parts[len(read) :]:
            content = self._part(part)
            if content is None:
                return None
            if isinstance(content[0], pa.Table):
                tables += [_table(rows), content[0]]
                rows = []
            else:
                rows += content[0]
            said += content[1]
        if len(parts) > len(read):
            study = Asked(name, distinct(pa.concat_tables([*tables, _table(rows)])), said)
        self._whole[name] = (parts, study)
        return study

    def _part(self, part: str) -> Content | None:
        if PART.fullmatch(part) is None:
            return self._old(part)
        if part.endswith(".json"):
            found = self.place.read_json(f"studies/{part}")
            if found is None:
                return None
            return found["rows"], tuple((moment, facts) for moment, facts in found["said"])
        table = self.place.read_table(f"studies/{part}")
        return None if table is None else (ASKED.read(table), ())

    # -- version 1: one JSON a study, two a run -----------------------------------------------------------------------

    def _old(self, part: str) -> Content | None:
        study = self.place.read_json(f"studies/{part}")
        if study is None:
            return None
        facts = {k: v for k, v in study.items() if k not in ("name", "runs", "work")}
        rows = [{**self.old_about(i), "work": study.get("work", {}).get(i)} for i in study["runs"]]
        if not all("run_id" in row for row in rows):
            return None  # its runs were folded since the study was listed, and it became a part before that
        return ASKED.read(ASKED.table(rows)), ((BEFORE, facts),)

    def old_about(self, run_id: str) -> dict[str, Any]:
        """What version 1 wrote of a run; {} where it wrote nothing."""
        if run_id not in self._old_abouts:
            about = self.place.read_json(f"runs/{run_id}/about.json")
            if about is None:
                return {}
            self._old_abouts[run_id] = {**about["row"], "to_see": about["examples"]}
        return self._old_abouts[run_id]


def spec_columns(run: RunSpec) -> dict[str, Any]:
    """The columns of RUNS that a complete spec alone knows."""
    model, data, optim, init = run.model, run.data, run.optim, run.init_from
    return {
        "run_id": run.id,
        "family": model.family,
        "architecture": kind_of(model),
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
        "warmup": run.warmup,
        "cooldown": optim.cooldown,
        "data_source": data.source,
        "data_content": data.content,
        "init_from": init and init.label,
        "init_content": init and init.content,
        "init_matched": init and init.matched,
        "init_fresh": init and init.fresh,
    }


def asked_row(run: RunSpec, work: float | None = None) -> dict[str, Any]:
    """A row of ASKED."""
    return {**spec_columns(run), "to_see": run.examples, "work": work}


def _still_true(said: tuple[Said, ...]) -> list[list[Any]]:
    """What was said, without what was said again later.

    The moments are kept: what was said earlier and became readable later must not win over what is newer.
    """
    last = {key: moment for moment, facts in sorted(said, key=lambda one: one[0]) for key in facts}
    kept = [[m, {k: v for k, v in facts.items() if isinstance(v, Mapping) or last[k] == m}] for m, facts in said]
    return [one for one in kept if one[1]]


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return ASKED.read(ASKED.table(rows)) if rows else NOTHING


def distinct(table: pa.Table) -> pa.Table:
    """Each run once, where it was first asked for, with its newest estimate of the work."""
    ids = table["run_id"].to_pylist()
    if len(set(ids)) == len(ids):
        return table
    first: dict[str, int] = {}
    work: dict[str, float] = {}
    for row, (run_id, estimate) in enumerate(zip(ids, table["work"].to_pylist(), strict=True)):
        first.setdefault(run_id, row)
        if estimate is not None:
            work[run_id] = estimate
    table = table.take(list(first.values()))
    newest = pa.array([work.get(run_id) for run_id in first], ASKED.arrow.field("work").type)
    return table.set_column(table.column_names.index("work"), ASKED.arrow.field("work"), newest)


def _moment(part: str) -> str:
    match = PART.fullmatch(part)
    return match["stamp"] if match else ""  # version 1 came before
