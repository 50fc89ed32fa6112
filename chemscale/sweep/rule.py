"""The best value of a hyperparameter as a product of powers of sizes, fitted to the losses of many runs.

Around its minimum the logarithm of a loss is a parabola in the logarithm u of a rate. With one curvature k for all
cells and a minimum at u* = a + b . x, where x are the logarithms of the sizes (of the model, the data, the batch),

    log loss = C_cell + k (u - a - b . x)^2 = C'_cell + k u^2 - 2ka u - 2k (b . x) u,

which is linear in k, 2ka and 2kb: ordinary least squares over all runs, not only over the best of each cell. The
minimum is a ratio of two of these numbers; its interval is Fieller's (Fieller 1954), exact for normal noise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from chemscale.laws.errors import FitError
from chemscale.spec import RunSpec, with_fields
from chemscale.sweep.search import read_field

WINDOW = math.log(6)  # runs further than a factor of six from their cell's minimum are off the parabola
ROUNDS = 10  # of the window about the minimum and the fit within it
LEAST_RUNS = 3  # of a cell within the window


@dataclass(frozen=True)
class Carried:
    """A value with its interval, and why one should doubt it."""

    value: float
    low: float
    high: float
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """Runs that differ in the value of the field: sizes (along,), positive; values (runs,); losses (runs,)."""

    sizes: tuple[float, ...]
    values: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Rule:
    """The best value of a field as powers of sizes: value = exp(a) size_1^b_1 size_2^b_2 ...; `str` says it.

    As `Grid(derive=rule)` it gives every cell its own value.

    Attributes:
        field, along: dotted fields of a run: what is set, and the sizes that it follows.
        coefficients: k, 2ka and 2kb of each size; covariance: theirs; runs_left: the degrees of freedom behind it.
        spans: the smallest and largest of each size that was searched.
        doubts: sentences about cells whose minimum was not enclosed.
    """

    field: str
    along: tuple[str, ...]
    coefficients: tuple[float, ...]
    covariance: np.ndarray
    runs_left: int
    spans: tuple[tuple[float, float], ...]
    level: float = 0.95
    doubts: tuple[str, ...] = ()

    @property
    def exponents(self) -> dict[str, Carried]:
        """The power b of each size, with its interval."""
        units = np.eye(len(self.coefficients))[2:]
        found = {}
        for name, unit in zip(self.along, units, strict=True):
            centre, low, high = self._ratio(unit)
            found[name] = Carried(centre, low, high, self.doubts)
        return found

    @property
    def exponent(self) -> float:
        """The power of the first size."""
        return self.exponents[self.along[0]].value

    def __str__(self) -> str:
        """E.g. the best optim.lr goes as model.width^-0.18 (95 % interval -0.29 to -0.08)"""
        powers = [
            f"{name}^{power.value:.2f} ({100 * self.level:g} % interval {power.low:.2f} to {power.high:.2f})"
            for name, power in self.exponents.items()
        ]
        doubts = f"; {len(self.doubts)} doubts, the first: {self.doubts[0]}" if self.doubts else ""
        return f"the best {self.field} goes as {' times '.join(powers)}{doubts}"

    def at(self, *sizes: float) -> Carried:
        """The best value at sizes, in the order of `along`, with its interval; sizes beyond the searched are doubted.

        Raises:
            ValueError: another number of sizes than `along` has.
        """
        if len(sizes) != len(self.along):
            raise ValueError(f"at{sizes} is not allowed: the rule takes {', '.join(self.along)}, one number each.")
        centre, low, high = self._ratio(np.array([0.0, 1.0, *map(math.log, sizes)]))
        doubts = self.doubts
        for name, size, (least, most) in zip(self.along, sizes, self.spans, strict=True):
            if not least <= size <= most:
                doubts += (f"{name}={size:g} lies beyond the searched {least:g} to {most:g}",)
        return Carried(math.exp(centre), _exp(low), _exp(high), doubts)

    def __call__(self, run: RunSpec) -> RunSpec:
        """The run with its best value, as `Grid(derive=...)` asks for it; doubts are given as warnings."""
        found = self.at(*(read_field(run, name) for name in self.along))
        for doubt in found.doubts:
            warnings.warn(f"{self.field}={found.value:.3g} by a transfer rule: {doubt}.", stacklevel=2)
        whole = isinstance(read_field(run, self.field), int)
        return with_fields(run, {self.field: max(1, round(found.value)) if whole else found.value})

    def _ratio(self, direction: np.ndarray) -> tuple[float, float, float]:
        """direction . coefficients / 2k, with Fieller's interval; its ends are infinite where k may be zero."""
        double = np.eye(len(self.coefficients))[0] * 2
        coefficients = np.array(self.coefficients)
        top, bottom = float(direction @ coefficients), float(double @ coefficients)
        factor = float(student.ppf(0.5 + self.level / 2, self.runs_left)) ** 2
        tt = float(direction @ self.covariance @ direction)
        tb, bb = float(direction @ self.covariance @ double), float(double @ self.covariance @ double)
        a, b, c = bottom**2 - factor * bb, top * bottom - factor * tb, top**2 - factor * tt
        if a <= 0:
            return top / bottom, -math.inf, math.inf
        half = math.sqrt(max(0.0, b**2 - a * c)) / a
        return top / bottom, b / a - half, b / a + half


