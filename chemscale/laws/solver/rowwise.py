"""Objectives that treat some runs apart: a run that is pinned, a run of which only a bound is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import log_ndtr

from chemscale.laws.objectives import Array, Objective, Slopes

LOG_ROOT_2_PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class Rowwise(Objective):
    """The named objective for most rows, `other` for those that are `marked`, (n,) of bool."""

    marked: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    other: Objective = field(default_factory=lambda: Objective("log_lsq"))

    @classmethod
    def of(cls, most: Objective, marked: np.ndarray, other: Objective) -> Rowwise:
        """`most` on the rows that are not marked, `other` on those that are."""
        return cls(most.name, most.delta, most.spread, marked, other)

    @property
    def smooth(self) -> Objective:
        return Rowwise.of(super().smooth, self.marked, self.other.smooth)

    def likelihood(self, corner: float) -> Objective:
        return replace(super().likelihood(corner), other=self.other.likelihood(corner))

    def exact(self, runs: int) -> np.ndarray:
        return ~self.marked

    def take(self, which: np.ndarray) -> Objective:
        return replace(self, marked=self.marked[which])

    def smoothed(self, spread: float) -> list[Objective]:
        stages = super().smoothed(spread)
        if not self.other.robust:
            return stages
        return [replace(s, other=replace(self.other, name=s.name, delta=s.delta)) for s in stages]  # in one unit

    def penalty(self, log_loss: Array, log_fit: Array) -> Array:
        return np.where(self.marked, self.other.penalty(log_loss, log_fit), super().penalty(log_loss, log_fit))

    def slopes(self, log_loss: Array, log_fit: Array) -> Slopes:
        pairs = zip(self.other.slopes(log_loss, log_fit), super().slopes(log_loss, log_fit), strict=True)
        return Slopes(*(np.where(self.marked, apart, plain) for apart, plain in pairs))


@dataclass(frozen=True, eq=False)
class Appended(Objective):
    """`most` for all rows but the last, and half the squared log residual for that one."""

    most: Objective = field(default_factory=lambda: Objective("log_lsq"))

    def among(self, which: np.ndarray) -> Objective:
        return replace(self, most=self.most.among(which))

    def penalty(self, log_loss: Array, log_fit: Array) -> Array:
        last = 0.5 * (log_loss[..., -1:] - log_fit[..., -1:]) ** 2
        return np.concatenate([self.most.penalty(log_loss[..., :-1], log_fit[..., :-1]), last], -1)

    def slopes(self, log_loss: Array, log_fit: Array) -> Slopes:
        gap = log_fit[..., -1:] - log_loss[..., -1:]
        pairs = zip(
            self.most.slopes(log_loss[..., :-1], log_fit[..., :-1]), (gap, np.ones_like(gap), np.ones_like(gap)),
            strict=True,
        )  # fmt: skip
        return Slopes(*(np.concatenate(pair, -1) for pair in pairs))


@dataclass(frozen=True, eq=False)
class Cornered(Objective):
    """Huber's penalty with a corner of its own for every table, corners (B, 1)."""

    corners: Array = field(default_factory=lambda: np.ones((1, 1)))

    @classmethod
    def at(cls, corners: Array) -> Cornered:
        """With these corners (B,)."""
        return cls("huber", corners=corners[:, None])

    @property
    def corner(self) -> Array:
        return self.corners

    def among(self, which: np.ndarray) -> Objective:
        return replace(self, corners=self.corners[which])


@dataclass(frozen=True, eq=False)
class UpperBound(Objective):
    """The penalty of runs whose final loss is only known to lie at or below the one measured (Tobin 1958).

    Minus the log of P(final <= measured) under the noise that the named objective is the likelihood of: normal with
    standard deviation `spread` for the least-squares ones, Laplace with mean absolute deviation `spread` for `lad`
    and `huber`; in the unit of that objective's penalty, so that both kinds of rows add up. `spread` is in log units.
    """

    @property
    def smooth(self) -> Objective:
        return replace(self, name="log_lsq") if self.robust else self

    def penalty(self, log_loss: Array, log_fit: Array) -> Array:
        gap = (log_loss - log_fit) / self.spread
        if not self.robust:
            return -(self.spread**2) * log_ndtr(gap)
        far = np.minimum(gap, 0.0)
        return self._unit * np.where(gap < 0, np.log(2) - far, -np.log1p(-0.5 * np.exp(-np.maximum(gap, 0.0))))

    def slopes(self, log_loss: Array, log_fit: Array) -> Slopes:
        gap = (log_loss - log_fit) / self.spread
        if not self.robust:
            mills = np.exp(-0.5 * gap**2 - LOG_ROOT_2_PI - log_ndtr(gap))
            bend = mills * (mills + gap)
            return Slopes(self.spread * mills, bend, np.maximum(bend, 1e-12))
        tail = 0.5 * np.exp(-np.maximum(gap, 0.0))
        slope = np.where(gap < 0, 1.0, tail / (1 - tail))
        bend = np.where(gap < 0, 0.0, slope * (1 + slope))
        first, second = self._unit / self.spread * slope, self._unit / self.spread**2 * bend
        return Slopes(first, second, np.maximum(second, self._unit / self.spread**2 * 1e-3))

    @property
    def _unit(self) -> float:
        """Penalty of one nat: Huber's penalty is `delta` times the distance, far out."""
        return self.spread * (self.delta if self.name == "huber" else 1.0)


def judged(goal: Objective, censored: np.ndarray | None) -> Objective:
    """The objective of a table in which the `censored` losses, (n,) of bool, are upper bounds."""
    if censored is None or not censored.any():
        return goal
    return Rowwise.of(goal, censored, UpperBound(goal.name, goal.delta, goal.spread))
