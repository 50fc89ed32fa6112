"""Laws as lines: what each says along its axes, from the smallest run to ten times the largest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import Law, Prediction
from chemscale.report.numbers import some
from chemscale.report.values import Section, Trace, Traced

FURTHER = 10.0  # times the largest run
STEPS = 24  # points of a line
MOST_LEVELS = 6
Point = tuple[float, float, float, float]  # where, loss, low, high
AXES: tuple[Literal["data", "params"], ...] = ("data", "params")


def traced(groups: Iterable[Group], laws: Mapping[str, Law], sections: Sequence[Section]) -> tuple[Traced, ...]:
    """The laws of these groups along data and parameters; one of FLOPs, or of another count, has no runs to lie on."""
    drawn = {section.slug: section for section in sections}
    return tuple(
        _traced(group, laws[group.slug], drawn[group.slug], axis)
        for group in groups if group.slug in laws and _counts_alike(group, laws[group.slug])
        for axis in AXES if axis in laws[group.slug].roles
    )  # fmt: skip


def _counts_alike(group: Group, law: Law) -> bool:
    columns = {"data": group.data, "params": "params"}
    return all(law.columns[role]["name"] == columns.get(role) for role in law.roles)


def _traced(group: Group, law: Law, section: Section, axis: Literal["data", "params"]) -> Traced:
    columns: dict[str, str] = {role: law.columns[role]["name"] for role in law.roles}
    other = next((role for role in law.roles if role != axis), None)
    xs = _steps([row[columns[axis]] for row in group.rows])
    levels = [None] if other is None else some((row[columns[other]] for row in group.rows), MOST_LEVELS)
    seen = iter(law.predictions([{axis: x, **_held(other, level)} for level in levels for x in xs]))
    traces = tuple(Trace(level, _points(islice(seen, len(xs)), xs, group.measure.scale)) for level in levels)
    return Traced(section, axis, _form(law), law.n_runs, law.level, traces)


def _form(law: Law) -> str:
    return law.form if law.ensemble is None else f"ensemble (led by {law.form})"


def _steps(values: Sequence[float]) -> list[float]:
    return np.geomspace(min(values), FURTHER * max(values), STEPS).tolist()


def _held(other: str | None, level: float | None) -> dict[str, float]:
    return {} if other is None or level is None else {other: level}


def _points(seen: Iterable[Prediction], xs: Sequence[float], scale: float) -> tuple[Point, ...]:
    return tuple((x, p.value * scale, p.low * scale, p.high * scale) for x, p in zip(xs, seen, strict=True))
