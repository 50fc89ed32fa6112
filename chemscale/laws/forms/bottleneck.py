"""Forms in which parameters and data limit one another: Kaplan's, and the sum raised to a power."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from chemscale.laws.forms.chain import TINY, Floored, Part, chain, log_parameter, parameter
from chemscale.laws.forms.form import MAX_EXPONENT, Derivatives, Form, Model
from chemscale.laws.forms.projection import each_with, mesh, project
from chemscale.laws.forms.sums import SumModel
from chemscale.laws.objectives import Array


class KaplanModel(Model):
    """q log(a e^(-p n) + b e^-d), theta = (a, b, p, q), n and d the centred logs of N and D."""

    def __init__(self, x: Array) -> None:
        zero = np.zeros(len(x))
        self.inside = SumModel(-np.stack([np.stack([x[:, 0], zero], 1), np.stack([zero, x[:, 1]], 1)]))

    def _inside(self, theta: Array) -> Array:
        return np.concatenate([theta[:, :3], np.ones((len(theta), 1))], axis=1)

    def log_fit(self, theta: Array) -> Array:
        return theta[:, 3:] * self.inside.log_fit(self._inside(theta))

    def derivatives(self, theta: Array) -> Derivatives:
        inside = self.inside.derivatives(self._inside(theta))
        q, slopes = theta[:, 3], inside.jacobian.swapaxes(1, 2)[:, :3]
        rows = np.concatenate([slopes * q[:, None, None], inside.log_fit[:, None]], axis=1)

        def curvature(v: Array) -> Array:
            hessian = np.zeros((len(theta), 4, 4))
            hessian[:, :3, :3] = q[:, None, None] * inside.curvature(v)[:, :3, :3]
            hessian[:, :3, 3] = hessian[:, 3, :3] = np.matmul(slopes, v[:, :, None])[:, :, 0]
            return hessian

        return Derivatives(q[:, None] * inside.log_fit, rows.swapaxes(1, 2), curvature)


@dataclass(frozen=True)
class Kaplan(Form):
    """Parameters and data as one bottleneck, no floor: L = [(N_c/N)^(alpha/beta) + D_c/D]^beta.

    Kaplan et al. 2020 (arXiv:2001.08361, equation 1.5), alpha and beta their alpha_N and alpha_D; N_c in the unit of
    N and D_c in the unit of D. With unlimited data L = (N_c/N)^alpha, with unlimited parameters (D_c/D)^beta.
    """

    name = "kaplan"
    equation = "[(N_c/N)^(alpha/beta) + D_c/D]^beta"
    basins = 48
    neighbours = 40
    axes = (2,)
    fixed_roles = ("params", "data")

    @property
    def inner(self) -> tuple[str, ...]:
        return ("a", "b", "p", "q")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, MAX_EXPONENT, MAX_EXPONENT])

    def bind(self, x: Array) -> KaplanModel:
        return KaplanModel(x)

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """For each q the form is linear in the amplitudes of loss^(1/q)."""
        q, exponents = each_with(np.geomspace(0.02, 2.0, 10)[:, None], np.insert(mesh(1), 1, 1.0, axis=1))
        theta = project(KaplanModel(x).inside, exponents, log_loss / q, weights)
        return np.concatenate([theta[:, :3], np.concatenate([q, q])], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        a, b, p, q = theta.T
        with np.errstate(all="ignore"):
            return {
                "N_c": np.exp((log_scale / q + np.log(a)) / p + centre[0]),
                "D_c": np.exp(log_scale / q + np.log(b) + centre[1]),
                "alpha": p * q,
                "beta": q,
            }

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"N_c": ("alpha", "beta"), "D_c": ("beta",)}

    @property
    def amplitudes(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("a",), "beta": ("b",)}

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("p",), "beta": ("q",)}

    def exponent_of(self, role: str) -> str:
        return "alpha" if role == "params" else "beta"


class NormModel(Model):
    """g log(exp(u/g) + exp(w/g)), u = log a - p n, w = log b - q d, theta = (a, b, p, q, g): a sum in the 1/g norm."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def _parts(self, theta: Array) -> tuple[Array, Array, Array]:
        a, b, p, q, g = (column[:, None] for column in theta.T)
        u, w = np.log(a) - p * self.x[:, 0], np.log(b) - q * self.x[:, 1]
        return u, w, (u - w) / g

    def log_fit(self, theta: Array) -> Array:
        u, w, gap = self._parts(theta)
        return np.maximum(u, w) + theta[:, 4:] * np.log1p(np.exp(-np.abs(gap)))

    def derivatives(self, theta: Array) -> Derivatives:
        _, _, gap = self._parts(theta)
        g = theta[:, 4:]
        share = 1 / (1 + np.exp(-np.clip(gap, -500, 500)))  # of u
        bend = share * (1 - share) / g
        mixed = np.logaddexp(0.0, gap) - share * gap
        parts = [_power(theta, 0, 2, self.x[:, 0]), _power(theta, 1, 3, self.x[:, 1]), parameter(theta, 4)]
        second = [[bend], [-bend, bend], [-bend * gap, bend * gap, bend * gap**2]]
        return chain(self.log_fit(theta), [share, 1 - share, mixed], second, parts).derivatives


