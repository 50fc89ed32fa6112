"""All that the page says, as plain values; losses are in display units (meV where the store has eV)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chemscale.report.values.decisions import Audited, Compared, Planned
from chemscale.report.values.laws import Broken, Frontier, Misses
from chemscale.report.values.quality import Quality
from chemscale.report.values.searches import Searched

MOST_DOTS = 200  # of a plot; of more, each cell is drawn as one


@dataclass(frozen=True)
class Dot:
    """One finished run on a plot: its loss with the standard error over the test set (None where unknown)."""

    run_id: str
    params: float
    data: float
    loss: float
    se: float | None
    seed: int


@dataclass(frozen=True)
class Foreseen:
    """A prediction registered beforehand, against the runs of its cell.

    group: slug of the section it belongs to, None where that has no finished run.
    predicted, low, high: display units, at `level`; measured: one loss per finished run.
    off: predicted over the mean of the measured, minus one; None while nothing is measured.
    """

    architecture: str
    group: str | None
    params: float
    data: float
    predicted: float | None
    low: float | None
    high: float | None
    level: float
    measured: tuple[float, ...]
    off: float | None
    inside: bool | None
    sentence: str
    detail: str


@dataclass(frozen=True)
class Section:
    """One architecture on one data set, measured by one metric: dots to draw, and how they are labelled."""

    slug: str
    name: str
    family: str
    metric: str
    metric_words: str
    unit: str
    data_unit: str
    dots: tuple[Dot, ...]
    foreseen: tuple[Foreseen, ...]
    noise: float | None

    @property
    def crowded(self) -> bool:
        """Whether its dots are too many to draw one by one."""
        return len(self.dots) > MOST_DOTS

    @property
    def varies(self) -> bool:
        """Whether its runs differ in size or data."""
        return len({(dot.params, dot.data) for dot in self.dots}) > 1


@dataclass(frozen=True)
class Trace:
    """What a law says along one axis, at one level of its other axis (None where it has none).

    points: (params or data, loss, low, high), display units.
    """

    level: float | None
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Traced:
    """The law of a section along one axis, to ten times what was run; `confidence` is that of its intervals."""

    section: Section
    axis: Literal["data", "params"]
    form: str
    n_runs: int
    confidence: float
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Headline:
    """What ten times more buys: a measured sentence, and one about the next step where it can be said."""

    name: str
    sentence: str
    more: tuple[str, ...]


@dataclass(frozen=True)
class Ruling:
    """A verdict in words; `would_decide` lists runs, where the answer is open."""

    name: str
    answer: str
    reason: str
    would_decide: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table on the page; numbers are set right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Entry:
    """A table cell: its text, and the value it sorts by."""

    text: str
    key: float | str | None = None

    @property
    def sort(self) -> float | str:
        """What the table sorts by."""
        return self.text if self.key is None else self.key


@dataclass(frozen=True)
class Table:
    """A table on the page."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Curve:
    """Validation loss of one run on the way: (examples seen, loss) per point, display units."""

    run_id: str
    params: float
    data: float
    seed: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curves:
    """Learning curves of one section; note: which of them, where there are more."""

    slug: str
    name: str
    unit: str
    data_unit: str
    curves: tuple[Curve, ...]
    note: str = ""


@dataclass(frozen=True)
class Molecules:
    """Molecules that a text model wrote: SVG drawings with captions, and a sentence on a larger sample."""

    drawings: tuple[tuple[str, str], ...]  # (svg, SMILES)
    sentence: str


@dataclass(frozen=True)
class Parity:
    """Labels against predictions of a potential on a part of its test set.

    Energies eV/atom, minus reference energies; forces eV/angstrom, one component each.
    """

    slug: str
    name: str
    sentence: str
    energies: tuple[tuple[float, float], ...]  # (label, predicted)
    forces: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Held:
    """Something to hold: what the best models do, and sentences about what could not be shown."""

    molecules: Molecules | None = None
    potentials: tuple[Parity, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """A data set: where it is from and under what terms."""

    source: str
    content: str
    licence: str
    citation: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Brief:
    """A sentence of the page's beginning, and the anchor of the section that it comes from."""

    anchor: str
    sentence: str


@dataclass(frozen=True)
class Report:
    """The whole page as values.

    runs: a row for each run, or for each cell where runs are too many to list; every_run: then all of them as CSV, else
    "". notes: sentences on what the page does not draw in full.
    """

    title: str
    questions: tuple[str, ...]
    summary: str
    headlines: tuple[Headline, ...]
    foreseen: tuple[Foreseen, ...]
    sections: tuple[Section, ...]
    rulings: tuple[Ruling, ...]
    limits: tuple[str, ...]
    exponents: Table
    more_exponents: Table
    laws: Table
    traced: tuple[Traced, ...]
    law_notes: tuple[str, ...]
    residuals: tuple[Misses, ...]
    backtests: tuple[Misses, ...]
    breaks: tuple[Broken, ...]
    frontiers: tuple[Frontier, ...]
    comparisons: tuple[Compared, ...]
    plans: tuple[Planned, ...]
    audit: Audited
    searches: tuple[Searched, ...]
    quality: tuple[Quality, ...]
    brief: tuple[Brief, ...]
    curves: tuple[Curves, ...]
    held: Held
    runs: Table
    every_run: str
    notes: tuple[str, ...]
    compute: Table
    provenance: tuple[tuple[str, str], ...]
    origins: tuple[Origin, ...]
