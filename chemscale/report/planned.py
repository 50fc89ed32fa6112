"""Plans for three budgets: once, ten times and a hundred times what the runs of a data set cost together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from chemscale.audit.groups import Group
from chemscale.audit.values import joined
from chemscale.laws import Law
from chemscale.plan import CANNOT_TELL, Choice, Plan, RunCost, plan, second_opinion
from chemscale.plan.worth import SURE
from chemscale.report.frontier import cost_of
from chemscale.report.labels import labels
from chemscale.report.numbers import count, duration, percent, power, size, with_ends
from chemscale.report.values import Budget, Column, Entry, Option, Planned, Table

TIMES = (1.0, 10.0, 100.0)
NOWHERE = (np.nan, np.nan, np.nan)
Weighted = Callable[[Group], Law] | None  # the law of form="auto" for a group, where its plan wants a second opinion
COLUMNS = (
    Column("budget"), Column("model"), Column("parameters", True), Column("unique data", True), Column("loss", True),
    Column("device time", True), Column("the same loss, half the size"),
)  # fmt: skip


def planned(groups: Sequence[Group], laws: Mapping[str, Law], weighted: Weighted = None) -> tuple[Planned, ...]:
    """One entry per data set and metric, over the architectures whose laws and costs are known.

    weighted: what fits all forms to a group, for a second opinion on its plan for ten times what was spent.
    """
    kinds: dict[tuple[str, ...], list[tuple[Group, Law, RunCost]]] = {}
    for group in groups:
        law, cost = laws.get(group.slug), cost_of(group)
        if law is not None and cost is not None and _plans(group, law):
            kinds.setdefault((group.content, group.precision, group.metric), []).append((group, law, cost))
    return tuple(_planned(members, weighted) for members in kinds.values())


def _plans(group: Group, law: Law) -> bool:
    columns = {"params": "params", "data": group.data}
    return law.roles == ("params", "data") and all(law.columns[r]["name"] == name for r, name in columns.items())


def _planned(members: Sequence[tuple[Group, Law, RunCost]], weighted: Weighted) -> Planned:
    first, law, _ = members[0]
    spent = sum(row["flops"] or 0.0 for group, _, _ in members for row in (*group.whole, *group.others))
    budgets = tuple(_budget(members, times, times * spent) for times in TIMES)
    names = tuple(group.title for group, _, _ in members)
    return Planned(
        f"plan-{first.slug}", names, first.measure.words, first.measure.unit, first.data, spent, law.level, budgets,
        f"ten times what was spent: {_told(first, budgets[1], len(names) > 1)}",
        (*_sentences(first, names, spent, budgets), *_opinions(members, TIMES[1] * spent, weighted)),
        tuple(labels(*one) for one in members),
    )  # fmt: skip


def _budget(members: Sequence[tuple[Group, Law, RunCost]], times: float, flops: float) -> Budget:
    rules = {group.title: cost for group, _, cost in members}
    alone = {group.title: plan(law, flops=flops, cost=cost) for group, law, cost in members}
    options = [_option(alone[group.title], group, law.form) for group, law, _ in members]
    options.sort(key=lambda one: one.loss[0] if one.loss else np.inf)
    known = {group.title: law for group, law, _ in members if alone[group.title].best is not None}
    sure = plan(known, flops=flops, cost=rules).certainty if len(known) > 1 else None
    return Budget(times, flops, tuple(options), sure)


def _opinions(members: Sequence[tuple[Group, Law, RunCost]], flops: float, weighted: Weighted) -> Iterable[str]:
    """What forms weighted by their backtests say of each architecture's plan for ten times what was spent."""
    if weighted is None:
        return
    for group, law, cost in members:
        told = second_opinion(
            lambda group=group: weighted(group),
            lambda other, cost=cost: plan(other, flops=flops, cost=cost),
            plan(law, flops=flops, cost=cost),
            lambda run, group=group: _in_words(run, group),
        )
        yield from (f"{_times(TIMES[1])}, {group.title}: {line}." for line in told)


def _in_words(run: Choice, group: Group) -> str:
    scale = group.measure.scale
    loss, low, high = with_ends(run.loss.value * scale, run.loss.low * scale, run.loss.high * scale)
    where = f"{count(run.params)} parameters on {size(run.data)} {group.data}"
    return f"{where}, {group.measure.words} {loss} {group.measure.unit} ({low} to {high})"


