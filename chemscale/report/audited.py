"""The audit of a page: which of its claims the runs bear, and what a referee would object to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chemscale.audit.audit import of_store
from chemscale.audit.comparing import Together
from chemscale.audit.groups import Group, Row
from chemscale.audit.values import (
    CANNOT_TELL,
    CONCERN,
    FINE,
    NOT_SUPPORTED,
    SUPPORTED,
    Audit,
    Claim,
    Deciding,
    Finding,
    joined,
)
from chemscale.laws import Law
from chemscale.records.store import Store
from chemscale.report.numbers import readable, significant
from chemscale.report.values import Audited, Judged

MARKS = (SUPPORTED, NOT_SUPPORTED, CANNOT_TELL)


def audited(
    store: Store, groups: Sequence[Group], points: Mapping[str, Sequence[Row]], manifests: Mapping[str, Any],
    laws: Mapping[str, Law], together: Sequence[Together],
) -> Audited:  # fmt: skip
    """Every claim with its mark, and every finding with its verdict, those of concern first."""
    found = of_store(store, groups, points, manifests, laws, together)  # type: ignore[arg-type]
    claims = tuple(_claim(one) for mark in MARKS for one in found.claims if one.mark == mark)
    order = (CONCERN, CANNOT_TELL, FINE)
    findings = tuple(_finding(one) for verdict in order for one in found.findings if one.verdict == verdict)
    return Audited(claims, findings, _counted(found), tuple(_whole(note) + "." for note in found.notes))


def _claim(one: Claim) -> Judged:
    parts = [one.why]
    parts += [f"against it: {joined(list(one.against))}"] if one.against else []
    parts += [f"not checked: {joined(list(one.unchecked))}"] if one.unchecked else []
    return Judged(one.mark, one.about, readable(one.statement), _whole("; ".join(filter(None, parts))),
                  tuple(_run(run) for run in one.runs))  # fmt: skip


def _finding(one: Finding) -> Judged:
    decide = (_whole(one.settle),) if one.settle and one.verdict != FINE else ()
    return Judged(one.verdict, one.about, one.question, _whole(one.answer), decide)


def _run(one: Deciding) -> str:
    where = joined([f"{name.replace('_', ' ')} {significant(value)}" for name, value in one.at.items()])
    times = "one run" if one.replicates == 1 else f"{one.replicates} seeds"
    return f"{times} at {where}: {one.why}"


def _whole(text: str) -> str:
    text = text.strip()
    return readable(text[:1].upper() + text[1:])


def _counted(found: Audit) -> str:
    counts = {mark: sum(one.mark == mark for one in found.claims) for mark in MARKS}
    open_ = len(found.concerns)
    told = joined([f"{n} {'are' if n != 1 else 'is'} {_words(mark)}" for mark, n in counts.items() if n])
    objections = "no check is of concern" if not open_ else f"{open_} of {len(found.findings)} checks are of concern"
    return f"Of {len(found.claims)} claims {told}; {objections}."


def _words(mark: str) -> str:
    return {SUPPORTED: "supported", NOT_SUPPORTED: "not supported", CANNOT_TELL: "open"}[mark]


def concerns(found: Audited) -> dict[str, str]:
    """The questions whose answers stand against the page -> which architectures."""
    against: dict[str, list[str]] = {}
    for one in found.findings:
        if one.mark == CONCERN:
            against.setdefault(one.statement, []).append(one.about)
    return {question: joined(list(filter(None, names))) if any(names) else "" for question, names in against.items()}
