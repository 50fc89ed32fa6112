"""Whether runs of lower loss write better molecules: rank correlation over runs, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import norm, rankdata

LEVEL = 0.95
LEAST = 4  # runs: the interval's width goes by 1 / sqrt(runs - 3)

# What a sample is judged by, and whether more of it is better.
BETTER = {
    "validity": "more",
    "unique": "more",
    "novelty": "more",
    "fcd": "less",
    "snn": "more",
    "fragments": "more",
    "scaffolds": "more",
    "filters": "more",
    "logP_distance": "less",
    "SA_distance": "less",
    "QED_distance": "less",
    "weight_distance": "less",
}


@dataclass(frozen=True)
class Ranks:
    """Spearman's correlation of the loss with a metric over `runs` runs; low and high are None below four runs."""

    value: float
    low: float | None
    high: float | None
    runs: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def ranks(rows: Sequence[Mapping[str, Any]], metric: str, loss: str = "law_loss", level: float = LEVEL) -> Ranks | None:
    """Over the rows that have the metric; None of fewer than three, or where one side is constant.

    The interval is Fisher's z with the variance (1 + r^2 / 2) / (n - 3) of Bonett and Wright 2000, Psychometrika 65,
    23. Where all ranks agree it starts half a step below one, a step being the smallest change of r among n ranks.
    """
    pairs = [(row[loss], row[metric]) for row in rows if row.get(metric) is not None]
    number = len(pairs)
    if number < 3:
        return None
    a, b = (rankdata(side) for side in zip(*pairs, strict=True))
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a @ a) * (b @ b)))
    if not spread:
        return None
    value = min(1.0, max(-1.0, float(a @ b) / spread))
    if number < LEAST:
        return Ranks(value, None, None, number)
    most = 1 - 6 / (number * (number**2 - 1))
    inner = min(most, max(-most, value))
    half = norm.ppf((1 + level) / 2) * math.sqrt((1 + inner**2 / 2) / (number - 3))
    low, high = math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)
    return Ranks(value, min(low, value), max(high, value), number)
