"""The best value of a hyperparameter carried along a size: searched where it is cheap, used where it is dear.

Around its minimum the logarithm of a loss is a parabola in the logarithm u of a rate. With one curvature k for all
cells and a minimum at u* = a + b x, where x is the logarithm of the size,

    log loss = C_cell + k (u - a - b x)^2 = C'_cell + k u^2 - 2ka u - 2kb x u,

which is linear in k, 2ka and 2kb: ordinary least squares over all runs, not only over the best of each cell. The
minimum is a ratio of two of these numbers; its interval is Fieller's (Fieller 1954), exact for normal noise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from chemscale.laws.errors import FitError
from chemscale.records.store import Store
from chemscale.spec import RunSpec, with_fields
from chemscale.sweep.found import last_valid_loss
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
class Rule:
    """The best value of a field as a power of a size: value = exp(a) size^b.

    As `Grid(derive=rule)` it gives every cell its own value.

    Attributes:
        field, along: dotted fields of a run: what is set, and the size that it follows.
        coefficients: k, 2ka and 2kb; covariance: (3, 3), theirs; runs_left: the degrees of freedom behind it.
        span: the smallest and largest size that was searched.
        doubts: sentences about cells whose minimum was not enclosed.
    """

    field: str
    along: str
    coefficients: tuple[float, float, float]
    covariance: np.ndarray
    runs_left: int
    span: tuple[float, float]
    level: float = 0.95
    doubts: tuple[str, ...] = ()

    @property
    def exponent(self) -> float:
        """The power b of the size."""
        curvature, _, slope = self.coefficients
        return slope / (2 * curvature)

    def at(self, size: float) -> Carried:
        """The best value at a size, with its interval; sizes beyond the searched ones are doubted."""
        x = math.log(size)
        centre, low, high = self._minimum(np.array([0.0, 1.0, x]))
        doubts = self.doubts
        if not self.span[0] <= size <= self.span[1]:
            doubts += (f"{self.along}={size:g} lies beyond the searched {self.span[0]:g} to {self.span[1]:g}",)
        return Carried(math.exp(centre), _exp(low), _exp(high), doubts)

    def __call__(self, run: RunSpec) -> RunSpec:
        """The run with its best value, as `Grid(derive=...)` asks for it; doubts are given as warnings."""
        found = self.at(read_field(run, self.along))
        for doubt in found.doubts:
            warnings.warn(f"{self.field}={found.value:.3g} by a transfer rule: {doubt}.", stacklevel=2)
        return with_fields(run, {self.field: found.value})

    def _minimum(self, direction: np.ndarray) -> tuple[float, float, float]:
        """direction . coefficients / 2k, with Fieller's interval; its ends are infinite where k may be zero."""
        double = np.array([2.0, 0.0, 0.0])
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


def transfer(
    store: Store | str | Path, *, search: str, field: str = "optim.lr", along: str = "model.width", level: float = 0.95
) -> Rule:
    """Fit how the best value of a field moves along a size, from a search in cells of several sizes.

    All finished runs of the search count, by their validation losses; other fields searched with it count as noise.

    Args:
        search: its name in the store.
        field: a positive number that the search varied.
        along: a positive number that differs between its cells.

    Raises:
        ValueError: the store has no such search, or its cells are of one size only.
        FitError: the losses show no minimum.
    """
    records = store if isinstance(store, Store) else Store(store)
    if search not in records.studies():
        known = ", ".join(records.studies()) or "none"
        raise ValueError(f"search={search!r} is not in {records.url} (it has {known}); run it with cs.search first.")
    cells = _cells(records, search, field, along)
    sizes = sorted({size for size, _, _ in cells})
    if len(sizes) < 2:
        raise ValueError(
            f"search={search!r} has finished runs at {len(sizes)} values of {along}; a rule needs at least 2."
        )
    return fit_rule(cells, field=field, along=along, level=level)


Points = tuple[float, np.ndarray, np.ndarray]  # size of a cell; values (runs,); losses (runs,)


