"""Sums of powers: the terms in which most laws are written, and the model that they share.

Exponents are searched, amplitudes solved (variable projection).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from chemscale.laws.forms.form import MAX_EXPONENT, Derivatives, Form, Model
from chemscale.laws.forms.projection import mesh, project
from chemscale.laws.objectives import Array


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
        self.flat = signs.transpose(2, 1, 0).reshape(signs.shape[2], -1)  # (exponents, n x terms)

    def powers(self, theta: Array) -> Array:
        """exp(S_k . e), (B, n, terms)."""
        z = theta[:, self.terms :] @ self.flat
        return np.exp(np.clip(z, -300, 300)).reshape(len(theta), -1, self.terms)

    def log_fit(self, theta: Array) -> Array:
        total = np.matmul(self.powers(theta), theta[:, : self.terms, None])[:, :, 0]
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
