"""Values about fitted laws: what they leave, what they foretold, what a budget is best spent on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def nouns(data: str) -> dict[str, str]:
    """Axis of a law -> the word for it, where data are counted in `data`."""
    return {"params": "parameters", "data": data, "seen": f"{data} seen", "flops": "FLOPs"}


@dataclass(frozen=True)
class Miss:
    """One run against a law; `error` is measured over said by the law, minus one."""

    params: float | None
    data: float | None
    seen: float | None
    flops: float | None
    measured: float
    said: float
    error: float

    def at(self, axis: str) -> float | None:
        """Its place along `params`, `data`, `seen` or `flops`."""
        return getattr(self, axis)


@dataclass(frozen=True)
class Misses:
    """Runs against a law: those it was fitted to (residuals), or those held out of it (a backtest).

    typical: half of the errors are smaller. axes: those that the law has. levels: what was run along them. form_error:
    of a backtest, the relative error that neither noise nor the parameters' own uncertainty explains.
    """

    slug: str
    name: str
    kind: Literal["fitted", "held out"]
    form: str
    unit: str
    data_unit: str
    axes: tuple[str, ...]
    levels: dict[str, tuple[float, ...]]
    misses: tuple[Miss, ...]
    typical: float
    form_error: float | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """Whether a law stops holding: (axis, its value) of every break that was found, and what the test says."""

    slug: str
    name: str
    found: tuple[tuple[str, float], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Best:
    """The best run of a budget, by a law: sizes with intervals over its draws, loss with the interval of one run."""

    flops: float
    params: float
    params_low: float
    params_high: float
    data: float
    data_low: float
    data_high: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One size of model, or one loss, along the other axes: points as `Frontier` says."""

    level: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Frontier:
    """Compute against loss, and the best model and data of every budget.

    runs: (params, data, flops, loss) of every run. sizes: per model size (flops, loss) along data, by the law. best:
    along budgets, empty where the law identifies no optimum. isolosses: per loss (params, data). largest, spent: FLOPs
    of the largest run, and of all. cost: the rule, in words.
    """

    slug: str
    name: str
    metric_words: str
    unit: str
    data_unit: str
    runs: tuple[tuple[float, float, float, float], ...]
    sizes: tuple[Line, ...]
    best: tuple[Best, ...]
    isolosses: tuple[Line, ...]
    largest: float
    spent: float
    cost: str
    confidence: float
    sentences: tuple[str, ...]
