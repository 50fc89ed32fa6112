"""What the choice of runs lets a law say: spans, seeds, repeats, axes that move together, single runs that decide."""

from __future__ import annotations

import numpy as np

from chemscale.audit.residual import settings_of
from chemscale.audit.subject import Subject
from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, Finding, Verdict, decades_text, joined, plural
from chemscale.laws import Law
from chemscale.laws.doubt.identify import LOCAL
from chemscale.laws.doubt.influence import FAR_OFF, Without
from chemscale.laws.doubt.layout import axis_of, design, leans, repeats

SEEDS = ("seed", "subset_key", "cluster", "replicate", "repeat")  # columns in which replicates differ
UNEXPLAINED = 2.0  # times the error that noise and parameters explain; beyond, the form is wrong out there


def decades(subject: Subject) -> Finding:
    """Whether every axis is long enough for its exponent."""
    axes = {role: axis_of(subject.runs, role) for role in subject.roles}
    short = [subject.nouns[role] for role, axis in axes.items() if axis.decades < LOCAL]
    told = [
        f"{decades_text(a.decades, LOCAL)} decades of {subject.nouns[r]} in {plural(a.levels, 'size')}"
        for r, a in axes.items()
    ]
    numbers = {a.column: {"decades": a.decades, "levels": a.levels, "top_share": a.top_share} for a in axes.values()}
    if short:
        longer = f"runs until {' and '.join(short)} span {LOCAL:g} decades"
        return _said("decades", CONCERN, f"{' and '.join(told)}: a slope there, no exponent", longer, numbers)
    return _said("decades", FINE, " and ".join(told), "", numbers)


def collinear(subject: Subject) -> Finding:
    """Whether the axes vary apart from each other."""
    together, spare, ratio = design(subject.runs, subject.roles)
    if together is None or spare is None or ratio is None:
        return _said("collinear", FINE, "fewer than two axes vary, so no two can be confused")
    numbers = {"correlation": together, "spare_decades": spare, "ratio_decades": ratio}
    if subject.law is not None and subject.law.hygiene is not None:
        numbers["condition"] = subject.law.hygiene.condition
    told = f"correlation of logs {together:.2f}; given one axis the other varies by {spare:.2g} decades"
    if leans(together, spare):
        return _said(
            "collinear", CONCERN, told, "runs off the ray: large models on few data, small ones on many", numbers
        )
    return _said("collinear", FINE, told, "", numbers)


def replicates(subject: Subject) -> Finding:
    """Whether the noise between seeds was measured: two runs of one cell that differ in nothing else."""
    others = [labels for name, labels in settings_of(subject) if name not in SEEDS]
    points = np.column_stack([*(subject.runs.axes[role] for role in subject.roles), *others])
    _, sizes = np.unique(points, axis=0, return_counts=True)
    repeated = int((sizes > 1).sum()) if repeats(subject.runs, subject.roles)[1] else 0
    numbers = {"cells": len(sizes), "repeated": repeated}
    if repeated:
        return _said("replicates", FINE, f"{repeated} of {len(sizes)} cells were run more than once", "", numbers)
    told = f"no cell was run twice (of {len(sizes)}), so noise cannot be told from a wrong form"
    return _said("replicates", CONCERN, told, "two more seeds at the corners of the grid", numbers)


def duplicates(subject: Subject) -> Finding:
    """Whether rows repeat each other."""
    found, _ = repeats(subject.every_run, subject.roles)
    if found:
        told = f"{found} of {len(subject.whole)} rows repeat the axes and the loss of an earlier one exactly"
        settle = "drop the copies, which are no replicates; a law here counts each once, and other tools may not"
        return _said("duplicates", CONCERN, told, settle, {"rows": found})
    return _said("duplicates", FINE, "no two rows are alike", "", {"rows": 0})


def influence(subject: Subject) -> Finding:
    """Whether single runs decide the law."""
    law = subject.law
    if law is None or law.hygiene is None or not law.hygiene.alone:
        return _said("influence", CANNOT_TELL, subject.lawless or "too few runs to leave one out", "a law that fits")
    found = law.hygiene
    worst = next((one for one in found.alone if one.moved), found.alone[0])
    shift = abs(worst.farthest / found.farthest - 1)
    moves = [f"{name} from {found.exponents[name]:.3g} to {value:.3g}" for name, value in worst.exponents.items()]
    told = (
        f"without the run that counts most ({_at(subject, worst)}) the loss at ten times all axes moves by {shift:.1%}"
    )
    told = joined([told, *moves])
    loose = [name for name in found.exponents if law.parameters[name] is None]
    told += f"; {joined(loose)} {'are' if len(loose) > 1 else 'is'} not identified by all runs either" if loose else ""
    numbers = {"farthest_shift": shift, "moved": list(worst.moved)}
    if worst.moved or (found.together and found.together.moved):
        return _said("influence", CONCERN, told, f"other seeds of {_at(subject, worst)}", numbers)
    if loose:
        return _said("influence", CANNOT_TELL, told, "longer axes, or a form with fewer parameters", numbers)
    return _said("influence", FINE, told, "", numbers)


