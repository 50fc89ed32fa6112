"""A model of the noise of runs around a law: its size, how it changes with scale, its tail, what clusters share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chemscale.laws.doubt.residuals import measured, noise_scale, residuals
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem

MOST_SHARED = 0.95
FALL = 3.0  # "heteroscedastic": how much larger the noise of the smallest run is than that of the largest
HALF = 0.5  # "clusters": the share of the variance that a cluster's runs have in common
KINDS = ("fitted", "normal", "t3", "t4", "heteroscedastic", "clusters")


@dataclass(frozen=True, eq=False)
class Noise:
    """Errors of log losses.

    scale (n,): standard deviation of each run; shared: the share of the variance that runs of a cluster have in
    common; tail: degrees of freedom of a Student's t that is scaled to that deviation, inf for a normal.
    """

    scale: Array
    shared: float = 0.0
    tail: float = np.inf

    @classmethod
    def fitted(cls, problem: Problem, theta: Array, clusters: np.ndarray, scale: Array | None = None) -> Noise:
        """The noise of a fit, normal; `scale` (n,) where replicates tell it, else the residuals' own."""
        if scale is None:
            scale = noise_scale(problem, theta) / np.sqrt(problem.weights)
        return cls(scale, shared_within(clusters, np.where(measured(problem), residuals(problem, theta), 0.0)))

    def kind(self, name: str, size: Array) -> Noise:
        """The same amount of another kind of noise, one of `KINDS`; size (n,): log size of each run."""
        typical = np.full_like(self.scale, np.sqrt((self.scale**2).mean()))
        if name == "fitted":
            return self
        if name in ("t3", "t4"):
            return Noise(typical, 0.0, float(name[1:]))
        if name == "heteroscedastic":
            share = (size - size.min()) / max(float(np.ptp(size)), 1e-12)
            falling = FALL ** (0.5 - share)
            return Noise(typical * falling / np.sqrt((falling**2).mean()))
        if name in ("normal", "clusters"):
            return replace(self, scale=typical, shared=HALF if name == "clusters" else 0.0, tail=np.inf)
        raise ValueError(f"noise={name!r} is not one of {', '.join(KINDS)}.")

    def draw(self, rng: np.random.Generator, count: int, clusters: np.ndarray) -> Array:
        """Errors of `count` tables, (count, n)."""
        own = self._unit(rng, (count, len(clusters)))
        if not self.shared:
            return self.scale * own
        common = self._unit(rng, (count, int(clusters.max()) + 1))[:, clusters]
        return self.scale * (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own)

    def _unit(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        if np.isinf(self.tail):
            return rng.standard_normal(shape)
        return rng.standard_t(self.tail, shape) * np.sqrt((self.tail - 2) / self.tail)


def shared_within(clusters: np.ndarray, errors: Array) -> float:
    """Share of the errors' variance that runs of one cluster have in common (the intraclass correlation), 0 to 0.95."""
    sums, squares = np.bincount(clusters, errors), np.bincount(clusters, errors**2)
    counts = np.bincount(clusters)
    pairs = (counts * (counts - 1)).sum()
    if not pairs or not squares.sum():
        return 0.0
    return float(np.clip((sums**2 - squares).sum() / pairs / (errors**2).mean(), 0.0, MOST_SHARED))
