"""Forms over one axis that are no straight line above their floor: one break, and a bounded start."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from chemscale.laws.forms.chain import TINY, Floored, Scaled, chain, log_parameter, parameter
from chemscale.laws.forms.form import MAX_EXPONENT, Derivatives, Form, Model
from chemscale.laws.forms.projection import amplitudes, each_with, looked_at, mesh, project
from chemscale.laws.forms.sums import SumModel
from chemscale.laws.objectives import Array

FAR = 12.0  # natural logs from the middle of the runs (five decades) beyond which no break is looked for
SHARPEST = 0.02  # natural logs over which the sharpest break bends


class BrokenModel(Model):
    """log b - p x - (r - p) f softplus((x - t)/f), theta = (b, p, r, t, f): slope p before t, r after it."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def _bend(self, theta: Array) -> tuple[Array, Array]:
        t, f = theta[:, 3:4], theta[:, 4:5]
        w = (self.x - t) / f
        return w, f * np.logaddexp(0.0, w)

    def shape(self, theta: Array) -> Array:
        """The log of the power without its amplitude, (B, n)."""
        _, past = self._bend(theta)
        return -theta[:, 1:2] * self.x - (theta[:, 2:3] - theta[:, 1:2]) * past

    def log_fit(self, theta: Array) -> Array:
        return np.log(theta[:, :1]) + self.shape(theta)

    def derivatives(self, theta: Array) -> Derivatives:
        w, past = self._bend(theta)
        turn, f = theta[:, 2:3] - theta[:, 1:2], theta[:, 4:5]
        on = 1 / (1 + np.exp(-np.clip(w, -500, 500)))
        bend, widening = on * (1 - on) / f, past / f - on * w  # d2/dt2 and d/df of `past`
        parts = [log_parameter(theta, 0), *(parameter(theta, k) for k in range(1, 5))]
        first = [1.0, past - self.x, -past, turn * on, -turn * widening]
        second: list[list[Array | float]] = [
            [0.0],
            [0.0, 0.0],
            [0.0, 0.0, 0.0],
            [0.0, -on, on, -turn * bend],
            [0.0, widening, -widening, -turn * bend * w, -turn * bend * w**2],
        ]
        return chain(self.log_fit(theta), first, second, parts).derivatives


@dataclass(frozen=True)
class Broken(Form):
    """One smooth break: L = E + A x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1).

    Caballero et al. 2023 (arXiv:2210.14891, equation 1 with n = 1; their a and b are E and A). The exponent is c0 well
    below d1 and c0 + c1 well above it; f1 is the width of the break in natural logs of x. d1 has the unit of x, A the
    loss's unit times that of x to the power c0. Both exponents are at least zero (c1 may be negative), so that the loss
    never rises with x. The objective has many minima: starts cover both exponents, place and width of the break.
    """

    name = "bnsl"
    equation = "E + A x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)"
    basins = 160
    axes = (1,)
    floor = "E"
    signed = ("c1",)
    neighbours = 40

    @property
    def inner(self) -> tuple[str, ...]:
        return ("E", "b", "before", "after", "t", "f")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, MAX_EXPONENT, MAX_EXPONENT, FAR, FAR / 2])

    def lower(self, noise_floor: float = 0.0) -> Array:
        return np.array([noise_floor, TINY, 0.0, 0.0, -FAR, SHARPEST])

    def bind(self, x: Array) -> Floored:
        return Floored(BrokenModel(x[:, 0]))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        slopes = (0.0, 0.05, 0.15, 0.35, 0.7, 1.5)
        places = np.quantile(x[:, 0], np.linspace(0.08, 0.92, 8))
        span = float(np.ptp(x[:, 0]))
        each = product(slopes, slopes, places, np.clip(np.array([0.02, 0.1, 0.3]) * span, SHARPEST, FAR / 2))
        shapes = np.array([s for s in each if s[0] != s[1]])
        kept = looked_at(log_loss)
        power = BrokenModel(x[kept, 0]).shape(np.concatenate([np.ones((len(shapes), 1)), shapes], axis=1))
        features = np.exp(np.clip(np.stack([np.zeros_like(power), power], axis=2), -300, 300))
        found = amplitudes(features, log_loss[kept], weights[kept])
        return np.concatenate([found, np.concatenate([shapes] * (len(found) // len(shapes)))], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        floor, b, before, after, t, f = theta.T
        with np.errstate(over="ignore"):
            amplitude = b * np.exp(log_scale + before * centre[0])
        return {
            "E": floor * np.exp(log_scale), "A": amplitude, "c0": before, "c1": after - before,
            "d1": np.exp(t + centre[0]), "f1": f,
        }  # fmt: skip

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"A": ("c0",)}

    @property
    def amplitudes(self) -> dict[str, tuple[str, ...]]:
        return {"c0": ("b",)}

    def beyond(self, theta: Array, x: Array) -> dict[str, str]:
        """A break before the first or after the last run is one end of a power law, and not seen."""
        if x.min() < theta[4] < x.max():
            return {}
        reason = "the break lies outside the runs, which show one power law; fit power_floor"
        return dict.fromkeys(("c1", "d1", "f1"), reason)

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {"c0": ("before",), "c1": ("after",), "d1": ("t",), "f1": ("f",), "E": ("E",)}

    def exponent_of(self, role: str) -> str:
        return "c0"


@dataclass(frozen=True)
class Hill(Form):
    """A bounded start: L = E + (L_0 - E) / (1 + (x/x_0)^alpha), from L_0 without data to the floor E.

    Hill's curve, (L - E)/(L_0 - L) = (x/x_0)^-alpha: M4 of Alabdulmohsin et al. 2022 (arXiv:2209.06640, equation 5),
    (L - E)/(L_0 - L)^a = A x^-alpha, at a = 1. Of the two it is the one whose loss can be written down and whose start
    level keeps its meaning where few runs are near it. E and L_0 in the loss's unit, x_0 in the unit of x; above x_0
    the loss falls as x^-alpha. The solver works with 1/(L - E) = u + v x^alpha: u = 0 is a power law over a floor.
    """

    name = "hill"
    equation = "E + (L_0 - E) / (1 + (x/x_0)^alpha)"
    basins = 48
    neighbours = 40
    axes = (1,)
    floor = "E"

    @property
    def inner(self) -> tuple[str, ...]:
        return ("E", "u", "v", "alpha")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, np.inf, MAX_EXPONENT])

    @staticmethod
    def _inverse(x: Array) -> SumModel:
        return SumModel(np.stack([np.zeros((len(x), 1)), x[:, :1]]))

    def bind(self, x: Array) -> Floored:
        return Floored(Scaled(-1.0, self._inverse(x)))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        loss = np.exp(log_loss)
        floors = np.array([0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.93, 0.98])[:, None] * loss.min()
        floor, exponents = each_with(floors, mesh(1))
        theta = project(self._inverse(x), exponents, -np.log(loss - floor), weights)
        return np.concatenate([np.concatenate([floor, floor]), theta], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        floor, u, v, alpha = theta.T
        with np.errstate(all="ignore"):
            return {
                "E": floor * np.exp(log_scale), "L_0": (floor + 1 / u) * np.exp(log_scale),
                "x_0": np.exp(np.log(u / v) / alpha + centre[0]), "alpha": alpha,
            }  # fmt: skip

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"x_0": ("L_0", "alpha")}

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("alpha",), "L_0": ("u",), "E": ("E",)}

    def exponent_of(self, role: str) -> str:
        return "alpha"
