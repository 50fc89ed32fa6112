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

LARGEST = 300.0  # of a logarithm: products of two such powers are still numbers


class Term(NamedTuple):
    """One power: amplitude x product over axes of x^-exponent."""

    amplitude: str
    powers: tuple[tuple[str, str], ...] = ()  # (role, name of the exponent)


def _exp(z: Array, out: Array) -> None:
    """exp(z) within the range of floating numbers."""
    if max(z.max(initial=0.0), -z.min(initial=0.0)) > LARGEST:  # looked at first: clipping costs as much as the rest
        np.clip(z, -LARGEST, LARGEST, out=z)
    np.exp(z, out=out)


class SumModel(Model):
    """log sum_k a_k exp(S_k . e), S_k the centred logs of the axes in term k, with minus sign."""

    def __init__(self, signs: Array) -> None:
        self.signs = signs  # (terms, n, exponents)
        self.terms, self.runs = signs.shape[:2]
        self.moved_by = [np.flatnonzero(term.any(0)) for term in signs]  # exponents of each term: none of a floor
        self.lines = [np.ascontiguousarray(term.T[own]) for term, own in zip(signs, self.moved_by, strict=True)]
        self.squares = [(line[:, None] * line).reshape(len(line) ** 2, self.runs).T for line in self.lines]

    def rows(self, kept: np.ndarray) -> SumModel:
        """The model at some of the runs."""
        return SumModel(self.signs[:, kept])

    def powers(self, theta: Array) -> Array:
        """exp(S_k . e), (B, n, terms); in memory runs lie side by side, since sums go over them."""
        out = np.empty((len(theta), self.terms, self.runs))
        for k, (own, line) in enumerate(zip(self.moved_by, self.lines, strict=True)):
            if len(own):
                _exp(theta[:, self.terms + own] @ line, out[:, k])
            else:
                out[:, k] = 1.0
        return out.swapaxes(1, 2)

    def log_fit(self, theta: Array) -> Array:
        total = np.zeros((len(theta), self.runs))
        for k, (own, line) in enumerate(zip(self.moved_by, self.lines, strict=True)):
            if len(own):
                power = theta[:, self.terms + own] @ line
                _exp(power, power)
                power *= theta[:, k, None]
                total += power
            else:
                total += theta[:, k, None]
        with np.errstate(divide="ignore"):
            return np.log(total, out=total)

    def derivatives(self, theta: Array) -> Derivatives:
        powers = self.powers(theta).swapaxes(1, 2)  # (B, terms, n)
        total = np.maximum(np.matmul(theta[:, None, : self.terms], powers)[:, 0], 1e-300)
        jacobian = np.zeros((len(theta), theta.shape[1], self.runs))  # (B, P, n)
        relative = np.divide(powers, total[:, None], out=jacobian[:, : self.terms])
        for k, (own, line) in enumerate(zip(self.moved_by, self.lines, strict=True)):
            if len(own):
                share = relative[:, k] * theta[:, k, None]
                for place, x in zip(self.terms + own, line, strict=True):
                    jacobian[:, place] += share * x

        def curvature(v: Array) -> Array:
            """sum_i v_i (Hessian of the sum / sum - gradient gradient^T)."""
            weighted = jacobian * v[:, None]
            hessian = -np.matmul(weighted, jacobian.swapaxes(1, 2))
            for k, (own, line) in enumerate(zip(self.moved_by, self.lines, strict=True)):
                if len(own):
                    places = self.terms + own
                    mixed = weighted[:, k] @ line.T  # (B, exponents of the term)
                    hessian[:, k, places] += mixed
                    hessian[:, places, k] += mixed
                    flat = theta[:, k, None] * (weighted[:, k] @ self.squares[k])
                    hessian[:, places[:, None], places] += flat.reshape(-1, len(own), len(own))
            return hessian

        return Derivatives(np.log(total), jacobian.swapaxes(1, 2), curvature)


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
