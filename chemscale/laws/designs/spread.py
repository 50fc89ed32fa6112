"""What keeps a design from being too few runs, or runs on one ray, from which no law can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array

SPREAD = 0.25  # decades of data at given parameters; the runs of a design leave no ray narrower than that
OFF_RAY = 4.0  # price of a design on one ray, in log variance
MISSING = 2.0  # log variance for each run that is missing to a law with one degree of freedom


@dataclass(frozen=True)
class Shape:
    """The price of a design for how many runs it has and how they lie, whatever they tell, in log variance.

    seen (6,): summed moments of the runs made, each (n, 6): of the candidates, (0,) and (n, 0) on one axis; few
    (most + 2,): the price of the number of runs taken.
    """

    seen: Array
    each: Array
    few: Array

    @classmethod
    def of(cls, seen: Array, points: Array, few: Array) -> Shape:
        """For runs made (m, axes) and candidates (n, axes)."""
        return cls(_moments(seen).sum(0), _moments(points), few)

    def price(self, picks: Sequence[int]) -> float:
        """Of a design of these candidates."""
        return float(_off_ray(self._summed(picks)[None])[0] + self.few[len(picks)])

    def after(self, picks: Sequence[int]) -> Array:
        """Once each of the candidates is taken too, (n,)."""
        return _off_ray(self._summed(picks) + self.each) + self.few[len(picks) + 1]

    def _summed(self, picks: Sequence[int]) -> Array:
        return self.seen + self.each[list(picks)].sum(0)


def few_runs(left: np.ndarray) -> Array:
    """What few degrees of freedom add to the log variance: intervals are as wide as Student's t.

    With no run left over the noise is unknown, and each further one that is missing leaves a parameter open.
    """
    widen = 2 * np.log(student.ppf(0.975, np.maximum(left, 1)) / student.ppf(0.975, 10**6))
    return widen + MISSING * np.maximum(1 - left, 0)


def _moments(points: Array) -> Array:
    """Count, values and products of the decades of two axes at each point, (n, 6); (n, 0) for one axis."""
    if points.shape[1] < 2:
        return np.zeros((len(points), 0))
    a, b = np.log10(points).T
    return np.stack([np.ones(len(points)), a, b, a * a, a * b, b * b], axis=1)


def _off_ray(summed: Array) -> Array:
    """The price of runs with these summed moments (m, 6) near one ray; 0 where data spread at given parameters.

    A prior on the parameters keeps the variance finite on a ray too, but there it is the prior's and not the data's.
    """
    if not summed.shape[1]:  # on one axis there is no ray
        return np.zeros(len(summed))
    count, a, b, aa, ab, bb = summed.T
    count = np.maximum(count, 1)
    varied, shared, left = aa - a * a / count, ab - a * b / count, bb - b * b / count
    rest = np.maximum(left - np.where(varied > 1e-9, shared**2 / np.maximum(varied, 1e-9), 0.0), 0.0)
    return OFF_RAY * np.maximum(1 - np.sqrt(rest / count) / SPREAD, 0.0)
