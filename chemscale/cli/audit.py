"""What a referee would ask of a store or any table: audit."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, NOT_SUPPORTED, SUPPORTED, Audit, Claim, Finding
from chemscale.cli.deciding import FORECAST
from chemscale.cli.output import console, print_json
from chemscale.cli.reading import is_store, read_table

COLOURS = {FINE: "green", SUPPORTED: "green", CONCERN: "red", NOT_SUPPORTED: "red", CANNOT_TELL: "yellow"}


def audit(given: argparse.Namespace) -> int:
    """What a referee would ask of a store or any CSV or Parquet file, and which claims its runs bear."""
    from chemscale.audit.audit import audit as audit_of

    forecasts = dict(map(_forecast, given.forecast))
    found = audit_of(
        _opened(given.what), forecasts=forecasts, loss=given.loss,
        params=given.params, data=given.data, seen=given.seen, flops=given.flops,
        where=given.where, by=given.by, form=given.form, counts=given.counts, name=given.what,
    )  # fmt: skip
    if given.json:
        print_json(found.to_json())
    else:
        _show(found)
    return 1 if given.strict and (found.concerns or any(c.mark == NOT_SUPPORTED for c in found.claims)) else 0


def _forecast(path: str) -> tuple[str, Any]:
    """A forecast that `plan --register` wrote, by the name of its file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--forecast {path!r} cannot be read: {str(error).splitlines()[0]}.") from None
    if not isinstance(found, dict) or "hash" not in found or "law" not in found:
        raise ValueError(f"--forecast {path!r} is no forecast; give a file that `chemscale plan --register` wrote.")
    return Path(path).name.removesuffix(FORECAST), found


def _opened(what: str) -> Any:
    """A store, which also has points, or a table."""
    if is_store(what):
        from chemscale.records.store import Store

        return Store(what)
    return read_table(what)


def _show(found: Audit) -> None:
    out = console()
    for about in dict.fromkeys([c.about for c in found.claims] + [f.about for f in found.findings]):
        if about:
            out.print(f"\n[bold]{_plain(about)}[/bold]")
        findings, claims = found.of(about), [c for c in found.claims if c.about == about]
        if findings:
            out.print(_table(("verdict", "question", "answer"), map(_finding, findings)))
        if claims:
            out.print(_table(("mark", "claim", "why"), map(_claim, claims)))
    out.print()
    for note in found.notes:
        out.print(f"note: {_plain(note)}.")
    verdicts, marks = _counted(f.verdict for f in found.findings), _counted(c.mark for c in found.claims)
    out.print(f"{_plain(found.what)}: {verdicts}; claims: {marks}.")


def _finding(found: Finding) -> tuple[str, str, str]:
    settle = f"\n→ {found.settle}" if found.settle and found.verdict != FINE else ""
    return found.verdict, found.question, found.answer + settle


def _claim(claim: Claim) -> tuple[str, str, str]:
    why = claim.why
    why += f"\nagainst it: {', '.join(claim.against)}" if claim.against else ""
    why += f"\nunchecked: {', '.join(claim.unchecked)}" if claim.unchecked else ""
    for run in claim.runs:
        where = " ".join(f"{name}={value:.4g}" for name, value in run.at.items())
        why += f"\n→ {run.replicates} × {where}: {run.why}"
    return claim.mark, claim.statement, why


def _table(titles: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> Any:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, ratio in zip(titles, (None, 2, 5), strict=True):
        made.add_column(title, ratio=ratio, no_wrap=ratio is None, header_style="dim")
    for mark, left, right in rows:
        made.add_row(f"[{COLOURS[mark]}]{mark}[/]", _plain(left), _plain(right))
    return made


def _plain(text: str) -> str:
    """Text whose square brackets are no markup."""
    from rich.markup import escape

    return escape(text)


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in Counter(words).most_common()) or "none"
