"""The laws of a report: those that were given, each put to the runs it was fitted to, or a Chinchilla law per group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import FitError, Law, fit
from chemscale.laws.doubt.identify import LOCAL
from chemscale.laws.readings.slopes import TOO_SHORT
from chemscale.report.numbers import readable, significant, with_ends
from chemscale.report.values import Column, Entry, Table

BOOTSTRAP = 400
TOLERANCE = 0.02  # natural logs; ends of an axis that agree to so much are the same runs
Given = Law | Sequence[Law] | Mapping[str, Law] | None


def laws_of(groups: Sequence[Group], given: Given) -> tuple[dict[str, Law], tuple[str, ...]]:
    """Slug of a group -> its law, and sentences on groups that have none.

    Raises:
        ValueError: a given law was fitted to the runs of no group.
    """
    laws, notes = _given(groups, given), []
    for group in groups:
        if group.slug in laws:
            continue
        if given is not None:
            continue
        try:
            law = law_of(group, "chinchilla")
        except (ValueError, FitError) as error:
            notes.append(f"{group.title}: no Chinchilla law, because {error}")
        else:
            laws[group.slug] = law
    for group in groups:
        if group.slug in laws:
            notes += [f"{group.title}: {readable(warning)}" for warning in laws[group.slug].warnings]
    return laws, tuple(dict.fromkeys(notes))


def law_of(group: Group, form: str) -> Law:
    """A law of the group's runs over parameters and data; ValueError or FitError where they bear none."""
    rows = list(group.rows)
    law = fit(rows, form=form, params="params", data=group.data, loss=group.metric, bootstrap=BOOTSTRAP)
    assert isinstance(law, Law)
    return law


def _given(groups: Sequence[Group], given: Given) -> dict[str, Law]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        named = {g.slug: given[g.architecture] for g in groups if g.architecture in given}
        unknown = sorted(set(given) - {g.architecture for g in groups})
        if unknown:
            raise ValueError(f"laws names {unknown[0]!r}, and the store has no finished run of it.")
        return named
    laws = [given] if isinstance(given, Law) else list(given)
    return {_home(groups, law, i): law for i, law in enumerate(laws)}


def _home(groups: Sequence[Group], law: Law, number: int) -> str:
    """The group whose runs span the law's range, or, failing that, contain it."""
    loss = law.columns["loss"]["name"]
    close = [(gap, g.slug) for g in groups if loss in (g.metric, "law_loss") and (gap := _gap(g, law)) is not None]
    if not close:
        raise ValueError(
            f"laws[{number}] ({law.form} of {loss}) was fitted to the runs of no architecture of this store."
        )
    return min(close)[1]


def _gap(group: Group, law: Law) -> float | None:
    """How much wider the group's runs span than the law's, in natural logs; None where the law's reach outside."""
    total = 0.0
    for i, role in enumerate(law.roles):
        column = law.columns[role]["name"]
        values = [row.get(column) for row in group.rows]
        if not all(values):
            return None
        low, high = np.log(min(values)), np.log(max(values))  # type: ignore[type-var]
        law_low, law_high = (end[i] + law.solution.centre[i] for end in (law.solution.low, law.solution.high))
        if law_low < low - TOLERANCE or law_high > high + TOLERANCE:
            return None
        total += (law_low - low) + (high - law_high)
    return float(total)


def law_table(groups: Iterable[Group], laws: Mapping[str, Law]) -> Table:
    """One row per law, a column per parameter with its interval, in the store's units."""
    mine = [(group, laws[group.slug]) for group in groups if group.slug in laws]
    names = list(dict.fromkeys(name for _, law in mine for name in law.parameters))
    columns = [Column("model"), Column("form"), Column("loss"), Column("runs", True), *(Column(n, True) for n in names)]
    rows = [
        (
            Entry(group.title), Entry(law.form.replace("_", " ")),
            Entry(f"{group.metric.replace('_', ' ')}, {law.units}"), Entry(str(law.n_runs), law.n_runs),
            *(_parameter(law, name) for name in names),
        )
        for group, law in mine
    ]  # fmt: skip
    return Table(tuple(columns), tuple(rows))


def _parameter(law: Law, name: str) -> Entry:
    if name not in law.parameters:
        return Entry("")
    value, (low, high) = law.parameters[name], law.interval(name)
    if name in ("alpha", "beta") and _span(law, name) < LOCAL:
        return Entry(TOO_SHORT)
    if value is None:
        return Entry("not identified")
    if high > 10 * max(low, 1e-12):
        ends = f"{significant(low, 2)} to {significant(high, 2) if np.isfinite(high) else '∞'}"
        return Entry(f"{significant(value, 2)} ({ends})", value)
    text, low_text, high_text = with_ends(value, low, high)
    return Entry(f"{text} ({low_text} to {high_text})", value)


def _span(law: Law, name: str) -> float:
    """Decades of the axis that an exponent belongs to: beta to data, alpha to parameters or to a law's one axis."""
    axis = law.roles.index("data") if name == "beta" and "data" in law.roles else 0
    return float(law.solution.high[axis] - law.solution.low[axis]) / np.log(10)
