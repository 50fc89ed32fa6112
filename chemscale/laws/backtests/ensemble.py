"""Several forms and windows at once, weighed by what each said of larger runs than it was fitted to.

Every member (a form over the runs in some top share of the log range of size) is refitted at several origins and
predicts all larger runs. A member weighs

    w = (m + SHRINK)^-axes,

m its mean squared log error in units of the typical member's, so that tests along each axis are evidence of their own
(Bates and Granger 1969); the shrinkage towards equal weights is there because few origins tell little of a member
(Stock and Watson 2004). The prediction is the weighted mean of the members' log losses, in which opposite errors of
form cancel, with members far off their median held to `HELD` times the typical distance from it. The draws behind an
interval are shared out by 1 / (m + SHRINK) whatever the axes: which form is right is less sure than what serves the
mean best. Weights come from runs that were fitted, never from the point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chemscale.laws.backtests.member import Member
from chemscale.laws.backtests.origins import bands, length, outside
from chemscale.laws.doubt.residuals import small_sample
from chemscale.laws.objectives import Array

SHRINK = 0.3  # of the typical squared error; by origins inside planted curves and grids, and inside image curves
HELD = 5.0  # weighted median absolute deviations beyond which a member counts as at that distance
WILD = 30.0  # times the typical squared error as which a worse test counts
HEAVIEST = 8  # members that a prediction names


@dataclass(frozen=True)
class Ensemble:
    """Members with their backtests.

    weights, doubt (members,) sum to one: of the mean, and of the draws
    rmsle (members,): root mean squared log error over the tests
    ratios (bands,): by distance, squared error of the ensemble itself, as it stood before, over the variance foretold
    origins: how many fits the tests rest on; furthest: how far beyond its runs the furthest test lies, natural logs
    low, high (axes,): natural logs of the fitted runs
    """

    members: tuple[Member, ...]
    weights: Array
    doubt: Array
    rmsle: Array
    ratios: Array
    origins: int
    furthest: float
    low: Array
    high: Array
    roles: tuple[str, ...] = field(default=())

    def log_members(self, x: Array) -> Array:
        """Central log loss of each member at natural logs x (points, axes): (members, points)."""
        return np.stack([m.log_mean(x) for m in self.members])

    def log_central(self, x: Array) -> Array:
        """Log loss of the ensemble at natural logs x (points, axes): (points,)."""
        return held_mean(self.log_members(x), self.weights)

    def log_draws(self, x: Array, count: int) -> Array:
        """Log losses of `count` parameter vectors, members by their share of the doubt, at x: (count, points).

        One vector gives the whole row, so that a row is a law.
        """
        rng, out = np.random.default_rng(0), []
        for made, number in zip(self.members, _apportion(self.doubt, count), strict=True):
            if number:
                picks = rng.choice(len(made.shares), size=number, p=made.shares)
                out.append(made.clouds(x)[picks])
        return np.concatenate(out)

    def at(self, x: Array) -> tuple[dict[str, Any], ...]:
        """Weight and loss of the `HEAVIEST` members at one point x (1, axes)."""
        losses = np.exp(self.log_members(x)[:, 0])
        parts = [
            {"member": m.name, "weight": float(w), "value": float(v) if np.isfinite(v) else None}
            for m, w, v in zip(self.members, self.weights, losses, strict=True)
        ]
        return tuple(sorted(parts, key=lambda part: -part["weight"])[:HEAVIEST])

    @property
    def noise(self) -> float:
        """Standard deviation of one run's log loss around the members."""
        return float(np.sqrt(self.doubt @ np.array([m.noise**2 for m in self.members])))

    def stretch(self, x: Array, level: float) -> float:
        """Factor by which the spread of draws and noise at x (1, axes) is to be stretched to what the tests found.

        The root of the ratio at that distance, never under one or under what it is nearer by; times Student's t at
        `level` for the origins that it rests on. Past the furthest test it grows in proportion to the distance.
        """
        far = length(outside(x, np.stack([self.low, self.high])))
        worst = self.ratios[: bands(far)[0] + 1].max()
        return (
            max(1.0, float(worst) ** 0.5) * small_sample(level, self.origins) * max(1.0, float(far[0] / self.furthest))
        )

    def table(self) -> list[dict[str, Any]]:
        """Members with weight and rms error over the tests, the heaviest first."""
        rows = [
            {"member": m.name, "form": m.form, "window": m.window, "weight": float(w), "rmsle": float(e)}
            for m, w, e in zip(self.members, self.weights, self.rmsle, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["weight"])

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}
        return {**plain, "members": [m.to_json() for m in self.members], "roles": list(self.roles)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Ensemble:
        """The inverse of `to_json`."""
        arrays = {k: np.array(found[k], float) for k in ("weights", "doubt", "rmsle", "ratios", "low", "high")}
        members = tuple(Member.from_json(m) for m in found["members"])
        return cls(**{**found, **arrays, "members": members, "roles": tuple(found["roles"])})


def weigh(errors: Array, axes: int) -> Array:
    """Weights (members,) from relative squared errors (members,), NaN where a member could not be tested."""
    known = np.isfinite(errors)
    raw = np.where(known, (np.where(known, errors, 1.0) + SHRINK) ** -axes, 0.0)
    return raw / raw.sum() if known.any() else np.full(len(errors), 1 / len(errors))


def relative(squared: Array, counts: Array) -> Array:
    """Mean over tests (members,) of squared errors (members, tests) in units of the typical member's, NaN if none."""
    known = np.isfinite(squared)
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = np.nanmedian(np.where(known.any(0), squared, 1.0), axis=0)
        ratio = np.minimum(np.where(known, squared, 0.0) / np.maximum(typical, 1e-300), WILD)
        return (ratio @ counts) / (known @ counts)


def held_mean(values: Array, weights: Array) -> Array:
    """Weighted mean of values (members, points) held to `HELD` deviations from their weighted median: (points,)."""
    each = np.repeat(weights[:, None], values.shape[1], axis=1) * np.isfinite(values)
    values = np.where(np.isfinite(values), values, 0.0)
    middle = weighted_median(values, each)
    apart = HELD * weighted_median(np.abs(values - middle), each)
    return (each * np.clip(values, middle - apart, middle + apart)).sum(0) / each.sum(0)


def weighted_median(values: Array, weights: Array) -> Array:
    """Median of values (members, points) under weights (members, points), interpolated between members: (points,)."""
    order = np.argsort(values, axis=0)
    ranked, heavy = np.take_along_axis(values, order, 0), np.take_along_axis(weights, order, 0)
    middle = (np.cumsum(heavy, axis=0) - heavy / 2) / heavy.sum(0)
    return np.array([np.interp(0.5, m[h > 0], r[h > 0]) for m, h, r in zip(middle.T, heavy.T, ranked.T, strict=True)])


def _apportion(weights: Array, count: int) -> Sequence[int]:
    """`count` shared out by largest remainder."""
    exact = weights * count
    whole = np.floor(exact).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: count - whole.sum()]] += 1
    return whole.tolist()
