"""Domains: what a search may choose for each field of a run, and which fields hang on another's value. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

EDGE = 0.05  # share of a domain, at either end, in which a best value is flagged: the best may lie beyond
MOST_POINTS = 100_000  # a space of more points is never enumerated


@dataclass(frozen=True)
class LogUniform:
    """A number between `low` and `high`, uniform in its logarithm."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"loguniform({self.low}, {self.high}) is not allowed: 0 < low < high.")

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer twentieth of the domain."""
        return _outer(math.log(value), math.log(self.low), math.log(self.high))

    def draw(self, rng: np.random.Generator) -> float:
        return min(self.high, max(self.low, math.exp(rng.uniform(math.log(self.low), math.log(self.high)))))

    def holds(self, value: Any) -> bool:
        return _is_real(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Uniform:
    """A number between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"uniform({self.low}, {self.high}) is not allowed: low < high.")

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer twentieth of the domain."""
        return _outer(value, self.low, self.high)

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        return _is_real(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Integers:
    """A whole number from `low` to `high`, both included; `spacing` "linear" or "log"."""

    low: int
    high: int
    spacing: str = "linear"

    def __post_init__(self) -> None:
        name = "logintegers" if self.spacing == "log" else "integers"
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (self.low, self.high))
        if not whole or not self.low < self.high:
            raise ValueError(f"{name}({self.low}, {self.high}) is not allowed: whole numbers with low < high.")
        if self.spacing == "log" and self.low < 1:
            raise ValueError(f"{name}({self.low}, {self.high}) is not allowed: low must be at least 1.")

    def at_edge(self, value: int) -> bool:
        """Whether a value is the first or last, or lies in the outer twentieth of the domain."""
        if value in (self.low, self.high):
            return True
        scale = math.log if self.spacing == "log" else float
        return _outer(scale(value), scale(self.low), scale(self.high))

    def draw(self, rng: np.random.Generator) -> int:
        if self.spacing == "linear":
            return int(rng.integers(self.low, self.high + 1))
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(drawn)))

    def holds(self, value: Any) -> bool:
        return _is_real(value) and self.low <= value <= self.high and value == int(value)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("choice() is empty: give at least one value.")

    def at_edge(self, value: Any) -> bool:
        """Whether a value is the first or last of at least three numbers in order."""
        numbers = [v for v in self.values if _is_real(v)]
        if len(numbers) < max(3, len(self.values)) or numbers != sorted(numbers):
            return False
        return value in (numbers[0], numbers[-1])

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]

    def holds(self, value: Any) -> bool:
        return value in self.values


Domain = LogUniform | Uniform | Integers | Choice


@dataclass(frozen=True)
class When:
    """A domain for each value of another field of the space; for a value that has none, the run keeps its base's."""

    field: str
    cases: Mapping[Any, Domain | When]

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError(f'when({self.field!r}, {{}}) is empty: give a domain for a value, e.g. {{"adamw": …}}.')


def loguniform(low: float, high: float) -> LogUniform:
    """A number between `low` and `high`, uniform in its logarithm."""
    return LogUniform(low, high)


def uniform(low: float, high: float) -> Uniform:
    """A number between `low` and `high`."""
    return Uniform(low, high)


def integers(low: int, high: int) -> Integers:
    """A whole number from `low` to `high`, both included."""
    return Integers(low, high)


def logintegers(low: int, high: int) -> Integers:
    """A whole number from `low` to `high`, both included, uniform in its logarithm."""
    return Integers(low, high, "log")


def choice(*values: Any) -> Choice:
    """One of these values."""
    return Choice(values)


def when(field: str, cases: Mapping[Any, Domain | When]) -> When:
    """A domain that hangs on another field: `"optim.clip": when("optim.shape", {"sqrt": loguniform(0.1, 10)})`."""
    return When(field, cases)


