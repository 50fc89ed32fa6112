"""How far a fitted quantity can be off, from the slopes of the law at its minimum, whatever the noise.

S tables with one design (S = 1 for a law), n runs, P parameters. The working objective is a likelihood of the noise:
least squares, or Huber's with a corner at `CORNER` standard deviations where single runs may lie far off. A quantity h
moves by sum_i u_i e_i when the runs' errors are e_i, so its variance is sum_i u_i^2 var(e_i): with equal variances the
textbook one, with squared residuals in their place the one that holds for any (White 1980). The residuals are enlarged
by their run's leverage and summed within clusters first (CR2; Bell and McCaffrey 2002), and the degrees of freedom
of the result are those of its own variance (Satterthwaite; Pustejovsky and Tipton 2018), so that few runs or few
clusters are paid for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.form import Model
from chemscale.laws.objectives import Array, Objective

CORNER = 1.345  # Huber 1964: 95 % as efficient as least squares where the noise is normal
LEAST_LEFT = 1e-6  # of a cluster that decides a parameter alone, nothing is left to learn its noise from
MOST_RUNS = 1500  # above, degrees of freedom are the clusters less the parameters: the exact ones cost n^2


class Spread(NamedTuple):
    """Variance of each table's quantity, (S,), under equal noise (`model`) and under any (`sound`), and its freedom."""

    model: Array
    sound: Array
    freedom: Array


@dataclass(frozen=True)
class Tangent:
    """The law's slopes at a fit: design (S, n, P) and errors (S, n), both in units of the working objective."""

    design: Array
    errors: Array
    inverse: Array  # (S, P, P), of design' design
    clusters: np.ndarray

    @classmethod
    def at(
        cls, model: Model, goal: Objective, log_loss: Array, weights: Array, theta: Array, clusters: np.ndarray
    ) -> Tangent:
        """The tangent of each table's fit theta (S, P)."""
        here = model.derivatives(theta)
        slopes = goal.slopes(log_loss, here.log_fit)
        bend = slopes.majorant if goal.name == "lsq" else np.maximum(slopes.second, 0.0)
        if goal.robust:  # the share of runs within the corners, as one number: a run beyond still has a slope
            bend = np.broadcast_to(bend.mean(1, keepdims=True), bend.shape)
        root = np.sqrt(np.maximum(weights * bend, 1e-300))
        design = here.jacobian * root[:, :, None]
        errors = -weights * slopes.first / root
        gram = design.swapaxes(1, 2) @ design
        size = np.sqrt(np.maximum(np.einsum("spp->sp", gram), 1e-300))
        scaled = gram / size[:, :, None] / size[:, None, :]
        inverse = np.linalg.pinv(scaled, rcond=1e-11, hermitian=True) / size[:, :, None] / size[:, None, :]
        return cls(design, errors, inverse, clusters)

    def step(self, gradient: Array) -> Array:
        """Parameters per unit of the quantity's slope: inverse times gradient, (S, P)."""
        return np.einsum("spq,sq->sp", self.inverse, gradient)

    def spread(self, gradient: Array) -> Spread:
        """Of the quantity with this gradient (S, P).

        Where a cluster decides a parameter alone, its own errors leave nothing to see; that part of the variance is the
        textbook one, by the errors of all runs.
        """
        along = self.step(gradient)
        model = np.maximum(np.einsum("sp,sp->s", along, gradient), 1e-300)
        reach = np.einsum("snp,sp->sn", self.design, along)  # u
        scores, directions, decided = [], [], np.zeros(len(reach))
        for taken in self._taken:
            adjusted, alone = taken.of(reach, _by_half), taken.of(reach, _nothing_left)
            scores.append(np.einsum("skg,skg->sk", adjusted, self.errors[:, taken.groups]))
            directions.append((taken.groups, adjusted))
            decided += (alone**2).sum((1, 2))
        seen, known = np.asarray(sum((score**2).sum(1) for score in scores)), self._freedom(directions)
        left = max(self.design.shape[1] - self.design.shape[2], 1)
        unseen = decided * (self.errors**2).sum(1) / left
        total = np.maximum(seen + unseen, 1e-300)
        freedom = np.where(unseen > 0, total**2 / np.maximum(seen**2 / known + unseen**2 / left, 1e-300), known)
        return Spread(model, seen + unseen, freedom)

    def decided(self, gradient: Array) -> Array:
        """The share of the textbook variance of a quantity (S, P) that lies where a cluster decides alone, (S,)."""
        reach = np.einsum("snp,sp->sn", self.design, self.step(gradient))
        alone = sum((taken.of(reach, _nothing_left) ** 2).sum((1, 2)) for taken in self._taken)
        return np.asarray(alone / np.maximum((reach**2).sum(1), 1e-300))

    @cached_property
    def _taken(self) -> list[Taken]:
        """What the fit takes of the errors of each cluster, clusters of one size together."""
        half, found = self._root(), []
        for groups in of_one_size(groups_of(self.clusters)):
            rows = self.design[:, groups] @ half[:, None]  # (S, k, g, P)
            axes, sizes, _ = np.linalg.svd(rows, full_matrices=False)
            found.append(Taken(groups, axes, sizes))
        return found

    def _root(self) -> Array:
        """R with R R' the inverse, (S, P, P)."""
        sizes, axes = np.linalg.eigh(self.inverse)
        return axes * np.sqrt(np.maximum(sizes, 0.0))[:, None, :]

    def _freedom(self, directions: list[tuple[np.ndarray, Array]]) -> Array:
        """(sum of the eigenvalues)^2 over the sum of their squares, of p_g . p_h with p_g = (I - H) adjusted u_g."""
        count, runs, parameters = self.design.shape
        groups = sum(len(found) for found, _ in directions)
        if runs > MOST_RUNS:
            return np.full(count, float(max(groups - parameters, 1)))
        spans = np.concatenate([np.einsum("skgp,skg->skp", self.design[:, found], v) for found, v in directions], 1)
        cross = -spans @ self.inverse @ spans.swapaxes(1, 2)
        own = np.concatenate([(v**2).sum(2) for _, v in directions], 1)
        cross[:, np.arange(groups), np.arange(groups)] += own
        total = np.einsum("sgg->s", cross)
        return np.clip(total**2 / np.maximum((cross**2).sum((1, 2)), 1e-300), 1.0, None)


