"""What a report or a fit claims of its runs, and whether they bear it.

A claim is not supported where its own numbers say no: an interval that includes no effect, an axis too short, a
parameter that is not identified, a backtest that misses. It cannot be told where its numbers would do but a check that
bears on it is of concern. Checks that could not be made are listed with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chemscale.audit.subject import Subject
from chemscale.audit.values import (
    CANNOT_TELL,
    CONCERN,
    NOT_SUPPORTED,
    SUPPORTED,
    Claim,
    Deciding,
    Finding,
    decades_text,
)
from chemscale.laws import AxisReading, FitError, Law, NextRun, Tenfold, axis_reading, tenfold, verdict
from chemscale.laws.doubt.identify import LOCAL
from chemscale.laws.readings.verdict import CANNOT_TELL as OPEN

# What bears on whatever is said of losses.
TRAINED = ("convergence", "edge", "tuning", "leakage", "left out", "mixed", "evaluator")
FITTED = (*TRAINED, "settings", "correlated", "duplicates", "noise floor")
BEARS = {
    "tenfold": TRAINED,
    "exponent": (*TRAINED, "settings", "duplicates"),
    "limit": TRAINED,
    "parameter": (*FITTED, "collinear", "influence", "decades"),
    "floor": (*FITTED, "influence", "form"),
    "law": FITTED,
    "plan": (*FITTED, "collinear", "influence", "form"),
    "comparison": (*TRAINED, "settings", "duplicates", "alike"),
}
WIDEST = 10.0  # ratio of the ends of an optimum's interval beyond which it is no plan
FURTHER = 10.0  # times the largest budget that a plan is asked for
FARTHER = 3.0  # times the largest value of an axis, at which a run tests what the axis says


def claims_of(subject: Subject, findings: Sequence[Finding]) -> Iterable[Claim]:
    """Every claim that is made of these runs, in the order of a report."""
    if subject.group is not None and set(subject.places) == {"params", "data"}:
        yield from _readings(subject, findings)
        yield from _limit(subject, findings)
    if subject.law is None:
        why = subject.fitted[1]
        yield Claim("law", subject.title, f"a {subject.form} law holds for these runs", NOT_SUPPORTED, why)
        return
    yield from _parameters(subject, subject.law, findings)
    yield _foretells(subject, subject.law, findings)
    yield from _plan(subject, subject.law, findings)


def marked(
    kind: str, subject: Subject, statement: str, holds: bool | None, why: str, findings: Sequence[Finding],
    runs: tuple[Deciding, ...] = (), numbers: Mapping[str, Any] | None = None,
) -> Claim:  # fmt: skip
    """A claim about one set of runs."""
    return weighed(kind, subject.title, statement, holds, why, findings, runs, numbers)


def weighed(
    kind: str, about: str, statement: str, holds: bool | None, why: str, findings: Sequence[Finding],
    runs: tuple[Deciding, ...] = (), numbers: Mapping[str, Any] | None = None,
) -> Claim:  # fmt: skip
    """A claim whose own numbers say `holds` (None: they are open), weighed against the checks that bear on it."""
    bearing = [f for f in findings if f.check in BEARS[kind]]
    against = tuple(dict.fromkeys(f.check for f in bearing if f.verdict == CONCERN))
    unchecked = tuple(dict.fromkeys(f.check for f in bearing if f.verdict == CANNOT_TELL))
    mark = NOT_SUPPORTED if holds is False else CANNOT_TELL if holds is None or against else SUPPORTED
    return Claim(kind, about, statement, mark, why, against, unchecked, runs, numbers or {})


def _readings(subject: Subject, findings: Sequence[Finding]) -> Iterable[Claim]:
    for role, other in (("data", "params"), ("params", "data")):
        options: dict[str, Any] = {"axis": subject.places[role], "other": subject.places[other], "loss": subject.loss}
        try:
            ten, reading = tenfold(list(subject.rows), **options), axis_reading(list(subject.rows), **options)
        except (ValueError, FitError) as error:
            yield Claim(
                "tenfold", subject.title, f"ten times more {subject.nouns[role]} cuts the loss", CANNOT_TELL, str(error)
            )
            continue
        yield _tenfold(subject, role, ten, findings)
        yield _exponent(subject, role, reading, findings)


def _tenfold(subject: Subject, role: str, ten: Tenfold, findings: Sequence[Finding]) -> Claim:
    runs = (_at(subject, {role: ten.stop}, 2, "both ends of the tenfold, with seeds"),)
    numbers = {"from": ten.from_loss, "to": ten.to_loss, "low": ten.low, "high": ten.high, "kind": ten.kind}
    sentence = ten.sentence(subject.runs.units["loss"])
    if ten.low is None or ten.high is None:
        return marked("tenfold", subject, sentence, None, "its noise was not measured", findings, runs, numbers)
    if ten.low <= ten.from_loss <= ten.high:
        return marked("tenfold", subject, sentence, False, "its interval includes no change", findings, runs, numbers)
    if ten.kind != "interpolation":
        why = "the larger end was not run: the line is prolonged"
        return marked("tenfold", subject, sentence, None, why, findings, runs, numbers)
    return marked(
        "tenfold",
        subject,
        sentence,
        True,
        "both ends were run and the interval excludes no change",
        findings,
        (),
        numbers,
    )


def _exponent(subject: Subject, role: str, reading: AxisReading, findings: Sequence[Finding]) -> Claim:
    noun = subject.nouns[role]
    numbers = {"decades": reading.decades, "runs": reading.runs, "slope": reading.slope, "interval": reading.interval}
    value = f"{subject.loss} falls as {noun}^{reading.slope:.3g} at the largest other axis"
    if reading.exponent is not None and reading.interval is not None:
        low, high = reading.interval
        why = (
            f"{reading.level:.0%} interval {low:.3g} to {high:.3g} over {decades_text(reading.decades, LOCAL)} decades"
        )
        return marked("exponent", subject, value, True, why, findings, (), numbers)
    why = f"{decades_text(reading.decades, LOCAL)} decades, {reading.runs} runs: {reading.words}"
    return marked("exponent", subject, value, False, why, findings, _longer(subject, role), numbers)


def _longer(subject: Subject, role: str) -> tuple[Deciding, ...]:
    """A run that makes the axis long enough, or, where it is, one a decade further."""
    values = [float(v) for v in subject.values(subject.places[role])]
    stop = max(min(values) * 10**LOCAL, FARTHER * max(values))
    long = max(values) >= min(values) * 10**LOCAL
    gain = "a longer axis tells its exponent better" if long else f"{subject.nouns[role]} then span {LOCAL:g} decades"
    return (_at(subject, {role: stop}, 2, gain),)


def beyond(subject: Subject, role: str, why: str) -> Deciding:
    """Two seeds at three times the most of one axis."""
    return _at(subject, {role: FARTHER * max(subject.values(subject.places[role]))}, 2, why)


def _far(subject: Subject, why: str) -> Deciding:
    return _at(subject, {r: FARTHER * max(subject.values(subject.places[r])) for r in subject.roles}, 1, why)


def _at(subject: Subject, where: Mapping[str, float], seeds: int, why: str) -> Deciding:
    """A place of a run: the other axes at their largest."""
    top = {name: max(float(v) for v in subject.values(name)) for name in subject.places.values()}
    return Deciding(
        {**top, **{subject.places[role]: float(f"{value:.3g}") for role, value in where.items()}}, seeds, why
    )


def _limit(subject: Subject, findings: Sequence[Finding]) -> Iterable[Claim]:
    try:
        found = verdict(
            list(subject.rows), loss=subject.loss, params=subject.places["params"], data=subject.places["data"]
        )
    except (ValueError, FitError) as error:
        yield Claim(
            "limit", subject.title, "the largest run is limited by data, or by its size", CANNOT_TELL, str(error)
        )
        return
    numbers = {"data_gain": found.data_gain, "model_gain": found.model_gain,
               "data_interval": found.data_interval, "model_interval": found.model_interval}  # fmt: skip
    known = found.answer != OPEN
    said = f"the largest run is {found.answer}" if known else "the largest run is limited by data, or by its size"
    runs = tuple(_deciding(subject, run) for run in found.would_decide)
    yield marked("limit", subject, said, True if known else None, found.reason, findings, runs, numbers)


def _deciding(subject: Subject, run: NextRun) -> Deciding:
    at = {subject.places["params"]: run.params, subject.places["data"]: run.data}
    return Deciding(at, run.replicates, run.why)


def _parameters(subject: Subject, law: Law, findings: Sequence[Finding]) -> Iterable[Claim]:
    """The law's exponents and floor, under the names of its form's paper."""
    floor = law.shape.floor
    exponents = {law.shape.exponent_of(role): role for role in reversed(law.roles)}
    for name, value in law.parameters.items():
        if name not in exponents and name != floor:
            continue
        role = exponents.get(name)
        kind = "floor" if role is None else "parameter"
        low, high = law.intervals[name]
        meaning = f"exponent of {subject.nouns[role]}" if role else f"floor of {subject.loss}"
        what = f"{law.form}: {name}, the {meaning},"
        if value is None:
            why = next(
                (w for w in law.warnings if w.startswith((f"{name} is not", f"floor {name} is not"))), "not identified"
            )
            runs = _longer(subject, role) if role else (_far(subject, "a run nearer to the floor"),)
            yield marked(kind, subject, f"{what} is known", False, why, findings, runs, {"interval": (low, high)})
            continue
        said = f"{what} is {value:.3g}"
        why = f"{law.level:.0%} interval {low:.3g} to {high:.3g}"
        yield marked(kind, subject, said, True, why, findings, (), {"value": value, "interval": (low, high)})


def _foretells(subject: Subject, law: Law, findings: Sequence[Finding]) -> Claim:
    """Whether the law may be believed beyond its runs."""
    statement = f"the {law.form} law foretells larger runs"
    form = next(f for f in findings if f.check == "form")
    holds = {CONCERN: False, CANNOT_TELL: None}.get(form.verdict, True)
    if holds and law.backtest is not None:
        statement += f" to about {law.backtest.rmsle:.1%}"
    runs = () if holds else (_far(subject, "a run beyond all others tests the law where it is used"),)
    return marked("law", subject, statement, holds, form.answer, findings, runs, dict(form.numbers))


def _plan(subject: Subject, law: Law, findings: Sequence[Finding]) -> Iterable[Claim]:
    """The split of ten times the largest budget, where the cost of a run is known."""
    largest = law.runs.flops
    try:
        budget = FURTHER * float(
            largest.max() if largest is not None else 6 * (law.runs.axes["params"] * law.runs.axes["data"]).max()
        )
        best = law.optimal(budget)
    except (ValueError, KeyError, FitError):
        return
    low, high = best.params_interval
    said = (
        f"{budget:.2g} FLOPs are best spent on {best.params:.3g} parameters and {best.data:.3g} "
        f"{subject.nouns['data']}, for a loss of {best.loss.value:.4g} ({best.loss.low:.4g} to {best.loss.high:.4g})"
    )
    holds = high <= WIDEST * low if low > 0 else False
    wide = "" if holds else f", wider than a factor of {WIDEST:g}"
    why = f"{law.level:.0%} interval {low:.3g} to {high:.3g} parameters{wide}; cost: {best.cost}"
    runs = () if holds else (_at(subject, {"params": best.params, "data": best.data}, 2, "the optimum itself"),)
    yield marked("plan", subject, said, holds, why, findings, runs, {"params": best.params, "interval": (low, high)})
