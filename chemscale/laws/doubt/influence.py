"""What a fit leans on: the exponents and the far loss without some of its runs.

Influence is measured by refits without a run, not by their linear approximation: a robust fit passes through some of
its runs exactly, and those have no residual to show how much hangs on them. Runs of one cluster, whose errors move
together, are left out together. Only candidates are refitted where there are many: those with the largest Cook's
distance (Cook 1977) and those with the largest leverage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chemscale.laws.doubt.residuals import freedom, leverage, measured, noise_scale, residuals
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import refit
from chemscale.laws.solver.tangent import groups_of
from chemscale.laws.tables.table import Rows

EVERY = 12  # clusters up to which each is left out once; beyond, `CANDIDATES` by each measure
CANDIDATES = 6
SHOWN = 5  # most influential clusters that are named, and left out together
FAR_OFF = 5.0  # noise widths; Gaussian noise puts one run in two million further off


@dataclass(frozen=True)
class Without:
    """The fit without some runs.

    runs: positions among the fitted runs, from 0, those furthest off first; at, loss: of the first of them;
    residual: of the first, in noise widths; exponents: refitted; farthest: loss then predicted at ten times the
    largest of every axis; moved: names of exponents that leave their interval.
    """

    runs: tuple[int, ...]
    at: dict[str, float]
    loss: float
    residual: float
    exponents: dict[str, float]
    farthest: float
    moved: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A fit as its reader sees it: exponents under their published names, and the loss far beyond the runs."""

    problem: Problem
    runs: Rows
    intervals: dict[str, tuple[float, float]]
    identified: frozenset[str]

    def read(self, thetas: Array) -> tuple[dict[str, Array], Array]:
        """Exponents, each (B,), and the loss at ten times the largest of every axis, (B,)."""
        problem, form = self.problem, self.problem.form
        published = form.published(thetas, problem.centre, problem.log_scale)
        names = dict.fromkeys(map(form.exponent_of, form.roles))
        far = problem.x.max(0, keepdims=True) + np.log(10)
        loss = np.exp(form.bind(far).log_fit(thetas)[:, 0] + problem.log_scale)
        return {name: published[name] for name in names}, loss

    def moved(self, exponents: Mapping[str, float]) -> tuple[str, ...]:
        """Identified exponents that lie outside their interval."""
        outside = {k for k, v in exponents.items() if not self.intervals[k][0] <= v <= self.intervals[k][1]}
        return tuple(name for name in exponents if name in outside & self.identified)


def noise_widths(problem: Problem, theta: Array) -> Array:
    """Residuals over the width of the noise, (n,), which few outliers hardly widen.

    The width from the median is too small by chance in small tables, that from the mean (Gaussian, 0.8 of it) is not:
    over clean grids of 16 to 100 runs the larger of the two leaves no run beyond `FAR_OFF`.
    """
    off = np.where(known := measured(problem), residuals(problem, theta), 0.0)  # a bound is no residual
    middle = noise_scale(problem, theta) if problem.objective.robust else 1.4826 * float(np.median(np.abs(off[known])))
    mean = np.sqrt(np.pi / 2) * float(np.abs(off).sum()) / freedom(problem)
    return off / max(middle, 0.8 * mean, 1e-9)


def influence(view: View, theta: Array, off: Array, farthest: float) -> tuple[tuple[Without, ...], Without | None]:
    """The clusters that move the far loss most when each is left out, and the fit without all of these.

    off (n,): residuals in noise widths; farthest: the far loss of the whole fit. A cluster without which no more runs
    than parameters are left is never left out.
    """
    problem = view.problem
    groups = [g for g in groups_of(view.runs.clusters) if len(problem.x) - len(g) > len(theta)]
    if not groups:
        return (), None
    lean = leverage(problem, theta)
    cook, lean = (np.array([values[g].sum() for g in groups]) for values in (off**2 * lean / (1 - lean) ** 2, lean))
    picked = np.unique(np.concatenate([np.argsort(-cook)[:CANDIDATES], np.argsort(-lean)[:CANDIDATES]]))
    picked = np.arange(len(groups)) if len(groups) <= EVERY else picked
    weights = np.repeat(problem.weights[None], len(picked), axis=0)
    for row, k in enumerate(picked):
        weights[row, groups[k]] = 0.0
    exponents, far = view.read(refit(problem, problem.log_loss, weights, theta))
    order = np.argsort(-np.abs(np.log(far / farthest)), kind="stable")[:SHOWN]
    alone = tuple(_dropped(view, off, groups[picked[i]], exponents, far, i) for i in order)
    gone = np.concatenate([groups[k] for k in picked[order[: max(1, min(SHOWN, len(groups) // 20))]]])
    if len(problem.x) - len(gone) <= len(theta):
        return alone, None
    rest = problem.weights.copy()
    rest[gone] = 0.0
    exponents, far = view.read(refit(problem, problem.log_loss, rest[None], theta))
    return alone, _dropped(view, off, gone, exponents, far, 0)


def _dropped(view: View, off: Array, gone: np.ndarray, exponents: Mapping[str, Array], far: Array, row: int) -> Without:
    runs = gone[np.argsort(-np.abs(off[gone]), kind="stable")] if len(gone) > 1 else gone
    found = {name: float(values[row]) for name, values in exponents.items()}
    at = {role: float(view.runs.axes[role][runs[0]]) for role in view.problem.form.roles}
    loss, residual = float(view.runs.loss[runs[0]]), float(off[runs[0]])
    return Without(tuple(runs.tolist()), at, loss, residual, found, float(far[row]), view.moved(found))
