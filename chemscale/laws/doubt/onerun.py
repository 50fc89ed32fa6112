"""The noise of one more run: how far it will lie off the law, at the size that is asked for.

The residuals tell its size, and how it changes with scale: the log of their mean absolute value is a line in the log
size of the runs (a gamma regression; McCullagh and Nelder 1989, section 8.3), drawn towards none by a normal prior as
wide as one natural log over the range of the runs. What is not known of the amount costs degrees of freedom; heavy
tails, whose variance few runs tell badly, cost in proportion to the spread of |e|. What is not known of the change
makes the noise at the edge of the runs unsure by a log-normal factor, over which Student's t is averaged. As degrees of
freedom it would cost far too much: a factor whose log has a deviation of 0.5, beside nine degrees of freedom, widens a
95 % interval from 2.3 to 3.0 deviations, and the 1.6 degrees of freedom of as much variance would take 5.4.

Weights are not asked: what a run counts in a fit says nothing of a new run's noise, its neighbours' residuals do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import stdtr, stdtrit

from chemscale.laws.doubt.noise import MOST_SHARED
from chemscale.laws.objectives import Array

LEAST_RUNS = 12  # under which no change of the noise with size is estimated
HALF_NORMAL = np.pi / 2 - 1  # squared coefficient of variation of |e| for normal e; heavier tails have more
FAR_OFF = 5.0  # noise widths at which a robust fit's residuals are cut, so that a broken run makes no noise
ROUNDS = 30
NODES, SHARES = np.polynomial.hermite_e.hermegauss(15)  # a normal in as many points
SURE = 1e-6  # of a log standard deviation: below it there is nothing to average over
LEAST_LEFT = 0.05  # share of a run's own noise in its residual; a run that decides the law alone shows none


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
    def of(cls, errors: Array, left: Array, size: Array, clusters: np.ndarray, robust: bool) -> RunNoise:
        """From residuals of log losses (n,) at log sizes (n,); left (n, n), or its diagonal (n,): see `amount`."""
        own = np.maximum(np.diagonal(left) if left.ndim == 2 else left, LEAST_LEFT)
        size_of = np.abs(errors) / np.sqrt(own)
        if robust:
            size_of = np.minimum(size_of, FAR_OFF * 1.4826 * np.median(size_of))
        centre, low, high = float(size.mean()), float(size.min()), float(size.max())
        found = trend(size - centre, size_of, clusters)
        level = np.sign(errors) * size_of * np.sqrt(own) * np.exp(-found.slope * (size - centre))
        sd, freedom = amount(level, left, clusters, found.used)
        return cls(sd, max(freedom * HALF_NORMAL / found.spread, 1.0), found.slope, found.unsure, centre, low, high)

    def half(self, size: float, level: float) -> float:
        """Half the width of the interval of one run at a log size about a law that is known exactly, log units."""
        far = float(np.clip(size, self.low, self.high)) - self.centre
        widths = mixed_quantile(0.5 + level / 2, self.freedom, abs(self.unsure * far))
        return self.sd * float(np.exp(self.slope * far)) * widths


def mixed_quantile(share: float, freedom: float, unsure: float) -> float:
    """Quantile of Student's t times a log-normal factor whose logarithm has the standard deviation `unsure`."""
    alone = float(stdtrit(freedom, share))
    if unsure < SURE:
        return alone
    factors, shares = np.exp(-unsure * NODES), SHARES / SHARES.sum()
    ends = (alone * factors[-1], alone * factors[0])
    return float(root_scalar(lambda x: stdtr(freedom, x * factors) @ shares - share, bracket=ends).root)


class Trend(NamedTuple):
    """Slope of a log mean, its standard error, the freedom that it uses (0 to 1), squared coefficient of variation."""

    slope: float
    unsure: float
    used: float
    spread: float


def trend(x: Array, sizes: Array, clusters: np.ndarray) -> Trend:
    """Of the log mean of `sizes` (n,) in x (n,) of mean zero; the slope is 0 for few runs.

    Runs of one cluster count for what their common scores leave of them.
    """
    span = float(np.ptp(x))
    if len(x) < LEAST_RUNS or span < 1e-9 or not sizes.mean():
        return Trend(0.0, 0.0, 0.0, HALF_NORMAL)
    level, slope, prior = float(np.log(sizes.mean())), 0.0, 1 / span
    for _ in range(ROUNDS):
        off = sizes / np.exp(level + slope * x) - 1
        spread = max(float((off**2).sum()) / (len(x) - 2), HALF_NORMAL)
        together = np.bincount(clusters, off * x)
        shared = max(1.0, float((together**2).sum() / max(float(((off * x) ** 2).sum()), 1e-300)))
        known = float((x**2).sum()) / (spread * shared) + prior**-2
        step = (float((off * x).sum()) / (spread * shared) - slope * prior**-2) / known
        level, slope = level + float(np.clip(off.mean(), -1, 1)), slope + float(np.clip(step, -prior, prior))
        if abs(step) < 1e-6 * prior and abs(off.mean()) < 1e-6:
            break
    return Trend(slope, known**-0.5, 1 - prior**-2 / known, spread)


def amount(errors: Array, left: Array, clusters: np.ndarray, used: float) -> tuple[float, float]:
    """Standard deviation of the noise behind residuals (n,), and its degrees of freedom.

    left: I - H, what the fit leaves of the noise, (n, n); its diagonal (n,) where no runs share a cluster. A fit takes
    up most of what few clusters share, so that their residuals show little of it: the shared part rho of the variance
    is the one for which the products of residuals within clusters, whose mean under I + rho (blocks - I) is known,
    are those seen (minimum norm estimation; Rao 1971); the freedom is Satterthwaite's of the sum of squares.
    """
    total = float((errors**2).sum())
    if left.ndim == 1:
        freedom = max(float(left.sum()) - used, 1.0)
        return float(np.sqrt(total / freedom)), freedom
    pairs = (clusters[:, None] == clusters) & ~np.eye(len(errors), dtype=bool)
    mixed = np.where(pairs, 1.0, 0.0) @ left
    alone, first = float(np.trace(left)), float(np.trace(mixed))
    second = float((mixed * mixed.T).sum())
    seen = float(errors @ np.where(pairs, 1.0, 0.0) @ errors) / max(total, 1e-300)
    below = second - seen * first
    rho = float(np.clip((seen * alone - first) / below, 0.0, MOST_SHARED)) if below > 0 else MOST_SHARED
    whole = left + rho * mixed
    expected = max(float(np.trace(whole)), 1.0)
    freedom = expected**2 / max(float((whole * whole.T).sum()), 1e-300)
    return float(np.sqrt(total / max(expected - used, 0.5))), max(freedom - used, 1.0)