def _option(found: Plan, group: Group, form: str) -> Option:
    best, scale = found.best, group.measure.scale
    if best is None or found.params_interval is None or found.data_interval is None:
        return Option(group.title, NOWHERE, NOWHERE, None, None, None, _doubt(found))
    smaller = next(((one.params, one.data, one.flops) for one in found.alternatives), None)
    return Option(
        group.title, (best.params, *found.params_interval), (best.data, *found.data_interval),
        (best.loss.value * scale, best.loss.low * scale, best.loss.high * scale),
        None if best.device_hours is None else 3600 * best.device_hours, smaller, None, form.replace("_", " "),
    )  # fmt: skip


def _doubt(found: Plan) -> str:
    """Why there is no plan, without the numbers behind it."""
    return found.answer.removeprefix(f"{CANNOT_TELL}: ").partition(" (")[0]


def _sentences(first: Group, names: Sequence[str], spent: float, budgets: Sequence[Budget]) -> Iterable[str]:
    head = " or ".join(names)
    yield f"{head}: all runs together cost {power(spent)} FLOPs."
    told = {budget.times: _told(first, budget, len(names) > 1) for budget in budgets}
    if len(set(told.values())) == 1:
        yield f"Once, ten or a hundred times as much: {told[budgets[0].times]}"
        return
    for times, words in told.items():
        yield f"{_times(times)}: {words}"
    if any(budget.certainty is not None and budget.certainty < SURE for budget in budgets):
        yield f"Where that share is under {percent(SURE)}, the choice of architecture is open."


def _told(first: Group, budget: Budget, several: bool) -> str:
    return _said(first, budget, several) if budget.options[0].loss else _open(budget, several)


def _said(first: Group, budget: Budget, several: bool) -> str:
    best = budget.options[0]
    assert best.loss is not None
    loss, low, high = with_ends(*best.loss)
    sure = "" if budget.certainty is None else f", the better choice in {percent(budget.certainty)} of the laws’ draws"
    model = f"{best.model} of " if several else ""
    return (
        f"{model}{count(best.params[0])} parameters on {size(best.data[0])} {first.data}{sure}, for a "
        f"{first.measure.words} of {loss} {first.measure.unit} ({low} to {high}) by the {best.form} law."
    )


def _open(budget: Budget, several: bool) -> str:
    reasons = {
        one.doubt: [other.model for other in budget.options if other.doubt == one.doubt] for one in budget.options
    }
    if not several:
        return f"cannot tell: {budget.options[0].doubt}."
    return "cannot tell; " + "; ".join(f"{joined(models)}: {reason}" for reason, models in reasons.items()) + "."


def _times(times: float) -> str:
    return "As much as that" if times == 1 else f"{times:,.0f} × as much"


def table(found: Planned) -> Table:
    """Every option of every budget; no rows where none is known."""
    known = [budget for budget in found.budgets if budget.options[0].loss is not None]
    rows = [_row(budget, option) for budget in known for option in budget.options]
    return Table(COLUMNS, tuple(rows))


def _row(budget: Budget, option: Option) -> tuple[Entry, ...]:
    head = (Entry(f"{budget.times:,.0f} ×, {power(budget.flops)}", budget.flops), Entry(option.model))
    if option.loss is None:
        return (*head, *(Entry("") for _ in range(4)), Entry(f"cannot tell: {option.doubt}"))
    loss, low, high = with_ends(*option.loss)
    instead = "not within 100 × the data"
    if option.smaller is not None:
        params, data, flops = option.smaller
        instead = f"{count(params)} on {size(data)}, {flops / budget.flops:.2g} × the compute"
    time = "not measured" if option.seconds is None else duration(option.seconds)
    return (
        *head, Entry(f"{count(option.params[0])} ({count(option.params[1])} to {count(option.params[2])})"),
        Entry(f"{size(option.data[0])} ({size(option.data[1])} to {size(option.data[2])})"),
        Entry(f"{loss} ({low} to {high})"), Entry(time), Entry(instead),
    )  # fmt: skip
