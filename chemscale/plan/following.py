"""The next runs of a law: what a budget is best spent on to know a target better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.designs.belief import Belief, plausible
from chemscale.laws.designs.design import Pool, design
from chemscale.laws.law import Law
from chemscale.laws.readings.verdict import NextRun
from chemscale.plan.cost import Spend

SIDE = 9  # candidate sizes and amounts of data
LARGER = 3.0  # times the largest run so far; larger ones need code and machines that nobody has tried yet
COPIES = 3  # of one run at most: more seeds are dearer than more cells


@dataclass(frozen=True)
class Following:
    """Runs to make next, the one that teaches most per cost first.

    spent: their cost in the budget's unit. before and after: the standard deviation of the target's log loss (of the
    parameter, where that is the target) from the law's parameters, now and once the runs are made; rivals: the same
    after as much was spent by other rules.
    """

    runs: tuple[NextRun, ...]
    costs: tuple[float, ...]
    spent: float
    before: float
    after: float
    rivals: dict[str, float]


def following(law: Law, spend: Spend, *, budget: float, target: dict[str, float] | str) -> Following:
    """The V-optimal next runs for a budget.

    target: a point, {"params": …, "data": …}, whose loss is to be predicted, or the name of a parameter.

    Raises ValueError for a law of other axes, a target that it does not have, or a budget that pays for no run.
    """
    if law.roles != ("params", "data"):
        raise ValueError(f"next runs need a law of params and data, and this one is over {', '.join(law.roles)}.")
    goal = target if isinstance(target, str) else np.array([_positive(target, role) for role in law.roles])
    pool, beliefs = _candidates(law, spend), [Belief.of(law)] if isinstance(target, str) else plausible(law)
    made = {rule: design(beliefs, pool, target=goal, budget=budget, criterion=rule) for rule in ("v", "d")}
    best = made["v"]
    counted = {pick: best.picks.count(pick) for pick in best.picks}
    runs = tuple(
        NextRun(n, d, count, f"costs {pool.costs[pick] * count / budget:.0%} of the budget")
        for (pick, count), (n, d) in zip(counted.items(), pool.points[list(counted)].tolist(), strict=True)
    )
    costs = tuple(float(pool.costs[pick] * count) for pick, count in counted.items())
    return Following(runs, costs, best.spent, best.before, best.after, {"d-optimal": made["d"].after})


def _positive(target: dict[str, float], role: str) -> float:
    value = target.get(role)
    if value is None or not (np.isfinite(value) and value > 0):
        raise ValueError(f"target={target!r} needs params=… and data=… as positive numbers, or name a parameter.")
    return float(value)


def _candidates(law: Law, spend: Spend) -> Pool:
    """A grid over the fitted runs and a little beyond."""
    axes = [
        np.geomspace(values.min(), LARGER * values.max(), SIDE)
        for values in (law.runs.axes["params"], law.runs.axes["data"])
    ]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    return Pool(points, spend.of(points[:, 0], points[:, 1]), np.full(len(points), COPIES))
