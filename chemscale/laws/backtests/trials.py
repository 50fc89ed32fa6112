"""Which backtest was asked for, and what each form and their ensemble did in it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chemscale.laws.backtests.assemble import Rehearsal, rehearse
from chemscale.laws.backtests.backtest import HELD_OUT, Backtest, backtest, joined, largest, of_said, scale_along
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.backtests.origins import cuts
from chemscale.laws.backtests.pool import Assembled, assemble
from chemscale.laws.doubt.identify import decades, refuse_unfit
from chemscale.laws.errors import FitError
from chemscale.laws.forms import applicable
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.table import Rows

ALLOWED = "'largest', 'largest:FRACTION' with 0 < FRACTION < 1, 'beyond:FACTOR' with FACTOR > 1, or 'rolling'"


@dataclass(frozen=True)
class Trial:
    """A backtest to be made: along which size (n,), and how: one cut, or `rolling`."""

    along: str
    size: Array
    rolling: bool
    cut: float  # the largest size that is fitted, for a single cut

    @property
    def held(self) -> np.ndarray:
        """Which runs a single cut holds out, (n,) of bool."""
        return self.size > self.cut


def ask(runs: Rows, hold_out: str | float | None, along: str | None) -> Trial:
    """The trial that `hold_out` and `along` name, by default the largest fifth; ValueError if they name none."""
    name, size = scale_along(runs, along)
    kind, _, value = str("largest" if hold_out is None else hold_out).partition(":")
    if kind == "rolling" and not value:
        return Trial(name, size, True, float(size.max()))
    if kind == "beyond" and (factor := _number(value)) is not None and factor > 1:
        cut = float(size.max() / factor * (1 + 1e-9))
    else:
        fraction = _number(value or str(HELD_OUT)) if kind == "largest" else _number(kind)
        if fraction is None or not 0 < fraction < 1:
            raise ValueError(f"hold_out={hold_out!r} must be {ALLOWED}.")
        cut = float(size[largest(size, fraction)].min() * (1 - 2e-9))
    if (size > cut).all() and hold_out is None:
        raise ValueError(f"{len(runs)} runs along {name} are too few to hold any out for a backtest; add runs.")
    if (size > cut).all():
        raise ValueError(f"hold_out={hold_out!r} along {name} leaves no run to fit; hold out a smaller share.")
    return Trial(name, size, False, cut)


def tested(form: Form, runs: Rows, goal: Objective, trial: Trial) -> Backtest:
    """One form put to the trial; raises where what is left cannot be fitted."""
    problem_of = partial(Problem.over, form, goal)
    if not trial.rolling:
        refuse_unfit(form, runs.take(~trial.held))
        return backtest(problem_of, runs, trial.held, trial.along)
    parts = []
    for cut in cuts(trial.size, len(form.inner) + 1):
        try:
            refuse_unfit(form, runs.take(trial.size <= cut))
            parts.append(backtest(problem_of, runs, trial.size > cut, trial.along))
        except (ValueError, FitError):
            continue
    if not parts:
        raise ValueError(f"form={form.name!r} leaves no origin along {trial.along} with enough runs below it.")
    return joined(parts)


def usual(
    form: Form, runs: Rows, goal: Objective, asked: bool, trial: Trial
) -> tuple[Backtest | None, tuple[str, ...]]:
    """The backtest of one form; one that was not `asked` for is left out with a note where it cannot be made."""
    if asked:
        return tested(form, runs, goal, trial), ()
    try:
        return tested(form, runs, goal, trial), ()
    except (ValueError, FitError) as error:
        return None, (f"no backtest, so no interval is widened for a wrong form: {error}",)


@dataclass(frozen=True)
class Tried:
    """The forms that a table was put to, the leading one first, every score, why some have none, and what was said."""

    runs: Rows
    trial: Trial
    order: tuple[Form, ...]
    scores: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]
    rehearsal: Rehearsal


@dataclass(frozen=True)
class Ranked:
    """The forms, the leading one first: every score, why some have none, and the ensemble with its own backtest."""

    order: tuple[Form, ...]
    scores: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]
    ensemble: Ensemble
    backtest: Backtest


def attempt(runs: Rows, roles: tuple[str, ...], goal: Objective, trial: Trial) -> Tried:
    """Every form that can take the axes, put to the trial; FitError where none can be.

    Forms that are nearly another's have no vote beside it: a floor that is noise in the labels is tried only where that
    noise was measured, being one more power over a floor, and powers of both axes only without Chinchilla's law, which
    is theirs where its floor is zero.
    """
    taken = applicable(tuple(r for r in roles if r != "flops") if len(roles) == 3 else roles)
    several = any(form.name == "chinchilla" for form in taken)
    forms = [
        form for form in taken
        if (not form.floor_is_noise or runs.noise_floor > 0) and not (several and form.name == "power")
    ]  # fmt: skip
    scored: list[tuple[Form, Array, Rehearsal]] = []
    for axes in dict.fromkeys(form.roles for form in forms):
        alike = [form for form in forms if form.roles == axes]
        if made := rehearse(alike, goal, runs, trial.size, None if trial.rolling else trial.cut):
            scored += [(form, errors, made) for form in alike if len(errors := _errors(form, made, trial))]
    if not scored:
        raise _nothing_to_test(forms, runs, trial)
    scored.sort(key=lambda found: (found[1] ** 2).mean())
    leading = _smallest_as_good(scored)
    order = (leading[0], *(form for form, _, _ in scored if form != leading[0]))
    skipped = tuple(
        f"{form.name} has no backtest: too few runs lie below those held out along {trial.along}"
        for form in forms if form not in order
    )  # fmt: skip
    return Tried(runs, trial, order, tuple(_score(form, errors) for form, errors, _ in scored), skipped, leading[2])


def rank(tried: Mapping[Hashable, Tried]) -> dict[Hashable, Ranked]:
    """The ensembles of all groups of a table, which tell one another, with their own backtests."""
    made = assemble({group: one.rehearsal for group, one in tried.items()})
    return {
        group: Ranked(one.order, one.scores, one.skipped, made[group].ensemble, _of_ensemble(made[group], one))
        for group, one in tried.items()
    }


def _errors(form: Form, made: Rehearsal, trial: Trial) -> Array:
    """Log errors of the form, fitted to all runs below, on those of the trial; none where it was not fitted there."""
    mine = [i for i, member in enumerate(made.members) if member.name == form.name]
    origins = range(len(made.origins) if trial.rolling else 1)
    errors = [test.errors[i] for test in made.tests for i in mine if test.cell.origin in origins]
    return np.concatenate([error for error in errors if np.isfinite(error).all()] or [np.zeros(0)])


def _score(form: Form, errors: Array) -> dict[str, Any]:
    relative = float(np.abs(np.expm1(errors)).mean())
    return {"form": form.name, "rmsle": float(np.sqrt((errors**2).mean())), "mean_abs_rel_error": relative}


def _smallest_as_good(scored: Sequence[tuple[Form, Array, Rehearsal]]) -> tuple[Form, Array, Rehearsal]:
    """The form of fewest parameters whose squared error is not above the best's by more than the noise of one run."""
    best, errors, made = scored[0]
    noise = next(member.noise for member in made.members if member.name == best.name)
    most = (errors**2).mean() + noise**2
    return min((found for found in scored if (found[1] ** 2).mean() <= most), key=lambda found: len(found[0].inner))


def _nothing_to_test(forms: Sequence[Form], runs: Rows, trial: Trial) -> Exception:
    """What keeps every form from being tested: something in all runs, or too few of them below the largest."""
    least = min(forms, key=lambda form: len(form.inner))
    needed = len(least.inner) + 1
    if len(runs) > needed:
        try:
            refuse_unfit(least, runs)
        except (ValueError, FitError) as error:
            return error
    below = trial.size if trial.rolling else trial.size[~trial.held]
    return FitError(
        f"form='auto' tests laws on larger runs than they were fitted to, and needs at least {needed} runs at "
        f"{needed - 1} different points below those held out; the table has {len(runs)} runs over "
        f"{decades(trial.size):.1f} decades of {trial.along}, {len(below)} of them below: add runs, or name a form "
        f"such as form={least.name!r}."
    )


def _of_ensemble(made: Assembled, tried: Tried) -> Backtest:
    """What the ensemble, weighed by earlier origins only, said of the runs of the trial."""
    said = made.said if tried.trial.rolling else made.said[:1]
    parts = [
        of_said("ensemble", tried.trial.along, tried.runs, tried.rehearsal.x, part) for part in said if len(part.rows)
    ]
    return joined(parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