def fit_rule(cells: Sequence[Cell], *, field: str, along: Sequence[str], level: float = 0.95) -> Rule:
    """The rule through the runs of cells.

    Raises:
        FitError: the losses show no minimum, or there are too few.
    """
    u = [np.log(cell.values) for cell in cells]
    y = [np.log(cell.losses) for cell in cells]
    x = np.log([cell.sizes for cell in cells])  # (cells, along)
    centres = [float(ui[np.argmin(yi)]) for ui, yi in zip(u, y, strict=True)]
    for _ in range(ROUNDS):
        kept = [near(ui, centre) for ui, centre in zip(u, centres, strict=True)]
        found = parabolas(x, u, y, kept, field)
        coefficients = found.solution[: 2 + x.shape[1]]
        moved = [float((coefficients[1] + xi @ coefficients[2:]) / (2 * coefficients[0])) for xi in x]
        moved = [min(max(m, float(ui.min())), float(ui.max())) for m, ui in zip(moved, u, strict=True)]
        if np.allclose(moved, centres):
            break
        centres = moved
    doubts = [_doubt(field, along, cell) for cell in cells]
    spans = tuple((min(sizes), max(sizes)) for sizes in zip(*(cell.sizes for cell in cells), strict=True))
    own = len(coefficients)
    covariance = found.inverse[:own, :own] * found.squares / found.left
    named, told = tuple(along), tuple(d for d in doubts if d)
    return Rule(field, named, tuple(coefficients.tolist()), covariance, found.left, spans, level, told)


def near(u: np.ndarray, centre: float) -> np.ndarray:
    """Runs within the window, and at least the three nearest."""
    distance = np.abs(u - centre)
    nearest = np.sort(distance)[min(LEAST_RUNS, len(u)) - 1]
    return distance <= max(WINDOW, nearest)


@dataclass(frozen=True)
class Parabolas:
    """Least squares of one parabola about a moving minimum through the runs of all cells.

    Attributes:
        solution: k, 2ka, 2kb of each size, and an intercept per cell, of log loss = k u^2 - (2ka + 2kb . x) u + C'.
        inverse: times the squares over the degrees of freedom, the covariance of the solution.
        squares: of what is left of the log losses.
        left: degrees of freedom.
    """

    solution: np.ndarray
    inverse: np.ndarray
    squares: float
    left: int


def parabolas(
    x: np.ndarray, u: Sequence[np.ndarray], y: Sequence[np.ndarray], kept: Sequence[np.ndarray], field: str
) -> Parabolas:
    """Through the kept runs of cells: log sizes x (cells, along), and of each cell log values u and log losses y.

    Raises:
        FitError: the losses show no minimum, or there are too few.
    """
    cell = np.repeat(np.arange(len(x)), [k.sum() for k in kept])
    rates = np.concatenate([ui[k] for ui, k in zip(u, kept, strict=True)])
    losses = np.concatenate([yi[k] for yi, k in zip(y, kept, strict=True)])
    slopes = -rates[:, None] * np.column_stack([np.ones(len(rates)), x[cell]])
    design = np.column_stack([rates**2, slopes, cell[:, None] == np.arange(len(x))])
    left = len(losses) - design.shape[1]
    if left < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise FitError(
            f"{len(losses)} runs near the best {field} of {len(x)} cells do not determine a rule; sample more in each."
        )
    solution, *_ = np.linalg.lstsq(design, losses, rcond=None)
    if solution[0] <= 0:
        raise FitError(f"the losses show no minimum in {field}; widen the space or sample more in each cell.")
    residual = losses - design @ solution
    return Parabolas(solution, np.linalg.inv(design.T @ design), float(residual @ residual), left)


def _doubt(field: str, along: Sequence[str], cell: Cell) -> str | None:
    best = cell.values[np.argmin(cell.losses)]
    if min(cell.values) < best < max(cell.values):
        return None
    where = ", ".join(f"{name}={size:g}" for name, size in zip(along, cell.sizes, strict=True))
    return f"the best {field} at {where} is the {'lowest' if best == min(cell.values) else 'highest'} that was tried"


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
