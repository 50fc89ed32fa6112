"""Values about decisions: what three budgets are best spent on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """The best run of one architecture for a budget, or, with `doubt`, why there is none.

    Sizes with intervals over the law's draws, loss with the interval of one run, display units; seconds of one device.
    smaller: (params, data, flops) of a model of half the size with the same loss. form: of the law that says it.
    """

    model: str
    params: tuple[float, float, float]
    data: tuple[float, float, float]
    loss: tuple[float, float, float] | None
    seconds: float | None
    smaller: tuple[float, float, float] | None
    doubt: str | None
    form: str = ""


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
class Labels:
    """What labels are worth to one architecture's largest run, of params on data at so many FLOPs.

    tenfold: loss that ten times the data takes off, with its interval over the law's draws, display units; instead: the
    FLOPs more of a larger model that does the same on the same data, None where none does. by_data, by_params: shares
    of the loss that twice the compute takes off in data or in parameters alone; probability: share of the law's draws
    in which data take off more; answer: "data", "parameters" or "cannot tell", which to buy first.
    """

    model: str
    params: float
    data: float
    flops: float
    tenfold: tuple[float, float, float]
    instead: float | None
    by_data: float
    by_params: float
    probability: float
    answer: str


@dataclass(frozen=True)
class Planned:
    """What budgets are best spent on, by the laws of architectures that were trained on the same data.

    tenfold: the sentence about the second budget. labels: what labels are worth, of those with a law to be believed.
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
    labels: tuple[Labels, ...]


@dataclass(frozen=True)
class Apart:
    """An exponent of one architecture minus that of the reference, with its interval; an open end is None."""

    model: str
    reference: str
    exponent: str
    along: str
    value: float
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval says which is larger."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)


@dataclass(frozen=True)
class Look:
    """Runs of two architectures paired: points are (params or None, data or None, loss over the reference's loss).

    ratio: geometric mean with its interval; sentence: what was paired and what it shows.
    """

    model: str
    reference: str
    points: tuple[tuple[float | None, float | None, float], ...]
    ratio: float
    ratio_interval: tuple[float, float] | None
    sentence: str


@dataclass(frozen=True)
class Compared:
    """Architectures that were trained on the same data, measured by the same metric.

    sentence: whether the architecture changes the exponent or only the constant; more: against FLOPs and device time,
    and what stands against it. costs: (architecture, its runs as (FLOPs, loss)), display units.
    """

    slug: str
    names: tuple[str, ...]
    metric_words: str
    unit: str
    data_unit: str
    confidence: float
    sentence: str
    more: tuple[str, ...]
    differences: tuple[Apart, ...]
    looks: tuple[Look, ...]
    costs: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


@dataclass(frozen=True)
class Judged:
    """A claim of the page, or a referee's question, with its mark, the reason, and what would decide it."""

    mark: str
    about: str
    statement: str
    reason: str
    decide: tuple[str, ...]


@dataclass(frozen=True)
class Audited:
    """What the claims of the page rest on; those of concern first. notes: what was not read in full."""

    claims: tuple[Judged, ...]
    findings: tuple[Judged, ...]
    sentence: str
    notes: tuple[str, ...] = ()
