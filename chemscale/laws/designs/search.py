"""The search for a design: runs one by one by what they gain per cost, then exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.designs.goals import Goal
from chemscale.laws.designs.spread import Shape
from chemscale.laws.objectives import Array

THRIFT = (1.0, 0.5, 0.0)  # powers of the cost that a gain is divided by; the best of three greedy designs is kept
MOST_RUNS = 64
PASSES = 2  # rounds of exchange
WORTH = 1e-6  # gain in log variance under which a run is not worth its cost


@dataclass(frozen=True)
class Candidates:
    """Runs that could be made: points (n, axes) in the order of the law's axes, and the cost of each, (n,).

    copies (n,): how often each may be made.
    """

    points: Array
    costs: Array
    copies: Array

    def affordable(self, picks: Sequence[int], budget: float) -> np.ndarray:
        """Which may still be made and paid once these are, (n,) of bool."""
        used = np.bincount(np.asarray(picks, int), minlength=len(self.costs))
        return (used < self.copies) & (self.costs <= budget - self.costs[list(picks)].sum())


class Search:
    """Designs for a budget, made better step by step."""

    def __init__(self, goals: Sequence[Goal], shape: Shape, candidates: Candidates, budget: float) -> None:
        self.goals, self.shape, self.candidates, self.budget = goals, shape, candidates, budget
        self.price = candidates.costs
        self._set([])

    def best(self) -> list[int]:
        """The best of the greedy designs, after exchanges, ordered so that it teaches most where it is cut short."""
        made = [self._greedy(thrift) for thrift in THRIFT]
        _, thrift, picks = min(made)
        self.price = self.candidates.costs**thrift
        self._set(picks)
        for _ in range(PASSES):
            if not self._exchange():
                break
        return self._in_order()

    def _greedy(self, thrift: float) -> tuple[float, float, list[int]]:
        self.price = self.candidates.costs**thrift
        self._set([])
        self._fill()
        return self._value(), thrift, self.picks

    def _value(self) -> float:
        """What the design is worth, the smaller the better."""
        return float(np.mean([goal.value() for goal in self.goals])) + self.shape.price(self.picks)

    def _in_order(self) -> list[int]:
        chosen, order = list(self.picks), []
        self._set([])
        while chosen:
            gains = np.mean([goal.value() - goal.after()[chosen] for goal in self.goals], axis=0)
            best = int(np.argmax(gains / self.candidates.costs[chosen]))
            order.append(chosen.pop(best))
            self._set(list(order))
        return order

    def _fill(self) -> None:
        """Add what gains most per cost until nothing that can be paid gains."""
        while len(self.picks) < MOST_RUNS:
            gains = self._gains()
            best = int(np.argmax(gains / self.price))
            if not gains[best] > WORTH:
                return
            self._set([*self.picks, best])

    def _gains(self) -> Array:
        """What each run would take off the value; minus infinity where it cannot be paid or is used up, (n,)."""
        after = np.mean([goal.after() for goal in self.goals], axis=0) + self.shape.after(self.picks)
        open_ = self.candidates.affordable(self.picks, self.budget)
        return np.where(open_, self._value() - after, -np.inf)

    def _exchange(self) -> bool:
        """Replace runs one by one by what is better in their place; whether anything changed."""
        changed = False
        for old in list(self.picks):
            before, value = list(self.picks), self._value()
            if old not in before:
                continue
            self._set([*before[: before.index(old)], *before[before.index(old) + 1 :]])
            gains = self._gains()
            if np.isfinite(gains).any():
                self._set([*self.picks, int(np.argmax(gains))])
            self._fill()
            if self._value() < value - WORTH:
                changed = True
            else:
                self._set(before)
        return changed

    def _set(self, picks: list[int]) -> None:
        self.picks = picks
        for goal in self.goals:
            goal.take(picks)
