"""Straight lines through log loss against log axis, with honest small-sample intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.doubt.regression import least_squares
from chemscale.laws.objectives import Array

CURVED = 4  # levels from which an axis may bend in the surface that noise is measured about


@dataclass(frozen=True)
class Slope:
    """slope of log10 loss per decade with its standard error; `runs_left` the degrees of freedom behind it.

    `error` is None where no noise can be measured (two runs on a line of two parameters).
    """

    slope: float
    error: float | None
    runs_left: int

    def interval(self, level: float) -> tuple[float, float] | None:
        """Student's t interval of the slope."""
        if self.error is None:
            return None
        half = float(student.ppf(0.5 + level / 2, self.runs_left)) * self.error
        return self.slope - half, self.slope + half


@dataclass(frozen=True)
class Scatter:
    """Scatter of one run about a smooth surface: standard deviation in decades of loss, and degrees of freedom."""

    sigma: float
    left: int


def surface_noise(x: Array, y: Array, z: Array, x_levels: int, y_levels: int) -> Scatter | None:
    """Scatter of z about 1, x, y, xy, and x^2 and y^2 where their axis has at least four levels, all (n,).

    The surface has less freedom than the grid, so seed noise and misfit of the surface both land in the scatter: it is
    an upper estimate of the noise, pooled over all runs of the grid. None where nothing is left to measure it by.
    """
    terms = [np.ones_like(x), x, y, x * y]
    terms += [x**2] if x_levels >= CURVED else []
    terms += [y**2] if y_levels >= CURVED else []
    design = np.stack(terms, axis=1)
    left = len(z) - int(np.linalg.matrix_rank(design))
    if left < 1:
        return None
    residual = z - design @ np.linalg.lstsq(design, z, rcond=None)[0]
    return Scatter(float(np.sqrt((residual**2).sum() / left)), left)


def slope_line(x: Array, y: Array, groups: np.ndarray, clusters: np.ndarray, noise: Scatter | None = None) -> Slope:
    """Least squares of y on x with an intercept per group (the other axis held), all (n,).

    `noise`, where it is known from more runs than these, takes the place of their own residuals: two or three runs tell
    their slope and next to nothing of its error.

    The residuals hold seed noise and curvature alike, so a bent curve gets a wide interval. Where runs share a cluster
    the error knows it, see `doubt.regression.least_squares`.
    """
    own = np.unique(groups, return_inverse=True)[1].ravel()
    shifts = np.eye(own.max() + 1)[own]
    means = (x @ shifts) / shifts.sum(0)
    inner = x - means[own]
    numbers = np.unique(clusters, return_inverse=True)[1].ravel()
    found = least_squares(np.column_stack([shifts, inner]), y, numbers)
    slope, left = float(found.values[-1]), len(x) - shifts.shape[1] - 1
    if noise is not None and noise.left > left:
        return Slope(slope, noise.sigma / float(np.sqrt((inner**2).sum())), noise.left)
    if found.errors is None:
        return Slope(slope, None, 0)
    return Slope(slope, float(found.errors[-1]), int(found.left[-1]))


def differ(first: Slope, second: Slope, level: float) -> tuple[float, float] | None:
    """Interval of first.slope - second.slope (Welch's degrees of freedom); None where noise is unknown."""
    if first.error is None or second.error is None:
        return None
    a, b = first.error**2, second.error**2
    left = (a + b) ** 2 / (a**2 / first.runs_left + b**2 / second.runs_left) if a + b else float(first.runs_left)
    half = float(student.ppf(0.5 + level / 2, max(left, 1.0))) * (a + b) ** 0.5
    gap = first.slope - second.slope
    return gap - half, gap + half
