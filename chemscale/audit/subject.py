"""The sets of runs that a law would be fitted to, and that an audit asks about one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chemscale.audit.convergence import Points
from chemscale.audit.groups import Group, Row, groups_of
from chemscale.audit.manifests import overlaps_of
from chemscale.audit.spaces import Spaces
from chemscale.audit.thinning import MOST, shuffled, thin
from chemscale.laws import FitError, Law, fit
from chemscale.laws.doubt.identify import usual_form
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import ROLES
from chemscale.laws.tables.columns import Columns, column, split
from chemscale.laws.tables.meaning import SEPARATING
from chemscale.laws.tables.table import Rows
from chemscale.laws.tables.table import rows as rows_of
from chemscale.records.schema import FINISHED, RUNS

BOOTSTRAP = 400  # refits behind an interval; fewer than 399 cover too little
LOSSLESS = "without a positive loss or axis"  # what a row of a table is that no law can use
KNOWN = ("run_id", "architecture", "family", "status", "law_metric", "params")  # columns that tell a table of RUNS


@dataclass(frozen=True, eq=False)
class Subject:
    """Runs that would share a law.

    title: "" where the table has one kind; rows: the runs of the law; axes: params, data, flops -> column; left_out:
    (row, why) of rows of the same kind that no law is about; spare: runs that it does without (see `thinning`); counts:
    columns that count parameters otherwise; group, points, manifest: of a store. given: the law to audit; None fits
    one. overlap: of the splits of its data, where they are on this machine. peers: equal for those whose laws compare;
    None for none. spaces: run id -> what its search chose from.
    """

    title: str
    rows: Sequence[Row]
    axes: Mapping[str, str]
    loss: str
    form: str
    left_out: Sequence[tuple[Row, str]] = ()
    counts: Sequence[str] = ()
    group: Group | None = None
    points: Points = field(default_factory=dict)
    manifest: Any = None
    given: Law | None = None
    peers: str | None = None
    spaces: Spaces = field(default_factory=dict)
    spare: Sequence[Row] = ()
    overlap: Any = None

    @cached_property
    def fitted(self) -> tuple[Law | None, str]:
        """The law, or None and why there is none."""
        if self.given is not None and self.given.hygiene is not None:
            return self.given, ""
        options: dict[str, Any] = {"form": self.form, "counts": self.counts, **self.axes}
        try:
            law = fit(list(self.rows), loss=self.loss, bootstrap=BOOTSTRAP, **options)
        except (ValueError, FitError) as error:
            return None, str(error)
        return law, ""

    @property
    def law(self) -> Law | None:
        """The law of these runs; None where they bear none."""
        return self.fitted[0]

    @property
    def lawless(self) -> str:
        """What a check of the law says where there is none; the reason stands once, where parameters are asked for."""
        return "" if self.law is not None else "these runs bear no law (see what is said of its parameters)"

    @cached_property
    def runs(self) -> Rows:
        """The rows of the law as the solver takes them."""
        return self._solved(self.rows)

    @cached_property
    def every_run(self) -> Rows:
        """These and the spare ones."""
        return self._solved(self.whole) if self.spare else self.runs

    def _solved(self, rows: Sequence[Row]) -> Rows:
        names = {**self.axes, "loss": self.loss}.values()
        shared = [name for name in ("cluster",) if rows and name in rows[0]]
        return rows_of({name: [row.get(name) for row in rows] for name in (*names, *shared)}, self.axes, self.loss)

    @property
    def whole(self) -> Sequence[Row]:
        """Every run that the law could rest on."""
        return [*self.rows, *self.spare] if self.spare else self.rows

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The axes of the law: its form may leave out one that the table has, such as the FLOPs of N and D."""
        given = tuple(role for role in ROLES if role in self.axes)
        try:
            return self.law.roles if self.law is not None else choose(self.form, given).roles
        except ValueError:
            return given

    @property
    def places(self) -> dict[str, str]:
        """Axis of the law -> its column."""
        return {role: self.axes[role] for role in self.roles}

    def values(self, name: str) -> list[Any]:
        """A column of the rows of the law; None where a row lacks it."""
        return [row.get(name) for row in self.rows]

    def all_values(self, name: str) -> list[Any]:
        """A column of every run."""
        return [row.get(name) for row in self.whole]

    def has(self, name: str) -> bool:
        """Whether every run has a value in this column."""
        return all(row.get(name) is not None for row in self.whole)

    @property
    def nouns(self) -> dict[str, str]:
        """Axis -> the word for it in a sentence: the name of its column."""
        return {role: "parameters" if name == "params" else name for role, name in self.axes.items()}


