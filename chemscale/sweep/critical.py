"""The critical batch: up to which size a larger batch costs next to nothing in data, and how it moves with the data.

With the data given, a smaller batch is never worse once its rate is tuned: it only takes more steps. A search for the
batch of least loss so ends at the smallest one tried. What can be told is the price of a larger one. To reach the same
loss, a batch of B needs E = E_min (1 + B / B_crit) examples, the trade-off of examples and steps of McCandlish et al.
2018: at B_crit twice as many as the smallest batch, in twice the fewest steps. So runs of E examples end at the loss of
E / (1 + B / B_crit) examples, by a power law without floor

    log loss = c - beta log(E / (1 + B / B_crit)),   B_crit = B_0 (E / E_0)^gamma,

each at its best rate: at the least of the parabola that a `Rule` draws through a cell's runs. These least losses, with
the covariance that they have by their common curvature, are fitted by generalised least squares. Given B_0 and gamma
the rest is linear; the two are read off a lattice, and their intervals are those of the part of it where the squares
rise by less than Student's t allows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from chemscale.laws.errors import FitError
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.rule import Carried, Cell, Rule, fit_rule, near, parabolas
from chemscale.sweep.search import read_field
from chemscale.sweep.transfer import finished

REACH = 100.0  # times below the smallest and above the largest batch: how far the lattice goes
STEPS, REFINED = 81, 3  # points of the lattice either way, and how often it is drawn about what the last one allowed
POWERS = (-1.0, 2.0)  # of gamma: at 0 the critical batch stays where it is, at 1 all data need as many steps
LEAST_BATCHES = 3  # two cannot tell a bend from a slope
PARAMETERS = 4  # c, beta, B_0, gamma

Ends = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class CriticalBatch:
    """A critical batch with what bounds it; `str` says it.

    Attributes:
        centre: examples E_0, the geometric mean of the runs'.
        log_batch, power: log B_0 at the centre, and gamma.
        beta: the exponent of the loss in examples.
        region: (points, 2), log B_0 and gamma that the losses allow.
        edges: ((least, most) of log B_0, (least, most) of gamma) that were looked at; an interval that gets there is
            open.
        span: the fewest and most examples of a run.
        doubts: sentences on why one should not believe it.
    """

    centre: float
    log_batch: float
    power: float
    beta: float
    region: np.ndarray
    edges: Ends
    span: tuple[float, float]
    level: float = 0.95
    doubts: tuple[str, ...] = ()

    @property
    def exponent(self) -> Carried:
        """gamma, with its interval."""
        (_, _), (least, most) = self.edges
        low, high = float(self.region[:, 1].min()), float(self.region[:, 1].max())
        return Carried(self.power, -math.inf if low <= least else low, math.inf if high >= most else high, self.doubts)

    def at(self, examples: float) -> Carried:
        """B_crit for runs of so many examples, with its interval; 0 or infinite where the losses set no bound."""
        way = math.log(examples / self.centre)
        moved = self.region @ np.array([1.0, way])
        (least, most), _ = self.edges
        low = 0.0 if self.region[:, 0].min() <= least else math.exp(moved.min())
        high = math.inf if self.region[:, 0].max() >= most else math.exp(moved.max())
        doubts = self.doubts
        if not self.span[0] <= examples <= self.span[1]:
            doubts += (f"{examples:g} examples lie beyond the searched {self.span[0]:g} to {self.span[1]:g}",)
        return Carried(math.exp(self.log_batch + self.power * way), low, high, doubts)

    def __str__(self) -> str:
        """E.g. the critical batch is 21 at 5,196 examples (95 % interval 14 to 30) and goes as examples^0.44 ..."""
        here, power, interval = self.at(self.centre), self.exponent, f"{100 * self.level:g} % interval"
        said = (
            f"the critical batch is {here.value:.3g} at {self.centre:,.0f} examples ({interval} {here.low:.3g} to "
            f"{here.high:.3g}) and goes as examples^{power.value:.2f} ({power.low:.2f} to {power.high:.2f}); a batch "
            "of a tenth of it needs a tenth more data than the smallest"
        )
        return f"{said}; {len(self.doubts)} doubts, the first: {self.doubts[0]}" if self.doubts else said


def critical_batch(
    store: Store | str | Path, *, search: str | Sequence[str], rate: str = "optim.lr", level: float = 0.95
) -> CriticalBatch:
    """The critical batch from searches of the rate at several batches and sizes of data, of one model.

    Args:
        search: their names in the store.
        rate: the field that was searched in each.

    Raises:
        ValueError: the store has no such search, its runs are of several models or took several epochs.
        FitError: the runs cannot tell.
    """
    runs = finished(store if isinstance(store, Store) else Store(store), search)
    for name, kinds in (("models", {run.model for run, _ in runs}), ("seeds", {run.seed for run, _ in runs})):
        if len(kinds) > 1:
            raise ValueError(f"search={search!r} has runs of {len(kinds)} {name}; a critical batch is that of one.")
    repeated = sum(_examples(run) > (run.data.size or math.inf) for run, _ in runs)
    if repeated:
        raise ValueError(f"{repeated} runs of search={search!r} repeat their data; use runs of one epoch or less.")
    found: dict[tuple[float, float], list[tuple[float, float]]] = defaultdict(list)
    for run, loss in runs:
        found[_examples(run), float(run.optim.batch)].append((float(read_field(run, rate)), loss))
    cells = [Cell(sizes, *np.array(rows).T) for sizes, rows in sorted(found.items())]
    return fit_critical(cells, fit_rule(cells, field=rate, along=("examples", "optim.batch"), level=level))


def fit_critical(cells: Sequence[Cell], rule: Rule) -> CriticalBatch:
    """The critical batch of cells whose sizes are (examples, batch), with the rule of their best rates.

    Raises:
        FitError: fewer than three batches or two numbers of examples, or the loss does not fall with the examples.
    """
    sizes = np.log([cell.sizes for cell in cells])
    if len(np.unique(sizes[:, 0])) < 2 or len(np.unique(sizes[:, 1])) < LEAST_BATCHES:
        raise FitError(
            f"a critical batch needs {LEAST_BATCHES} batches and 2 sizes of data at least; "
            f"this search has {len(np.unique(sizes[:, 1]))} and {len(np.unique(sizes[:, 0]))}."
        )
    x, batch = sizes.T
    centre, least = float(x.mean()), _least_losses(cells, sizes, rule)
    left = least.left + len(cells) - PARAMETERS
    ends: Ends = (batch.min() - math.log(REACH), batch.max() + math.log(REACH)), POWERS
    box: Ends = ends
    for _ in range(REFINED):
        lattice = np.stack(np.meshgrid(*(np.linspace(*end, STEPS) for end in box)), -1).reshape(-1, 2)
        effective = x - np.logaddexp(0.0, batch - lattice[:, :1] - lattice[:, 1:] * (x - centre))  # (points, cells)
        squares, beta = least.regressed(effective)
        best = int(np.argmin(np.where(beta > 0, squares, math.inf)))
        if beta[best] <= 0:
            raise FitError("the loss does not fall with the examples; there is no critical batch to be told.")
        rise = student.ppf(0.5 + rule.level / 2, left) ** 2 * (least.squares + squares[best]) / left
        region = lattice[(squares <= squares[best] + rise) & (beta > 0)]
        box = _around(region[:, 0], box[0], ends[0]), _around(region[:, 1], box[1], ends[1])
    (log_batch, power), examples = lattice[best], [cell.sizes[0] for cell in cells]
    span = min(examples), max(examples)
    return CriticalBatch(
        math.exp(centre), float(log_batch), float(power), float(beta[best]), region, ends, span, rule.level,
        tuple(_doubts(region, ends, rule)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Least:
    """Least log losses of cells, (cells,), in units in which they are independent.

    `whitening`, (cells, cells), makes them so; `squares` with `left` degrees of freedom is what the runs scatter about
    their cells' parabolas.
    """

    losses: np.ndarray
    whitening: np.ndarray
    squares: float
    left: int

    def regressed(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squares left by losses = c - beta z, and beta, for each row of z, (points, cells)."""
        one = self.whitening.sum(1)
        one /= np.linalg.norm(one)
        z = z @ self.whitening.T
        z -= (z @ one)[:, None] * one
        losses = self.losses - (self.losses @ one) * one
        along, across = (z**2).sum(1), z @ losses
        return losses @ losses - across**2 / along, -across / along


