"""Values about decisions: what three budgets are best spent on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """The best run of one architecture for a budget, or, with `doubt`, why there is none.

    Sizes with intervals over the law's draws, loss with the interval of one run, display units; seconds of one device.
    smaller: (params, data, flops) of a model of half the size with the same loss.
    """

    model: str
    params: tuple[float, float, float]
    data: tuple[float, float, float]
    loss: tuple[float, float, float] | None
    seconds: float | None
    smaller: tuple[float, float, float] | None
    doubt: str | None


@dataclass(frozen=True)
class Budget:
    """A budget in FLOPs, so many times what was spent; options from the least predicted loss up.

    certainty: share of the laws' draws in which the first option is the best; None without a rival.
    """

    times: float
    flops: float
    options: tuple[Option, ...]
    certainty: float | None


@dataclass(frozen=True)
class Planned:
    """What budgets are best spent on, by the laws of architectures that were trained on the same data.

    tenfold: the sentence about the second budget.
    """

    slug: str
    names: tuple[str, ...]
    metric_words: str
    unit: str
    data_unit: str
    spent: float
    confidence: float
    budgets: tuple[Budget, ...]
    tenfold: str
    sentences: tuple[str, ...]
