"""The end of a training curve from its beginning: a hierarchical law, fitted to the runs of a search. numpy and scipy.

Log losses follow `level - slope log S + bend h(S) - drop D + shape(S, D) + residual`. S is the area under the schedule
of the learning rate so far, D how much of the rate the cooldown has taken away (the two areas of Tissue et al. 2024),
h a power of S that bends the line towards a floor. Every run has four coefficients of its own; their means depend on
the run's traits, their covariance is shared, and `shape` is what all runs of a search have in common beyond them. All
is learned from the curves at hand by expectation maximisation under priors that say what training curves look like.
A run's coefficients and residuals share a chi-square scale, so that predictions are Student's t: wider for a beginning
that fits the law badly. They widen where finished runs, each forecast from the others, show that they must.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from chemscale.sweep.basis import COEFFICIENTS, Design, Features, Observed
from chemscale.sweep.curves import Curve

SPREADS_OF_RUNS = np.array([0.25, 0.10, 0.03, 0.05])  # of the coefficients around their means, before a run was seen
PRIOR_RUNS, EARLIER_RUNS = 2.0, 6.0  # how many runs that counts for; and the spread that an earlier search found
NOISE, NOISE_POINTS = 0.02, 16.0  # the residual in log loss before a run was seen, and how many points that counts for
DOF = 5.0  # of Student's t
CALIBRATION_RUNS = 4.0  # how many runs the width before calibration counts for
ROUNDS = 25


@dataclass(frozen=True)
class Ending:
    """Where a run will end: a predictive distribution of its final loss, Student's t in the logarithm.

    Attributes:
        value: the median.
        low, high: ends of the interval at `level`.
        scale, dof: of Student's t in the log loss.
    """

    value: float
    low: float
    high: float
    level: float
    scale: float
    dof: float

    @staticmethod
    def of(mean: float, scale: float, dof: float, level: float = 0.95) -> Ending:
        """From the centre and scale in the log loss."""
        if not 0 < level < 1:
            raise ValueError(f"level={level} is not allowed: it must be between 0 and 1.")
        half = float(stats.t.ppf(0.5 + level / 2, dof)) * scale
        value, low, high = (float(np.exp(np.clip(v, -700, 700))) for v in (mean, mean - half, mean + half))
        return Ending(value, low, high, level, scale, dof)

    @staticmethod
    def diverged(level: float = 0.95) -> Ending:
        """Of a run whose loss is not finite: it ends nowhere."""
        return Ending(math.inf, math.inf, math.inf, level, 0.0, DOF)

    def chance_below(self, loss: float) -> float:
        """The chance that the run ends at this loss or below."""
        if not math.isfinite(self.value) or loss <= 0:
            return 0.0
        return float(stats.t.cdf((math.log(loss) - math.log(self.value)) / max(self.scale, 1e-12), self.dof))


@dataclass(frozen=True)
class _State:
    """What expectation maximisation has learned: means of effects with their covariance, spread of runs, residual."""

    effects: np.ndarray  # (effects,)
    doubt: np.ndarray  # (effects, effects)
    spread: np.ndarray  # (coefficients, coefficients)
    noise: float  # variance
    weights: np.ndarray  # (curves,)


class CurveLaw:
    """What the curves of a search have in common; `fit` makes one, `predict` forecasts with it."""

    def __init__(self, features: Features, state: _State, observed: Sequence[Observed], curves: Sequence[Curve]):
        self._features, self._state, self._observed, self._curves = features, state, observed, curves

    @staticmethod
    def fit(curves: Sequence[Curve], prior: CurveLaw | None = None) -> CurveLaw:
        """Learn from finished curves, and from unfinished ones as far as they go.

        Args:
            curves: runs of one search; may be empty. Those that diverged at once are left out.
            prior: the law of an earlier search: a smaller cell, another family.
        """
        usable = [curve for curve in curves if len(curve.points()[0])]
        features = Features.of(usable)
        design = Design(features, prior._features if prior else None, prior._state.effects if prior else None)
        observed = [features.observed(curve) for curve in usable]
        return CurveLaw(features, _learn(design, observed, prior._state if prior else None), observed, usable)

    @property
    def finished(self) -> int:
        """How many finished curves it was fitted to."""
        return sum(curve.finished for curve in self._curves)

    def predict(self, curve: Curve, level: float = 0.95) -> Ending:
        """Where a run will end, from its points so far and its traits.

        Raises:
            ValueError: there is neither a point nor a curve that the law was fitted to.
        """
        if curve.diverged:
            return Ending.diverged(level)
        if not self._curves and not len(curve.points()[0]):
            raise ValueError("A curve without a point has no forecast before one curve was fitted; train a little.")
        mean, scale, dof = _conditional(self._features, self._state, curve)
        return Ending.of(mean, scale * self._width(round(curve.progress, 2)), dof, level)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a law is as short-lived as its cache
    def _width(self, progress: float) -> float:
        """By how much errors on finished runs, each forecast from the others, exceed what the law says of them."""
        total, runs = CALIBRATION_RUNS, CALIBRATION_RUNS
        for number, curve in enumerate(self._curves):
            begun = curve.until(progress)
            if not curve.finished or (progress > 0 and not len(begun.points()[0])):
                continue
            mean, scale, dof = _conditional(self._features, self._without(number), begun)
            assert curve.final is not None
            wrong = abs(math.log(curve.final) - mean) / scale
            # As many standard deviations of a normal as this is of Student's t, so that a few far misses do not rule.
            total += float(stats.norm.isf(np.clip(stats.t.sf(wrong, dof), 1e-9, 0.5))) ** 2
            runs += 1
        return max(1.0, math.sqrt(total / runs))  # runs that finished in a search with stops are those foreseen well

    @functools.lru_cache(maxsize=512)  # noqa: B019
    def _without(self, number: int) -> _State:
        """What would have been learned without one curve; the spread of runs and the residual are kept."""
        state = self._state
        information = np.linalg.inv(state.doubt)
        rows, weighted = _weighted(self._observed[number], state, state.weights[number])
        doubt = np.linalg.inv(information - rows.T @ weighted)
        effects = doubt @ (information @ state.effects - weighted.T @ self._observed[number].loss)
        return _State(effects, doubt, state.spread, state.noise, state.weights)


def _weighted(seen: Observed, state: _State, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a curve's design, and the same divided by the covariance of its losses around them."""
    covariance = seen.basis @ state.spread @ seen.basis.T + state.noise * seen.correlation
    return seen.rows, weight * np.linalg.solve(covariance, seen.rows)


