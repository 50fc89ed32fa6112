"""Values about searches: which runs were stopped and where they would have ended, and which settings mattered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """One run of a search, validation losses in display units.

    points: (share of the training, loss). final: of a finished run. forecast: (value, low, high) of a stopped one.
    settings: values of the fields that the search varied.
    """

    run_id: str
    status: str
    points: tuple[tuple[float, float], ...]
    final: float | None
    forecast: tuple[float, float, float] | None
    settings: dict[str, float | str | bool | None]

    @property
    def end(self) -> float | None:
        """Where it ended, or would have."""
        return self.final if self.final is not None else self.forecast[0] if self.forecast else None

    @property
    def reached(self) -> float:
        """The share of its training that it was measured over."""
        return self.points[-1][0] if self.points else 0.0


@dataclass(frozen=True)
class Foretold:
    """Forecasts of finished runs from their beginnings, each by a law of the other runs.

    share: of the training that was seen; error: mean, relative; rank: Spearman's; inside: share of the 95 % intervals
    that held the end.
    """

    share: float
    runs: int
    error: float
    rank: float
    inside: float


@dataclass(frozen=True)
class Importance:
    """How much of the difference between good and other runs lies in one field.

    share: of all fields, with its 95 % interval over resampled runs; chance: how often shuffled losses give as much.
    logarithmic: how the field is shown. best: its value in the best run.
    """

    field: str
    share: float
    low: float
    high: float
    chance: float
    logarithmic: bool
    best: float | str | bool | None


@dataclass(frozen=True)
class Searched:
    """One cell of a search: runs of one model on one data set that differ in their settings.

    saved: share of the training examples of all its runs that stopping early left out. note: what is not shown.
    """

    slug: str
    name: str
    model: str
    cell: str
    unit: str
    tried: tuple[Tried, ...]
    saved: float
    foretold: Foretold | None
    importances: tuple[Importance, ...]
    stop_sentences: tuple[str, ...]
    importance_sentences: tuple[str, ...]
    note: str = ""

    @property
    def stopped(self) -> tuple[Tried, ...]:
        """Runs that ended early."""
        return tuple(one for one in self.tried if one.status == "stopped")
