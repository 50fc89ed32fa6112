"""A space of hyperparameters over a run, the sampler, the early stop: values that Ray Tune and Optuna carry out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chemscale.spec import RunSpec, with_fields
from chemscale.sweep.grid import require_name

SAMPLERS = ("tpe", "random")


@dataclass(frozen=True)
class LogUniform:
    """A number between `low` and `high`, uniform in its logarithm."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"loguniform({self.low}, {self.high}) is not allowed: 0 < low < high.")

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer twentieth of the space: the best may lie beyond."""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        return not 0.05 <= place <= 0.95


@dataclass(frozen=True)
class Uniform:
    """A number between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"uniform({self.low}, {self.high}) is not allowed: low < high.")

    def at_edge(self, value: float) -> bool:
        """Whether a value lies in the outer twentieth of the space."""
        return not 0.05 <= (value - self.low) / (self.high - self.low) <= 0.95


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("choice() is empty: give at least one value.")

    def at_edge(self, value: Any) -> bool:
        """Whether a value is the first or last of at least three numbers in order."""
        numbers = [v for v in self.values if isinstance(v, int | float)]
        if len(numbers) < max(3, len(self.values)) or numbers != sorted(numbers):
            return False
        return value in (numbers[0], numbers[-1])


Domain = LogUniform | Uniform | Choice


def loguniform(low: float, high: float) -> LogUniform:
    """A number between `low` and `high`, uniform in its logarithm."""
    return LogUniform(low, high)


def uniform(low: float, high: float) -> Uniform:
    """A number between `low` and `high`."""
    return Uniform(low, high)


def choice(*values: Any) -> Choice:
    """One of these values."""
    return Choice(values)


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving (Li et al. 2020), in examples seen.

    Args:
        grace: share of the whole training before which nothing stops.
        reduction: one in so many goes on at each rung.
    """

    grace: float = 0.125
    reduction: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.grace <= 1:
            raise ValueError(f"ASHA.grace={self.grace} is not allowed: it must be above 0 and at most 1.")
        if not self.reduction > 1:
            raise ValueError(f"ASHA.reduction={self.reduction} is not allowed: it must be above 1.")


@dataclass(frozen=True)
class Search:
    """Samples of a space around one cell; all of them train on the same data, so that a scheduler may compare them.

    Args:
        base: the run whose fields the space replaces.
        space: dotted field of a run -> domain, e.g. {"optim.lr": loguniform(1e-4, 1e-1)}.
        samples: how many runs.
        stop: an early stop, or None to train every sample to its end.
        sampler: "tpe" (multivariate, constant liar), "random", or an Optuna sampler.
        seed: of the sampler.
        name: of the search in the store.
    """

    base: RunSpec
    space: Mapping[str, Domain]
    samples: int = 16
    stop: ASHA | None = None
    sampler: Any = "tpe"
    seed: int = 0
    name: str = "search"

    def __post_init__(self) -> None:
        require_name("Search.name", self.name)
        if self.samples < 1:
            raise ValueError(f"Search.samples={self.samples} is not allowed: it must be at least 1.")
        if not self.space:
            raise ValueError(
                'Search.space is empty: give at least one field, e.g. {"optim.lr": loguniform(1e-4, 1e-1)}.'
            )
        if isinstance(self.sampler, str) and self.sampler not in SAMPLERS:
            raise ValueError(
                f"Search.sampler={self.sampler!r} is not allowed: {', '.join(SAMPLERS)} or an Optuna sampler."
            )
        for field, domain in self.space.items():
            if field.startswith(("data.", "budget.", "evaluation.", "seed")):
                raise ValueError(
                    f"Search.space has {field!r}, which changes what runs are compared on; use a Grid for that."
                )
            self.run({field: domain.values[0] if isinstance(domain, Choice) else domain.low})

    def run(self, values: Mapping[str, Any]) -> RunSpec:
        """The run at one point of the space."""
        return with_fields(self.base, values)

    def values(self, run: RunSpec) -> dict[str, Any]:
        """The point of the space that a run is."""
        return {field: read_field(run, field) for field in self.space}

    def edges(self, run: RunSpec) -> Sequence[str]:
        """Fields in which a run lies at the edge of the space."""
        return [field for field, value in self.values(run).items() if self.space[field].at_edge(value)]


def read_field(run: RunSpec, path: str) -> Any:
    """The value of a dotted field."""
    node: Any = run
    for name in path.split("."):
        node = getattr(node, name)
    return node
