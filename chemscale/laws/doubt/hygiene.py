"""What a fit leans on: single runs, the design of the runs, bounds, duplicates, and how its axes were counted.

Influence is measured by refits without a run, not by their linear approximation: a robust fit passes through some of
its runs exactly, and those have no residual to show how much hangs on them. Only candidates are refitted where there
are many runs: those with the largest Cook's distance (Cook 1977) and those with the largest leverage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.doubt.identify import NEAR, ZERO, decades, distinct
from chemscale.laws.doubt.residuals import free, freedom, leverage, measured, noise_scale, residuals
from chemscale.laws.objectives import Array
from chemscale.laws.solver.solve import Problem, refit
from chemscale.laws.tables.table import Columns, Rows, positive

EVERY = 12  # runs up to which each is left out once; beyond, `CANDIDATES` by each measure
CANDIDATES = 6
SHOWN = 5  # most influential runs that are named, and left out together
FAR_OFF = 5.0  # noise widths; Gaussian noise puts one run in two million further off
RAY = 0.2  # decades that D varies by at a given N, under which the two exponents lean on each other
TOGETHER = 0.95  # correlation of log N and log D of the same kind
SAME_COUNT = 0.01  # decades; a second count that keeps to a fixed ratio of the first within this moves no exponent
COUNTED = {  # what may count an axis, by name; a column that holds one of these is tried in the axis' place
    "params": ("param",),
    "data": ("tokens", "molecules", "structures", "atoms"),
}
ANOTHER = ("seen", "hyper")  # repeats counted, and settings: quantities of their own


@dataclass(frozen=True)
class Without:
    """The fit without some runs.

    runs: positions among the fitted runs, from 0; at, loss: of the first of them; residual: of the first, in noise
    widths; exponents: refitted; farthest: loss then predicted at ten times the largest of every axis; moved: names of
    exponents that leave their interval.
    """

    runs: tuple[int, ...]
    at: dict[str, float]
    loss: float
    residual: float
    exponents: dict[str, float]
    farthest: float
    moved: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """One axis of the fitted runs: decades spanned, different values, share of weight and runs in the top decade."""

    column: str
    decades: float
    levels: int
    top_share: float
    top_runs: int


@dataclass(frozen=True)
class Recount:
    """The exponents where an axis is counted by another column of the table; `moved` as in `Without`."""

    role: str
    column: str
    exponents: dict[str, float]
    moved: tuple[str, ...]


@dataclass(frozen=True)
class Hygiene:
    """What a referee asks of a fit.

    condition: of the jacobian, its columns scaled to one length; correlation: the strongest between two axes' logs, and
    `spare` the decades that the second still varies by at a given first; ratio_decades: span of their ratio (None each
    on one axis). exponents and farthest: of the whole fit, as in `Without`. alone: the runs that move the fit most when
    each is left out; together: without all of those. outliers: positions of runs more than `FAR_OFF` noise widths off.
    at_bounds: the solver's parameters there. duplicates: rows equal to an earlier one in axes and loss; repeated:
    points with several runs of different losses. sentences: what matters of all this, in words.
    """

    condition: float
    correlation: float | None
    spare: float | None
    ratio_decades: float | None
    axes: dict[str, Axis]
    exponents: dict[str, float]
    farthest: float
    noise: float
    alone: tuple[Without, ...]
    together: Without | None
    outliers: tuple[int, ...]
    at_bounds: tuple[str, ...]
    duplicates: int
    repeated: int
    recounts: tuple[Recount, ...]
    sentences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Hygiene:
        """The inverse of `to_json`."""
        return cls(**{
            **found, "outliers": tuple(found["outliers"]), "at_bounds": tuple(found["at_bounds"]),
            "axes": {role: Axis(**axis) for role, axis in found["axes"].items()},
            "alone": tuple(map(_without, found["alone"])), "together": _without(found["together"]),
            "recounts": tuple(Recount(**{**r, "moved": tuple(r["moved"])}) for r in found["recounts"]),
            "sentences": tuple(found["sentences"]),
        })  # fmt: skip


def _without(found: Mapping[str, Any] | None) -> Any:
    return found and Without(**{**found, "runs": tuple(found["runs"]), "moved": tuple(found["moved"])})


def inspect(
    problem: Problem,
    theta: Array,
    runs: Rows,
    intervals: Mapping[str, tuple[float, float]],
    identified: Iterable[str],
    counts: Mapping[str, tuple[str, Array]] | None = None,
) -> Hygiene:
    """The hygiene of a fit `theta` (P,) of `runs`.

    intervals: of the published parameters; only exponents that are `identified` can be said to move out of theirs.
    counts: column -> (role, values (n,)), other counts of an axis; see `counts_beside`.
    """
    view = _View(problem, runs, dict(intervals), frozenset(identified))
    exponents, farthest = view.read(theta[None])
    off = _noise_widths(problem, theta)
    alone, together = _influence(view, theta, off, float(farthest[0]))
    first, spare, ratio = design(runs, problem.form.roles)
    found = Hygiene(
        _condition(problem, theta), first, spare, ratio, {role: axis_of(runs, role) for role in problem.form.roles},
        {name: float(values[0]) for name, values in exponents.items()}, float(farthest[0]), noise_scale(problem, theta),
        alone, together, tuple(np.flatnonzero(np.abs(off) > FAR_OFF).tolist()), _at_bounds(problem, theta),
        *repeats(runs, problem.form.roles), tuple(_recounts(view, theta, counts or {})),
    )  # fmt: skip
    return replace(found, sentences=tuple(_sentences(found, runs)))


@dataclass(frozen=True)
class _View:
    """A fit as its reader sees it: exponents under their published names, and the loss far beyond the runs."""

    problem: Problem
    runs: Rows
    intervals: dict[str, tuple[float, float]]
    identified: frozenset[str]

    def read(self, thetas: Array) -> tuple[dict[str, Array], Array]:
        """Exponents, each (B,), and the loss at ten times the largest of every axis, (B,)."""
        problem, form = self.problem, self.problem.form
        published = form.published(thetas, problem.centre, problem.log_scale)
        names = dict.fromkeys(map(form.exponent_of, form.roles))
        far = problem.x.max(0, keepdims=True) + np.log(10)
        loss = np.exp(form.bind(far).log_fit(thetas)[:, 0] + problem.log_scale)
        return {name: published[name] for name in names}, loss

    def moved(self, exponents: Mapping[str, float]) -> tuple[str, ...]:
        """Identified exponents that lie outside their interval."""
        outside = {k for k, v in exponents.items() if not self.intervals[k][0] <= v <= self.intervals[k][1]}
        return tuple(name for name in exponents if name in outside & self.identified)


def _noise_widths(problem: Problem, theta: Array) -> Array:
    """Residuals over the width of the noise, (n,), which few outliers hardly widen.

    The width from the median is too small by chance in small tables, that from the mean (Gaussian, 0.8 of it) is not:
    over clean grids of 16 to 100 runs the larger of the two leaves no run beyond `FAR_OFF`.
    """
    off = np.where(known := measured(problem), residuals(problem, theta), 0.0)  # a bound is no residual
    middle = noise_scale(problem, theta) if problem.objective.robust else 1.4826 * float(np.median(np.abs(off[known])))
    mean = np.sqrt(np.pi / 2) * float(np.abs(off).sum()) / freedom(problem)
    return off / max(middle, 0.8 * mean, 1e-9)


def _influence(view: _View, theta: Array, off: Array, farthest: float) -> tuple[tuple[Without, ...], Without | None]:
    problem = view.problem
    count = len(problem.x)
    if count - 1 <= len(theta):
        return (), None
    lean = leverage(problem, theta)
    cook = off**2 * lean / (1 - lean) ** 2
    picked = np.unique(np.concatenate([np.argsort(-cook)[:CANDIDATES], np.argsort(-lean)[:CANDIDATES]]))
    picked = np.arange(count) if count <= EVERY else picked
    weights = np.repeat(problem.weights[None], len(picked), axis=0)
    weights[np.arange(len(picked)), picked] = 0.0
    exponents, far = view.read(refit(problem, problem.log_loss, weights, theta))
    shift = np.abs(np.log(far / farthest))
    order = np.argsort(-shift, kind="stable")[:SHOWN]
    alone = tuple(_dropped(view, off, (int(picked[i]),), exponents, far, i) for i in order)
    gone = picked[order[: max(1, min(SHOWN, count // 20))]]
    rest = problem.weights.copy()
    rest[gone] = 0.0
    exponents, far = view.read(refit(problem, problem.log_loss, rest[None], theta))
    return alone, _dropped(view, off, tuple(gone.tolist()), exponents, far, 0)


def _dropped(
    view: _View, off: Array, gone: tuple[int, ...], exponents: Mapping[str, Array], far: Array, row: int
) -> Without:
    first, runs = gone[0], view.runs
    found = {name: float(values[row]) for name, values in exponents.items()}
    at = {role: float(runs.axes[role][first]) for role in view.problem.form.roles}
    return Without(
        gone, at, float(runs.loss[first]), float(off[first]), found, float(far[row]), view.moved(found)
    )  # fmt: skip


def _condition(problem: Problem, theta: Array) -> float:
    """Condition number of the jacobian of the free parameters, columns scaled to one length (Belsley 1980)."""
    jacobian = (
        problem.model.derivatives(theta[None]).jacobian[0][:, free(problem, theta)] * np.sqrt(problem.weights)[:, None]
    )
    sizes = np.linalg.svd(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300), compute_uv=False)
    return float(sizes[0] / max(sizes[-1], 1e-16))


def design(runs: Rows, roles: Sequence[str]) -> tuple[float | None, float | None, float | None]:
    """The strongest correlation of two axes' logs, the decades the one spares at a given other, their ratio's span."""
    logs = np.log10(runs.stacked(roles))
    logs = logs[:, np.ptp(logs, axis=0) > 0]
    pairs = [(i, j) for j in range(logs.shape[1]) for i in range(j)]
    found = [(float(np.corrcoef(logs[:, i], logs[:, j])[0, 1]), i, j) for i, j in pairs]
    if not found:
        return None, None, None
    together, i, j = max(found, key=lambda pair: abs(pair[0]))
    spare = float(logs[:, j].std() * np.sqrt(max(1 - together**2, 0.0)))
    return together, spare, float(np.ptp(logs[:, j] - logs[:, i]))


def axis_of(runs: Rows, role: str) -> Axis:
    """How far and how densely an axis was run."""
    values = runs.axes[role]
    top = values >= values.max() / 10
    share = float(runs.weights[top].sum() / runs.weights.sum())
    return Axis(runs.columns[role], decades(values), distinct(values), share, int(top.sum()))


def _at_bounds(problem: Problem, theta: Array) -> tuple[str, ...]:
    form = problem.form
    at = (theta <= problem.lower + ZERO) | (theta >= (1 - NEAR) * form.upper)
    return tuple(name for name, there in zip(form.inner, at, strict=True) if there)


def repeats(runs: Rows, roles: Sequence[str]) -> tuple[int, int]:
    """Rows equal to an earlier one in axes and loss, and points with several different losses."""
    points = runs.stacked(roles)
    whole = np.unique(np.column_stack([points, runs.loss]), axis=0)
    _, losses = np.unique(whole[:, :-1], axis=0, return_counts=True)
    return len(points) - len(whole), int((losses > 1).sum())


def counts_beside(columns: Columns, roles: Mapping[str, str], named: Sequence[str] = ()) -> dict[str, Any]:
    """Other counts of the axes in a table: column -> (role, values (n,)).

    `named` columns count parameters whatever they are called, and must be positive numbers; others are found by name.
    """
    found: dict[str, Any] = {name: ("params", positive(columns, name, "counts")) for name in named}
    for role, column in roles.items():
        for name in columns:
            plain = name.lower()
            if name in roles.values() or name in found or any(word in plain for word in ANOTHER):
                continue
            values = _counts(columns, name) if any(word in plain for word in COUNTED.get(role, ())) else None
            if values is not None and decades(values / positive(columns, column, role)) > SAME_COUNT:
                found[name] = (role, values)
    return found


def _counts(columns: Columns, name: str) -> Array | None:
    """A column as counts, or None where it is none: a missing value, text, a share or a rate."""
    try:
        values = positive(columns, name, name)
    except ValueError:
        return None
    return values if values.min() >= 1 and decades(values) > SAME_COUNT else None


def _recounts(view: _View, theta: Array, counts: Mapping[str, tuple[str, Array]]) -> Iterable[Recount]:
    problem = view.problem
    for column, (role, values) in counts.items():
        if role not in problem.form.roles:
            continue
        other = replace(view.runs, axes={**view.runs.axes, role: values})
        again = Problem.over(problem.form, problem.objective, other)
        read = replace(view, problem=again, runs=other).read(refit(again, again.log_loss, again.weights[None], theta))
        exponents = {name: float(found[0]) for name, found in read[0].items()}
        yield Recount(role, column, exponents, view.moved(exponents))


def _sentences(found: Hygiene, runs: Rows) -> Iterable[str]:
    for one in found.alone:
        if one.moved:
            at = ", ".join(f"{runs.columns[role]}={value:.4g}" for role, value in one.at.items())
            yield f"one run ({at}, loss {one.loss:.4g}) decides: without it {_moves(found, one.exponents, one.moved)}"
    if found.outliers:
        far = "lies" if len(found.outliers) == 1 else "lie"
        yield f"{len(found.outliers)} of {len(runs)} runs {far} more than {FAR_OFF:g} noise widths off the law"
    if found.duplicates:
        yield f"{found.duplicates} rows repeat an earlier one exactly and count as runs of their own"
    if found.spare is not None and leans(found.correlation, found.spare):
        yield (
            f"the axes move together (correlation {found.correlation:.3f}; given one, the other varies by "
            f"{found.spare:.2g} decades), so their exponents lean on each other"
        )
    for recount in found.recounts:
        if recount.moved:
            yield (
                f"counted by {recount.column} instead of {runs.columns[recount.role]}, "
                f"{_moves(found, recount.exponents, recount.moved)}"
            )


def leans(correlation: float | None, spare: float | None) -> bool:
    """Whether two axes move so closely together that their exponents lean on each other (see `design`)."""
    return spare is not None and (spare < RAY or abs(correlation or 0.0) > TOGETHER)


def _moves(found: Hygiene, exponents: Mapping[str, float], moved: Sequence[str]) -> str:
    told = [f"{name} goes from {found.exponents[name]:.3g} to {exponents[name]:.3g}" for name in moved]
    return " and ".join(told) + ", outside the interval"
