"""The functions of progress and the traits that a law of training curves is linear in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.sweep.curves import Curve

COEFFICIENTS = 4  # level, slope, bend, drop
MEANS = np.array([0.0, 0.15, 0.0, 0.05])  # of the coefficients before a curve was seen
SPREADS = np.array([1.0, 0.15, 0.05, 0.08])  # how far the mean of a search may lie from them
SQUARE_SHARE = 0.05  # variance of the effect of a trait's square, in units of the prior's
LINE_SHARE = 0.25  # the same of a trait itself
EARLIER_SHARE = 0.1  # of the prior's variances that is left where an earlier search has spoken
POWER = 0.3  # of S in the bending term; between the exponents that loss curves show
KNOT_STEP, KNOTS_FROM, KNOT_SPREAD = 0.4, -6.0, 0.05  # the common shape: hats along log S, in log loss
REACH, WHITE = 1.0, 0.1  # correlation length of the residual in log S; the share of it that is white
MOST_POINTS = 10  # of one curve that are used: evenly spaced in log S
LEAST_AREA = 1e-4
MOST_SPREADS = 3.0  # a trait further from its mean counts as so far


@dataclass(frozen=True)
class Observed:
    """Points of a curve as a law sees them.

    Attributes:
        place: log S, (points,).
        loss: log loss less the anchor, (points,).
        basis: (points, coefficients).
        rows: (points, effects), what multiplies all effects.
        correlation: of the residual, (points, points).
    """

    place: np.ndarray
    loss: np.ndarray
    basis: np.ndarray
    rows: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True)
class Features:
    """How curves of one search turn into rows: its traits with their centres and spreads, and the level it is about."""

    names: tuple[str, ...]
    centres: np.ndarray
    spreads: np.ndarray
    level: float | None

    @staticmethod
    def of(curves: Sequence[Curve]) -> Features:
        """Traits that vary over these curves; the level is the median of their last log losses."""
        kept: list[tuple[str, float, float]] = []
        for name in sorted({name for curve in curves for name in curve.traits}):
            values = np.array([curve.traits[name] for curve in curves if name in curve.traits])
            if len(values) > 1 and np.std(values) > 1e-9 * (1 + abs(np.mean(values))):
                kept.append((name, float(np.mean(values)), float(np.std(values))))
        level = float(np.median([curve.points()[1][-1] for curve in curves])) if curves else None
        return Features(
            tuple(k[0] for k in kept), np.array([k[1] for k in kept]), np.array([k[2] for k in kept]), level
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """What each group of effects belongs to: the mean run, every trait, every trait's square."""
        return ("", *self.names, *(f"{name}²" for name in self.names))

    def traits(self, curve: Curve) -> np.ndarray:
        """1, the standardised traits, their centred squares; a trait that is missing counts as average."""
        given = [curve.traits.get(n, c) for n, c in zip(self.names, self.centres, strict=True)]
        z = (np.array(given) - self.centres) / self.spreads if given else np.zeros(0)
        z = np.clip(z, -MOST_SPREADS, MOST_SPREADS)
        return np.concatenate([[1.0], z, (z * z - 1) / 2])

    def anchor(self, curve: Curve) -> float:
        """The log loss that coefficients are relative to: a law without curves has only the curve itself."""
        return self.level if self.level is not None else float(curve.points()[1][-1])

    def observed(self, curve: Curve) -> Observed:
        """Its points, thinned to at most `MOST_POINTS`."""
        progress, loss = curve.points()
        place = np.log(np.maximum(curve.schedule.area(progress), LEAST_AREA))
        keep = _thinned(place)
        correlation = self.correlation(place[keep], place[keep]) + WHITE * np.eye(len(keep))
        return self._seen(curve, progress[keep], loss[keep] - self.anchor(curve), correlation)

    def end(self, curve: Curve) -> Observed:
        """Where the curve will end, as one row; its loss is not known."""
        return self._seen(curve, np.ones(1), np.zeros(1), np.ones((1, 1)))

    def correlation(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Of the residual between two sets of places, but for its white part."""
        return (1 - WHITE) * np.exp(-np.abs(a[:, None] - b[None]) / REACH)

    def _seen(self, curve: Curve, progress: np.ndarray, loss: np.ndarray, correlation: np.ndarray) -> Observed:
        area = np.maximum(curve.schedule.area(progress), LEAST_AREA)
        place, annealed = np.log(area), curve.schedule.annealed(progress)
        bend = (area**-POWER - 1) / POWER + place
        basis = np.stack([np.ones_like(place), -place, bend, -annealed], axis=1)
        rows = np.concatenate([np.kron(self.traits(curve)[None], basis), _shape(place, annealed)], axis=1)
        return Observed(place, loss, basis, rows, correlation)


def _thinned(place: np.ndarray) -> np.ndarray:
    """Indices of at most `MOST_POINTS` points, evenly spaced in log S; the last is always among them."""
    if len(place) <= MOST_POINTS:
        return np.arange(len(place))
    wanted = np.linspace(place[0], place[-1], MOST_POINTS)
    return np.unique(np.append(np.searchsorted(place, wanted - 1e-12), len(place) - 1))


def _shape(place: np.ndarray, annealed: np.ndarray) -> np.ndarray:
    """The common shape: hats along log S, and two ways in which a cooldown's drop is no straight line in D."""
    knots = np.arange(KNOTS_FROM, KNOT_STEP / 2, KNOT_STEP)
    hats = np.clip(1 - np.abs(place[:, None] - knots[None]) / KNOT_STEP, 0, 1)
    return np.concatenate([hats, np.stack([annealed**2 - annealed, np.sqrt(annealed) - annealed], axis=1)], axis=1)


class Design:
    """The prior on all effects of a law: those of an earlier law where it knows them.

    Attributes:
        means: (effects,).
        shares: (effects,) prior variance of a trait's effects in units of `SPREADS` squared.
        is_trait: (effects,) whether an effect belongs to a trait.
    """

    def __init__(self, features: Features, earlier: Features | None, learned: np.ndarray | None):
        shape = _shape(np.zeros(1), np.zeros(1)).shape[1]
        columns, squares = features.columns, len(features.names)
        means = np.zeros((len(columns), COEFFICIENTS))
        means[0] = MEANS
        common = np.zeros(shape)
        if earlier is not None and learned is not None:
            known = learned[: len(earlier.columns) * COEFFICIENTS].reshape(-1, COEFFICIENTS)
            for row, name in enumerate(columns):
                if name in earlier.columns:
                    means[row] = known[earlier.columns.index(name)]
            common = learned[-shape:]
        share = np.concatenate([[1.0], np.full(squares, LINE_SHARE), np.full(squares, SQUARE_SHARE)])
        self._columns = len(columns)
        self._sizes = np.concatenate([np.tile(SPREADS**2, len(columns)), np.full(shape, KNOT_SPREAD**2)])
        self.means = np.concatenate([means.ravel(), common])
        self.shares = np.concatenate([np.repeat(share, COEFFICIENTS), np.ones(shape)])
        if earlier is not None:
            self.shares[1:] *= EARLIER_SHARE  # all but the level, which changes from cell to cell
        place = np.arange(len(self.means))
        self.is_trait = (place >= COEFFICIENTS) & (place < len(columns) * COEFFICIENTS)

    def variances(self, shares: np.ndarray) -> np.ndarray:
        """(effects,) of the prior, given how much each trait matters."""
        return shares * self._sizes

    def sizes_by_trait(self, squares: np.ndarray) -> np.ndarray:
        """(effects,): for each effect, the sum over its trait of squared effects in units of the prior's spread."""
        sums = (squares / self._sizes)[: self._columns * COEFFICIENTS].reshape(-1, COEFFICIENTS).sum(1)
        return np.concatenate([np.repeat(sums, COEFFICIENTS), np.zeros(len(self.means) - sums.size * COEFFICIENTS)])
