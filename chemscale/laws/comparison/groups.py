"""Groups of runs that may be compared: from laws or from a table, by one yardstick, over one range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from chemscale.laws.doubt.identify import distinct, refuse_unfit, usual_form
from chemscale.laws.errors import naming
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.law import Law
from chemscale.laws.request import axes_of
from chemscale.laws.tables.columns import Columns, number, split
from chemscale.laws.tables.copies import without_copies
from chemscale.laws.tables.meaning import SEPARATING
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.table import Rows, rows

SIZES = {
    "params": ("params", "params_all", "capacity"),
    "data": ("data", "structures", "molecules", "tokens", "atoms"),
}  # columns that count an axis, for laws along another one
YARDSTICKS = tuple(name for name in (*SEPARATING, "test_checksum") if name != "architecture")


@dataclass(frozen=True)
class Group:
    """One group's runs: checked arrays for the joint law, and columns for pairing and for costs."""

    runs: Rows
    columns: Columns


def laws_in(given: tuple[Any, ...]) -> dict[str, Law]:
    """The laws given, by name; none where a table was given."""
    if len(given) == 1 and isinstance(given[0], Mapping) and all(isinstance(v, Law) for v in given[0].values()):
        return {str(name): law for name, law in given[0].items()}
    if not given or not all(isinstance(law, Law) for law in given):
        return {}
    names = [str(law.provenance.get("where") or f"law {k}") for k, law in enumerate(given, start=1)]
    if len(set(names)) < len(names):
        names = [f"law {k}" for k in range(1, len(given) + 1)]
    return dict(zip(names, given, strict=True))


def one_form(laws: Mapping[str, Law]) -> str:
    """The form that all laws have, or a ValueError."""
    forms = {law.form for law in laws.values()}
    if len(forms) > 1:
        raise ValueError(f"the laws have the forms {', '.join(sorted(forms))}; name the one to compare by with form=.")
    return forms.pop()


def of_law(law: Law) -> Group:
    """The runs that a law was fitted to; ValueError where some of their losses are bounds."""
    runs, bounds = law.runs, int((~law.runs.measured).sum())
    if bounds:
        raise ValueError(
            f"{bounds} of the law's losses are upper bounds of stopped runs, of which a comparison knows nothing; fit "
            f"it without censored to the runs that finished."
        )
    columns = {runs.columns[role]: values.tolist() for role, values in runs.axes.items()}
    if runs.flops is not None:
        columns["flops"] = runs.flops.tolist()
    return Group(runs, {**columns, runs.columns["loss"]: runs.loss.tolist()})


def of_table(
    table: Any, by: str, loss: str, given: dict[str, str], where: str | None, form: str | None, noise_floor: float
) -> tuple[dict[str, Group], tuple[str, ...]]:
    """The finished runs of each value of `by`, and what was left out; given: role -> column."""
    columns, notes = select(table, where, loss=loss)
    axes = axes_of(columns, form or ("power" if given else "chinchilla"), given, loss)
    columns, copied = without_copies(columns, {**axes, "by": by}, loss)
    every = split(columns, by)
    unnamed = len(every.pop(None)[loss]) if None in every and loss in columns else 0
    left = (f"left out {unnamed} runs without a value of {by}",) if unnamed else ()
    groups = {}
    for value, part in every.items():
        if str(value) in groups:
            raise ValueError(f"by={by!r} holds {value!r} as a number and as text; write it in one way.")
        with naming(f"{by}={value}"):
            groups[str(value)] = Group(rows(part, axes, loss, noise_floor=noise_floor), part)
    return groups, (*notes, *copied, *left)


def ordered(names: tuple[str, ...], reference: Any, by: str) -> tuple[str, ...]:
    """The groups, the reference first; ValueError for a single group or an unknown reference."""
    if len(names) < 2:
        raise ValueError(f"{by} has the single group {names[0] if names else 'none'}; a comparison needs two or more.")
    if reference is None:
        return names
    if str(reference) not in names:
        raise ValueError(f"reference={str(reference)!r} is not a group of {by}; there are {', '.join(names)}.")
    return (str(reference), *(name for name in names if name != str(reference)))


def refuse_unlike(groups: Mapping[str, Group], by: str) -> None:
    """Raise ValueError where losses of the groups are not measured by one yardstick."""
    first, *others = groups
    for other in others:
        a, b = groups[first].runs, groups[other].runs
        for role in (*a.axes, "loss"):
            here, there = (f"{r.columns.get(role)} in {r.units.get(role)}" for r in (a, b))
            if here != there:
                raise ValueError(
                    f"{by}={first} has {here} as its {role} and {by}={other} {there}; only the same quantity compares."
                )
    for name in YARDSTICKS:
        if name == by:
            continue
        seen = {group: {str(v) for v in part.columns.get(name, []) if v is not None} for group, part in groups.items()}
        if len(set().union(*seen.values())) > 1:
            shown = ", ".join(f"{group}: {'/'.join(sorted(values)) or 'none'}" for group, values in seen.items())
            raise ValueError(
                f"the groups of {by} differ in {name} ({shown}), so their losses do not compare; use --where or runs "
                f"that share it."
            )


def form_for(form: str | None, parts: Mapping[str, Rows]) -> Form:
    """The form asked for, or the usual one over the axes of the groups."""
    roles = tuple(next(iter(parts.values())).axes)
    fewest = min(parts.values(), key=lambda part: distinct(part.axes[roles[0]]))
    return choose(form or usual_form(fewest.axes), roles)


def refuse_apart(parts: Mapping[str, Rows], form: Form, by: str) -> None:
    """Raise where a group has too few runs for the form, or where groups were not run over one range."""
    for name, part in parts.items():
        with naming(f"{by}={name}"):
            refuse_unfit(form, part)
    first, *others = parts
    for role in form.roles:
        a = parts[first].axes[role]
        for other in others:
            b = parts[other].axes[role]
            if max(a.min(), b.min()) > min(a.max(), b.max()):
                raise ValueError(
                    f"{by}={first} and {by}={other} share no range of {role} ({a.min():.3g} to {a.max():.3g} against "
                    f"{b.min():.3g} to {b.max():.3g}): what differs could be the scale and not the {by}; run both over "
                    f"one range."
                )


def apart_beside(groups: Mapping[str, Group], form: Form, by: str) -> tuple[str, ...]:
    """Sentences where groups share no range of a size that their table counts and their law has no term for."""
    first, *others = groups
    said = []
    for role, counts in SIZES.items():
        name = next((one for one in counts if all(one in group.columns for group in groups.values())), None)
        if role in form.roles or name is None:
            continue
        spans = {group: _span(part.columns[name]) for group, part in groups.items()}
        low, high = spans[first]
        off = [other for other in others if max(low, spans[other][0]) > min(high, spans[other][1])]
        if off:
            theirs = ", ".join(f"{other} {spans[other][0]:.3g} to {spans[other][1]:.3g}" for other in off)
            said.append(
                f"{by}={first} was run at {low:.3g} to {high:.3g} {name}, {theirs}: no range in common, and no "
                f"term for it in the law over {' and '.join(form.roles)}: what differs may be size and not {by}"
            )
    return tuple(said)


def _span(values: list[Any]) -> tuple[float, float]:
    """Least and largest of the numbers among them; of none the whole line, which is apart from nothing."""
    found = [one for one in map(number, values) if one is not None and isfinite(one)]
    return (min(found), max(found)) if found else (-inf, inf)
