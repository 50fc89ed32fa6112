"""The best model, data and architecture for a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.law import Law
from chemscale.laws.prediction import Prediction
from chemscale.laws.readings.verdict import NextRun
from chemscale.plan.cost import UNITS, RunCost, Spend, law_cost
from chemscale.plan.line import USEFUL, Found, Line
from chemscale.plan.worth import SURE, First, Worth, params_or_data, worth_of_labels

SPENT = 0.95  # of a budget, under which data ran out first; sizes are searched in steps that cost up to 3 %
SMALLER = (2.0, 4.0)  # how many times smaller the alternatives are
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Choice:
    """One run to train: its size, data, predicted loss and cost; `cost_ratio` against the budget."""

    params: float
    data: float
    loss: Prediction
    flops: float
    device_hours: float | None
    cost_ratio: float
    money: float | None = None


@dataclass(frozen=True)
class Plan:
    """What to train for a budget.

    answer: one sentence, which begins "cannot tell" where the law does not identify an optimum; best with intervals of
    its size and data over the law's draws, of all data and the largest useful size (see `Line.optimum`) where data run
    out long before the budget; alternatives reach the same predicted loss with a smaller model and more
    data; would_decide lists runs, where the answer is open. worth: what labels are worth to the best run; first:
    whether parameters or data are the better buy at the present largest run. architecture: the one that the plan is
    for; rivals: the plans of the others, and certainty the share of the laws' draws in which none of them is better.
    """

    answer: str
    best: Choice | None
    params_interval: tuple[float, float] | None
    data_interval: tuple[float, float] | None
    alternatives: tuple[Choice, ...]
    would_decide: tuple[NextRun, ...]
    warnings: tuple[str, ...]
    worth: Worth | None = None
    first: First | None = None
    architecture: str | None = None
    rivals: tuple[Plan, ...] = ()
    certainty: float | None = None


def plan(
    law: Law | Mapping[str, Law],
    *,
    flops: float | None = None,
    device_hours: float | None = None,
    money: float | None = None,
    labels: float | None = None,
    cost: RunCost | Mapping[str, RunCost] | None = None,
    price: float | None = None,
    label_price: float = 0.0,
    most_data: float | None = None,
) -> Plan:
    """The parameters and data, and of several laws the architecture, with the lowest predicted loss for a budget.

    law: over params and data; or one for each architecture, of the same loss. Exactly one budget: flops, device_hours,
        money (needs price), or labels: unique data there are, for which the compute-optimal model is sought.
    cost: see `measure_cost`, for each architecture its own; by default the rule that the law measured from its table,
        and 6 N per token where data are tokens.
    price: money per device-hour. label_price: money per label beyond those of the largest run. most_data: unique data
        there are, for the other budgets.

    Raises ValueError for a law over other axes, laws of different losses, a budget that is not one positive number, or
    an unknown cost.
    """
    budgets = {"flops": flops, "device_hours": device_hours, "money": money, "labels": labels}
    unit, budget = one_budget(budgets)
    if most_data is not None and not most_data > 0:
        raise ValueError(f"most_data={most_data!r} must be a positive amount of data.")
    laws = dict(law) if isinstance(law, Mapping) else {None: law}
    if not laws:
        raise ValueError("a plan needs a law, and was given none.")
    _require_alike(laws)
    made = []
    for name, one in laws.items():
        rule = cost.get(str(name)) if isinstance(cost, Mapping) else cost
        owned = float(one.runs.axes["data"].max())
        spend = Spend(rule or law_cost(one), "flops" if unit == "labels" else unit, price, label_price, owned)
        line = Line.through_labels(one, spend, budget) if unit == "labels" else Line(one, spend, budget, most_data)
        made.append((line, _planned(line, name)))
    return made[0][1] if len(made) == 1 else _best_of(made)


def one_budget(budgets: Mapping[str, float | None]) -> tuple[str, float]:
    """The unit and the amount of the only budget; ValueError where there is none, or several, or no positive one."""
    given = {unit: value for unit, value in budgets.items() if value is not None}
    told = ", ".join(f"{unit}={value!r}" for unit, value in given.items()) or "none was given"
    if len(given) != 1 or not all(np.isfinite(value) and value > 0 for value in given.values()):
        raise ValueError(f"give one budget, {', '.join(budgets)}, as a positive number: {told}.")
    return next(iter(given.items()))


def _require_alike(laws: Mapping[Any, Law]) -> None:
    for law in laws.values():
        if law.roles != ("params", "data"):
            raise ValueError(f"a plan needs a law of params and data, and this one is over {', '.join(law.roles)}.")
    losses = {(law.columns["loss"]["name"], law.units, law.columns["data"]["units"]) for law in laws.values()}
    if len(losses) != 1:
        raise ValueError("the laws are of different losses or count data differently, so one cannot be chosen by loss.")


def _planned(line: Line, architecture: str | None) -> Plan:
    """The plan of one law."""
    found, law = line.optimum(), line.law
    first = params_or_data(law, line.spend)
    around = found.params_interval, found.data_interval
    if found.doubt:
        answer = f"{CANNOT_TELL}: {found.doubt}"
        return Plan(
            answer, None, *around, (), _deciding(law), law.warnings, first=first, architecture=architecture
        )  # fmt: skip
    split = found.params, found.data
    smaller = (_same_loss(line, split, found.params / k) for k in SMALLER)
    best, *others = _choices(line, [split, *(one for one in smaller if one)])
    worth = worth_of_labels(law, line.spend, best.params, best.data)
    answer = _sentence(line, found, best, architecture)
    return Plan(answer, best, *around, tuple(others), (), _notes(line, best), worth, first, architecture)


def _choices(line: Line, splits: Sequence[tuple[float, float]]) -> list[Choice]:
    """A choice for each pair of parameters and data."""
    losses = line.law.predictions([{"params": params, "data": data} for params, data in splits])
    return [_choice(line, *split, loss) for split, loss in zip(splits, losses, strict=True)]


def _choice(line: Line, params: float, data: float, loss: Prediction) -> Choice:
    n, d, spend = np.array([params]), np.array([data]), line.spend
    flops = spend.cost.flops(n, d)
    hours = spend.cost.hours(n, flops)
    price = None if spend.price is None or hours is None else float(hours[0]) * spend.price
    money = None if price is None else price + spend.label_price * max(data - spend.owned, 0.0)
    ratio = float(spend.of(n, d)[0] / line.budget)
    return Choice(params, data, loss, float(flops[0]), None if hours is None else float(hours[0]), ratio, money)


def _same_loss(line: Line, best: tuple[float, float], params: float) -> tuple[float, float] | None:
    """A smaller model with the data by which it reaches the best one's loss, where it can within 100 times more."""
    data = best[1] * np.geomspace(1, 100, 2001)
    loss = line.law.losses(params=best[0], data=best[1])[0]
    reached = line.law.losses(params=params, data=data) <= loss
    most = line.most_data or line.labels
    if not reached.any() or (most and data[np.argmax(reached)] > most):
        return None
    return params, float(data[np.argmax(reached)])


