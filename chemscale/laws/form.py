"""What a functional form is to the solver; the forms themselves are in `forms`.

A form is seen by the solver as log L = log_fit(theta; x), with
- theta (B, P): B parameter vectors at once, in the order of `form.inner`
- x (n, axes): natural logs of the axes, each minus its mean
- losses divided by their geometric mean, so that every amplitude is of order one whatever the units.
Amplitudes enter linearly and are never negative; exponents are bounded by `MAX_EXPONENT`. `published` undoes the
centring and gives the numbers under the names of the form's paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.projection import mesh, project

ROLES = ("params", "data", "flops")
MAX_EXPONENT = 5.0  # a squared error falls at most about as x^-4 in anything published; beyond is a fit of one point


class Derivatives(NamedTuple):
    """Value, gradient and curvature of the fitted log loss."""

    log_fit: Array  # (B, n)
    jacobian: Array  # (B, n, P)
    curvature: Callable[[Array], Array]  # v (B, n) -> sum_i v_i Hessian_i, (B, P, P)


class Model(ABC):
    """A form bound to the axes of one set of runs."""

    @abstractmethod
    def log_fit(self, theta: Array) -> Array:
        """Fitted log loss, (B, n)."""

    @abstractmethod
    def derivatives(self, theta: Array) -> Derivatives:
        """Fitted log loss with its derivatives."""


@dataclass(frozen=True)
class Form(ABC):
    """A functional form over the given axes (`roles`, in the order of `ROLES`)."""

    roles: tuple[str, ...]

    name: ClassVar[str]
    equation: ClassVar[str]
    axes: ClassVar[tuple[int, ...]]  # how many axes it can take
    fixed_roles: ClassVar[tuple[str, ...]] = ()  # the axes it must have, where it cannot take any

    @property
    @abstractmethod
    def inner(self) -> tuple[str, ...]:
        """Names of the solver's parameters."""

    @property
    @abstractmethod
    def upper(self) -> Array:
        """Upper bounds of the solver's parameters, (P,); all lower bounds are zero."""

    @abstractmethod
    def bind(self, x: Array) -> Model:
        """The form at these runs; x is (n, axes)."""

    @abstractmethod
    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        """Parameter vectors to start from, (starts, P)."""

    @abstractmethod
    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        """Parameters by the paper's names, each (B,); `centre` (axes,) and `log_scale` undo the centring."""

    @abstractmethod
    def exponent_of(self, role: str) -> str:
        """Name of the exponent that belongs to an axis."""

    @property
    @abstractmethod
    def partners(self) -> dict[str, tuple[str, ...]]:
        """Published amplitude -> the exponents without which it means nothing."""

    @property
    def solved_as(self) -> dict[str, str]:
        """Published exponent -> the solver's parameter whose bound limits it."""
        return {name: name for name in map(self.exponent_of, self.roles)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the published parameters."""
        zeros = np.zeros(len(self.roles))
        return tuple(self.published(np.ones((1, len(self.inner))), zeros, 0.0))


class Term(NamedTuple):
    """One power: amplitude x product over axes of x^-exponent."""

    amplitude: str
    powers: tuple[tuple[str, str], ...] = ()  # (role, name of the exponent)


class SumModel(Model):
    """log sum_k a_k exp(S_k . e), S_k the centred logs of the axes in term k, with minus sign."""

    def __init__(self, signs: Array) -> None:
        self.signs = signs  # (terms, n, exponents)
        self.pairs = signs[:, :, :, None] * signs[:, :, None, :]  # (terms, n, exponents, exponents)
        self.terms = signs.shape[0]

    def powers(self, theta: Array) -> Array:
        """exp(S_k . e), (B, n, terms)."""
        z = np.einsum("knm,bm->bnk", self.signs, theta[:, self.terms :])
        return np.exp(np.clip(z, -300, 300))

    def log_fit(self, theta: Array) -> Array:
        total = np.einsum("bnk,bk->bn", self.powers(theta), theta[:, : self.terms])
        with np.errstate(divide="ignore"):
            return np.log(total)

    def derivatives(self, theta: Array) -> Derivatives:
        amplitudes = theta[:, : self.terms]
        powers = self.powers(theta)
        shares = powers * amplitudes[:, None, :]  # (B, n, terms)
        total = np.maximum(shares.sum(-1), 1e-300)
        slopes = sum(shares[:, :, k, None] * self.signs[k] for k in range(self.terms))
        jacobian = np.concatenate([powers, slopes], axis=2) / total[:, :, None]

        def curvature(v: Array) -> Array:
            """sum_i v_i (Hessian of the sum / sum - gradient gradient^T)."""
            scaled = v / total
            hessian = -np.matmul((jacobian * v[:, :, None]).swapaxes(1, 2), jacobian)
            for k in range(self.terms):
                mixed = (scaled * powers[:, :, k]) @ self.signs[k]  # (B, exponents)
                hessian[:, k, self.terms :] += mixed
                hessian[:, self.terms :, k] += mixed
                flat = (scaled * shares[:, :, k]) @ self.pairs[k].reshape(len(self.signs[k]), -1)
                hessian[:, self.terms :, self.terms :] += flat.reshape(-1, *self.pairs.shape[2:])
            return hessian

        return Derivatives(np.log(total), jacobian, curvature)


@dataclass(frozen=True)
class PowerSum(Form):
    """A sum of powers with non-negative amplitudes: exponents are searched, amplitudes solved (variable projection)."""

    @property
    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The powers summed."""

    @cached_property
    def exponents(self) -> tuple[str, ...]:
        """Distinct exponents in order of appearance."""
        return tuple(dict.fromkeys(name for term in self.terms for _, name in term.powers))

    @property
    def inner(self) -> tuple[str, ...]:
        return (*(term.amplitude for term in self.terms), *self.exponents)

    @property
    def upper(self) -> Array:
        return np.array([np.inf] * len(self.terms) + [MAX_EXPONENT] * len(self.exponents))

    def signs(self, x: Array) -> Array:
        """Minus the centred logs that each exponent multiplies in each term, (terms, n, exponents)."""
        out = np.zeros((len(self.terms), len(x), len(self.exponents)))
        for k, term in enumerate(self.terms):
            for role, name in term.powers:
                out[k, :, self.exponents.index(name)] -= x[:, self.roles.index(role)]
        return out

    def bind(self, x: Array) -> SumModel:
        return SumModel(self.signs(x))

    def starts(self, x: Array, log_loss: Array, weights: Array) -> Array:
        return project(self.bind(x), mesh(len(self.exponents)), log_loss, weights)

    def published(self, theta: Array, centre: Array, log_scale: float) -> dict[str, Array]:
        exponents = theta[:, len(self.terms) :]
        shift = -np.einsum("kom,bm->bk", self.signs(centre[None]), exponents)
        amplitudes = theta[:, : len(self.terms)] * np.exp(log_scale + shift)
        values = [*amplitudes.T, *exponents.T]
        return dict(zip(self.inner, values, strict=True))

    @property
    def partners(self) -> dict[str, tuple[str, ...]]:
        return {term.amplitude: tuple(e for _, e in term.powers) for term in self.terms if term.powers}

    def exponent_of(self, role: str) -> str:
        return next(name for term in self.terms for r, name in term.powers if r == role)
