"""The chain rule, twice over: forms that are no sum of powers are put together from these parts.

Shapes as in `form`, but for slopes in memory's order: runs lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.form import Derivatives, Model
from chemscale.laws.objectives import Array

TINY = 1e-12  # of a typical loss: an amplitude whose logarithm is taken stays above it


class Part(NamedTuple):
    """A quantity with its derivatives in the k parameters that move it, `places` of theta in rising order."""

    value: Array  # (B, n), or (B, 1) where it is the same for all runs
    slopes: Array  # (B, k, n), or (B, k, 1)
    curvature: Callable[[Array], Array] | None  # v (B, n) -> sum_i v_i Hessian_i, (B, k, k); None where it is straight
    places: tuple[int, ...]

    @property
    def derivatives(self) -> Derivatives:
        """The same for a quantity that all of theta moves."""
        assert self.places == tuple(range(self.slopes.shape[1])) and self.curvature is not None
        return Derivatives(self.value, self.slopes.swapaxes(1, 2), self.curvature)


def chain(
    value: Array,
    first: Sequence[Array | float],
    second: Sequence[Sequence[Array | float]],
    parts: Sequence[Part],
) -> Part:
    """f(y_1, ..., y_m) from its value (B, n), its derivatives in each y, and the parts y themselves.

    second[j][k] is the mixed derivative for k <= j (the lower triangle); each is (B, n), or a number.
    """
    places = tuple(sorted({place for part in parts for place in part.places}))
    slots = [np.array([places.index(place) for place in part.places]) for part in parts]
    slopes = np.zeros((len(value), len(places), value.shape[1]))
    for slope, part, slot in zip(first, parts, slots, strict=True):
        for k, place in enumerate(slot):
            slopes[:, place] += slope * part.slopes[:, k]

    def curvature(v: Array) -> Array:
        total = np.zeros((len(v), len(places), len(places)))
        for slope, part, slot in zip(first, parts, slots, strict=True):
            if part.curvature is not None:
                total[:, slot[:, None], slot] += part.curvature(v * slope)
        for j, row in enumerate(second):
            for k, bend in enumerate(row):
                if isinstance(bend, float) and bend == 0.0:
                    continue
                product = _products(v * bend, parts[j].slopes, parts[k].slopes)
                total[:, slots[j][:, None], slots[k]] += product
                if j != k:
                    total[:, slots[k][:, None], slots[j]] += product.swapaxes(1, 2)
        return total

    return Part(value, slopes, curvature, places)


def _products(v: Array, left: Array, right: Array) -> Array:
    """sum_i v_i left_i right_i', (B, k, l)."""
    if left.shape[2] == right.shape[2] == 1:
        return v.sum(1)[:, None, None] * left * right.swapaxes(1, 2)
    if right.shape[2] == 1:
        return np.matmul(left, v[:, :, None]) * right.swapaxes(1, 2)
    if left.shape[2] == 1:
        return left * np.matmul(right, v[:, :, None]).swapaxes(1, 2)
    return np.matmul(left * v[:, None], right.swapaxes(1, 2))


def parameter(theta: Array, index: int) -> Part:
    """One parameter of theta (B, P), the same for every run."""
    return Part(theta[:, index : index + 1], np.ones((len(theta), 1, 1)), None, (index,))


def log_parameter(theta: Array, index: int) -> Part:
    """Its logarithm; it is above zero."""
    value = theta[:, index : index + 1]
    inverse = (1 / value)[:, None]
    return Part(np.log(value), inverse, lambda v: -v.sum(1)[:, None, None] * inverse**2, (index,))


class Floored(Model):
    """log(E + exp(inner)): theta is E, then the parameters of `inner`."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner

    def log_fit(self, theta: Array) -> Array:
        with np.errstate(divide="ignore", over="ignore"):
            return np.log(theta[:, :1] + np.exp(self.inner.log_fit(theta[:, 1:])))

    def derivatives(self, theta: Array) -> Derivatives:
        at = self.inner.derivatives(theta[:, 1:])
        above = np.exp(np.minimum(at.log_fit, 300))
        total = np.maximum(theta[:, :1] + above, 1e-300)
        share, inverse = above / total, 1 / total
        rows = at.jacobian.swapaxes(1, 2)  # (B, P - 1, n)
        slopes = np.concatenate([inverse[:, None], share[:, None] * rows], axis=1)

        def curvature(v: Array) -> Array:
            shared = v * share
            hessian = np.empty((len(theta), theta.shape[1], theta.shape[1]))
            hessian[:, 0, 0] = -(v * inverse**2).sum(1)
            hessian[:, 0, 1:] = hessian[:, 1:, 0] = -np.matmul(rows, (shared * inverse)[:, :, None])[:, :, 0]
            bent = (shared * (1 - share))[:, None] * rows
            hessian[:, 1:, 1:] = at.curvature(shared) + np.matmul(bent, at.jacobian)
            return hessian

        return Derivatives(np.log(total), slopes.swapaxes(1, 2), curvature)


class Scaled(Model):
    """power x inner: the fitted loss of `inner` raised to a fixed power."""

    def __init__(self, power: float, inner: Model) -> None:
        self.power, self.inner = power, inner

    def log_fit(self, theta: Array) -> Array:
        return self.power * self.inner.log_fit(theta)

    def derivatives(self, theta: Array) -> Derivatives:
        at = self.inner.derivatives(theta)
        return Derivatives(self.power * at.log_fit, self.power * at.jacobian, lambda v: at.curvature(self.power * v))