def _least_losses(cells: Sequence[Cell], sizes: np.ndarray, rule: Rule) -> _Least:
    """The least of each cell's parabola, C' - q^2 / 4k with q = 2ka + 2kb . x, by linear propagation."""
    u, y = [np.log(cell.values) for cell in cells], [np.log(cell.losses) for cell in cells]
    kept = [near(ui, math.log(rule.at(*cell.sizes).value)) for ui, cell in zip(u, cells, strict=True)]
    found = parabolas(sizes, u, y, kept, rule.field)
    own, k = len(rule.coefficients), found.solution[0]
    moves = np.column_stack([np.ones(len(cells)), sizes])
    q = moves @ found.solution[1:own]
    slopes = np.column_stack([q**2 / (4 * k**2), -moves * (q / (2 * k))[:, None], np.eye(len(cells))])
    whitening = np.linalg.inv(np.linalg.cholesky(slopes @ found.inverse @ slopes.T))
    return _Least(whitening @ (found.solution[own:] - q**2 / (4 * k)), whitening, found.squares, found.left)


def _around(seen: np.ndarray, box: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """What is seen of a box and two steps on either side, within the ends."""
    margin = 2 * (box[1] - box[0]) / (STEPS - 1)
    return max(float(seen.min()) - margin, end[0]), min(float(seen.max()) + margin, end[1])


def _doubts(region: np.ndarray, ends: Ends, rule: Rule) -> list[str]:
    (least, most), _ = ends
    found = []
    if region[:, 0].min() <= least:
        found.append("the losses set it no lower bound: try smaller batches")
    if region[:, 0].max() >= most:
        found.append("the losses set it no upper bound: try larger batches")
    return found + list(rule.doubts)


def _examples(run: RunSpec) -> float:
    assert run.examples is not None  # a run that was trained says how many
    return float(run.examples)
