"""Architectures on the same data: whether the exponent differs, or only the constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chemscale.audit.comparing import Together
from chemscale.audit.groups import Group
from chemscale.laws.comparison.compare import Comparison
from chemscale.laws.comparison.jointlaw import JointLaw
from chemscale.laws.comparison.paired import Paired
from chemscale.report.numbers import percent, readable, with_ends
from chemscale.report.values import Apart, Compared, Look


def comparisons(together: Iterable[Together]) -> tuple[tuple[Compared, ...], tuple[str, ...]]:
    """One per data set and metric with several architectures, and sentences on those that could not be compared."""
    found, notes = [], []
    for one in together:
        groups = [member.group for member in one.members if member.group is not None]
        if one.found is None:
            notes.append(f"{' and '.join(group.title for group in groups)} could not be compared: {one.refusal}")
        else:
            found.append(_compared(groups, one.found))
    return tuple(found), tuple(notes)


def _compared(members: Sequence[Group], found: Comparison) -> Compared:
    first = members[0]
    spent = tuple((group.title, costs) for group in members if (costs := _costs(group)))
    measure = first.measure
    return Compared(
        f"compared-{first.slug}", found.groups, measure.words, measure.unit, first.data, found.level,
        readable(found.sentence), tuple(_more(found)), tuple(_differences(found, first.data)),
        tuple(_looks(found, first)), spent,
    )  # fmt: skip


def _costs(group: Group) -> tuple[tuple[float, float], ...]:
    return tuple((row["flops"], row[group.metric] * group.measure.scale) for row in group.rows if row["flops"])


def _more(found: Comparison) -> Iterable[str]:
    yield from (readable(line) for line in found.sentences[len(found.groups) - 1 :])
    yield from (f"{readable(line)[:1].upper()}{readable(line)[1:]}." for line in found.warnings)


def _differences(found: Comparison, data: str) -> Iterable[Apart]:
    nouns = {"params": "parameters", "data": data}
    for law in (found.law, *found.along):
        for one in law.differences:
            along = " and ".join(_noun(law, axis, nouns) for axis in one.axes)
            yield Apart(one.group, one.reference, one.exponent, along, one.value, one.low, one.high)


def _noun(law: JointLaw, axis: str, nouns: Mapping[str, str]) -> str:
    return nouns.get(axis) or law.axes[axis]["units"]


def _looks(found: Comparison, first: Group) -> Iterable[Look]:
    for one in found.paired:
        if one.ratio is not None:
            points = tuple((at.get("params"), at.get("data"), at["ratio"]) for at in one.points)
            yield Look(one.group, one.reference, points, one.ratio, one.ratio_interval, _seen(one, first))


def _tenfold(slope: float | None) -> float | None:
    return None if slope is None else 10**slope


def _seen(one: Paired, first: Group) -> str:
    assert one.ratio is not None
    low, high = one.ratio_interval or (None, None)
    ratio, low_text, high_text = with_ends(one.ratio, low, high)
    ends = f" ({percent(one.level)} interval {low_text} to {high_text})" if one.ratio_interval else ""
    said = (
        f"The first look: in {one.pairs} pairs ({readable(one.words)}) the {first.measure.words} "
        f"of {one.group} is {ratio} times that of {one.reference}{ends}"
    )
    slope = one.slopes.get("data")
    if slope is None or slope["value"] is None:
        return f"{said}."
    factor, low_text, high_text = with_ends(10 ** slope["value"], *(_tenfold(slope[end]) for end in ("low", "high")))
    ends = f" ({low_text} to {high_text})" if slope["low"] is not None else ""
    return f"{said}, and changes by a factor of {factor}{ends} with ten times the {first.data}."
