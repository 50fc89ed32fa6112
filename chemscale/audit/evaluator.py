"""By what the runs of a law were measured: one metric, one test set, one way of measuring."""

from __future__ import annotations

import json
from typing import Any

from chemscale.audit.subject import Subject
from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, Finding, joined, plural

EVALUATOR = "By what was every run measured, and was it one evaluator?"
NAMED = (  # columns in which tables name what measured a loss
    "evaluator", "evaluation", "eval", "eval_set", "eval_dataset", "benchmark", "scorer", "harness", "metric",
)  # fmt: skip
SHOWN = 3  # values of a column
SHORT = 8  # characters of a checksum


def evaluator(subject: Subject) -> Finding:
    """The metric and what measured it, of all runs; several are a concern, whatever the law says of them together."""
    measured = _measured(subject)
    several = {name: values for name, values in measured.items() if len(values) > 1}
    numbers: dict[str, Any] = {name: list(values) for name, values in measured.items()}
    if several:
        told = "; ".join(
            f"{plural(len(values), 'value')} of {name} ({', '.join(values[:SHOWN])}{', …' * (len(values) > SHOWN)})"
            for name, values in several.items()
        )
        settle = f"a law for each ({subject.loss} by {next(iter(several))}), or all runs measured again by one"
        return Finding("evaluator", EVALUATOR, CONCERN, told, settle, numbers)
    if not measured:
        told = f"the table names no evaluator of {subject.loss}, only the column"
        return Finding("evaluator", EVALUATOR, CANNOT_TELL, told, f"a column such as {joined(NAMED[:2])}", numbers)
    shown = ", ".join(f"{name} {values[0]}" for name, values in measured.items())
    return Finding("evaluator", EVALUATOR, FINE, f"all {len(subject.whole):,} runs by one: {shown}", "", numbers)


def _measured(subject: Subject) -> dict[str, list[str]]:
    """What says how a loss was measured -> its different values, those of `subject.loss` itself left out."""
    if subject.group is not None:
        found = {
            "metric": {subject.loss},
            "rule": set(map(_text, subject.all_values("law_rule"))),
            "test set": {_text(value)[:SHORT] for value in subject.all_values("test_checksum")},
            "test examples": set(map(_text, subject.all_values("test_examples"))),
            "asked of the test set": {_asked(spec) for spec in set(subject.all_values("spec")) if spec},
        }
    else:
        found = {name: set(map(_text, subject.all_values(name))) for name in NAMED if name != subject.loss}
    return {name: sorted(kept) for name, values in found.items() if (kept := values - {""})}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _asked(spec: str) -> str:
    """How much of the test set the spec asks for."""
    count = (json.loads(spec).get("evaluation") or {}).get("test")
    return "all of it" if count is None else f"{count} examples"


CHECKS = (evaluator,)