class _Stacked:
    """All curves in arrays of one shape; missing points are rows of zeros, which add nothing to any sum."""

    def __init__(self, observed: Sequence[Observed]):
        most = max(len(seen.loss) for seen in observed)
        self.counts = np.array([len(seen.loss) for seen in observed])
        self.loss = np.stack([np.pad(seen.loss, (0, most - len(seen.loss))) for seen in observed])
        self.basis = np.stack([_filled(seen.basis, most) for seen in observed])  # (curves, points, coefficients)
        self.rows = np.stack([_filled(seen.rows, most) for seen in observed])  # (curves, points, effects)
        self.correlation = np.stack([np.eye(most)] * len(observed))
        for place, seen in zip(self.correlation, observed, strict=True):
            place[: len(seen.loss), : len(seen.loss)] = seen.correlation
        self.white = np.linalg.inv(self.correlation)

    def inverses(self, state: _State) -> np.ndarray:
        """Inverse covariance of every curve's losses around their means, (curves, points, points)."""
        spread = self.basis @ state.spread @ self.basis.transpose(0, 2, 1)
        return np.linalg.inv(spread + state.noise * self.correlation)


def _filled(rows: np.ndarray, most: int) -> np.ndarray:
    return np.pad(rows, ((0, most - len(rows)), (0, 0)))


def _learn(design: Design, observed: Sequence[Observed], before: _State | None) -> _State:
    counts = EARLIER_RUNS if before else PRIOR_RUNS
    spread = before.spread if before else np.diag(SPREADS_OF_RUNS**2)
    noise = before.noise if before else NOISE**2
    shares = design.shares
    state = _State(design.means, np.diag(design.variances(shares)), spread, noise, np.ones(len(observed)))
    if not observed:
        return state
    prior, stacked = _Prior(counts * spread, counts, noise), _Stacked(observed)
    for _ in range(ROUNDS):
        inverses = stacked.inverses(state)
        state = _means(design, shares, stacked, inverses, state)
        shares = _shares(design, state)
        state = _spreads(stacked, inverses, state, prior)
    return state


