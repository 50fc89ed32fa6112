"""What trained text models write, against their losses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """One metric of the samples of several runs.

    Attributes:
        metric: as the store has it; words: as people say it.
        better: "more" or "less".
        correlation: Spearman's, of the loss with the metric; None where it has none. low, high: its 95 % interval.
        expected: whether a lower loss went with a better metric, beyond chance; None: with a worse one nor a better.
        values: (run_id, value) of the runs that have it.
    """

    metric: str
    words: str
    better: str
    correlation: float | None
    low: float | None
    high: float | None
    expected: bool | None
    values: tuple[tuple[str, float], ...]

    def best(self) -> float:
        """The best value of any run."""
        ends = [value for _, value in self.values]
        return max(ends) if self.better == "more" else min(ends)


@dataclass(frozen=True)
class Sampled:
    """One run that was sampled: its size, data and loss (display units)."""

    run_id: str
    params: float
    data: float
    loss: float


@dataclass(frozen=True)
class Quality:
    """Runs of one group that were sampled alike, and how far their loss foretells what they write.

    Attributes:
        how: what was sampled and what it was held against.
        sentence: the answer in one sentence.
        says: what a reader of the reference's numbers must know; "" for nothing.
    """

    slug: str
    name: str
    unit: str
    data_unit: str
    how: str
    sentence: str
    says: str
    runs: tuple[Sampled, ...]
    metrics: tuple[Written, ...]