def _power(theta: Array, amplitude: int, exponent: int, x: Array) -> Part:
    """log a - p x."""
    a, p = log_parameter(theta, amplitude), parameter(theta, exponent)
    return chain(a.value - p.value * x, [1.0, -x], [], [a, p])


@dataclass(frozen=True)
class Gamma(Form):
    """The sum of both powers raised to a power, over a floor: L = E + (A/N^alpha + B/D^beta)^gamma.

    The form of Kaplan et al. 2020 with a floor and free exponents; gamma = 1 is Chinchilla's. With unlimited data
    L - E = A^gamma N^-(alpha gamma), with unlimited parameters B^gamma D^-(beta gamma); A in the loss's unit to the
    power 1/gamma times the unit of N to the power alpha, B likewise. The solver works with those limits,
    a = A^gamma, p = alpha gamma and so on: L - E is their sum in the 1/gamma norm, of the same size whatever gamma is.
    gamma towards 0 is the larger of both alone. Only over both axes: over one, gamma and alpha are one number.
    """

    name = "gamma"
    equation = "E + (A/N^alpha + B/D^beta)^gamma"
    basins = 64
    neighbours = 40
    axes = (2,)
    fixed_roles = ("params", "data")
    floor = "E"

    @property
    def inner(self) -> tuple[str, ...]:
        return ("E", "a", "b", "p", "q", "g")

    @property
    def upper(self) -> Array:
        return np.array([np.inf, np.inf, np.inf, MAX_EXPONENT, MAX_EXPONENT, 10.0])

    def lower(self, noise_floor: float = 0.0) -> Array:
        return np.array([noise_floor, TINY, TINY, 0.0, 0.0, 0.02])

    def bind(self, x: Array) -> Floored:
        return Floored(NormModel(x))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """For each E and gamma the form is linear in the amplitudes of (L - E)^(1/gamma)."""
        zero = np.zeros(len(x))
        model = SumModel(-np.stack([np.stack([x[:, 0], zero], 1), np.stack([zero, x[:, 1]], 1)]))
        loss, line = np.exp(log_loss), np.geomspace(0.03, 1.5, 7)
        floors = np.array([0.0, 0.4, 0.7, 0.85, 0.95]) * loss.min()
        ends = np.array(list(product(floors, (0.1, 0.3, 0.6, 1.0, 2.0))))
        both, limits = each_with(ends, np.array(list(product(line, line))))
        floor, g = both[:, :1], both[:, 1:]
        theta = project(model, limits / g, np.log(loss - floor) / g, weights)
        floor, g = (np.concatenate([column, column]) for column in (floor, g))
        return np.concatenate([floor, np.maximum(theta[:, :2], 1e-300) ** g, theta[:, 2:] * g, g], axis=1)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        floor, a, b, p, q, g = theta.T
        with np.errstate(all="ignore"):
            return {
                "E": floor * np.exp(log_scale),
                "A": np.exp((np.log(a) + log_scale + p * centre[0]) / g),
                "B": np.exp((np.log(b) + log_scale + q * centre[1]) / g),
                "alpha": p / g,
                "beta": q / g,
                "gamma": g,
            }

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {"A": ("alpha", "gamma"), "B": ("beta", "gamma")}

    @property
    def amplitudes(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("a",), "beta": ("b",)}

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        return {"alpha": ("p",), "beta": ("q",), "gamma": ("g",), "E": ("E",)}

    def exponent_of(self, role: str) -> str:
        return "alpha" if role == "params" else "beta"
