"""From rehearsals to ensembles: the weights of the members, and how far off an ensemble of theirs was before.

Tables of one kind, such as the curves of several models on one task, share which members extrapolate well, and each
has few origins. The groups of one fit therefore tell one another: a member's relative error, and the ensemble's
squared error over the variance it foretold, by distance, are each the mean of the group's own and of the others'. A
group on its own has no errors but its own, and takes one for the others' ratio, as if what was foretold was right.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chemscale.laws.backtests.assemble import Rehearsal, Told
from chemscale.laws.backtests.backtest import Said
from chemscale.laws.backtests.ensemble import Ensemble, held_mean, relative, weigh
from chemscale.laws.backtests.origins import bands, length
from chemscale.laws.objectives import Array

BANDS = 12  # of distance, to a factor 10^85


@dataclass(frozen=True)
class Assembled:
    """An ensemble and what it would have said at each origin, weighed by earlier origins only."""

    ensemble: Ensemble
    said: tuple[Said, ...]


def assemble(rehearsals: Mapping[Hashable, Rehearsal]) -> dict[Hashable, Assembled]:
    """The ensemble of each group's rehearsal; the same whatever the order of the groups."""
    own = {group: _errors(made, made.tests) for group, made in rehearsals.items()}
    named = {
        group: dict(zip([m.name for m in made.members], own[group].tolist(), strict=True))
        for group, made in rehearsals.items()
    }
    pooled = _Others([(name, error) for errors in named.values() for name, error in errors.items()])
    theirs = {
        group: np.array([pooled.mean(m.name, named[group][m.name]) for m in made.members])
        for group, made in rehearsals.items()
    }
    before = {group: _before(made, theirs[group]) for group, made in rehearsals.items()}
    ratios = {group: _ratios(made.tests, before[group]) for group, made in rehearsals.items()}
    spread = _Others([(band, ratio) for found in ratios.values() for band, ratio in found.items()])
    out: dict[Hashable, Assembled] = {}
    for group, made in rehearsals.items():
        others = np.array([spread.mean(band, ratios[group].get(band, np.nan)) for band in range(BANDS)])
        others = np.where(np.isfinite(others), others, 1.0)
        ratio = 0.5 * (np.array([ratios[group].get(band, other) for band, other in enumerate(others)]) + others)
        errors = _joined(own[group], theirs[group])
        said = tuple(_said(made, number, before[group]) for number in range(len(made.origins)))
        out[group] = Assembled(_ensemble(made, errors, ratio), said)
    return out


def _ensemble(made: Rehearsal, errors: Array, ratios: Array) -> Ensemble:
    squared, counts = np.stack([t.squared for t in made.tests], 1), np.array([t.count for t in made.tests])
    known = np.isfinite(squared)
    with np.errstate(invalid="ignore"):
        rmsle = np.sqrt((np.where(known, squared, 0.0) @ counts) / (known @ counts))
    origins, reach = {test.cell.origin for test in made.tests}, np.stack([test.cell.reach for test in made.tests])
    axes = made.x.shape[1]
    return Ensemble(
        made.members, weigh(errors, axes), weigh(errors, 1), rmsle, ratios, len(origins),
        float(length(reach).max()), made.x.min(0), made.x.max(0), made.members[0].roles,
    )  # fmt: skip


def _errors(made: Rehearsal, tests: Sequence[Told]) -> Array:
    """Relative squared error of each member over some of the tests, (members,), NaN where there is none."""
    if not tests:
        return np.full(len(made.members), np.nan)
    return relative(np.stack([t.squared for t in tests], 1), np.array([t.count for t in tests]))


def _joined(own: Array, theirs: Array) -> Array:
    """A group's errors and the others', as much of one as of the other; whichever is known where one is not."""
    theirs = np.where(np.isfinite(theirs), theirs, own)
    return 0.5 * (np.where(np.isfinite(own), own, theirs) + theirs)


def _before(made: Rehearsal, theirs: Array) -> list[tuple[Array, Array]]:
    """For each test the errors (rows,) of the ensemble as it stood at the test's origin, and the variance it foretold.

    Its weights come from tests whose runs, fitted and tested, the origin fitted: none of those that it foretells.
    """
    cells, stood = [test.cell for test in made.tests], {}
    rests_on = np.zeros((len(cells), len(made.x)))
    for i, cell in enumerate(cells):
        rests_on[i, cell.rows] = rests_on[i, cell.fitted] = 1.0
    for cell in {cell.origin: cell for cell in cells}.values():
        known = [made.tests[i] for i in within(rests_on, cell.fitted)]
        stood[cell.origin] = _joined(_errors(made, known), theirs)
    return [_stood(test, stood[test.cell.origin], made.x.shape[1]) for test in made.tests]


def within(rests_on: Array, fitted: np.ndarray) -> np.ndarray:
    """Which tests rest on `fitted` runs (indices) alone, (k,); rests_on (tests, n) is 1 where a test uses a run."""
    later = np.ones(rests_on.shape[1])
    later[fitted] = 0.0
    return np.flatnonzero(rests_on @ later == 0)


def _stood(test: Told, errors: Array, axes: int) -> tuple[Array, Array]:
    """What members with these relative errors, together, said wrong of a test, and the variance they foretold."""
    usable = np.isfinite(test.errors).all(1)
    doubt = weigh(errors[usable], 1)
    said, spread = test.errors[usable], test.spread[usable]
    central = held_mean(said, weigh(errors[usable], axes))
    return central, doubt @ (said - central) ** 2 + doubt @ spread


def _ratios(tests: Sequence[Told], before: Sequence[tuple[Array, Array]]) -> dict[int, float]:
    """Mean over the tests of each band of distance of squared error over foretold variance."""
    ratios = np.array([(error**2).mean() / variance.mean() for error, variance in before])
    band = bands(length(np.stack([test.cell.reach for test in tests])))
    counts = np.array([test.count for test in tests])
    return {int(b): float(np.average(ratios[band == b], weights=counts[band == b])) for b in np.unique(band)}


def _said(made: Rehearsal, origin: int, before: Sequence[tuple[Array, Array]]) -> Said:
    """The cells of one origin put together."""
    mine = [i for i, test in enumerate(made.tests) if test.cell.origin == origin]
    fitted = np.flatnonzero(made.origins[origin])
    if not mine:
        return Said(fitted, np.zeros(0, int), np.zeros(0), np.zeros(0))
    rows = np.concatenate([made.tests[i].cell.rows for i in mine])
    central = np.concatenate([before[i][0] for i in mine]) + made.log_loss[rows]
    return Said(fitted, rows, central, np.concatenate([before[i][1] for i in mine]))


class _Others:
    """Means over all groups but one of what they say of a name; the same whatever the order of the groups."""

    def __init__(self, said: Sequence[tuple[Hashable, float]]) -> None:
        found: dict[Hashable, list[float]] = {}
        for name, value in said:
            if np.isfinite(value):
                found.setdefault(name, []).append(value)
        self._total = {name: (math.fsum(values), len(values)) for name, values in found.items()}

    def mean(self, name: Hashable, own: float) -> float:
        """Of what the others say of `name`, where the group itself says `own` (NaN: nothing); NaN if none does."""
        total, count = self._total.get(name, (0.0, 0))
        if np.isfinite(own):
            total, count = max(total - own, 0.0), count - 1
        return total / count if count else float("nan")
