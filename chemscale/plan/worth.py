"""What a label is worth, and whether parameters or data are the better buy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.residuals import interval
from chemscale.laws.law import Law
from chemscale.laws.objectives import Array
from chemscale.plan.cost import Spend

STEP = 1e-3  # natural logs, of numerical slopes
FURTHEST = 1e4  # how many times larger a model may be that stands in for labels
SURE = 0.95  # share of the draws that must agree


@dataclass(frozen=True)
class Worth:
    """What labels are worth to one run.

    per_label: loss that one more unit of data takes off. tenfold: loss that ten times the data takes off, with its
    interval over the law's draws. flops_per_label: FLOPs that, spent on a larger model instead, take off as much as one
    label; money_per_label the same at the price of a device-hour: what a label may cost, training on it included, which
    alone is training_per_label. flops_for_tenfold and money_for_tenfold: the same for ten times the data; None where no
    larger model gets there.
    """

    per_label: float
    tenfold: float
    tenfold_interval: tuple[float, float]
    flops_per_label: float | None
    money_per_label: float | None
    training_per_label: float | None
    flops_for_tenfold: float | None
    money_for_tenfold: float | None


@dataclass(frozen=True)
class First:
    """Parameters or data first: what the loss loses when the cost of the largest run so far is doubled by one alone.

    by_params and by_data: shares of the loss (0.02 = 2 %); probability: share of the law's draws in which data buy
    more; answer: "data", "parameters" or "cannot tell".
    """

    params: float
    data: float
    by_params: float
    by_data: float
    probability: float
    answer: str


def worth_of_labels(law: Law, spend: Spend, params: float, data: float) -> Worth:
    """What labels are worth to a run of these parameters and data."""
    at, more = _losses(law, params, data), _losses(law, params, 10 * data)
    tenfold = at - more
    ends = interval(tenfold[1:], float(tenfold[0]), law.level, law.widening)
    per_label = -_slope(law, params, data, data_by=STEP) / data
    per_size = max(-_slope(law, params, data, params_by=STEP), 0.0)
    sizes = per_label / per_size if per_size > 0 else np.inf
    instead = _larger(law, params, data, float(more[0]))
    flops_each, flops = _on_size(lambda n: spend.cost.flops(n, data), params, instead, sizes)
    each, money = None, None
    if spend.price is not None and spend.cost.seconds_per_flop is not None:
        each, money = _on_size(lambda n: _training(spend, n, np.array(data)), params, instead, sizes)
    training = None if each is None else _another(spend, params, data)
    return Worth(per_label, float(tenfold[0]), ends, flops_each, each, training, flops, money)


def _on_size(
    cost: Callable[[Array], Array], params: float, instead: float | None, sizes: float
) -> tuple[float | None, float | None]:
    """What it costs to grow a model by `sizes` of a natural log of parameters, and to the size `instead`.

    None where size buys nothing, or a larger model costs no more.
    """
    low, high = cost(params * np.exp(np.array([-STEP, STEP])))
    each = float(high - low) / (2 * STEP) * sizes
    more = None if instead is None else float(cost(np.array(instead)) - cost(np.array(params)))
    return (each if np.isfinite(each) and each > 0 else None), (more if more and more > 0 else None)


def _another(spend: Spend, params: float, data: float) -> float:
    """Money of training on one more unit of data."""
    less, more = _training(spend, np.array(params), data * np.exp(np.array([-STEP, STEP])))
    return float(more - less) / (2 * STEP * data)


def _training(spend: Spend, params: Array, data: Array) -> Array:
    """Money of training."""
    hours = spend.cost.hours(params, spend.cost.flops(params, data))
    assert hours is not None and spend.price is not None
    return hours * spend.price


def params_or_data(law: Law, spend: Spend) -> First:
    """Which of the two to buy first, seen from the largest run that the law was fitted to."""
    n, d = law.runs.axes["params"], law.runs.axes["data"]
    largest = int(np.argmax(spend.of(n, d)))
    params, data = float(n[largest]), float(d[largest])
    twice = 2 * float(spend.of(np.array(params), np.array(data)))
    sizes = params * np.geomspace(1, 64, 4001)
    wider = float(sizes[np.argmin(np.abs(np.log(spend.of(sizes, np.array(data)) / twice)))])
    longer = float(spend.data_for(np.array(params), twice))
    now = _losses(law, params, data)
    by_params, by_data = 1 - _losses(law, wider, data) / now, 1 - _losses(law, params, longer) / now
    probability = float((by_data[1:] > by_params[1:]).mean())
    answer = "data" if probability >= SURE else "parameters" if probability <= 1 - SURE else "cannot tell"
    return First(params, data, float(by_params[0]), float(by_data[0]), probability, answer)


def _losses(law: Law, params: float, data: float) -> Array:
    """Central loss, then that of every draw, (1 + draws,)."""
    x = np.log([[params, data]]) - law.solution.centre
    central = law.losses(params=params, data=data)
    return np.concatenate([central, np.exp(law.log_draws(x)[:, 0])])


def _slope(law: Law, params: float, data: float, params_by: float = 0.0, data_by: float = 0.0) -> float:
    """Change of the loss per unit of the natural log that is stepped."""
    n = params * np.exp(np.array([-params_by, params_by]))
    d = data * np.exp(np.array([-data_by, data_by]))
    low, high = law.losses(params=n, data=d)
    return float((high - low) / (2 * (params_by + data_by)))


def _larger(law: Law, params: float, data: float, loss: float) -> float | None:
    """The smallest larger model that reaches a loss on the same data."""
    sizes = params * np.geomspace(1, FURTHEST, 4001)
    reached = law.losses(params=sizes, data=data) <= loss
    return float(sizes[np.argmax(reached)]) if reached.any() else None
