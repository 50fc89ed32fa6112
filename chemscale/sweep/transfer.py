"""The best value of a hyperparameter carried along sizes: searched where it is cheap, used where it is dear.

Reads the runs of a search out of a store and fits a `Rule` to them.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.found import last_valid_loss
from chemscale.sweep.rule import LEAST_RUNS, Cell, Rule, fit_rule, near
from chemscale.sweep.search import read_field


def transfer(
    store: Store | str | Path,
    *,
    search: str | Sequence[str],
    field: str = "optim.lr",
    along: str | Sequence[str] = "model.width",
    over: str | None = None,
    level: float = 0.95,
) -> Rule:
    """Fit how the best value of a field moves along sizes, from a search in cells of several sizes.

    All finished runs of the search count, by their validation losses; other fields searched with it count as noise.

    Args:
        search: its name in the store, or those of several that belong together.
        field: a positive number that the searches varied.
        along: positive numbers that differ between their cells, e.g. "data.size" or ("data.size", "optim.batch").
        over: another field that was varied: each value of `field` counts by its least loss over this one, by a parabola
            through at least three runs; e.g. the best batch, each at its own best rate.

    Raises:
        ValueError: the store has no such search, or its cells are of one size only.
        FitError: the losses show no minimum.
    """
    records = store if isinstance(store, Store) else Store(store)
    along = (along,) if isinstance(along, str) else tuple(along)
    cells = _cells(finished(records, search), field, along, over)
    for place, name in enumerate(along):
        number = len({cell.sizes[place] for cell in cells})
        if number < 2:
            raise ValueError(
                f"search={search!r} has finished runs at {number} values of {name}; a rule needs at least 2."
            )
    return fit_rule(cells, field=field, along=along, level=level)


def finished(records: Store, search: str | Sequence[str]) -> list[tuple[RunSpec, float]]:
    """Runs of searches that ended, with their losses; members of a population are no runs of their own.

    Raises:
        ValueError: the store has no such search.
    """
    found = []
    for name in [search] if isinstance(search, str) else search:
        if name not in records.studies():
            known = ", ".join(records.studies()) or "none"
            raise ValueError(f"search={name!r} is not in {records.url} (it has {known}); run it with cs.search first.")
        found += _of(records, name)
    return found


def _of(records: Store, search: str) -> list[tuple[RunSpec, float]]:
    found = []
    for run_id in records.studies()[search]["runs"]:
        if records.state(run_id).status != "finished":
            continue
        run, loss = records.spec(run_id), last_valid_loss(records, run_id)
        if loss is not None and run.member is None:
            found.append((run, loss))
    return found


def _cells(runs: Sequence[tuple[RunSpec, float]], field: str, along: Sequence[str], over: str | None) -> list[Cell]:
    found: dict[Any, list[tuple[float, float, float]]] = defaultdict(list)
    for run, loss in runs:
        sizes, value = tuple(_positive(run, path) for path in along), _positive(run, field)
        key = (sizes, run.model, run.data, run.budget, run.seed)
        found[key].append((value, loss, _positive(run, over) if over else 1.0))
    cells = []
    for (sizes, *_), rows in found.items():
        pairs = [row[:2] for row in rows] if over is None else _least(rows, field, over)
        if pairs:
            cells.append(Cell(sizes, *np.array(pairs).T))
    return cells


def _least(rows: Sequence[tuple[float, float, float]], field: str, over: str) -> list[tuple[float, float]]:
    """The least loss over another field at each value; values where it was not enclosed are left out with a warning."""
    kept = []
    for value in sorted({row[0] for row in rows}):
        losses, others = np.array([row[1:] for row in rows if row[0] == value]).T
        least = _vertex(np.log(others), np.log(losses))
        if least is None:
            warnings.warn(
                f"the least loss over {over} at {field}={value:g} is not enclosed by its {len(losses)} runs; "
                "it is left out of the rule.",
                stacklevel=4,
            )
        else:
            kept.append((value, float(np.exp(least))))
    return kept


def _vertex(u: np.ndarray, y: np.ndarray) -> float | None:
    """The least of a parabola through the runs near the best; None where it opens down or lies outside."""
    if len(np.unique(u)) < LEAST_RUNS:
        return None
    inside = near(u, float(u[np.argmin(y)]))
    bend, slope, level = np.polyfit(u[inside], y[inside], 2)
    if bend <= 0 or not u.min() <= -slope / (2 * bend) <= u.max():
        return None
    return float(level - slope**2 / (4 * bend))


def _positive(run: RunSpec, path: str) -> float:
    try:
        value = read_field(run, path)
    except AttributeError:
        raise ValueError(f"{path!r} is not a field of {run.model.architecture!r} runs of this search.") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{path}={value!r} is not a number above 0, which a rule of powers needs.")
    return float(value)
