"""Does the group change the exponent, or only the constant? One sentence with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chemscale.laws.comparison.contrast import FARTHEST, Difference, Multiplier, Ratio
from chemscale.laws.comparison.jointlaw import JointLaw
from chemscale.laws.comparison.nested import Test
from chemscale.laws.forms import FORMS

EXPONENT, CONSTANT, NEITHER, CANNOT_TELL = "exponent", "constant", "neither seen", "cannot tell"
TOO_WIDE = 0.5  # share of the reference's exponent above which an equivalence bound says nothing


def exponents_test(law: JointLaw, group: str) -> Test | None:
    """The test of a group's exponents beside the floor that the law chose; None where no exponent is free."""
    question = "exponents" if law.own_floors else "exponents, floor shared"
    found = {test.question: test for test in law.tests}
    return next((found[q] for q in (f"exponents of {group}", question, "exponents") if q in found), None)


def verdict_of(law: JointLaw, group: str, level: float) -> str:
    """What the runs say changes between a group and the reference: one of the four words above."""
    differences = [d for d in law.differences if d.group == group]
    test = exponents_test(law, group)
    if test is not None and test.p < 1 - level and any(d.excludes_zero for d in differences):
        return EXPONENT
    if any(_open(law, d) for d in differences):
        return CANNOT_TELL
    ratio = next(r for r in law.ratios if r.group == group)
    return NEITHER if ratio.low <= 1 <= ratio.high else CONSTANT


def _open(law: JointLaw, found: Difference) -> bool:
    """Whether the difference of exponents could be as large as much of the exponent itself."""
    own = abs(law.model(law.chosen).values[found.reference][found.exponent])
    return found.at_most is None or found.at_most > TOO_WIDE * own


def sentence(law: JointLaw, group: str, loss: str, level: float, units: Mapping[str, str]) -> str:
    """One group against the reference; units: axis -> the name of its unit."""
    differences = [d for d in law.differences if d.group == group]
    ratio = next(r for r in law.ratios if r.group == group)
    multipliers = [m for m in law.multipliers if group in (m.better, m.worse)]
    verdict = verdict_of(law, group, level)
    reference = ratio.reference
    opening = (
        f"{group} against {reference} ({loss} over {' and '.join(units.values())}, {law.form} with {_floor(law)}, "
        f"{law.about}, "
        f"{law.runs[group]} and {law.runs[reference]} runs)"
    )
    return f"{opening}: {_exponents(law, differences, verdict, level)}; {_constant(ratio, multipliers, units, level)}."


def _exponents(law: JointLaw, differences: Sequence[Difference], verdict: str, level: float) -> str:
    test = exponents_test(law, differences[0].group) if differences else None
    if test is None or not differences:
        return "the exponents are shared by assumption"
    p = f"p = {test.p:.2g}"
    listed = " and ".join(f"{d.exponent} by {d.value:+.3g} ({level:.0%} interval {_ends(d)})" for d in differences)
    if verdict == EXPONENT:
        return f"the exponent changes ({p}): {listed}"
    if verdict == CANNOT_TELL:
        if test.p < 1 - level and not any(d.excludes_zero for d in differences):
            p += ", but no interval leaves out 0"
        return f"the runs cannot tell whether the exponent changes ({p}): {listed}"
    bounds = " and ".join(f"{d.exponent} differs by at most {d.at_most:.3g}" for d in differences)
    only = "only the constant changes, as far as the runs can tell" if verdict == CONSTANT else "no change is seen"
    return f"{only} ({p} for equal exponents): {bounds} with {level:.0%} confidence"


def _floor(law: JointLaw) -> str:
    if FORMS[law.form].floor is None:
        return "no floor"
    return "a floor per group" if law.own_floors else "one floor"


def _ends(found: Difference) -> str:
    low = "unbounded" if found.low is None else f"{found.low:+.3g}"
    high = "unbounded" if found.high is None else f"{found.high:+.3g}"
    return f"{low} to {high}"


def _constant(ratio: Ratio, multipliers: Sequence[Multiplier], units: Mapping[str, str], level: float) -> str:
    at = ", ".join(f"{value:.3g} {units[role]}" for role, value in ratio.at.items())
    text = (
        f"at the largest common point ({at}) its loss is {ratio.value:.4g} times that of {ratio.reference} "
        f"({level:.0%} interval {ratio.low:.4g} to {ratio.high:.4g})"
    )
    if ratio.low <= 1 <= ratio.high:
        return text
    needs = " or ".join(_need(m, units[m.axis]) for m in multipliers)
    return f"{text}, for which {multipliers[0].worse} would need {needs}"


def _need(found: Multiplier, unit: str) -> str:
    if found.value is None:
        return f"more than {FARTHEST:,.0f} times the {unit}"
    low = f"{found.low:.3g}" if found.low is not None else "unbounded"
    high = f"{found.high:.3g}" if found.high is not None else "unbounded"
    return f"{found.value:.3g} times the {unit} ({low} to {high})"
