"""What a functional form is to the solver; the forms themselves are in `forms`.

A form is seen by the solver as log L = log_fit(theta; x), with
- theta (B, P): B parameter vectors at once, in the order of `form.inner`
- x (n, axes): natural logs of the axes, each minus its mean
- losses divided by their geometric mean, so that every amplitude is of order one whatever the units.
Amplitudes are never negative; exponents are bounded by `MAX_EXPONENT`. `published` undoes the centring and gives the
numbers under the names of the form's paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from chemscale.laws.objectives import Array

ROLES = ("params", "data", "seen", "flops")
MAX_EXPONENT = 5.0  # a squared error falls at most about as x^-4 in anything published; beyond is a fit of one point


def axes_named(
    params: str | None = None, data: str | None = None, seen: str | None = None, flops: str | None = None
) -> dict[str, str]:
    """Axis -> column of those that are named, in the order of `ROLES`."""
    return {role: name for role, name in zip(ROLES, (params, data, seen, flops), strict=True) if name}


class Derivatives(NamedTuple):
    """Value, gradient and curvature of the fitted log loss."""

    log_fit: Array  # (B, n)
    jacobian: Array  # (B, n, P)
    curvature: Callable[[Array], Array]  # v (B, n) -> sum_i v_i Hessian_i, (B, P, P)


class Metric(NamedTuple):
    """The curvature of B objectives, damped: scale^-1 axes stiff axes^T scale^-1; and the bounds of the parameters."""

    scale: Array  # (B, P); 0 where a bound holds
    axes: Array  # (B, P, P)
    stiff: Array  # (B, P)
    lower: Array | float
    upper: Array

    def solved(self, slope: Array) -> Array:
        """Inverse curvature times slopes (B, P)."""
        along = np.matmul((slope * self.scale)[:, None], self.axes)[:, 0] / self.stiff
        return self.scale * np.matmul(self.axes, along[:, :, None])[:, :, 0]

    def within(self, theta: Array) -> Array:
        """The nearest parameters within the bounds."""
        return np.clip(theta, self.lower, self.upper)


class Model(ABC):
    """A form bound to the axes of one set of runs."""

    @abstractmethod
    def log_fit(self, theta: Array) -> Array:
        """Fitted log loss, (B, n)."""

    @abstractmethod
    def derivatives(self, theta: Array) -> Derivatives:
        """Fitted log loss with its derivatives."""

    def among(self, which: np.ndarray) -> Model:
        """The model of the tables `which` (k,) of many: itself, where it is the same for all."""
        return self

    def settled(self, at: Derivatives, here: Array, there: Array, metric: Metric) -> Array:
        """Where a step from `here` to `there` (B, P) ends: a model that is bent in a stiff direction brings it back."""
        return there


@dataclass(frozen=True)
class Form(ABC):
    """A functional form over the given axes (`roles`, in the order of `ROLES`)."""

    roles: tuple[str, ...]

    name: ClassVar[str]
    equation: ClassVar[str]
    axes: ClassVar[tuple[int, ...]]  # how many axes it can take
    fixed_roles: ClassVar[tuple[str, ...]] = ()  # the axes it must have, where it cannot take any
    floor: ClassVar[str | None] = None  # published name of the level that the loss never falls below
    floor_is_noise: ClassVar[bool] = False  # whether that level is the noise of the labels and nothing else
    basins: ClassVar[int] = 24  # starts that a fit polishes by least squares, a quarter of them on the exact objective
    neighbours: ClassVar[int] = 0  # starts about the best fit, where minima of a robust objective lie side by side
    signed: ClassVar[tuple[str, ...]] = ()  # published parameters to which zero is a value like any other

    @property
    @abstractmethod
    def inner(self) -> tuple[str, ...]:
        """Names of the solver's parameters."""

    @property
    @abstractmethod
    def upper(self) -> Array:
        """Upper bounds of the solver's parameters, (P,)."""

    def lower(self, noise_floor: float = 0.0) -> Array:
        """Lower bounds, (P,): zero but for the floor, which is at least the measured one (in typical losses)."""
        bounds = np.zeros(len(self.inner))
        if self.floor is not None:
            bounds[self.inner.index(self.floor)] = noise_floor
        return bounds

    def centre(self, logs: Array) -> Array:
        """What is subtracted from the natural logs of the axes (n, axes), (axes,)."""
        return logs.mean(0)

    def sample(self, x: Array, count: int) -> np.ndarray:
        """Positions of about `count` of the runs x (n, axes), among which a search finds what it would in all."""
        return np.sort(np.random.default_rng(0).permutation(len(x))[:count])

    def refuse(self, axes: Mapping[str, Array]) -> None:  # noqa: B027  most forms have no conditions of their own
        """Raise ValueError or FitError for axes (each (n,), in their units) of which this form can say nothing."""

    def misfits(self, axes: Mapping[str, Array], loss: Array) -> tuple[str, ...]:
        """Sentences on runs that this form cannot describe; axes and loss (n,), in their units."""
        return ()

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
    def amplitudes(self) -> dict[str, tuple[str, ...]]:
        """Exponent -> the solver's amplitudes that, all at zero, leave it without meaning."""
        found: dict[str, tuple[str, ...]] = {}
        for name, needs in self.partners.items():
            if len(needs) == 1 and name in self.inner:
                found[needs[0]] = (*found.get(needs[0], ()), name)
        return found

    @property
    def must_vary(self) -> tuple[tuple[str, ...], ...]:
        """Groups of axes; in each group one has to vary, and the last ones of the groups apart from one another."""
        return tuple((role,) for role in self.roles)

    def beyond(self, theta: Array, x: Array) -> dict[str, str]:
        """Published parameters of a feature that lies outside the runs x (n, axes), with the reason; theta (P,)."""
        return {}

    @property
    def moved_by(self) -> dict[str, tuple[str, ...]]:
        """Exponent -> the axes that move its term; the one that spans most decides."""
        found: dict[str, tuple[str, ...]] = {}
        for role in self.roles:
            name = self.exponent_of(role)
            found[name] = (*found.get(name, ()), role)
        return found

    @property
    def solved_as(self) -> dict[str, tuple[str, ...]]:
        """Published parameter that is judged by its bounds and its interval -> the solver's parameters behind it."""
        return {name: (name,) for name in (*self.moved_by, *([self.floor] if self.floor else []))}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the published parameters."""
        zeros = np.zeros(len(self.roles))
        return tuple(self.published(np.ones((1, len(self.inner))), zeros, 0.0))
