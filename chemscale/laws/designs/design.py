"""Which runs to do next, for a target and a budget.

A run at point c adds J(c)^T J(c) / noise^2 to the information M of the parameters, J the derivatives of its log loss,
so what a run would teach is known before it is made. V-optimal designs minimise the error of the target, D-optimal ones
the volume det M^-1 of all parameters, whatever they are for (Fedorov 1972, Theory of optimal experiments; Atkinson,
Donev and Tobias 2007, chapters 10 and 11). M depends on the unknown parameters, so the logarithm is averaged over
plausible ones (Chaloner and Larntz 1989). A V-optimal design also counts how far Student's t widens the interval of a
law with few runs to spare, and that the law is wrong away from the target (see `goals`, `drift`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.designs.belief import Belief
from chemscale.laws.designs.goals import Error, Volume
from chemscale.laws.designs.search import MOST_RUNS, Candidates, Search
from chemscale.laws.designs.spread import Shape, few_runs
from chemscale.laws.objectives import Array

BLIND = ("cheapest", "random")  # rules that look at no law
RULES = ("v", "d", *BLIND)


@dataclass(frozen=True)
class Design:
    """Runs to make, in the order in which they teach most per cost.

    picks: rows of the candidates, repeated where a run is replicated; spent: their cost; before and after: the error
    that the target is expected to have now and with these runs, a standard deviation, in log units for a loss or an
    amplitude, averaged over plausible laws.
    """

    picks: tuple[int, ...]
    spent: float
    before: float
    after: float


def choose_runs(
    beliefs: Belief | Sequence[Belief],
    candidates: Candidates,
    *,
    target: Array | str,
    budget: float,
    rule: str = "v",
    seed: int = 0,
) -> Design:
    """The candidates that a budget is spent on by a rule.

    beliefs: one, or one for each plausible form, over which the gain is averaged. target: a point (axes,) whose loss is
    to be predicted, or the name of a parameter. rule: "v", least error of the target; "d", least volume of everything;
    "cheapest" first; or "random", in an order that `seed` decides and nothing else does.

    Raises ValueError for an unknown rule or parameter, or a budget that pays for no run.
    """
    beliefs = [beliefs] if isinstance(beliefs, Belief) else list(beliefs)
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is not one of {', '.join(RULES)}.")
    if not candidates.affordable([], budget).any():
        raise ValueError(f"budget={budget:.3g} pays for none of the runs that could be made; raise it.")
    errors = [Error(belief, candidates.points, target) for belief in beliefs]
    before = _deviation(errors, [])
    if rule in ("v", "d"):
        picks = _best(beliefs, errors, candidates, budget, rule)
    else:
        count = len(candidates.costs)
        order = np.argsort(candidates.costs) if rule == "cheapest" else np.random.default_rng(seed).permutation(count)
        picks = _in_turn(candidates, order, budget)
    spent = float(candidates.costs[picks].sum())
    return Design(tuple(picks), spent, before, _deviation(errors, picks))


def _best(
    beliefs: Sequence[Belief], errors: Sequence[Error], candidates: Candidates, budget: float, rule: str
) -> list[int]:
    """The runs of the best design that was found, in the order in which they teach most."""
    counts = len(beliefs[0].seen) - max(belief.theta.shape[1] for belief in beliefs) + np.arange(MOST_RUNS + 2)
    if rule == "v":
        goals, few = errors, few_runs(counts)
    else:
        goals, few = [Volume(belief, candidates.points) for belief in beliefs], np.zeros(len(counts))
    shape = Shape.of(beliefs[0].places, candidates.points, few)
    return Search(goals, shape, candidates, budget).best()


def _in_turn(candidates: Candidates, order: np.ndarray, budget: float) -> list[int]:
    """Runs in an order that is given, those that cannot be paid passed over; once each before any is repeated."""
    picks: list[int] = []
    for _ in range(int(candidates.copies.max())):
        for index in order:
            if len(picks) < MOST_RUNS and candidates.affordable(picks, budget)[index]:
                picks.append(int(index))
    return picks


def _deviation(errors: Sequence[Error], picks: Sequence[int]) -> float:
    for error in errors:
        error.take(picks)
    return float(np.exp(np.mean([error.value() for error in errors]) / 2))
