"""Where a law is cut to be tested: rolling origins, windows below them, and bands of distance beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.objectives import Array

WINDOWS = (1.0, 0.5, 0.25)  # shares of the log range of size, from the top, that a form may be fitted to
MOST = 8  # origins
SHORTEST = 0.3  # share of the log range of size that the smallest origin keeps
NEAREST = np.log(1.1)  # distances under a tenth more are one
BAND = np.log(2.0)  # logs of distance per band of a test


@dataclass(frozen=True)
class Cell:
    """Rows (indices) tested together: those of one origin, `reach` (axes,) beyond its fitted runs (natural logs)."""

    origin: int
    reach: Array
    fitted: np.ndarray
    rows: np.ndarray


def window_mask(size: Array, window: float) -> np.ndarray:
    """Which runs lie in the top `window` of the log range of `size`, (n,) of bool."""
    logs = np.log(size)
    return logs >= logs.max() - window * (logs.max() - logs.min()) - 1e-9


def cuts(size: Array, least: int) -> list[float]:
    """Largest sizes that the origins fit, the furthest back first.

    At least `least` runs and `SHORTEST` of the log range remain; cuts follow the levels of a grid, and are spread
    evenly over the logs of a curve.
    """
    logs = np.log(np.sort(size))
    allowed = logs[:-1][np.arange(1, len(logs)) >= least]
    allowed = allowed[(allowed < logs[-1] - 1e-9) & (allowed >= logs[0] + SHORTEST * (logs[-1] - logs[0]))]
    levels = np.unique(np.round(allowed, 9))
    if len(levels) > MOST:
        wanted = np.linspace(logs[-1], levels[0], MOST + 1)[1:]
        levels = np.unique([levels[np.argmin(np.abs(levels - at))] for at in wanted])
    return [float(np.exp(level) * (1 + 1e-9)) for level in levels]


def cells(origin: int, x: Array, fitted: np.ndarray, tested: np.ndarray) -> list[Cell]:
    """The tested rows (indices) of one origin by distance beyond the fitted ones; x (n, axes) natural logs."""
    out = outside(x[tested], x[fitted])
    band = bands(length(out))
    return [Cell(origin, out[band == b].mean(0), fitted, tested[band == b]) for b in np.unique(band)]


def outside(x: Array, fitted: Array) -> Array:
    """How far points (m, axes) lie beyond the box of the fitted ones along each axis, natural logs, (m, axes)."""
    return np.maximum(x - fitted.max(0), 0) - np.maximum(fitted.min(0) - x, 0)


def length(out: Array) -> Array:
    """Distance of vectors (m, axes) beyond a box, at least `NEAREST`, (m,)."""
    return np.maximum(np.linalg.norm(out, axis=1), NEAREST)


def bands(far: Array) -> np.ndarray:
    """Number of the band that each distance lies in: from `NEAREST`, each twice as far as the one before."""
    return np.floor(np.log(far / NEAREST) / BAND + 1e-9).astype(int)
