"""A root-mean-square error over a noise floor, which adds in quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chemscale.laws.forms.chain import Floored, Scaled
from chemscale.laws.forms.form import Form
from chemscale.laws.forms.powers import Power
from chemscale.laws.forms.projection import each_with, mesh, project
from chemscale.laws.forms.sums import SumModel
from chemscale.laws.objectives import Array


@dataclass(frozen=True)
class Quadrature(Form):
    """An RMSE over independent noise: L^2 = s^2 + (A x^-alpha)^2, or s^2 + (A N^-alpha + B D^-beta)^2.

    Noise in the labels of the test set, of standard deviation s, adds its variance to the model's squared error, so the
    root bends into the floor as a hyperbola and not as a sum. s in the loss's unit; amplitudes and exponents are those
    of the error without noise. For errors that are roots of squares (force_rmse, energy_rmse), not for absolute ones.
    """

    name = "quadrature"
    equation = "sqrt(s^2 + (A x^-alpha [+ B y^-beta])^2)"
    axes = (1, 2)
    floor = "s"
    floor_is_noise = True

    @property
    def error(self) -> Power:
        """The error without noise."""
        return Power(self.roles)

    @property
    def inner(self) -> tuple[str, ...]:
        return ("S", *self.error.inner)

    @property
    def upper(self) -> Array:
        return np.insert(self.error.upper, 0, np.inf)

    def lower(self, noise_floor: float = 0.0) -> Array:
        return np.insert(self.error.lower(), 0, noise_floor**2)

    def bind(self, x: Array) -> Scaled:
        return Scaled(0.5, Floored(Scaled(2.0, SumModel(self.error.signs(x)))))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        model, loss = SumModel(self.error.signs(x)), np.exp(log_loss)
        noises = (np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.97]) * loss.min())[:, None] ** 2
        noise, exponents = each_with(noises, mesh(len(self.roles)))
        theta = project(model, exponents, 0.5 * np.log(loss**2 - noise), weights)
        return np.concatenate([np.concatenate([noise, noise]), theta], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        noise = np.sqrt(theta[:, 0]) * np.exp(log_scale)
        return {"s": noise, **self.error.published(theta[:, 1:], centre, log_scale)}

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return self.error.partners

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {**self.error.solved_as, "s": ("S",)}

    def exponent_of(self, role: str) -> str:
        return self.error.exponent_of(role)
