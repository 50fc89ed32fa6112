"""The next runs of a law: what a budget is best spent on to know a target better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.designs.belief import PLAUSIBLE, plausible
from chemscale.laws.designs.design import RULES, choose_runs
from chemscale.laws.designs.search import Candidates
from chemscale.laws.law import Law
from chemscale.laws.readings.verdict import NextRun
from chemscale.plan.cost import Spend

SIDE = 9  # candidate sizes and amounts of data
LARGER = 3.0  # times the largest run so far; larger ones need code and machines that nobody has tried yet
COPIES = 3  # of one run at most: more seeds are dearer than more cells


@dataclass(frozen=True)
class Following:
    """Runs to make next, the one that teaches most per cost first.

    rule: by which they were chosen. spent: their cost in the budget's unit. before and after: the error of the target's
    log loss (of the parameter, where that is the target) that is expected, as a standard deviation, now and once the
    runs are made; rivals: the same after as much was spent by each of the other rules.
    """

    rule: str
    runs: tuple[NextRun, ...]
    costs: tuple[float, ...]
    spent: float
    before: float
    after: float
    rivals: dict[str, float]


def following(law: Law, spend: Spend, *, budget: float, target: dict[str, float] | str, rule: str = "v") -> Following:
    """The next runs for a budget.

    target: a point, {"params": …, "data": …}, whose loss is to be predicted, or the name of a parameter. rule: as of
    `choose_runs`; "v" for the least error of the target.

    Raises ValueError for a law of other axes, a target that it does not have, an unknown rule, or a budget that is no
    positive number or pays for no run.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is not one of {', '.join(RULES)}.")
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget={budget!r} must be a positive number.")
    if law.roles != ("params", "data"):
        raise ValueError(f"next runs need a law of params and data, and this one is over {', '.join(law.roles)}.")
    goal = target if isinstance(target, str) else np.array([_positive(target, role) for role in law.roles])
    candidates, beliefs = _candidates(law, spend), plausible(law, () if isinstance(target, str) else PLAUSIBLE)
    made = {name: choose_runs(beliefs, candidates, target=goal, budget=budget, rule=name) for name in RULES}
    best = made.pop(rule)
    counted = {pick: best.picks.count(pick) for pick in best.picks}
    runs = tuple(
        NextRun(n, d, count, f"costs {candidates.costs[pick] * count / budget:.0%} of the budget")
        for (pick, count), (n, d) in zip(counted.items(), candidates.points[list(counted)].tolist(), strict=True)
    )
    costs = tuple(float(candidates.costs[pick] * count) for pick, count in counted.items())
    rivals = {name: found.after for name, found in made.items()}
    return Following(rule, runs, costs, best.spent, best.before, best.after, rivals)


def _positive(target: dict[str, float], role: str) -> float:
    value = target.get(role)
    if value is None or not (np.isfinite(value) and value > 0):
        raise ValueError(f"target={target!r} needs params=… and data=… as positive numbers, or name a parameter.")
    return float(value)


def _candidates(law: Law, spend: Spend) -> Candidates:
    """A grid over the fitted runs and a little beyond."""
    axes = [
        np.geomspace(values.min(), LARGER * values.max(), SIDE)
        for values in (law.runs.axes["params"], law.runs.axes["data"])
    ]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    return Candidates(points, spend.of(points[:, 0], points[:, 1]), np.full(len(points), COPIES))
