"""What the numbers do not mean, in plain words: labels, data, decades, seeds, convergence, runs that did not finish."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chemscale.audit.convergence import FEW_UPDATES, Convergence, Points, convergence
from chemscale.audit.groups import Group
from chemscale.audit.values import joined
from chemscale.laws.doubt.identify import LOCAL


def limits(
    groups: Sequence[Group], points: Points, manifests: Mapping[str, Any], studies: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Sentences, the general ones first.

    Args:
        manifests: data content -> manifest, for the data that are on this machine.
        studies: of the store; their own `limits` are repeated.
    """
    lines = [*_data(groups, manifests)]
    for group in groups:
        lines.append(f"{group.title}: {'; '.join(_of_group(group, points))}.")
    lines += _not_finished(groups)
    lines += [_sentence(line) for study in studies.values() for line in study.get("limits", ())]
    return tuple(dict.fromkeys(lines))


def _data(groups: Sequence[Group], manifests: Mapping[str, Any]) -> Iterable[str]:
    contents = {group.content: group for group in groups}
    told = {c: _told(manifests.get(c), g) for c, g in contents.items()}
    everything = " ".join(told.values()).lower()
    if "gfn2" in everything:
        yield (
            "GFN2-xTB labels are not DFT: they are semi-empirical, so these errors and exponents are about learning "
            "GFN2-xTB, and say nothing about the accuracy against DFT or experiment."
        )
    if any("moses" in told[c].lower() and g.family == "text" for c, g in contents.items()):
        yield (
            "MOSES is filtered ZINC: small, drug-like, neutral molecules without stereo. Its losses do not carry over "
            "to wider chemistry."
        )
    if any("moses" in told[c].lower() and g.family != "text" for c, g in contents.items()):
        yield "The structures are fragments of MOSES molecules: small organic ones, displaced from relaxed geometries."
    for content in contents:
        notes = getattr(manifests.get(content), "notes", {}) or {}
        yield from (_sentence(str(line)) for line in notes.get("limits", ()))


def _told(manifest: Any, group: Group) -> str:
    """All text in which a data set may say where it is from."""
    if manifest is None:
        return group.source
    return f"{group.source} {manifest.source} {manifest.citation} {dict(manifest.notes)}"


def _of_group(group: Group, points: Points) -> Iterable[str]:
    spans = {axis: decades(row[axis] for row in group.rows) for axis in ("params", group.data)}
    nouns = {"params": "parameters", group.data: group.data}
    words = [
        f"{span:.1f} decades of {nouns[axis]}" if span else f"one size of {nouns[axis]}" for axis, span in spans.items()
    ]
    short = [nouns[axis] for axis, span in spans.items() if span < LOCAL]
    yield joined(words) + (f", too short to call an exponent of {joined(short)}" if short else "")
    yield _seeds(group)
    yield from _steps(convergence(group.rows, points))
    if group.searched:
        yield f"{group.searched} runs of a search left out for a run of the same cell that validated better"


def decades(values: Iterable[float]) -> float:
    """Span of positive values, in powers of ten."""
    values = list(values)
    return math.log10(max(values) / min(values))


def _seeds(group: Group) -> str:
    cells = Counter((row["params"], row[group.data]) for row in group.rows)
    repeated = [n for n in cells.values() if n > 1]
    if not repeated:
        return "one seed per cell, so the noise between seeds is not measured"
    if len(repeated) == len(cells):
        return f"{min(repeated)} {'' if min(repeated) == max(repeated) else 'or more '}seeds per cell"
    return f"{max(repeated)} seeds in {len(repeated)} of {len(cells)} cells, one in the others"


def _steps(found: Convergence) -> Iterable[str]:
    if found.falling:
        yield (
            f"{found.falling} of {found.judged} runs not converged: when the cooldown began their validation loss "
            "still fell by more than its standard error, so they are limited by steps too"
        )
    elif found.judged:
        yield "every run had stopped falling by more than its standard error when the cooldown began"
    if found.judged < found.runs:
        yield f"{found.runs - found.judged} runs with too few points to judge convergence"
    if found.short:
        yield f"{found.short} runs of fewer than {FEW_UPDATES} updates"
    if found.rose:
        yield f"{found.rose} runs measured at their best validation point: their loss turned up on repeated data"


def _not_finished(groups: Sequence[Group]) -> Iterable[str]:
    rows = {row["run_id"]: row for group in groups for row in group.others if row["status"] != "finished"}
    if rows:
        counts = Counter(row["status"] for row in rows.values())
        named = joined([f"{n} {status}" for status, n in sorted(counts.items())])
        yield f"Not finished: {named}. Such runs are in no law; the table of runs lists them with their reasons."
    else:
        yield "No run of these architectures diverged, failed or was stopped."


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
