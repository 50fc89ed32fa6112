"""The noise of one more run: how far it will lie off the law, at the size that is asked for.

The residuals tell its size, and how it changes with scale: the log of their mean absolute value is a line in the log
size of the runs (a gamma regression; McCullagh and Nelder 1989, section 8.3), drawn towards none by a normal prior as
wide as one natural log over the range of the runs. What is not known of either costs degrees of freedom: noise at the
edge of the runs is known less well than in their middle, and its Student's t is wider.

Weights are not asked: what a run counts in a fit says nothing of a new run's noise, its neighbours' residuals do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.objectives import Array

LEAST_RUNS = 12  # under which no change of the noise with size is estimated
HALF_NORMAL = np.pi / 2 - 1  # squared coefficient of variation of |e| for normal e; heavier tails have more
FAR_OFF = 5.0  # noise widths at which a robust fit's residuals are cut, so that a broken run makes no noise
ROUNDS = 30


@dataclass(frozen=True)
class RunNoise:
    """Standard deviation of one run's log loss: `sd` at log size `centre`, known to `freedom` degrees of freedom.

    slope: change of its logarithm per natural log of size, with standard error `unsure`; low, high: the sizes of the
    runs, beyond which it is taken as at the nearer end.
    """

    sd: float
    freedom: float
    slope: float = 0.0
    unsure: float = 0.0
    centre: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(
        cls, errors: Array, leverage: Array, size: Array, clusters: np.ndarray, freedom: float, robust: bool
    ) -> RunNoise:
        """From residuals of log losses (n,), with each run's leverage and log size (n,)."""
        left = np.maximum(1 - leverage, 0.05)
        size_of = np.abs(errors) / np.sqrt(left)
        if robust:
            size_of = np.minimum(size_of, FAR_OFF * 1.4826 * np.median(size_of))
        centre, low, high = float(size.mean()), float(size.min()), float(size.max())
        slope, unsure, used = trend(size - centre, size_of, clusters)
        level = size_of * np.sqrt(left) * np.exp(-slope * (size - centre))
        sd = float(np.sqrt((level**2).sum() / max(left.sum() - used, 1.0)))
        return cls(sd, max(freedom - used, 1.0), slope, unsure, centre, low, high)

    def at(self, size: float) -> tuple[float, float]:
        """Standard deviation at a log size, and the degrees of freedom to which it is known there."""
        far = float(np.clip(size, self.low, self.high)) - self.centre
        doubt = 0.5 / self.freedom + (self.unsure * far) ** 2  # variance of the log of the standard deviation
        return self.sd * float(np.exp(self.slope * far)), 0.5 / doubt

    def half(self, size: float, level: float) -> float:
        """Half the width of the interval of one run about a law that is known exactly, log units."""
        sd, freedom = self.at(size)
        return float(student.ppf(0.5 + level / 2, freedom)) * sd


def trend(x: Array, sizes: Array, clusters: np.ndarray) -> tuple[float, float, float]:
    """Slope of the log mean of `sizes` (n,) in x (n,) of mean zero, its standard error, the freedom it uses (0 to 1).

    All are 0 for few runs.

    Runs of one cluster count for what their common scores leave of them.
    """
    span = float(np.ptp(x))
    if len(x) < LEAST_RUNS or span < 1e-9 or not sizes.mean():
        return 0.0, 0.0, 0.0
    level, slope, prior = float(np.log(sizes.mean())), 0.0, 1 / span
    for _ in range(ROUNDS):
        off = sizes / np.exp(level + slope * x) - 1
        spread = max(float((off**2).sum()) / (len(x) - 2), HALF_NORMAL)
        together = np.bincount(clusters, off * x)
        spread *= max(1.0, float((together**2).sum() / max(float(((off * x) ** 2).sum()), 1e-300)))
        known = float((x**2).sum()) / spread + prior**-2
        step = (float((off * x).sum()) / spread - slope * prior**-2) / known
        level, slope = level + float(np.clip(off.mean(), -1, 1)), slope + float(np.clip(step, -prior, prior))
        if abs(step) < 1e-6 * prior and abs(off.mean()) < 1e-6:
            break
    return slope, known**-0.5, 1 - prior**-2 / known