def outliers(subject: Subject) -> Finding:
    """Whether runs lie far off the law."""
    law = subject.law
    if law is None or law.hygiene is None:
        return _said("outliers", CANNOT_TELL, subject.lawless, "a law that fits")
    off = law.hygiene.outliers
    numbers = {"runs": [{**_place(law, i), "loss": float(law.runs.loss[i])} for i in off]}
    if off:
        first = " ".join(f"{name}={value:.4g}" for name, value in _place(law, off[0]).items())
        told = f"{len(off)} of {plural(law.n_runs, 'run')} lie more than {FAR_OFF:g} noise widths off, e.g. {first}"
        return _said("outliers", CONCERN, told, "a look at these runs: their curves, or other seeds", numbers)
    return _said(
        "outliers", FINE, f"none of {plural(law.n_runs, 'run')} lies {FAR_OFF:g} noise widths off", "", numbers
    )


def _place(law: Law, run: int) -> dict[str, float]:
    return {law.runs.columns[role]: float(values[run]) for role, values in law.runs.axes.items()}


def _at(subject: Subject, one: Without) -> str:
    where = " ".join(f"{subject.places[role]}={value:.4g}" for role, value in one.at.items())
    return f"{where}, loss {one.loss:.4g}"


def identified(subject: Subject) -> Finding:
    """Whether the law's parameters are identified."""
    law, refusal = subject.fitted
    if law is None:
        return _said("identified", CONCERN, f"no law: {refusal}", "more runs where the sentence says")
    lost = [name for name, value in law.parameters.items() if value is None]
    numbers = {"parameters": dict(law.parameters), "at_bounds": list(law.hygiene.at_bounds) if law.hygiene else []}
    if lost:
        why = [text for text in law.warnings if "not identified" in text]
        return _said("identified", CONCERN, "; ".join(why), "longer axes, or a form with fewer parameters", numbers)
    return _said("identified", FINE, f"all of {', '.join(law.parameters)} lie inside their bounds", "", numbers)


def form(subject: Subject) -> Finding:
    """Whether the law foretells its largest runs."""
    law = subject.law
    if law is None or law.backtest is None:
        notes = [text for text in law.warnings if text.startswith("no backtest")] if law else [subject.lawless]
        return _said(
            "form", CANNOT_TELL, "; ".join(notes) or "no backtest", "runs enough to hold out the largest fifth"
        )
    test = law.backtest
    expected = max(test.rmsle**2 - test.form_error**2, 0.0) ** 0.5
    numbers = {"rows": test.rows, "rmsle": test.rmsle, "expected": expected, "form_error": test.form_error}
    explained = f"explain {expected:.2%}" if test.form_error else "explain that"
    told = (
        f"fitted without its {plural(test.rows, 'largest run')}, {law.form} misses them by {test.rmsle:.2%}; noise and "
        f"parameters {explained}"
    )
    if test.rmsle > UNEXPLAINED * expected:
        return _said("form", CONCERN, told, "another form (--form auto), or runs nearer to the horizon", numbers)
    return _said("form", FINE, told, "", numbers)


def definitions(subject: Subject) -> Finding:
    """Whether exponents hang on how an axis was counted."""
    law = subject.law
    if law is None or law.hygiene is None:
        return _said("definitions", CANNOT_TELL, subject.lawless, "a law that fits")
    found = law.hygiene
    if not found.recounts:
        told = f"the table counts {' and '.join(f'{r} only as {c}' for r, c in subject.places.items())}"
        return _said(
            "definitions", CANNOT_TELL, told, "all and non-embedding parameters, unique and seen data (--counts COL)"
        )
    parts, moved = [], []
    for one in found.recounts:
        name = law.shape.exponent_of(one.role)
        as_is, other = found.exponents[name], one.exponents[name]
        parts.append(f"{name} {as_is:.3g} as {subject.places[one.role]}, {other:.3g} as {one.column}")
        moved += [one.column] if one.moved else []
    numbers = {one.column: dict(one.exponents) for one in found.recounts}
    if moved:
        return _said(
            "definitions", CONCERN, "; ".join(parts), "say with every exponent how its axis was counted", numbers
        )
    inside = all(_inside(law, name, v) for one in found.recounts for name, v in one.exponents.items())
    told = "; ".join(parts) + (", inside their intervals" if inside else "")
    return _said("definitions", FINE, told, "", numbers)


def _inside(law: Law, name: str, value: float) -> bool:
    low, high = law.intervals[name]
    return low <= value <= high


QUESTIONS = {
    "decades": "Do the axes span enough decades?",
    "collinear": "Do the axes vary apart from each other?",
    "replicates": "Was the noise between seeds measured?",
    "duplicates": "Do rows repeat each other?",
    "influence": "Do single runs decide the law?",
    "outliers": "Do runs lie far off the law?",
    "identified": "Do the runs identify the law's parameters?",
    "form": "Does the law foretell the largest runs?",
    "definitions": "Do exponents hang on how N and D are counted?",
}


def _said(check: str, verdict: Verdict, answer: str, settle: str = "", numbers: dict | None = None) -> Finding:
    return Finding(check, QUESTIONS[check], verdict, answer, settle, numbers or {})


CHECKS = (decades, collinear, replicates, duplicates, influence, outliers, identified, form, definitions)
