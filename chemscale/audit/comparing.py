"""Sets of runs against each other: compared once, for a page and for an audit, and each sentence of it as a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chemscale.audit.claims import beyond, weighed
from chemscale.audit.origin import against
from chemscale.audit.subject import Subject, usual_among
from chemscale.audit.values import CANNOT_TELL, Claim, Deciding, Finding, joined
from chemscale.laws import FitError
from chemscale.laws.comparison.answer import CANNOT_TELL as OPEN
from chemscale.laws.comparison.answer import EXPONENT, exponents_test, verdict_of
from chemscale.laws.comparison.blocks import REFUSED
from chemscale.laws.comparison.compare import Comparison, compare
from chemscale.laws.comparison.contrast import Difference
from chemscale.laws.comparison.jointlaw import JointLaw

BOOTSTRAP = 199  # draws of p-values and intervals
MOST = 8  # groups of one comparison: every one more refits all of them, and a page of them is read by nobody


@dataclass(frozen=True, eq=False)
class Together:
    """Sets of runs that may be compared, the reference first; found is None where they could not be, for `refusal`."""

    members: tuple[Subject, ...]
    found: Comparison | None
    refusal: str = ""


def compared(subjects: Sequence[Subject]) -> tuple[Together, ...]:
    """One for every two or more subjects that are each other's peers."""
    return tuple(_together(members) for members in peers_among(subjects) if len(members) > 1)


def peers_among(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """Subjects by what they share: one data set, precision and metric, or the values of one column."""
    kinds: dict[str, list[Subject]] = {}
    for one in subjects:
        if one.peers is not None:
            kinds.setdefault(one.peers, []).append(one)
    return list(kinds.values())


def _together(members: Sequence[Subject]) -> Together:
    first, everyone = members[0], tuple(members)
    if len(members) > MOST:
        told = f"{len(members)} groups are too many to compare at once; name up to {MOST} with where."
        return Together(everyone, None, told)
    options: dict[str, Any] = dict(first.axes)
    asked = "seen" in first.axes or first.form != usual_among(first.axes, first.rows)
    if asked and first.form not in (*REFUSED, "auto"):
        options["form"] = first.form
    by = "model" if "model" not in (*first.axes.values(), first.loss) else "group"
    rows = [{**row, by: one.title} for one in members for row in one.rows]
    try:
        return Together(everyone, compare(rows, by=by, loss=first.loss, bootstrap=BOOTSTRAP, **options))
    except (ValueError, FitError) as error:
        return Together(everyone, None, str(error))


def comparisons_of(together: Iterable[Together], findings: Sequence[Finding]) -> Iterable[Claim]:
    """What comparisons say, a claim for each of their sentences: every group against the reference, in every law."""
    for one in together:
        reference, *others = one.members
        if one.found is None:
            names = joined([subject.title for subject in one.members])
            yield Claim("comparison", names, f"{names} share an exponent, or do not", CANNOT_TELL, one.refusal)
            continue
        said = iter(one.found.sentences)
        for law in (one.found.law, *one.found.along):
            for group in others:
                mine = _about_both(group, reference, findings)
                yield _claim(one.found, law, group, reference, next(said), mine)


def _about_both(group: Subject, reference: Subject, findings: Sequence[Finding]) -> list[Finding]:
    abouts = (group.title, reference.title, against(group, reference))
    return [one for one in findings if one.about in abouts]


def _claim(
    found: Comparison, law: JointLaw, group: Subject, reference: Subject, said: str, findings: Sequence[Finding]
) -> Claim:
    answer = verdict_of(law, group.title, found.level)
    differences = [one for one in law.differences if one.group == group.title]
    runs = _deciding(law, differences, group) if answer == OPEN and law is found.law else ()
    numbers: dict[str, Any] = {
        "answer": answer,
        **{one.exponent: {"value": one.value, "low": one.low, "high": one.high} for one in differences},
    }
    return weighed(
        "comparison", against(group, reference), said, None if answer == OPEN else True,
        _why(law, answer, group.title, found.level), findings, runs, numbers,
    )  # fmt: skip


def _why(law: JointLaw, answer: str, group: str, level: float) -> str:
    test = exponents_test(law, group)
    p = f" (p = {test.p:.2g} for equal exponents)" if test is not None else ""
    if answer == EXPONENT:
        return f"the {level:.0%} interval of a difference excludes zero{p}"
    if answer == OPEN:
        return f"the difference may be none, or more than half of the exponent itself{p}"
    return f"the {level:.0%} interval bounds the difference to less than half of the exponent itself{p}"


def _deciding(law: JointLaw, differences: Sequence[Difference], group: Subject) -> tuple[Deciding, ...]:
    """Where both would be run: further along the axis whose exponents are told apart the worst."""
    widest = max(differences, key=lambda one: _width(one, law.model(law.chosen).values))
    role = next((axis for axis in widest.axes if axis in group.places), None)
    why = "of both, on the same subsets: a longer axis tells their exponents apart"
    return (beyond(group, role, why),) if role else ()


def _width(found: Difference, values: Mapping[str, Mapping[str, float]]) -> float:
    """The interval in units of the exponent itself; infinite where a side is open."""
    if found.low is None or found.high is None:
        return float("inf")
    return (found.high - found.low) / max(abs(values[found.reference][found.exponent]), 1e-9)
