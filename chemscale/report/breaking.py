"""Where laws stop holding: a test for one change of slope along each axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chemscale.audit.groups import Group
from chemscale.laws import Law
from chemscale.laws.backtests.breaks import Break
from chemscale.report.numbers import readable
from chemscale.report.values import Broken
from chemscale.report.values.laws import nouns


def breaks(groups: Iterable[Group], laws: Mapping[str, Law]) -> tuple[Broken, ...]:
    """What the test says of every law along each axis that has places for a break."""
    return tuple(_broken(group, laws[group.slug]) for group in groups if group.slug in laws)


def _broken(group: Group, law: Law) -> Broken:
    tested = law.breaks
    if not tested:
        few = f"{len(law.runs)} runs at so few sizes, or in so few clusters, leave no room to test for a break."
        return Broken(group.slug, group.title, (), (few,))
    found = tuple((one.axis, one.at) for one in tested if one.found)
    return Broken(group.slug, group.title, found, tuple(_said(one, group) for one in tested))


def _said(one: Break, group: Group) -> str:
    return readable(one.sentence.replace(f"along {one.column}", f"along {nouns(group.data)[one.axis]}"))