@dataclass(frozen=True)
class Space:
    """Fields and their domains, each after the fields that it hangs on.

    Raises:
        ValueError: a field hangs on one that the space lacks, on a value that it never takes, or on itself.
    """

    domains: Mapping[str, Domain | When]
    order: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        for name, domain in self.domains.items():
            for parent, value in _hangs_on(domain):
                self._require_parent(name, parent, value)
        object.__setattr__(self, "order", self._ordered())

    def choose(self, pick: Callable[[str, str, Domain], Any]) -> dict[str, Any]:
        """A point: `pick(field, name, domain)` for every field that exists at it, parents first.

        `name` tells the domains of one field apart that belong to different values of its parent.
        """
        values: dict[str, Any] = {}
        for path in self.order:
            name, domain = path, self.domains[path]
            while isinstance(domain, When):
                found = values.get(domain.field, _NOTHING)
                name, domain = f"{name} | {domain.field}={found!r}", domain.cases.get(found) if _known(found) else None
            if domain is not None:
                values[path] = pick(path, name, domain)
        return values

    def domain(self, field: str, values: Mapping[str, Any]) -> Domain:
        """The domain of a field at a point where it exists."""
        domain = self.domains[field]
        while isinstance(domain, When):
            domain = domain.cases[values[domain.field]]
        return domain

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """A point at random."""
        return self.choose(lambda field, name, domain: domain.draw(rng))

    def edges(self, values: Mapping[str, Any]) -> list[str]:
        """Fields in which a point lies at the edge of the space."""
        return [path for path, value in values.items() if self.domain(path, values).at_edge(value)]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether every value of a point lies in its domain."""
        return all(self.domain(path, values).holds(value) for path, value in values.items())

    @cached_property
    def size(self) -> int | None:
        """How many points there are; None where they are not finite in number, or more than 100,000."""
        counted = sum(1 for _ in itertools.islice(self._points(), MOST_POINTS + 1)) if self._finite else None
        return counted if counted is not None and counted <= MOST_POINTS else None

    @property
    def _finite(self) -> bool:
        return all(isinstance(d, Choice | Integers) for domain in self.domains.values() for d in leaves(domain))

    def _points(self, chosen: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        chosen = chosen or {}
        opened: list[tuple[str, Domain]] = []

        def pick(field: str, name: str, domain: Domain) -> Any:
            if field in chosen:
                return chosen[field]
            opened.append((field, domain))
            raise _OpenError

        try:
            yield self.choose(pick)
        except _OpenError:
            field, domain = opened[0]
            assert isinstance(domain, Choice | Integers)
            values = _distinct(domain.values) if isinstance(domain, Choice) else range(domain.low, domain.high + 1)
            for value in values:
                yield from self._points({**chosen, field: value})

    def _require_parent(self, field: str, parent: str, value: Any) -> None:
        if parent not in self.domains:
            raise ValueError(f"{field} hangs on {parent!r}, which the space lacks; add {parent!r} to the space.")
        taken = [d for d in leaves(self.domains[parent]) if isinstance(d, Choice | Integers)]
        if not any(d.holds(value) for d in taken):
            raise ValueError(
                f"{field} has a case for {parent}={value!r}, which {parent!r} never takes; name values of its choice()."
            )

    def _ordered(self) -> tuple[str, ...]:
        order: list[str] = []
        left = dict(self.domains)
        while left:
            ready = [f for f, d in left.items() if all(parent in order for parent, _ in _hangs_on(d))]
            if not ready:
                raise ValueError(f"{', '.join(left)} hang on each other in a circle; leave one of them free.")
            order += ready
            left = {f: d for f, d in left.items() if f not in ready}
        return tuple(order)


class _OpenError(Exception):
    """A field has no value yet."""


_NOTHING = object()


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Each value once; they need not hash."""
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _known(value: Any) -> bool:
    return value is not _NOTHING and value.__hash__ is not None


def leaves(domain: Domain | When) -> Iterator[Domain]:
    """The domains that a field may have."""
    if isinstance(domain, When):
        for case in domain.cases.values():
            yield from leaves(case)
    else:
        yield domain


def _hangs_on(domain: Domain | When) -> Iterator[tuple[str, Any]]:
    if isinstance(domain, When):
        for value, case in domain.cases.items():
            yield domain.field, value
            yield from _hangs_on(case)


def _outer(value: float, low: float, high: float) -> bool:
    return not EDGE <= (value - low) / (high - low) <= 1 - EDGE


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
