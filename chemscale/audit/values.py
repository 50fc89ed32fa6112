"""What an audit says: findings, claims, and the whole, as values that a page or a table shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Verdict = Literal["fine", "concern", "cannot tell"]
Mark = Literal["supported", "not supported", "cannot tell"]
FINE: Final = "fine"
CONCERN: Final = "concern"
SUPPORTED: Final = "supported"
NOT_SUPPORTED: Final = "not supported"
CANNOT_TELL: Final = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """The answer to one question that a referee would ask.

    check: its short name; about: the runs it is about ("" for all); answer: a sentence with the numbers; settle: what
    would settle it ("" where the verdict is `fine`).
    """

    check: str
    question: str
    verdict: Verdict
    answer: str
    settle: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class Deciding:
    """Runs that would decide: where (column -> value), how many seeds, and why."""

    at: Mapping[str, float]
    replicates: int
    why: str


@dataclass(frozen=True)
class Claim:
    """One sentence that a report makes, and whether its runs bear it.

    kind: tenfold, exponent (a local slope), limit, parameter (of a law), floor, law, plan, comparison or forecast.
    why: the numbers behind the mark; against: names of the checks whose concern stands against it; unchecked: checks
    that would bear on it and could not be made; runs: what would decide, where it is open.
    """

    kind: str
    about: str
    statement: str
    mark: Mark
    why: str
    against: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    runs: tuple[Deciding, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """What a referee would ask of these runs, and what the claims made of them rest on.

    what: the store or table. notes: sentences on what was not read in full.
    """

    what: str
    findings: tuple[Finding, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()

    @property
    def concerns(self) -> tuple[Finding, ...]:
        """The findings with the verdict `concern`."""
        return tuple(f for f in self.findings if f.verdict == CONCERN)

    def of(self, about: str) -> tuple[Finding, ...]:
        """The findings about one set of runs."""
        return tuple(f for f in self.findings if f.about == about)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and counts of verdicts and marks."""
        return {
            "what": self.what,
            "notes": list(self.notes),
            "verdicts": _counted([f.verdict for f in self.findings], (FINE, CONCERN, CANNOT_TELL)),
            "marks": _counted([c.mark for c in self.claims], (SUPPORTED, NOT_SUPPORTED, CANNOT_TELL)),
            "findings": [asdict(f) for f in self.findings],
            "claims": [asdict(c) for c in self.claims],
        }


def _counted(found: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    return {name: found.count(name) for name in names}


def joined(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def decades_text(decades: float, asked: float) -> str:
    """One decimal, or two where one would round a short axis up to what is asked for."""
    return f"{decades:.2f}" if decades < asked <= round(decades, 1) else f"{decades:.1f}"


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