def _deciding(law: Law) -> tuple[NextRun, ...]:
    """Runs at the far corners of the fitted box, stretched along the axis that is least known."""
    n, d = (float(law.runs.axes[role].max()) for role in ("params", "data"))
    low_n, low_d = (float(law.runs.axes[role].min()) for role in ("params", "data"))
    return (
        NextRun(3 * n, d, 2, "a larger model at the most data shows what size still buys"),
        NextRun(n, 3 * d, 2, "more data at the largest model shows what data still buy"),
        NextRun(low_n, 3 * d, 2, "the smallest model with much data shows its floor"),
        NextRun(3 * n, low_d, 2, "the largest model with little data keeps size and data apart"),
    )


def _notes(line: Line, best: Choice) -> tuple[str, ...]:
    far = ("the best run lies outside the range that was fitted: an extrapolation",) if best.loss.extrapolates else ()
    short: tuple[str, ...] = ()
    if line.most_data and best.data >= line.most_data * (1 - 1e-9):
        rest = f": {best.cost_ratio:.2g} of the budget is spent" if best.cost_ratio < SPENT else ""
        short = (f"data run out at {line.most_data:.3g}{rest}",)
    return (*far, *short, *line.law.warnings)


def _sentence(line: Line, found: Found, best: Choice, architecture: str | None) -> str:
    law, loss = line.law, best.loss
    paid = f"for {line.budget:.3g} {UNITS[line.spend.unit]}"
    if found.useful:
        paid = (
            f"for {best.cost_ratio * line.budget:.3g} of {line.budget:.3g} {UNITS[line.spend.unit]}, since data run "
            f"out and from that size on ten times the parameters take less than {USEFUL:.0%} off"
        )
    what = f"{architecture} of {best.params:.3g}" if architecture else f"{best.params:.3g}"
    return (
        f"train {what} parameters on {best.data:.3g} {law.columns['data']['units']} {paid}: predicted loss "
        f"{loss.value:.4g}{law.after_loss} ({law.level:.0%} interval {loss.low:.4g} to {loss.high:.4g}) by "
        f"{_named(law)}, with cost {line.spend.cost.source}."
    )


def _named(law: Law) -> str:
    if law.ensemble is None:
        return f"the {law.form} law of {law.n_runs} runs"
    return f"forms weighted by their backtests ({law.form} leads) on {law.n_runs} runs"


def _best_of(made: list[tuple[Line, Plan]]) -> Plan:
    """The plan with the lowest predicted loss, the others as its rivals."""
    told = [(line, one) for line, one in made if one.best is not None]
    if not told:
        head = made[0][1]
        reasons = "; ".join(f"{one.architecture}: {one.answer.removeprefix(f'{CANNOT_TELL}: ')}" for _, one in made)
        return replace(head, answer=f"{CANNOT_TELL}: {reasons}", rivals=tuple(one for _, one in made[1:]))
    told.sort(key=lambda pair: pair[1].best.loss.value if pair[1].best else 0.0)
    best = told[0][1]
    rivals = tuple(one for _, one in (*told[1:], *(m for m in made if m[1].best is None)))
    sure = _certainty(told)
    unknown = [one.architecture for _, one in made if one.best is None]
    left_out = (f"no plan could be made for {', '.join(map(str, unknown))}, so it was not compared",) if unknown else ()
    answer = best.answer
    if sure is not None and sure < SURE:
        answer += f" The choice of architecture is open: it is the best in {sure:.0%} of the laws' draws."
    return replace(best, answer=answer, rivals=rivals, certainty=sure, warnings=(*left_out, *best.warnings))


def _certainty(told: list[tuple[Line, Plan]]) -> float | None:
    """Share of the laws' draws in which the first plan has the lowest loss; None without a rival."""
    if len(told) < 2:
        return None
    losses = [line.loss_draws(one.best.params, one.best.data) for line, one in told if one.best]
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(values, size=4000) for values in losses])
    return float((drawn.argmin(0) == 0).mean())
