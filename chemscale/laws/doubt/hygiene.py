"""What a referee asks of a fit: what it leans on, the design of the runs, bounds, duplicates, how axes were counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from chemscale.laws.doubt.counts import Recount, recounts
from chemscale.laws.doubt.identify import NEAR, ZERO
from chemscale.laws.doubt.influence import FAR_OFF, View, Without, influence, noise_widths
from chemscale.laws.doubt.layout import Axis, axis_of, design, leans, repeats, rising
from chemscale.laws.doubt.residuals import free, noise_scale
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.table import Rows


@dataclass(frozen=True)
class Hygiene:
    """What a referee asks of a fit.

    condition: of the jacobian, its columns scaled to one length; correlation: the strongest between two axes' logs,
    and `spare` the decades that the second still varies by at a given first; ratio_decades: span of their ratio
    (None each on one axis). exponents and farthest: of the whole fit, as in `Without`. alone: the clusters (single
    runs where none are shared) that move the fit most when each is left out; together: without all of those.
    outliers: positions of runs more than `FAR_OFF` noise widths off. at_bounds: the solver's parameters there.
    duplicates: rows equal to an earlier one in axes and loss; repeated: points with several runs of different
    losses. sentences: what matters of all this, in words.
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
    view = View(problem, runs, dict(intervals), frozenset(identified))
    exponents, farthest = view.read(theta[None])
    off = noise_widths(problem, theta)
    alone, together = influence(view, theta, off, float(farthest[0]))
    first, spare, ratio = design(runs, problem.form.roles)
    found = Hygiene(
        _condition(problem, theta), first, spare, ratio, {role: axis_of(runs, role) for role in problem.form.roles},
        {name: float(values[0]) for name, values in exponents.items()}, float(farthest[0]), noise_scale(problem, theta),
        alone, together, tuple(np.flatnonzero(np.abs(off) > FAR_OFF).tolist()), _at_bounds(problem, theta),
        *repeats(runs, problem.form.roles), tuple(recounts(view, theta, counts or {})),
    )  # fmt: skip
    return replace(found, sentences=tuple(_sentences(found, runs)))


def _condition(problem: Problem, theta: Array) -> float:
    """Condition number of the jacobian of the free parameters, columns scaled to one length (Belsley 1980)."""
    jacobian = (
        problem.model.derivatives(theta[None]).jacobian[0][:, free(problem, theta)] * np.sqrt(problem.weights)[:, None]
    )
    sizes = np.linalg.svd(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300), compute_uv=False)
    return float(sizes[0] / max(sizes[-1], 1e-16))


def _at_bounds(problem: Problem, theta: Array) -> tuple[str, ...]:
    form = problem.form
    at = (theta <= problem.lower + ZERO) | (theta >= (1 - NEAR) * form.upper)
    return tuple(name for name, there in zip(form.inner, at, strict=True) if there)


def _sentences(found: Hygiene, runs: Rows) -> Iterable[str]:
    for role, factor in rising(runs, tuple(found.axes)).items():
        yield (
            f"the loss rises with {runs.columns[role]} (by {factor - 1:.0%} a decade on average), which a law that "
            f"falls cannot follow; check the columns, and whether large runs were trained to their end"
        )
    for one in found.alone:
        if one.moved:
            at = ", ".join(f"{runs.columns[role]}={value:.4g}" for role, value in one.at.items())
            many = f"one run ({at}, loss {one.loss:.4g}) decides: without it"
            if len(one.runs) > 1:
                many = f"one cluster of {len(one.runs)} runs (such as {at}, loss {one.loss:.4g}) decides: without it"
            yield f"{many} {_moves(found, one.exponents, one.moved)}"
    if found.outliers:
        far = "lies" if len(found.outliers) == 1 else "lie"
        yield f"{len(found.outliers)} of {len(runs)} runs {far} more than {FAR_OFF:g} noise widths off the law"
    if found.duplicates:
        yield (
            f"{found.duplicates} rows have the axes and the loss of an earlier one and count as replicates; "
            "drop them where they are copies"
        )
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


def _moves(found: Hygiene, exponents: Mapping[str, float], moved: Sequence[str]) -> str:
    told = [f"{name} goes from {found.exponents[name]:.3g} to {exponents[name]:.3g}" for name in moved]
    return " and ".join(told) + ", outside the interval"
