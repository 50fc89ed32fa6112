"""Which backtest was asked for, and what each form and their ensemble did in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chemscale.laws.backtests.assemble import Assembled, assemble
from chemscale.laws.backtests.backtest import HELD_OUT, Backtest, backtest, joined, largest, of_said, scale_along
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.backtests.origins import cuts
from chemscale.laws.doubt.censor import with_noise
from chemscale.laws.doubt.identify import refuse_unfit
from chemscale.laws.errors import FitError
from chemscale.laws.forms import applicable
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.solve import Problem
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
class Ranked:
    """Forms by their backtests, the best first: every score, why some have none, and the ensemble with its own."""

    order: tuple[Form, ...]
    scores: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]
    ensemble: Ensemble
    backtest: Backtest


def rank(runs: Rows, roles: tuple[str, ...], goal: Objective, trial: Trial) -> Ranked:
    """Every form that can take the axes, put to the trial; FitError where none can be."""
    tried, problems = [], []
    forms = applicable(tuple(r for r in roles if r != "flops") if len(roles) == 3 else roles)
    for form in forms:
        try:
            judged, weighed = with_noise(form, goal, runs)
            tried.append((form, tested(form, weighed, judged, trial)))
        except (ValueError, FitError) as error:
            problems.append(f"{form.name}: {error}")
    if not tried:
        raise FitError(f"form='auto' could backtest no form ({'; '.join(problems)}); name a form.")
    tried.sort(key=lambda pair: pair[1].rmsle)
    scores = tuple({"form": f.name, "rmsle": b.rmsle, "mean_abs_rel_error": b.mean_abs_rel_error} for f, b in tried)
    leading = tried[0][0]
    alike = [form for form, _ in tried if form.roles == leading.roles]
    made = assemble(alike, goal, runs, trial.size, None if trial.rolling else trial.cut)
    return Ranked(
        tuple(form for form, _ in tried),
        scores,
        tuple(problems),
        made.ensemble,
        _of_ensemble(made, runs, trial, leading),
    )


def _of_ensemble(made: Assembled, runs: Rows, trial: Trial, leading: Form) -> Backtest:
    """What the ensemble, weighed by earlier origins only, said of the runs of the trial."""
    said = made.said if trial.rolling else made.said[:1]
    x = np.log(runs.stacked(leading.roles))
    parts = [of_said("ensemble", trial.along, runs, x, part) for part in said if len(part.rows)]
    return joined(parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
