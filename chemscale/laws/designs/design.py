"""Which runs to do next, for a target and a budget.

A run at point c adds J(c)^T J(c) / noise^2 to the information M of the parameters, J the derivatives of its log loss,
so what a run would teach is known before it is made. V-optimal designs minimise the variance g^T M^-1 g of the target,
g the target's own derivatives; D-optimal ones minimise the volume det M^-1 of all parameters, whatever they are for
(Fedorov 1972, Theory of optimal experiments; Atkinson, Donev and Tobias 2007, chapters 10 and 11). M depends on the
unknown parameters, so the logarithm is averaged over plausible ones (Chaloner and Larntz 1989). A V-optimal design also
counts how far Student's t widens the interval of a law with few runs to spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.stats import t as student

from chemscale.laws.designs.belief import Belief
from chemscale.laws.objectives import Array

CRITERIA = ("v", "d")
SPREAD = 0.25  # decades of data at given parameters; the runs of a design leave no ray narrower than that
OFF_RAY = 4.0  # price of a design on one ray, in log variance
THRIFT = (1.0, 0.5, 0.0)  # powers of the cost that a gain is divided by; the best of three greedy designs is kept
MOST_RUNS = 64
PASSES = 2  # rounds of exchange
MISSING = 2.0  # log variance for each run that is missing to a law with one degree of freedom
WORTH = 1e-6  # gain in log variance under which a run is not worth its cost

_NONE = np.zeros(MOST_RUNS + 2)


@dataclass(frozen=True)
class Pool:
    """Runs that could be made: points (n, axes) in the order of the law's axes, and the cost of each, (n,).

    copies (n,): how often each may be made.
    """

    points: Array
    costs: Array
    copies: Array


@dataclass(frozen=True)
class Design:
    """Runs to make, in the order in which they teach most per cost.

    picks: rows of the pool, repeated where a run is replicated; spent: their cost; before and after: the standard
    deviation of the target now and with these runs, in log units for a loss, averaged over plausible laws.
    """

    picks: tuple[int, ...]
    spent: float
    before: float
    after: float


class _Goal(Protocol):
    def value(self, inverse: Array) -> float: ...
    def after(self, inverse: Array, rows: Array) -> Array: ...


@dataclass(frozen=True)
class _Variance:
    """Mean log variance of what has derivatives g (draws, P)."""

    g: Array

    def value(self, inverse: Array) -> float:
        return float(np.log(np.einsum("kp,kpq,kq->k", self.g, inverse, self.g)).mean())

    def after(self, inverse: Array, rows: Array) -> Array:
        """The value once a run with these derivatives (draws, n, P) is added, (n,)."""
        known = np.matmul(rows, inverse)
        toward = np.einsum("knp,kp->kn", known, self.g)
        own = np.einsum("knp,knp->kn", known, rows)
        now = np.einsum("kp,kpq,kq->k", self.g, inverse, self.g)[:, None]
        return np.log(np.maximum(now - toward**2 / (1 + own), 1e-12 * now)).mean(0)


@dataclass(frozen=True)
class _Volume:
    """Minus the mean log determinant of the information."""

    def value(self, inverse: Array) -> float:
        return float(np.linalg.slogdet(inverse)[1].mean())

    def after(self, inverse: Array, rows: Array) -> Array:
        own = np.einsum("knp,knp->kn", np.matmul(rows, inverse), rows)
        return self.value(inverse) - np.log1p(own).mean(0)


def design(
    beliefs: Belief | Sequence[Belief],
    pool: Pool,
    *,
    target: Array | str,
    budget: float,
    criterion: str = "v",
) -> Design:
    """The runs of the pool that a budget is best spent on.

    beliefs: one, or one for each plausible form, over which the gain is averaged. target: a point (axes,) whose loss is
    to be predicted, or the name of a parameter. criterion: "v", the variance of the target, or "d", of everything.

    Raises ValueError for an unknown criterion or parameter, or a budget that pays for no run.
    """
    beliefs = [beliefs] if isinstance(beliefs, Belief) else list(beliefs)
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r} is not one of {', '.join(CRITERIA)}.")
    if not (pool.costs[pool.copies > 0] <= budget).any():
        raise ValueError(f"budget={budget:.3g} pays for none of the runs that could be made; raise it.")
    searches = [_Search(beliefs, pool, target, budget, criterion, thrift) for thrift in THRIFT]
    return min(searches, key=lambda search: search.value()).improved().result()


class _Search:
    """One greedy design, then exchanges."""

    def __init__(
        self, beliefs: Sequence[Belief], pool: Pool, target: Array | str, budget: float, criterion: str, thrift: float
    ) -> None:
        self.pool, self.budget = pool, budget
        self.price = pool.costs**thrift
        self.parts = [_Part(belief, pool, target, criterion) for belief in beliefs]
        seen = [np.exp(beliefs[0].seen + beliefs[0].centre)] if len(beliefs[0].seen) else []
        self.seen = _moments(np.log10(np.vstack([*seen, np.empty((0, pool.points.shape[1]))]))).sum(0)
        self.each = _moments(np.log10(pool.points))
        self.flat = pool.points.shape[1] < 2  # on one axis there is no ray
        seen_runs, parameters = len(beliefs[0].seen), max(belief.theta.shape[1] for belief in beliefs)
        self.few = _few_runs(seen_runs - parameters + np.arange(MOST_RUNS + 2)) if criterion == "v" else _NONE
        self.picks: list[int] = []
        self._fill()

    @property
    def spent(self) -> float:
        return float(self.pool.costs[self.picks].sum())

    def value(self) -> float:
        ray = self._off_ray(self._moments()[None])[0]
        return float(np.mean([part.value() for part in self.parts]) + ray + self.few[len(self.picks)])

    def _moments(self) -> Array:
        return self.seen + self.each[self.picks].sum(0)

    def _off_ray(self, moments: Array) -> Array:
        return np.zeros(len(moments)) if self.flat else _off_ray(moments)

    def improved(self) -> _Search:
        """After exchanges."""
        for _ in range(PASSES):
            if not self._exchange():
                break
        return self

    def _fill(self) -> None:
        """Add what gains most per cost until nothing that can be paid gains."""
        while len(self.picks) < MOST_RUNS:
            gains = self._gains()
            best = int(np.argmax(gains / self.price))
            if not gains[best] > WORTH:
                return
            self._take(best)

    def _gains(self) -> Array:
        """What each run would take off the value; minus infinity where it cannot be paid or is used up, (n,)."""
        after = np.mean([part.after() for part in self.parts], axis=0)
        after = after + self._off_ray(self._moments() + self.each) + self.few[len(self.picks) + 1]
        used = np.bincount(self.picks, minlength=len(self.pool.costs))
        open_ = (used < self.pool.copies) & (self.pool.costs <= self.budget - self.spent)
        return np.where(open_, self.value() - after, -np.inf)

    def _exchange(self) -> bool:
        """Replace runs one by one by what is better in their place; whether anything changed."""
        changed = False
        for old in list(self.picks):
            before = list(self.picks)
            value = self.value()
            self._set([*before[: before.index(old)], *before[before.index(old) + 1 :]])
            gains = self._gains()
            if np.isfinite(gains).any():
                self._take(int(np.argmax(gains)))
            self._fill()
            if self.value() < value - WORTH:
                changed = True
            else:
                self._set(before)
        return changed

    def _take(self, index: int) -> None:
        self._set([*self.picks, index])

    def _set(self, picks: list[int]) -> None:
        self.picks = picks
        for part in self.parts:
            part.set(picks)

    def result(self) -> Design:
        """Ordered so that a design that is cut short has already taught most."""
        chosen, order = list(self.picks), []
        after = self._deviation()
        self._set([])
        before = self._deviation()
        while chosen:
            gains = np.mean([part.value() - part.after()[chosen] for part in self.parts], axis=0)
            best = int(np.argmax(gains / self.pool.costs[chosen]))
            order.append(chosen.pop(best))
            self._take(order[-1])
        return Design(tuple(order), self.spent, before, after)

    def _deviation(self) -> float:
        return float(np.exp(np.mean([part.variance() for part in self.parts]) / 2))


class _Part:
    """One belief's information as runs are taken."""

    def __init__(self, belief: Belief, pool: Pool, target: Array | str, criterion: str) -> None:
        self.rows = belief.slopes(pool.points) / belief.noise
        self.start = belief.information()
        self.target = _Variance(_derivatives(belief, target))
        self.goal: _Goal = self.target if criterion == "v" else _Volume()
        self.set([])

    def set(self, picks: Sequence[int]) -> None:
        """Take these runs and no other."""
        taken = self.rows[:, list(picks)]
        self.inverse = np.linalg.inv(self.start + np.matmul(taken.swapaxes(1, 2), taken))

    def value(self) -> float:
        return self.goal.value(self.inverse)

    def after(self) -> Array:
        return self.goal.after(self.inverse, self.rows)

    def variance(self) -> float:
        return self.target.value(self.inverse)


