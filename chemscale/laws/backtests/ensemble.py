"""Several forms and windows at once, weighed by what each said beforehand at the distance that is asked for.

Every member (a form over the runs in some top share of the log range of size) is refitted at several origins and
predicts all larger runs; its squared log errors are kept by distance and direction beyond the fitted runs. At a new
point the tests count by how alike theirs are to that point's, and the more the more runs they fitted; a member weighs

    w = 1 / (its mean squared error / that of the typical member + SHRINK)

and the prediction is the weighted median of the members' log losses, which no single wild member moves. Weights come
from runs that were fitted, never from the point: the reason is a forecast combination's (Bates and Granger 1969), the
shrinkage towards equal weights because few origins tell little of a member (Stock and Watson 2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chemscale.laws.backtests.member import Member
from chemscale.laws.backtests.origins import length, nearness, outside
from chemscale.laws.doubt.residuals import small_sample
from chemscale.laws.objectives import Array

SHRINK = 1.0  # of the typical squared error; by backtests inside the fitted rows of image curves
HEAVIEST = 8  # members that a prediction names
WORST = 9.0  # times the typical squared error over which a member does not pass


@dataclass(frozen=True)
class Ensemble:
    """Members with their backtests.

    reach (cells, axes): where each test cell lies beyond the runs fitted there, natural logs
    counts (cells,): how much each tells, by rows tested and share of the runs fitted
    errors (members, cells): mean squared log error, NaN where a member could not be fitted
    own (cells,): mean squared log error of the ensemble itself, as it stood before
    expected (cells,): the part of `own` that noise and the spread of members foretold
    low, high (axes,): natural logs of the fitted runs
    """

    members: tuple[Member, ...]
    reach: Array
    counts: Array
    errors: Array
    own: Array
    expected: Array
    low: Array
    high: Array
    roles: tuple[str, ...] = field(default=())

    def outside(self, x: Array) -> Array:
        """How far natural logs x (points, axes) lie beyond the fitted runs along each axis, (points, axes)."""
        return outside(x, np.stack([self.low, self.high]))

    def tests(self, x: Array) -> Array:
        """How much each test cell counts at natural logs x (points, axes): (points, cells)."""
        return nearness(self.outside(x), self.reach) * self.counts

    def weights(self, x: Array) -> Array:
        """Weights of the members at natural logs x (points, axes): (points, members), rows sum to one."""
        return weigh(self.errors, self.tests(x))

    def log_members(self, x: Array) -> Array:
        """Central log loss of each member at natural logs x (points, axes): (members, points)."""
        return np.stack([m.log_mean(x) for m in self.members])

    def log_central(self, x: Array) -> Array:
        """Weighted median of the members' log losses at natural logs x (points, axes): (points,)."""
        return weighted_median(self.log_members(x), self.weights(x).T)

    def log_draws(self, x: Array, count: int) -> Array:
        """Log losses of `count` parameter vectors, members in proportion to their weight, at x: (count, points).

        One vector gives the whole row, so that a row is a law; weights are those of the points' median.
        """
        weights = self.weights(np.median(x, axis=0, keepdims=True))[0]
        rng, out = np.random.default_rng(0), []
        for made, number in zip(self.members, _apportion(weights, count), strict=True):
            if number:
                picks = rng.choice(len(made.shares), size=number, p=made.shares)
                out.append(made.clouds(x)[picks])
        return np.concatenate(out)

    def at(self, x: Array) -> tuple[dict[str, Any], ...]:
        """Weight and loss of the `HEAVIEST` members at one point x (1, axes)."""
        losses, weights = np.exp(self.log_members(x)[:, 0]), self.weights(x)[0]
        parts = [
            {"member": m.name, "weight": float(w), "value": float(v) if np.isfinite(v) else None}
            for m, w, v in zip(self.members, weights, losses, strict=True)
        ]
        return tuple(sorted(parts, key=lambda part: -part["weight"])[:HEAVIEST])

    def noise(self, x: Array) -> float:
        """Standard deviation of one run's log loss around the members, weighed at points x."""
        weights = self.weights(np.median(x, axis=0, keepdims=True))[0]
        return float(np.sqrt(weights @ np.array([m.noise**2 for m in self.members])))

    def stretch(self, x: Array, level: float) -> float:
        """Factor by which the spread of draws and noise at x (1, axes) is to be stretched to what the tests found.

        The root of the mean, over tests like this one, of the ensemble's squared error over the variance it foretold,
        never under one; times Student's t at `level` for as few tests as that mean rests on. Past the furthest test it
        grows in proportion to the distance.
        """
        near = self.tests(x)[0]
        ratio = float(near @ (self.own / self.expected) / near.sum())
        tests = near.sum() ** 2 / (near**2).sum()
        far = float(length(self.outside(x))[0] / length(self.reach).max())
        return max(1.0, float(np.sqrt(ratio))) * small_sample(level, 1 + tests) * max(1.0, far)

    def table(self) -> list[dict[str, Any]]:
        """Members with weight and rms error at the median tested point, the heaviest first."""
        asked = np.median(self.reach, axis=0, keepdims=True)
        near = (nearness(asked, self.reach) * self.counts)[0]
        weights = weigh(self.errors, near[None])[0]
        known = np.isfinite(self.errors) * near
        with np.errstate(invalid="ignore"):
            mean = np.sqrt((np.nan_to_num(self.errors) * known).sum(1) / known.sum(1))
        rows = [
            {"member": m.name, "form": m.form, "window": m.window, "weight": float(w), "rmsle": float(e)}
            for m, w, e in zip(self.members, weights, mean, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["weight"])

    def to_json(self) -> dict[str, Any]:
        """A JSON object; errors that are not known are null."""
        errors = [[e if np.isfinite(e) else None for e in row] for row in self.errors.tolist()]
        arrays = {k: getattr(self, k).tolist() for k in ("reach", "counts", "own", "expected", "low", "high")}
        members = [m.to_json() for m in self.members]
        return {"weights": self.table(), "members": members, "errors": errors, **arrays, "roles": list(self.roles)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Ensemble:
        """The inverse of `to_json`."""
        arrays = {k: np.array(found[k], float) for k in ("reach", "counts", "errors", "own", "expected", "low", "high")}
        members = tuple(Member.from_json(m) for m in found["members"])
        return cls(members, roles=tuple(found["roles"]), **arrays)


def weigh(errors: Array, near: Array) -> Array:
    """Weights from squared errors (members, cells) and nearness (points, cells): (points, members)."""
    known = np.isfinite(errors)
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = np.nanmedian(np.where(known.any(0), errors, 1.0), axis=0)
        ratio = np.where(known, errors, 0.0) / np.maximum(typical, 1e-300)
        mean = (near @ ratio.T) / (near @ known.T.astype(float))
    passing = np.isfinite(mean) & (mean <= WORST)
    passing |= ~passing.any(1, keepdims=True) & np.isfinite(mean)
    raw = np.where(passing, 1 / (np.where(np.isfinite(mean), mean, 1.0) + SHRINK), 0.0)
    raw = np.where(raw.sum(1, keepdims=True) > 0, raw, 1.0)
    return raw / raw.sum(1, keepdims=True)


def weighted_median(values: Array, weights: Array) -> Array:
    """Median of values (members, points) under weights (members, points), interpolated between members: (points,)."""
    values, weights = values[weights.sum(1) > 0], weights[weights.sum(1) > 0]
    order = np.argsort(values, axis=0)
    ranked, heavy = np.take_along_axis(values, order, 0), np.take_along_axis(weights, order, 0)
    middle = (np.cumsum(heavy, axis=0) - heavy / 2) / heavy.sum(0)
    return np.array([np.interp(0.5, middle[:, i], ranked[:, i]) for i in range(values.shape[1])])


def _apportion(weights: Array, count: int) -> Sequence[int]:
    """`count` shared out by largest remainder."""
    exact = weights * count
    whole = np.floor(exact).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: count - whole.sum()]] += 1
    return whole.tolist()
