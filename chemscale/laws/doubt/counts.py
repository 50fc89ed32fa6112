"""The law with an axis counted otherwise: with or without embeddings, in tokens or in molecules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chemscale.laws.doubt.identify import decades
from chemscale.laws.doubt.influence import View
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import refit
from chemscale.laws.tables.columns import Columns, positive

SAME_COUNT = 0.01  # decades; a second count that keeps to a fixed ratio of the first within this moves no exponent
COUNTED = {  # what may count an axis, by name; a column that holds one of these is tried in the axis' place
    "params": ("param",),
    "data": ("tokens", "molecules", "structures", "atoms"),
}
ANOTHER = ("seen", "hyper")  # repeats counted, and settings: quantities of their own


@dataclass(frozen=True)
class Recount:
    """The exponents where an axis is counted by another column of the table; `moved` as in `Without`."""

    role: str
    column: str
    exponents: dict[str, float]
    moved: tuple[str, ...]


def counts_beside(columns: Columns, roles: Mapping[str, str], named: Sequence[str] = ()) -> dict[str, Any]:
    """Other counts of the axes in a table: column -> (role, values (n,)).

    `named` columns count parameters whatever they are called, and must be positive numbers; others are found by name.
    """
    found: dict[str, Any] = {name: ("params", positive(columns, name, "counts")) for name in named}
    for role, column in roles.items():
        for name in columns:
            plain = name.lower()
            if name in roles.values() or name in found or any(word in plain for word in ANOTHER):
                continue
            values = _counts(columns, name) if any(word in plain for word in COUNTED.get(role, ())) else None
            if values is not None and decades(values / positive(columns, column, role)) > SAME_COUNT:
                found[name] = (role, values)
    return found


def _counts(columns: Columns, name: str) -> Array | None:
    """A column as counts, or None where it is none: a missing value, text, a share or a rate."""
    try:
        values = positive(columns, name, name)
    except ValueError:
        return None
    return values if values.min() >= 1 and decades(values) > SAME_COUNT else None


def recounts(view: View, theta: Array, counts: Mapping[str, tuple[str, Array]]) -> Iterable[Recount]:
    """The fit by each other count; counts: column -> (role, values (n,))."""
    problem = view.problem
    for column, (role, values) in counts.items():
        if role not in problem.form.roles:
            continue
        other = replace(view.runs, axes={**view.runs.axes, role: values})
        again = Problem.over(problem.form, problem.objective, other)
        read = replace(view, problem=again, runs=other).read(refit(again, again.log_loss, again.weights[None], theta))
        exponents = {name: float(found[0]) for name, found in read[0].items()}
        yield Recount(role, column, exponents, view.moved(exponents))
