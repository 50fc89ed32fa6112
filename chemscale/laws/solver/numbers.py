"""Numbers that a law gives, as functions of the solver's parameters: published parameters and losses at points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chemscale.laws.forms.form import Derivatives, Form, Model
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem

BLOCK = 64  # tables that are evaluated at one another's points
TINIEST = 1e-300  # an amplitude of zero, where its logarithm is taken


class Number(ABC):
    """A number that a law gives, as a function of the solver's parameters."""

    @abstractmethod
    def of(self, theta: Array) -> Array:
        """Value on the scale on which it is profiled, (B,)."""

    @property
    def least(self) -> float:
        """The lowest value that the number can have."""
        return 0.0

    @property
    def nothing(self) -> float:
        """The value up to which it is zero on a scale that has no zero; minus infinity where the scale has one."""
        return -np.inf

    def outward(self, value: Array) -> Array:
        """From that scale to the number itself."""
        return value

    def among(self, which: np.ndarray) -> Number:
        """The number for the tables `which` (k,) of many: itself, where it is the same for all."""
        return self

    def gradient(self, theta: Array) -> Array:
        """Slopes in theta, (B, P), by central differences; a number that differs by table has its own."""
        count, size = theta.shape
        step = np.eye(size)[:, None] * (1e-6 * np.maximum(np.abs(theta), 1e-3))  # (P, B, P)
        up, low = theta + step, theta - step
        down = np.where(theta < 0, low, np.maximum(low, 0.0))
        above, below = self.of(np.concatenate([up, down]).reshape(-1, size)).reshape(2, size, count)
        with np.errstate(invalid="ignore"):  # of a number beyond the range of floats, which has no slope
            return ((above - below) / np.einsum("pbp->pb", up - down)).T

    def derivatives(self, theta: Array) -> Derivatives:
        """As those of a model with this one row; a solver does as well without the curvature of a parameter."""
        return Derivatives(self.of(theta)[:, None], self.gradient(theta)[:, None], lambda v: np.zeros(()))


@dataclass(frozen=True)
class Parameter(Number):
    """A published parameter; amplitudes as logarithms, since they move by decades with their exponent."""

    form: Form
    name: str
    centre: Array
    log_scale: float

    @property
    def least(self) -> float:
        return -np.inf if self.name in self.form.signed else 0.0

    @property
    def nothing(self) -> float:
        return 1.001 * TINIEST if self.logarithmic else -np.inf

    @property
    def logarithmic(self) -> bool:
        """Whether it is an amplitude."""
        return self.name in self.form.partners and self.name not in self.form.signed

    def outward(self, value: Array) -> Array:
        return np.exp(np.minimum(value, 700.0)) if self.logarithmic else value

    def of(self, theta: Array) -> Array:
        value = self.form.published(theta, self.centre, self.log_scale)[self.name]
        return np.log(np.maximum(value, TINIEST)) if self.logarithmic else value


@dataclass(frozen=True)
class LogLoss(Number):
    """The loss at one point x (1, axes) of centred logs, on the scale of the solver's log losses."""

    x: Array
    model: Model
    log_scale: float

    def outward(self, value: Array) -> Array:
        return np.exp(value + self.log_scale)

    def of(self, theta: Array) -> Array:
        return self.model.log_fit(theta)[:, 0]

    def gradient(self, theta: Array) -> Array:
        return self.model.derivatives(theta).jacobian[:, 0]

    def derivatives(self, theta: Array) -> Derivatives:
        return self.model.derivatives(theta)


@dataclass(frozen=True)
class LogLosses(Number):
    """The loss at a point of its own for every table, x (B, axes) of centred logs; otherwise as `LogLoss`."""

    x: Array
    form: Form

    def among(self, which: np.ndarray) -> Number:
        return LogLosses(self.x[which], self.form)

    def of(self, theta: Array) -> Array:
        return np.concatenate([np.diagonal(model.log_fit(theta[own])) for own, model in self._blocks()])

    def gradient(self, theta: Array) -> Array:
        return self.derivatives(theta).jacobian[:, 0]

    def derivatives(self, theta: Array) -> Derivatives:
        found = [model.derivatives(theta[own]) for own, model in self._blocks()]
        values = np.concatenate([np.diagonal(block.log_fit) for block in found])
        slopes = np.concatenate([np.diagonal(block.jacobian, axis1=0, axis2=1).T for block in found])

        def curvature(v: Array) -> Array:
            parts = np.split(v[:, 0], range(BLOCK, len(v), BLOCK))
            return np.concatenate([block.curvature(np.diag(part)) for block, part in zip(found, parts, strict=True)])

        return Derivatives(values[:, None], slopes[:, None], curvature)

    def _blocks(self) -> Iterator[tuple[slice, Model]]:
        """A model evaluates every table at every point, of which each table needs one: few at a time."""
        for first in range(0, len(self.x), BLOCK):
            own = slice(first, first + BLOCK)
            yield own, self.form.bind(self.x[own])


def parameters_of(problem: Problem) -> dict[str, Parameter]:
    """Every published parameter of a problem's form."""
    form = problem.form
    return {name: Parameter(form, name, problem.centre, problem.log_scale) for name in form.names}


def loss_at(problem: Problem, axes: Array) -> LogLoss:
    """The loss at one point; axes (roles,) in the units of the table."""
    x = np.log(axes)[None] - problem.centre
    return LogLoss(x, problem.form.bind(x), problem.log_scale)