@dataclass(frozen=True)
class _Prior:
    """What spreads were before, and how many runs that counts for."""

    total: np.ndarray
    counts: float
    noise: float


def _means(design: Design, shares: np.ndarray, curves: _Stacked, inverses: np.ndarray, state: _State) -> _State:
    """Generalised least squares for all effects, given how runs and residuals spread."""
    precision = 1 / design.variances(shares)
    weighted = state.weights[:, None, None] * (inverses @ curves.rows)
    flat, effects = weighted.reshape(-1, weighted.shape[-1]), weighted.shape[-1]
    doubt = np.linalg.inv(np.diag(precision) + curves.rows.reshape(-1, effects).T @ flat)
    found = doubt @ (precision * design.means + flat.T @ curves.loss.ravel())
    return _State(found, doubt, state.spread, state.noise, state.weights)


def _shares(design: Design, state: _State) -> np.ndarray:
    """How much each trait matters: the mode under an inverse gamma prior, whose shape of 1 lets data speak early."""
    moved = (state.effects - design.means) ** 2 + np.diag(state.doubt)
    found = (design.shares + design.sizes_by_trait(moved)) / (2 + 2 + COEFFICIENTS)
    return np.where(design.is_trait, found, design.shares)


def _spreads(curves: _Stacked, inverses: np.ndarray, state: _State, prior: _Prior) -> _State:
    """How runs and residuals spread around the means, and how far each run is from being typical."""
    error = (curves.loss - curves.rows @ state.effects)[..., None]  # (curves, points, 1)
    doubt = curves.rows @ state.doubt @ curves.rows.transpose(0, 2, 1)
    gain = state.spread @ curves.basis.transpose(0, 2, 1) @ inverses
    own = gain @ error  # (curves, coefficients, 1): what sets each run apart
    left = error - curves.basis @ own
    misfit = (error.transpose(0, 2, 1) @ inverses @ error).ravel() + (inverses * doubt).sum((1, 2))
    weights = (DOF + curves.counts) / (DOF + misfit)
    rest = state.spread - gain @ curves.basis @ state.spread
    total = (
        weights[:, None, None] * (own @ own.transpose(0, 2, 1)) + rest + gain @ doubt @ gain.transpose(0, 2, 1)
    ).sum(0)
    remove = np.eye(error.shape[1]) - curves.basis @ gain
    unsure = curves.basis @ rest @ curves.basis.transpose(0, 2, 1) + remove @ doubt @ remove.transpose(0, 2, 1)
    residual = float(weights @ (left.transpose(0, 2, 1) @ curves.white @ left).ravel() + (curves.white * unsure).sum())
    noise = (NOISE_POINTS * prior.noise + residual) / (NOISE_POINTS + float(curves.counts.sum()))
    spread = (prior.total + total) / (prior.counts + len(weights))
    return _State(state.effects, state.doubt, spread, noise, weights)


def _conditional(features: Features, state: _State, curve: Curve) -> tuple[float, float, float]:
    """Centre, scale and degrees of freedom of the final log loss, given the points so far."""
    end = features.end(curve)
    mean = end.rows @ state.effects
    variance = end.basis @ state.spread @ end.basis.T + state.noise + end.rows @ state.doubt @ end.rows.T
    dof, anchor = DOF, features.anchor(curve)
    if len(curve.points()[0]):
        seen = features.observed(curve)
        covariance = seen.basis @ state.spread @ seen.basis.T + state.noise * seen.correlation
        covariance = covariance + seen.rows @ state.doubt @ seen.rows.T
        shared = end.basis @ state.spread @ seen.basis.T + end.rows @ state.doubt @ seen.rows.T
        shared = shared + state.noise * features.correlation(end.place, seen.place)
        error = seen.loss - seen.rows @ state.effects
        gain = np.linalg.solve(covariance, shared.T).T
        mean, variance = mean + gain @ error, variance - gain @ shared.T
        misfit = float(error @ np.linalg.solve(covariance, error))
        variance, dof = variance * (DOF + misfit) / (DOF + len(error)), DOF + len(error)
    return float(mean[0]) + anchor, math.sqrt(max(float(variance[0, 0]), 1e-12)), dof
