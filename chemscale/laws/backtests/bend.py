"""The largest F over the places of a bend, and its p-value where the place, and how rows err together, are not known.

Rows of a curve are taken as an AR(1) series in the order of the axis. Its correlation is the one of the highest
restricted likelihood (Harville 1977), which does not count what the law's parameters have absorbed; for the statistic
it is found with the likeliest bend in the fit, or the bend would pass for correlation, and anew in every draw, so that
not knowing it is paid for. Draws flip the innovations that the null leaves, with its own correlation (a wild bootstrap,
Hansen 1996, of whitened residuals), or the residuals of whole clusters and, beside them, of every row alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chemscale.laws.objectives import Array

CORRELATIONS = np.linspace(0.0, 0.95, 20)  # that are tried; errors of a curve that alternate are none of its own
MOST_TRIED = 200  # rows above which the correlation is known, and not found anew in every draw
DRAWS = 999
CELLS = 10_000_000  # draws times rows at once: a few hundred megabytes


@dataclass(frozen=True, eq=False)
class Whitened:
    """A law's tangent and bends with one correlation taken out of the rows.

    correlation; tangent (n, P) orthonormal; directions (n, places), unit or zero, free of it; size (places,): a bend of
    one in each; volume: log determinant of the design, for the restricted likelihood.
    """

    correlation: float
    tangent: Array
    directions: Array
    size: Array
    volume: float

    @classmethod
    def of(cls, correlation: float, design: Array, bends: Array) -> Whitened:
        """From derivatives (n, P) and bends (n, places), rows in order."""
        here, bent = whiten(design.T, correlation).T, whiten(bends.T, correlation).T
        basis, sizes, _ = np.linalg.svd(here, full_matrices=False)
        kept = sizes > 1e-10 * sizes.max(initial=0.0)
        basis, sizes = basis[:, kept], sizes[kept]
        left = bent - basis @ (basis.T @ bent)
        size = np.linalg.norm(left, axis=0)
        usable = size > 1e-8 * np.maximum(np.linalg.norm(bent, axis=0), 1e-300)
        size = np.where(usable, size, np.inf)
        return cls(correlation, basis, left / size, size, float(2 * np.log(sizes).sum()))

    def rest(self, errors: Array) -> Array:
        """Whitened errors (draws, n) free of the tangent."""
        white = whiten(errors, self.correlation)
        return white - (white @ self.tangent) @ self.tangent.T

    def gains(self, rest: Array) -> Array:
        """Fall of the sum of squares by a bend at each place, (draws, places)."""
        return (rest @ self.directions) ** 2

    def likelihood(self, left: Array, freedom: int) -> Array:
        """Restricted log likelihood for sums of squares `left` (draws,), up to a constant."""
        scale = 0.5 * np.log(1 - self.correlation**2) - 0.5 * self.volume
        return scale - 0.5 * freedom * np.log(np.maximum(left, 1e-300))


@dataclass(frozen=True, eq=False)
class BendTest:
    """One axis: design (n, P), bends (n, places) and errors (n,), rows in the order of the axis.

    clusters (n,): rows that err together; series: whether the rows are a curve, each its own cluster.
    """

    design: Array
    bends: Array
    errors: Array
    clusters: np.ndarray
    series: bool

    @cached_property
    def tried(self) -> tuple[Whitened, ...]:
        """Every correlation that may be."""
        many = CORRELATIONS if self.series else CORRELATIONS[:1]
        return tuple(Whitened.of(float(rho), self.design, self.bends) for rho in many)

    @property
    def freedom(self) -> int:
        """Rows less parameters and the bend."""
        return max(len(self.errors) - self.tried[0].tangent.shape[1] - 1, 1)

    def largest(self) -> tuple[float, int, float]:
        """Statistic, place, and the size of the bend there."""
        white = self._likeliest(self.errors, self.tried)
        rest = white.rest(self.errors[None])[0]
        along = white.directions.T @ rest
        best = int(np.argmax(along**2))
        return float(self._statistics(self.errors[None])[0]), best, float(along[best] / white.size[best])

    def p_value(self, statistic: float, seed: int) -> float:
        """Share of draws under the null that reach the statistic, the sample itself among them.

        Of G clusters it is never below 2^(1 - G), so that few of them reject nothing (MacKinnon and Webb 2017). What
        the law absorbs of a few clusters leaves their flips too little spread, so that rows flipped alone must agree.
        """
        left = [w.likelihood((w.rest(self.errors[None]) ** 2).sum(1), self.freedom + 1)[0] for w in self.tried]
        null = self.tried[int(np.argmax(left))]
        share = (null.tangent**2).sum(1)
        enlarged = null.rest(self.errors[None])[0] / np.sqrt(np.maximum(1 - share, 0.1))
        rows = np.arange(len(enlarged))
        ways = [self.clusters] if int(self.clusters.max()) + 1 == len(rows) else [self.clusters, rows]
        return max(self._reached(statistic, enlarged, null.correlation, flipped, seed) for flipped in ways)

    def _reached(self, statistic: float, enlarged: Array, correlation: float, flipped: np.ndarray, seed: int) -> float:
        """The share where rows of one number in `flipped` (n,) change sign together."""
        rng = np.random.default_rng(seed)
        at_once, hits = max(CELLS // len(enlarged), 1), 0
        for first in range(0, DRAWS, at_once):
            signs = rng.choice([-1.0, 1.0], size=(min(at_once, DRAWS - first), int(flipped.max()) + 1))
            drawn = colour(signs[:, flipped] * enlarged, correlation)
            # Equal signs are the sample again, whatever `enlarged` did to its statistic: of five clusters 1 draw in 16.
            again = np.abs(signs.sum(1)) == signs.shape[1]
            hits += int((again | (self._statistics(drawn) >= statistic)).sum())
        return (1 + hits) / (1 + DRAWS)

    def _likeliest(self, errors: Array, among: tuple[Whitened, ...]) -> Whitened:
        found = [w.likelihood(self._left(w, errors[None]), self.freedom)[0] for w in among]
        return among[int(np.argmax(found))]

    @staticmethod
    def _left(white: Whitened, errors: Array) -> Array:
        """Sums of squares with the likeliest bend in the fit, (draws,)."""
        rest = white.rest(errors)
        return np.maximum((rest**2).sum(1) - white.gains(rest).max(1), 1e-300)

    def _statistics(self, errors: Array) -> Array:
        """Largest F of errors (draws, n), each at its own likeliest correlation, (draws,)."""
        among = self.tried
        if len(self.errors) > MOST_TRIED:
            among = (self._likeliest(self.errors, among),)
        best, out = np.full(len(errors), -np.inf), np.zeros(len(errors))
        for white in among:
            rest = white.rest(errors)
            gain, whole = white.gains(rest).max(1), (rest**2).sum(1)
            left = np.maximum(whole - gain, 1e-300)
            value = white.likelihood(left, self.freedom)
            out = np.where(value > best, gain / left * self.freedom, out)
            best = np.maximum(best, value)
        return out


def whiten(rows: Array, correlation: float) -> Array:
    """Series (many, n) as their innovations, of one variance throughout."""
    if not correlation:
        return rows
    out = rows.copy()
    out[:, 1:] -= correlation * rows[:, :-1]
    out[:, 0] *= np.sqrt(1 - correlation**2)
    return out


def colour(innovations: Array, correlation: float) -> Array:
    """The inverse of `whiten`."""
    out = innovations.copy()
    if correlation:
        out[:, 0] /= np.sqrt(1 - correlation**2)
        for i in range(1, out.shape[1]):
            out[:, i] += correlation * out[:, i - 1]
    return out
