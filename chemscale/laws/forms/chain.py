"""The chain rule, twice over: forms that are no sum of powers are put together from these parts.

A part is the `Derivatives` of any quantity with respect to all P parameters of a form. Shapes as in `form`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chemscale.laws.forms.form import Derivatives, Model
from chemscale.laws.objectives import Array

TINY = 1e-12  # of a typical loss: an amplitude whose logarithm is taken stays above it


def chain(
    value: Array,
    first: Sequence[Array | float],
    second: Sequence[Sequence[Array | float]],
    parts: Sequence[Derivatives],
) -> Derivatives:
    """f(y_1, ..., y_m) from its value (B, n), its derivatives in each y, and the parts y themselves.

    second[j][k] is the mixed derivative for k <= j (the lower triangle); each is (B, n), or a number.
    """
    slopes = [np.broadcast_to(f, value.shape) for f in first]
    jacobian = np.zeros_like(parts[0].jacobian)
    for slope, part in zip(slopes, parts, strict=True):
        jacobian += slope[:, :, None] * part.jacobian

    def curvature(v: Array) -> Array:
        width = parts[0].jacobian.shape[2]
        total = np.zeros((len(v), width, width))
        for slope, part in zip(slopes, parts, strict=True):
            total += part.curvature(v * slope)
        for j, row in enumerate(second):
            for k, bend in enumerate(row):
                if isinstance(bend, float) and bend == 0.0:
                    continue
                weighted = (v * bend)[:, :, None] * parts[j].jacobian
                product = np.matmul(weighted.swapaxes(1, 2), parts[k].jacobian)
                total += product if j == k else product + product.swapaxes(1, 2)
        return total

    return Derivatives(value, jacobian, curvature)


def parameter(theta: Array, index: int, runs: int) -> Derivatives:
    """One parameter of theta (B, P), the same for every run."""
    jacobian = np.zeros((len(theta), runs, theta.shape[1]))
    jacobian[:, :, index] = 1.0
    value = np.broadcast_to(theta[:, index : index + 1], (len(theta), runs))
    return Derivatives(value, jacobian, lambda v: np.zeros((len(v), theta.shape[1], theta.shape[1])))


def logarithm(part: Derivatives) -> Derivatives:
    """log y, y > 0."""
    inverse = 1 / part.log_fit
    return chain(np.log(part.log_fit), [inverse], [[-(inverse**2)]], [part])


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
        jacobian = np.concatenate([inverse[:, :, None], share[:, :, None] * at.jacobian], axis=2)

        def curvature(v: Array) -> Array:
            hessian = np.empty((len(theta), theta.shape[1], theta.shape[1]))
            hessian[:, 0, 0] = -(v * inverse**2).sum(1)
            hessian[:, 0, 1:] = hessian[:, 1:, 0] = -np.einsum("bn,bnp->bp", v * share * inverse, at.jacobian)
            bent = (v * share * (1 - share))[:, :, None] * at.jacobian
            hessian[:, 1:, 1:] = at.curvature(v * share) + np.matmul(bent.swapaxes(1, 2), at.jacobian)
            return hessian

        return Derivatives(np.log(total), jacobian, curvature)


class Scaled(Model):
    """power x inner: the fitted loss of `inner` raised to a fixed power."""

    def __init__(self, power: float, inner: Model) -> None:
        self.power, self.inner = power, inner

    def log_fit(self, theta: Array) -> Array:
        return self.power * self.inner.log_fit(theta)

    def derivatives(self, theta: Array) -> Derivatives:
        at = self.inner.derivatives(theta)
        return Derivatives(self.power * at.log_fit, self.power * at.jacobian, lambda v: at.curvature(self.power * v))
