"""Rehearsing an ensemble: every form and window, fitted to all runs and at every origin, and what it said there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.backtests.member import Member, members
from chemscale.laws.backtests.origins import WINDOWS, Cell, cells, cuts, window_mask
from chemscale.laws.doubt.censor import with_noise
from chemscale.laws.doubt.identify import decades, refuse_unfit
from chemscale.laws.errors import FitError
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.tables.table import Rows

PER_PARAMETER = 2  # runs that a window needs per parameter of the form
NARROWEST = 0.2  # decades of size under which a window is no range to fit
WHOLE = -1  # the origin that holds nothing out


@dataclass(frozen=True)
class Told:
    """What each member said of one cell of runs.

    errors, spread (members, rows): said minus measured log loss, and the variance foretold for it; NaN where a member
    could not be fitted
    """

    cell: Cell
    errors: Array
    spread: Array

    @property
    def squared(self) -> Array:
        """Mean squared log error (members,)."""
        return (self.errors**2).mean(1)

    @property
    def count(self) -> float:
        """How much the test tells: rows side by side err together, and a fit to few runs is unlike the last one."""
        return float(len(self.cell.rows) ** 0.5 * len(self.cell.fitted))


@dataclass(frozen=True)
class Rehearsal:
    """Members fitted to all runs, and the tests of their like at each origin.

    x (n, axes), log_loss (n,): natural logs of the runs; origins: which runs each fits, (n,) of bool
    """

    members: tuple[Member, ...]
    tests: tuple[Told, ...]
    origins: tuple[np.ndarray, ...]
    x: Array
    log_loss: Array


def rehearse(
    forms: Sequence[Form], goal: Objective, runs: Rows, size: Array, cut: float | None = None
) -> Rehearsal | None:
    """Every one of `forms`, of the same axes, at rolling origins along `size` (n,), one of them at `cut`.

    Laws of several axes are tested at origins along each axis too, since a point may lie beyond the runs along one
    only, and have no windows, which would leave a corner of their grid. None where no form can be tested on larger
    runs than it was fitted to.
    """
    roles = forms[0].roles
    x, log_loss = np.log(runs.stacked(roles)), np.log(runs.loss)
    origins = _origins(runs, roles, size, 1 + min(len(form.inner) for form in forms), cut)
    fits = {form.name: _fits(form, goal, runs, size, origins) for form in forms}
    kinds = [
        (name, window)
        for name, made in fits.items()
        for origin, window in made
        if origin == WHOLE and any(at != WHOLE and share == window for at, share in made)
    ]
    tests: list[Told] = []
    for number, before in enumerate(origins):
        after = np.flatnonzero(~before & runs.measured)
        found = [fits[name].get((number, window)) for name, window in kinds]
        if len(after) and any(found):
            tests += _told(found, cells(number, x, np.flatnonzero(before), after), x, log_loss)
    last = [fits[name][WHOLE, window] for name, window in kinds]
    return Rehearsal(tuple(last), tuple(tests), tuple(origins), x, log_loss) if tests else None


def _origins(runs: Rows, roles: tuple[str, ...], size: Array, least: int, cut: float | None) -> list[np.ndarray]:
    """Which runs each origin fits, (n,) of bool, without repeats; the one of `cut` is the first."""
    ways = [size] if len(roles) == 1 else [size, *(runs.axes[role] for role in roles)]
    found = [size <= cut] if cut else []
    found += [way <= edge for way in ways for edge in cuts(way, least)]
    return list({mask.tobytes(): mask for mask in found}.values())


def _fits(
    form: Form, goal: Objective, runs: Rows, size: Array, origins: Sequence[np.ndarray]
) -> dict[tuple[int, float], Member]:
    """(origin, window) -> the form fitted there, where its runs are enough for it."""
    try:
        goal, runs = with_noise(form, goal, runs)  # where losses are bounds; else as given
    except (ValueError, FitError):
        return {}
    sets: dict[tuple[int, float], np.ndarray] = {}
    for number, before in [(WHOLE, np.ones(len(runs), bool)), *enumerate(origins)]:
        for window in WINDOWS if len(form.roles) == 1 else WINDOWS[:1]:
            mask = before.copy()
            mask[before] = window_mask(size[before], window)
            if _enough(form, runs, size, mask, window):
                sets[number, window] = mask
    if not sets:
        return {}
    found = members(form, goal, runs, size, [window for _, window in sets], np.stack(list(sets.values())))
    return {key: made for key, made in zip(sets, found, strict=True) if made}


def _enough(form: Form, runs: Rows, size: Array, mask: np.ndarray, window: float) -> bool:
    if window < 1 and (mask.sum() < PER_PARAMETER * len(form.inner) + 2 or decades(size[mask]) < NARROWEST):
        return False
    try:
        refuse_unfit(form, runs.take(mask & runs.measured))
    except (ValueError, FitError):
        return False
    return True


def _told(found: Sequence[Member | None], tested: Sequence[Cell], x: Array, log_loss: Array) -> list[Told]:
    """The tests of the members `found` at one origin, cell by cell; those that no member could take are left out."""
    rows = np.concatenate([cell.rows for cell in tested])
    errors, spread = np.full((2, len(found), len(rows)), np.nan)
    for i, made in enumerate(found):
        if made:
            clouds = made.clouds(x[rows])
            said = made.shares @ clouds
            foretold = made.noise**2 + made.shares @ (clouds - said) ** 2
            if np.isfinite(said).all() and np.isfinite(foretold).all():
                errors[i], spread[i] = said - log_loss[rows], foretold
    if np.isnan(errors).all():
        return []
    ends = np.cumsum([len(cell.rows) for cell in tested])[:-1]
    parts = zip(tested, np.split(errors, ends, axis=1), np.split(spread, ends, axis=1), strict=True)
    return [Told(cell, error, variance) for cell, error, variance in parts]