def usual_among(axes: Mapping[str, str], rows: Iterable[Row]) -> str:
    """The form of these axes (role -> column) of such rows where none is asked for."""
    rows = list(rows) if len(axes) == 1 else []
    found = {role: [row[name] for row in rows if positive_number(row.get(name))] for role, name in axes.items()}
    return usual_form(found)


def of_groups(
    groups: Sequence[Group],
    points: Points,
    manifests: Mapping[str, Any],
    laws: Mapping[str, Law],
    *,
    form: str | None = None,
    axes: Mapping[str, str] | None = None,
    counts: Sequence[str] = (),
    spaces: Spaces | None = None,
) -> list[Subject]:
    """The groups of a store; `laws` by slug are audited as they are."""
    found, overlaps = [], overlaps_of(groups)
    for group in groups:
        own = {"params": "params", "data": group.data} | dict(axes or {})
        shape = form or usual_among(own, group.rows)
        left = [(row, "not the best trial of its cell" if row["status"] == FINISHED else row["status"])
                for row in group.others]  # fmt: skip
        found.append(
            Subject(
                group.title, group.rows, own, group.metric, shape, left, counts, group, points,
                manifests.get(group.content), laws.get(group.slug),
                " ".join([group.content, group.precision, group.metric, group.data]), spaces or {},
                group.spare, overlaps.get(group.content),
            )
        )  # fmt: skip
    return found


def groups_among(columns: Columns, loss: str | None) -> tuple[Group, ...]:
    """The groups in a table of RUNS; columns it lacks are null."""
    names = [c.name for c in RUNS.columns]
    count = len(next(iter(columns.values())))
    rows = [{name: columns[name][i] if name in columns else None for name in names} for i in range(count)]
    return groups_of(rows, [loss] if loss else None)


def is_runs(columns: Columns) -> bool:
    """Whether a table has the columns by which RUNS is known."""
    return all(name in columns for name in KNOWN)


def of_table(
    columns: Columns, axes: Mapping[str, str], loss: str, *, by: str | None, form: str | None, counts: Sequence[str]
) -> list[Subject]:
    """The subjects of a table of strangers: one for each value of `by`, or of the columns that no law may mix."""
    for role, name in {**axes, "loss": loss}.items():
        column(columns, name, role)
    for name in counts:
        column(columns, name, "counts")
    names = [by] if by else mixed_columns(columns)
    apart = by or ("architecture" if "architecture" in names else None)
    parts: list[tuple[dict[str, Any], Columns]] = [({}, columns)]
    for name in names:
        parts = [({**about, name: value}, inner) for about, part in parts for value, inner in split(part, name).items()]
    found = []
    for about, part in parts:
        peers = None if apart is None else _titled({k: v for k, v in about.items() if k != apart})
        found.append(_of_part(_titled(about), part, axes, loss, form, counts, peers))
    return found


def _titled(about: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in about.items())


def mixed_columns(columns: Columns) -> list[str]:
    """Columns of which no law may mix values, and which have several."""
    return [n for n in SEPARATING if len({str(v) for v in columns.get(n, []) if v is not None}) > 1]


def _of_part(
    title: str,
    part: Columns,
    axes: Mapping[str, str],
    loss: str,
    form: str | None,
    counts: Sequence[str],
    peers: str | None,
) -> Subject:
    rows, left = [], []
    for row in records(part):
        status = row.get("status")
        if status is not None and str(status) != FINISHED:
            left.append((row, str(status)))
        elif row.get("lineage"):
            left.append((row, "continued from another run"))
        elif row.get("init_content"):
            left.append((row, "started from trained weights"))
        elif all(positive_number(row[name]) for name in (*axes.values(), loss)):
            rows.append({**row, **{name: float(row[name]) for name in (*axes.values(), loss)}})
        else:
            left.append((row, LOSSLESS))
    roles = {r: axes[r] for r in ROLES if r in axes}
    kept, spare = thin(shuffled(rows), list(roles.values()), MOST) if len(rows) > MOST else (rows, [])
    return Subject(title, kept, roles, loss, form or usual_among(roles, kept), left, counts, peers=peers, spare=spare)


def records(columns: Columns) -> Iterable[Row]:
    """The rows of a table."""
    names = list(columns)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def positive_number(value: Any) -> bool:
    """Whether a cell is a positive finite number, or text that reads as one."""
    if isinstance(value, bool) or value is None:
        return False
    try:
        return 0 < float(value) < math.inf
    except (TypeError, ValueError, OverflowError):
        return False
