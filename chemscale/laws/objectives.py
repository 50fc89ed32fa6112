"""What a fit minimises, by name: the choice moves exponents more than the optimiser does, so it is always printed.

Shapes: B fits at once, n runs. Losses are divided by their geometric mean before they come here.
`log_loss` (B, n) or (n,) is the measured log loss, `log_fit` (B, n) the fitted one; r = log_loss - log_fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_DELTA = 100.0  # in log units: beyond any residual that a float can have
OBJECTIVES = ("huber", "lad", "log_lsq", "lsq")


class Slopes(NamedTuple):
    """Derivatives of each run's penalty with respect to its fitted log loss, all (B, n)."""

    first: Array
    second: Array
    majorant: Array  # a positive stand-in for `second`: the weight of iteratively reweighted least squares


@dataclass(frozen=True)
class Objective:
    """Sum over runs of weight x penalty.

    - `huber`: r^2/2 where |r| < delta, delta (|r| - delta/2) beyond; Hoffmann et al. 2022 use delta = 1e-3
    - `lad`: |r|; `delta` is ignored
    - `log_lsq`: r^2/2
    - `lsq`: (loss - fit)^2/2 in the loss's own units

    `delta` is in log units (1e-3 is 0.1 % of the loss). `spread` is the noise of log losses by which runs are judged of
    which only a bound is known (`rowwise.UpperBound`); without such runs it changes nothing.
    """

    name: str = "huber"
    delta: float = 1e-3
    spread: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(f"objective={self.name!r} is not one of {', '.join(OBJECTIVES)}.")
        if not 0 < self.delta <= MOST_DELTA:
            raise ValueError(
                f"delta={self.delta!r} must be a positive number in log units of at most {MOST_DELTA:g}, such as 1e-3; "
                f"objective='log_lsq' has no corner."
            )

    @property
    def robust(self) -> bool:
        """True where single runs far off the law do not steer it."""
        return self.name in ("huber", "lad")

    @property
    def smooth(self) -> Objective:
        """The objective to start from: robust ones have kinks that hold a search up."""
        return Objective("log_lsq") if self.robust else self

    def likelihood(self, corner: float) -> Objective:
        """The likelihood that stands for the objective: itself, and Huber's with a wide `corner` for robust ones."""
        return replace(self, name="huber", delta=corner) if self.robust else self

    @property
    def corner(self) -> float | Array:
        """Where Huber's penalty turns straight: one number, or one per table (B, 1)."""
        return self.delta

    def among(self, which: np.ndarray) -> Objective:
        """The objective of the tables `which` (k,) of many: itself, where it is the same for all."""
        return self

    def exact(self, runs: int) -> np.ndarray:
        """Which of `runs` runs have a final loss and not only a bound of it, (n,) of bool."""
        return np.ones(runs, bool)

    def take(self, which: np.ndarray) -> Objective:
        """The objective of some of the runs."""
        return self

    def penalty(self, log_loss: Array, log_fit: Array) -> Array:
        """Each run's penalty, (B, n)."""
        if self.name == "lsq":
            return 0.5 * (np.exp(log_loss) - np.exp(log_fit)) ** 2
        residual = log_loss - log_fit
        if self.name == "log_lsq":
            return 0.5 * residual**2
        size = np.abs(residual)
        if self.name == "lad":
            return size
        within = np.minimum(size, self.corner)
        size -= 0.5 * within
        return np.multiply(size, within, out=size)

    def slopes(self, log_loss: Array, log_fit: Array) -> Slopes:
        """First and second derivatives of `penalty` in `log_fit`."""
        if self.name == "lsq":
            fit = np.exp(log_fit)
            gap = np.exp(log_loss) - fit
            return Slopes(-gap * fit, fit * (fit - gap), fit**2)
        residual = log_loss - log_fit
        if self.name == "log_lsq":
            one = np.ones_like(residual)
            return Slopes(-residual, one, one)
        if self.name == "lad":
            return Slopes(-np.sign(residual), np.zeros_like(residual), 1 / np.maximum(np.abs(residual), 1e-12))
        size, corner = np.abs(residual), self.corner
        majorant = corner / np.maximum(size, corner)
        return Slopes(-np.clip(residual, -corner, corner), (size < corner).astype(float), majorant)

    def smoothed(self, spread: float) -> list[Objective]:
        """Ever sharper smooth stand-ins, the last one this objective itself (a very sharp Huber for `lad`).

        Newton's method on a nearly absolute penalty stalls from afar; each stage starts where the last ended.
        `spread` is the size of a typical residual.
        """
        if not self.robust:
            return [self]
        end = self.delta if self.name == "huber" else 1e-9
        top = max(10 * spread, end)
        count = int(np.ceil(np.log(top / end) / np.log(6))) + 1 if top > end else 1
        return [replace(self, name="huber", delta=float(d)) for d in np.geomspace(top, end, count)]