def fit_rule(cells: Sequence[Points], *, field: str, along: str, level: float = 0.95) -> Rule:
    """The rule through the runs of cells: (size, values, losses) each.

    Raises:
        FitError: the losses show no minimum, or there are too few.
    """
    u = [np.log(values) for _, values, _ in cells]
    y = [np.log(losses) for _, _, losses in cells]
    x = [math.log(size) for size, _, _ in cells]
    centres = [float(ui[np.argmin(yi)]) for ui, yi in zip(u, y, strict=True)]
    for _ in range(ROUNDS):
        kept = [_near(ui, centre) for ui, centre in zip(u, centres, strict=True)]
        coefficients, covariance, left = _solve(x, u, y, kept, field)
        curvature, offset, slope = coefficients
        moved = [float((offset + slope * xi) / (2 * curvature)) for xi in x]
        moved = [min(max(m, float(ui.min())), float(ui.max())) for m, ui in zip(moved, u, strict=True)]
        if np.allclose(moved, centres):
            break
        centres = moved
    doubts = [_doubt(field, along, cell) for cell in cells]
    sizes = [size for size, _, _ in cells]
    return Rule(
        field, along, (float(curvature), float(offset), float(slope)), covariance, left, (min(sizes), max(sizes)),
        level, tuple(d for d in doubts if d),
    )  # fmt: skip


def _near(u: np.ndarray, centre: float) -> np.ndarray:
    """Runs within the window, and at least the three nearest."""
    distance = np.abs(u - centre)
    nearest = np.sort(distance)[min(LEAST_RUNS, len(u)) - 1]
    return distance <= max(WINDOW, nearest)


def _solve(
    x: Sequence[float], u: Sequence[np.ndarray], y: Sequence[np.ndarray], kept: Sequence[np.ndarray], field: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """k, 2ka, 2kb by least squares with an intercept per cell, their covariance, the degrees of freedom left."""
    rates = np.concatenate([ui[k] for ui, k in zip(u, kept, strict=True)])
    sizes = np.concatenate([np.full(k.sum(), xi) for xi, k in zip(x, kept, strict=True)])
    losses = np.concatenate([yi[k] for yi, k in zip(y, kept, strict=True)])
    cell = np.concatenate([np.full(k.sum(), i) for i, k in enumerate(kept)])
    design = np.column_stack([rates**2, -rates, -sizes * rates, cell[:, None] == np.arange(len(x))])
    left = len(losses) - design.shape[1]
    if left < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise FitError(
            f"{len(losses)} runs near the best {field} of {len(x)} cells do not determine a rule; sample more in each."
        )
    solution, *_ = np.linalg.lstsq(design, losses, rcond=None)
    if solution[0] <= 0:
        raise FitError(f"the losses show no minimum in {field}; widen the space or sample more in each cell.")
    residual = losses - design @ solution
    covariance = np.linalg.inv(design.T @ design) * (residual @ residual) / left
    return solution[:3], covariance[:3, :3], left


def _doubt(field: str, along: str, cell: Points) -> str | None:
    size, values, losses = cell
    best = values[np.argmin(losses)]
    if min(values) < best < max(values):
        return None
    return (
        f"the best {field} at {along}={size:g} is the {'lowest' if best == min(values) else 'highest'} that was tried"
    )


def _cells(records: Store, search: str, field: str, along: str) -> list[Points]:
    found: dict[Any, list[tuple[float, float]]] = {}
    for run_id in records.studies()[search]["runs"]:
        if records.state(run_id).status != "finished":
            continue
        run, loss = records.spec(run_id), last_valid_loss(records, run_id)
        if loss is not None and run.member is None:
            size, value = (_positive(run, path) for path in (along, field))
            key = (size, run.model, run.data, run.budget, run.seed)
            found.setdefault(key, []).append((value, loss))
    return [(key[0], np.array([v for v, _ in pairs]), np.array([v for _, v in pairs])) for key, pairs in found.items()]


def _positive(run: RunSpec, path: str) -> float:
    try:
        value = read_field(run, path)
    except AttributeError:
        raise ValueError(f"{path!r} is not a field of {run.model.architecture!r} runs of this search.") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{path}={value!r} is not a number above 0, which a rule of powers needs.")
    return float(value)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
