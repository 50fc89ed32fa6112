"""Making an ensemble: every form and window, fitted to all runs and at every origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.backtests.backtest import Said
from chemscale.laws.backtests.ensemble import Ensemble, weigh, weighted_median
from chemscale.laws.backtests.member import Member, member
from chemscale.laws.backtests.origins import WINDOWS, Cell, cells, cuts, nearness, window_mask
from chemscale.laws.doubt.censor import with_noise
from chemscale.laws.doubt.identify import decades, refuse_unfit
from chemscale.laws.errors import FitError
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.tables.table import Rows

RECENT = 3.0  # power of the share of the runs fitted with which a test counts
PER_PARAMETER = 2  # runs that a window needs per parameter of the form
NARROWEST = 0.2  # decades of size under which a window is no range to fit
Kind = tuple[Form, float]


@dataclass(frozen=True)
class Assembled:
    """An ensemble and what it would have said at each origin, weighed by earlier origins only."""

    ensemble: Ensemble
    said: tuple[Said, ...]


def assemble(forms: Sequence[Form], goal: Objective, runs: Rows, size: Array, cut: float | None = None) -> Assembled:
    """The ensemble of `forms` over `runs`, tested at rolling origins along `size` (n,), one of them at `cut`.

    Laws of several axes are tested at origins along each axis too, since a point may lie beyond the runs along one
    only, and have no windows, which would leave a corner of their grid. Raises FitError where no form can be tested on
    larger runs than it was fitted to.
    """
    roles = forms[0].roles
    kinds = [(form, window) for form in forms for window in (WINDOWS if len(roles) == 1 else WINDOWS[:1])]
    weighed = {form: with_noise(form, goal, runs) for form in forms}  # where losses are bounds; else as given
    whole = {kind: one for kind in kinds if (one := _fitted(kind, *weighed[kind[0]], size))}
    x, log_loss = np.log(runs.stacked(roles)), np.log(runs.loss)
    origins = _origins(runs, roles, size, 1 + min(len(form.inner) for form in forms), cut)
    tests: list[_Test] = []
    for number, before in enumerate(origins):
        inside, after = np.flatnonzero(before), np.flatnonzero(~before & runs.measured)
        made: dict[Kind, Member] = {}
        for kind in whole:
            judged, known = weighed[kind[0]]
            if fitted := _fitted(kind, judged, known.take(inside), size[inside]):
                made[kind] = fitted
        if made and len(after):
            tests += [_Test(made, cell, x, log_loss) for cell in cells(number, x, inside, after)]
    kept = [kind for kind in whole if any(kind in test.said for test in tests)]
    if not kept:
        raise FitError("form='auto' could test no form on larger runs than it was fitted to; name a form.")
    errors = np.array([[test.error(kind) for test in tests] for kind in kept])
    reach = np.stack([test.cell.reach for test in tests])
    counts = np.array([len(t.cell.rows) ** 0.5 * (len(t.cell.fitted) / len(runs)) ** RECENT for t in tests])
    own = [_own(test, tests, kept, errors, reach, counts) for test in tests]
    squared = [((central - test.measured) ** 2).mean() for test, (central, _) in zip(tests, own, strict=True)]
    ensemble = Ensemble(
        tuple(whole[kind] for kind in kept), reach, counts, errors, np.array(squared),
        np.array([variance.mean() for _, variance in own]), x.min(0), x.max(0), roles,
    )  # fmt: skip
    return Assembled(ensemble, tuple(_said(i, before, tests, own) for i, before in enumerate(origins)))


def _origins(runs: Rows, roles: tuple[str, ...], size: Array, least: int, cut: float | None) -> list[np.ndarray]:
    """Which runs each origin fits, (n,) of bool, without repeats; the one of `cut` is the first."""
    ways = [size] if len(roles) == 1 else [size, *(runs.axes[role] for role in roles)]
    found = [size <= cut] if cut else []
    found += [way <= edge for way in ways for edge in cuts(way, least)]
    return list({mask.tobytes(): mask for mask in found}.values())


def _said(origin: int, before: np.ndarray, tests: Sequence[_Test], own: Sequence[tuple[Array, Array]]) -> Said:
    """The cells of one origin put together."""
    mine = [i for i, test in enumerate(tests) if test.cell.origin == origin]
    empty = np.zeros(0)
    rows = np.concatenate([tests[i].cell.rows for i in mine] or [empty.astype(int)])
    central = np.concatenate([own[i][0] for i in mine] or [empty])
    return Said(np.flatnonzero(before), rows, central, np.concatenate([own[i][1] for i in mine] or [empty]))


class _Test:
    """What each member said of one cell of rows."""

    def __init__(self, made: Mapping[Kind, Member], cell: Cell, x: Array, log_loss: Array) -> None:
        self.cell, self.measured = cell, log_loss[cell.rows]
        clouds = {kind: m.clouds(x[cell.rows]) for kind, m in made.items()}
        self.said = {kind: m.shares @ clouds[kind] for kind, m in made.items()}
        self.spread = {kind: m.noise**2 + m.shares @ (clouds[kind] - self.said[kind]) ** 2 for kind, m in made.items()}

    def error(self, kind: Kind) -> float:
        """Mean squared log error, NaN where the member could not be fitted."""
        if kind not in self.said:
            return float("nan")
        error = float(((self.said[kind] - self.measured) ** 2).mean())
        return error if np.isfinite(error) else float("nan")


def _own(
    test: _Test, tests: Sequence[_Test], kinds: Sequence[Kind], errors: Array, reach: Array, counts: Array
) -> tuple[Array, Array]:
    """Log losses (rows,) by the ensemble as it stood at the test's origin, and the variance it foretold.

    Its weights come from tests whose runs, fitted and tested, the origin fitted: none of those that it foretells.
    """
    usable = [i for i, kind in enumerate(kinds) if np.isfinite(test.error(kind))]
    known = [i for i, other in enumerate(tests) if _within(other.cell, test.cell.fitted)]
    if known:
        near = nearness(test.cell.reach[None], reach[known]) * counts[known]
        weights = weigh(errors[np.ix_(usable, known)], near)[0]
    else:
        weights = np.full(len(usable), 1 / len(usable))
    said = np.stack([test.said[kinds[i]] for i in usable])
    central = weighted_median(said, np.repeat(weights[:, None], said.shape[1], axis=1))
    between = weights @ (said - central) ** 2
    within = weights @ np.stack([test.spread[kinds[i]] for i in usable])
    return central, between + within


def _within(cell: Cell, fitted: np.ndarray) -> bool:
    """Whether all that a test rests on lies among the `fitted` runs (indices)."""
    return bool(np.isin(cell.rows, fitted).all() and np.isin(cell.fitted, fitted).all())


def _fitted(kind: Kind, goal: Objective, runs: Rows, size: Array) -> Member | None:
    """The member, or None where its window holds too little for its form."""
    form, window = kind
    mask = window_mask(size, window)
    if window < 1 and (mask.sum() < PER_PARAMETER * len(form.inner) + 2 or decades(size[mask]) < NARROWEST):
        return None
    try:
        inside = runs.take(mask)
        refuse_unfit(form, inside.take(inside.measured))
        return member(form, goal, inside, size[mask], window)
    except (ValueError, FitError):
        return None