def _derivatives(belief: Belief, target: Array | str) -> Array:
    """Derivatives of the target by the parameters, (draws, P)."""
    if not isinstance(target, str):
        return belief.slopes(np.asarray(target, float)[None])[:, 0]
    if target not in belief.form.names:
        raise ValueError(f"target={target!r} is no parameter of {belief.form.name}: {', '.join(belief.form.names)}.")
    steps = 1e-6 * np.maximum(np.abs(belief.theta), 1e-3)  # forward: what is at its bound has no other side
    before = belief.form.published(belief.theta, belief.centre, 0.0)[target]
    columns = []
    for index in range(belief.theta.shape[1]):
        moved = belief.theta.copy()
        moved[:, index] += steps[:, index]
        after = belief.form.published(moved, belief.centre, 0.0)[target]
        columns.append((after - before) / steps[:, index])
    return np.stack(columns, axis=1)


def _few_runs(left: np.ndarray) -> Array:
    """What few degrees of freedom add to the log variance: intervals are as wide as Student's t.

    With no run left over the noise is unknown, and each further one that is missing leaves a parameter open.
    """
    widen = 2 * np.log(student.ppf(0.975, np.maximum(left, 1)) / student.ppf(0.975, 10**6))
    return widen + MISSING * np.maximum(1 - left, 0)


def _moments(logs: Array) -> Array:
    """Count, values and products of two axes at each point, (n, 6), which add up over points; zeros for one axis."""
    if logs.shape[1] < 2:
        return np.zeros((len(logs), 6))
    a, b = logs[:, 0], logs[:, 1]
    return np.stack([np.ones(len(logs)), a, b, a * a, a * b, b * b], axis=1)


def _off_ray(moments: Array) -> Array:
    """The price of runs with these summed moments (m, 6) near one ray; 0 where data spread at given parameters.

    A prior on the parameters keeps the variance finite on a ray too, but there it is the prior's and not the data's.
    """
    count, a, b, aa, ab, bb = moments.T
    count = np.maximum(count, 1)
    varied, shared, left = aa - a * a / count, ab - a * b / count, bb - b * b / count
    rest = np.maximum(left - np.where(varied > 1e-9, shared**2 / np.maximum(varied, 1e-9), 0.0), 0.0)
    return OFF_RAY * np.maximum(1 - np.sqrt(rest / count) / SPREAD, 0.0)
