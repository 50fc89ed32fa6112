"""Intervals of a law's numbers by the name of their method, and which one is taken where none is named.

- `profile`: profile likelihood (`profile`), its variance and degrees of freedom from `tangent`, so that unequal noise,
  heavy tails and clusters are paid for. A robust objective is no likelihood of its own: the profile is then that of
  Huber's likelihood with a corner at 1.345 standard deviations, and the interval is stretched to hold the fitted value.
- `wald`: fitted value plus and minus Student's t times the standard error of equal noise
- `pairs`, `wild`, `parametric`: central quantiles of the draws (`draws`), stretched by Student's t over the normal

At a bound (a floor of zero) `profile` and `parametric` hold one-sided; `wald`, `pairs` and `wild` have no theory there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from chemscale.laws.doubt.draws import FEW
from chemscale.laws.doubt.likelihood import Likelihood
from chemscale.laws.doubt.residuals import covariance, freedom, interval, small_sample
from chemscale.laws.errors import require_level
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import Number
from chemscale.laws.solver.problem import Problem

INTERVALS = ("auto", "wald", "pairs", "wild", "parametric", "profile")
CURVE = 21  # values of a number at which its deviance is shown
NO_BOUND = ("wald", "pairs", "wild")  # methods without theory for a parameter at its bound


@dataclass(frozen=True)
class Choice:
    """Which method gives the intervals of parameters, which the draws of predictions, and why."""

    parameters: str
    draws: str
    why: str

    def to_json(self) -> dict[str, str]:
        """Plain texts."""
        return {"parameters": self.parameters, "draws": self.draws, "why": self.why}


def choose_method(asked: str, groups: int, count: int, bounds: int = 0) -> Choice:
    """The methods for `groups` independent groups of runs, `count` refits and `bounds` runs known by a bound only.

    Raises ValueError for an unknown name, or a method that cannot be had.
    """
    if asked not in INTERVALS:
        raise ValueError(f"interval={asked!r} is not one of {', '.join(INTERVALS)}.")
    if asked in ("pairs", "wild", "parametric"):
        if not count:
            raise ValueError(f"interval={asked!r} needs refits: give bootstrap at least 20, or interval='wald'.")
        if bounds and asked != "pairs":
            raise ValueError(f"interval={asked!r} cannot make up stopped runs; use 'profile', 'pairs' or 'wald'.")
        return Choice(asked, asked, "asked for")
    kept = "wild" if groups < FEW and not bounds else "pairs"
    few = f"{groups} independent groups of runs, {'under' if groups < FEW else 'at least'} {FEW}"
    few = "some losses are bounds, which cannot be flipped" if bounds else few
    drawn = kept if count else "wald"
    if asked == "wald" or (asked == "auto" and not count):
        return Choice("wald", "wald", "asked for" if asked == "wald" else "no refits were asked for")
    why = f"draws: {few}" if count else "draws: no refits were asked for"
    if asked == "auto":
        why = f"profile likelihood covers nearest to its level with unequal, heavy-tailed and clustered noise; {why}"
    return Choice("profile", drawn, why)


@dataclass(frozen=True)
class Profile:
    """A number of a law by profile likelihood.

    value: as fitted; low, high: the interval at `level`; freedom: degrees of freedom of its variance; curve: pairs of
    a value of the number and its deviance in units of the squared standard error (at an end, Student's t squared).
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    freedom: float
    curve: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**self.__dict__, "curve": [list(pair) for pair in self.curve]}


def profile(problem: Problem, theta: Array, clusters: np.ndarray, number: Number, name: str, level: float) -> Profile:
    """The profile of one number of the fit theta (P,).

    Raises ValueError for a level outside 0 to 1, and where the fitted number is infinite.
    """
    require_level(level)
    if not np.isfinite(number.of(theta[None])[0]):
        raise ValueError(f"{name} is infinite in this fit, and so has no profile; its warnings say why.")
    likelihood = Likelihood.of(problem, theta, clusters)
    found, ratio, left = likelihood.ends(number, level)
    value = float(number.outward(number.of(theta[None]))[0])
    low, high = _around(value, number.outward(found[0]))
    reach = np.where(np.isfinite(found[0]), found[0], number.of(theta[None])[0])
    values = np.linspace(reach[0], reach[1], CURVE)
    many = likelihood.tables.repeated(CURVE)
    model = likelihood.spread(number).model
    rises = many.roots(number, values, np.repeat(model, CURVE)) ** 2 / ratio
    curve = tuple(zip(number.outward(values).tolist(), rises.tolist(), strict=True))
    return Profile(name, value, low, high, level, float(left[0]), curve)


def parameter_intervals(
    method: str,
    problem: Problem,
    theta: Array,
    clusters: np.ndarray,
    draws: Array,
    level: float,
    numbers: Mapping[str, Number],
) -> dict[str, tuple[float, float]]:
    """The interval of each number by one method; draws (draws, P)."""
    found: dict[str, tuple[float, float]] = {}
    likelihood = Likelihood.of(problem, theta, clusters) if method == "profile" else None
    for name, number in numbers.items():
        at = number.of(theta[None])
        value = float(number.outward(at)[0])
        nothing = method in ("profile", "wald") and value <= number.nothing  # its logarithm has no slope to follow
        if nothing or not np.isfinite(value):  # such as the start of a power law that is read as a curve with one
            found[name] = number.least, np.inf
            continue
        if likelihood is not None:
            pair = number.outward(likelihood.ends(number, level)[0][0])
        elif method == "wald":
            half = student.ppf(0.5 + level / 2, left_over(problem, clusters)) * standard_error(problem, theta, number)
            pair = number.outward(at + np.array([-half, half]))
        else:
            pair = of_draws(number.outward(number.of(draws)), value, level, left_over(problem, clusters))
        found[name] = _around(value, np.maximum(np.asarray(pair), number.least))
    return found


def standard_error(problem: Problem, theta: Array, number: Number) -> float:
    """Of a number on its own scale, from the normal approximation with equal noise."""
    slope = number.gradient(theta[None])[0]
    return float(np.sqrt(max(slope @ covariance(problem, theta) @ slope, 0.0)))


def left_over(problem: Problem, clusters: np.ndarray) -> int:
    """Degrees of freedom for Student's t: runs less parameters, and at most groups less one."""
    return max(min(freedom(problem), int(clusters.max())), 1)


def of_draws(draws: Array, value: float, level: float, left: int) -> tuple[float, float]:
    """Central interval of the draws (B,) that are numbers, infinite ones too, for `left` degrees of freedom."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return 0.0, float("inf")
    return interval(known, value, level, small_sample(level, left))


def _around(value: float, pair: Any) -> tuple[float, float]:
    """An interval stretched to hold the fitted value."""
    return float(min(pair[0], value)), float(max(pair[1], value))