class Taken(NamedTuple):
    """What a fit takes of the errors of k groups of g runs: H of each, by its axes (S, k, g, P) and their singular
    values (S, k, P).
    """

    groups: np.ndarray  # (k, g) rows
    axes: Array
    sizes: Array

    def of(self, errors: Array, of: Callable[[Array], Array]) -> Array:
        """f(I - H) times the errors (S, n) of each group, (S, k, g)."""
        return _mapped(self.axes, self.sizes, errors[:, self.groups], of)


def enlarged(rows: Array, errors: Array, of: Callable[[Array], Array]) -> Array:
    """f(I - H) times errors (B, g), where H = rows rows' is what a fit takes of each group's own errors, (B, g).

    rows (B, g, P). `of` is f of the eigenvalues, which are one but in the span of the rows, so that a group of many
    runs costs no more than its runs times P^2.
    """
    axes, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    return _mapped(axes, sizes, errors, of)


def _mapped(axes: Array, sizes: Array, errors: Array, of: Callable[[Array], Array]) -> Array:
    one = of(np.ones(1))
    inside = (axes.swapaxes(-1, -2) @ errors[..., None])[..., 0]
    return one * errors + (axes @ ((of(1 - sizes**2) - one) * inside)[..., None])[..., 0]


def _by_half(left: Array) -> Array:
    """The inverse root, and zero where a cluster decides a parameter alone."""
    return np.where(left > LEAST_LEFT, 1 / np.sqrt(np.maximum(left, LEAST_LEFT)), 0.0)


def _nothing_left(left: Array) -> Array:
    """One where a cluster decides a parameter alone, zero elsewhere."""
    return (left <= LEAST_LEFT).astype(float)


def of_one_size(groups: list[np.ndarray]) -> list[np.ndarray]:
    """Groups of equal size stacked, each (k, g)."""
    sizes = np.array([len(group) for group in groups])
    return [np.stack([groups[i] for i in np.flatnonzero(sizes == size)]) for size in np.unique(sizes)]


def groups_of(clusters: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each group."""
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)
