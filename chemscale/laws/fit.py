"""The public door: a table in, a law out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict, Unpack, overload

from chemscale.laws.backtests.trials import Ranked, ask, rank, usual
from chemscale.laws.doubt.assess import assess
from chemscale.laws.doubt.censor import with_noise
from chemscale.laws.doubt.hygiene import inspect
from chemscale.laws.doubt.identify import (
    cut_short,
    near_noise,
    refuse_flat,
    refuse_hopeless,
    refuse_unfit,
    short_axes,
    unidentified,
)
from chemscale.laws.doubt.residuals import residuals
from chemscale.laws.doubt.shared import as_told
from chemscale.laws.errors import FitError, PartialFitError, naming
from chemscale.laws.forms.form import Form, axes_named
from chemscale.laws.law import Law, named_columns
from chemscale.laws.objectives import Objective
from chemscale.laws.prediction import Solution
from chemscale.laws.request import Request
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import Found, search
from chemscale.laws.tables.columns import Columns, split
from chemscale.laws.tables.cost import measure
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.serial import as_curve
from chemscale.laws.tables.table import Rows

Told = Callable[[int, int], None]  # steps done, steps in all


class Options(TypedDict, total=False):
    """Keywords of `fit` that do not change what it returns."""

    form: str | None
    params: str | None
    data: str | None
    flops: str | None
    seen: str | None
    epochs: str | None
    where: str | None
    objective: str
    delta: float
    weights: str | None
    censored: str | None
    cluster: str | None
    noise_floor: float
    bootstrap: int
    interval: str
    level: float
    hold_out: str | float | None
    along: str | None
    seed: int
    counts: Sequence[str]
    progress: Told


@overload
def fit(table: Any, *, loss: str, by: None = None, **options: Unpack[Options]) -> Law: ...
@overload
def fit(table: Any, *, loss: str, by: str, **options: Unpack[Options]) -> dict[Any, Law]: ...
def fit(
    table: Any,
    *,
    form: str | None = None,
    params: str | None = None,
    data: str | None = None,
    flops: str | None = None,
    seen: str | None = None,
    epochs: str | None = None,
    loss: str,
    where: str | None = None,
    by: str | None = None,
    objective: str = "huber",
    delta: float = 1e-3,
    weights: str | None = None,
    censored: str | None = None,
    cluster: str | None = None,
    noise_floor: float = 0.0,
    bootstrap: int = 1000,
    interval: str = "auto",
    level: float = 0.95,
    hold_out: str | float | None = None,
    along: str | None = None,
    seed: int = 0,
    counts: Sequence[str] = (),
    progress: Told = lambda done, total: None,
) -> Law | dict[Any, Law]:
    """Fit a scaling law to any table of runs; returns a `Law`, or with `by` a dict from each value to its law.

    table: pyarrow, pandas or polars table, mapping of columns, or sequence of mappings; one row per finished run
    params, data, flops, loss: column names; of a runs table the axes that the form needs are found by name,
        data by the loss: unique molecules for text, structures for forces and energies
    seen: column of the units seen, repeats counted, for form="repeated"; `epochs` makes it (data x epochs), or the
        unique data (seen / epochs)
    weights: a column that multiplies each run's penalty, "replicates" or "large[:SHARE]", see `weighting.weighted`; it
        is read as precision (noise of weight w is s / sqrt(w), see `doubt.residuals`), not as emphasis
    cluster: column of groups whose errors move together; without it `cluster`, or the rows of one `run_id`
    noise_floor: the part of the loss, in its unit, that noise in the test labels makes; a lower bound on the floor,
        since what no model can learn adds to it; runs within a factor two of it are counted in `warnings`
    form: one of `FORMS`; by default chinchilla over params and data, repeated where seen is named, over one axis
        power_floor, or power where it has fewer than six values. "auto" takes every form that can take the axes, ranked
        by its backtest; the law is the leading one's, and predictions are those of the backtest-weighted ensemble of
        all, see `ensemble`; with `by` the groups tell one another which members foretell well, so that a group's law
        depends on the others, not on their order
    censored: a boolean column; the losses it marks are upper bounds of the final ones, of replicates or tuned runs
        that a budget stopped: see `chemscale.laws.doubt.censor`
    objective, delta: see `Objective`
    bootstrap: refits for the draws behind predictions, of large tables steps (see `laws.doubt.draws`); 0 takes the
        normal approximation instead
    interval: the method of the parameters' intervals at `level`, one of `INTERVALS` (see `laws.doubt.intervals`)
    hold_out: what the backtest leaves out from the top of `along` (params, data or flops): "largest", "largest:0.2" or
        0.2, a share of the runs; "beyond:10", all that lie within that factor of the largest, so that what is asked ten
        times further on is tested ten times further on; "rolling", every larger run at several origins; None tries a
        fifth along flops where enough runs remain
    counts: columns that count parameters otherwise, beside those found by name: the law's hygiene says how exponents
        move with the count
    progress: told after every group how many steps are done, of how many; with form="auto" a group has two

    Raises ValueError for the caller's mistakes (unknown column or form, a loss that is not positive, too few rows, a
    table that mixes kinds of runs) and FitError for a law that is not to be believed (flat loss, axes on one ray); with
    `by` PartialFitError, which holds the laws of the other groups, where some bear none.
    """
    asked = Request(
        form, axes_named(params, data, seen, flops), loss, epochs, Objective(objective, delta), weights, censored,
        cluster, noise_floor, level, hold_out, along, tuple(counts),
        {"where": where, "by": by, "seed": seed, "bootstrap": int(bootstrap), "interval": interval},
    )  # fmt: skip
    asked.refuse(bootstrap)
    columns, notes = select(table, where, censored, loss)
    parts: dict[Any, Columns] = {None: columns} if by is None else split(columns, by)
    errors: dict[Any, Exception] = {}
    each = partial(_each, by, errors)
    ready = each(partial(asked.prepared, notes), {value: (part,) for value, part in parts.items()})
    count = len(ready)
    if form == "auto":  # groups tell one another which forms foretell well, so all are tried before any is fitted
        given = {value: (runs, roles) for value, (runs, roles, _) in ready.items()}
        tries = each(asked.tried, given, lambda done: progress(done, 2 * count))
        ranked = rank(tries) if tries else {}
        best = {value: (found, *ready[value]) for value, found in ranked.items()}
        laws = each(partial(_best, asked), best, lambda done: progress(count + done, 2 * count))
    else:
        laws = each(partial(_alone, asked), ready, lambda done: progress(done, count))
    if errors and laws:
        raise PartialFitError(laws, errors)
    if errors:
        raise next(iter(errors.values()))
    return laws if by else laws[None]


def _each(
    by: str | None,
    errors: dict[Any, Exception],
    do: Callable[..., Any],
    given: Mapping[Any, tuple[Any, ...]],
    told: Callable[[int], None] = lambda done: None,
) -> dict[Any, Any]:
    """do(*arguments) of every group; what it raises names the group and goes to `errors`."""
    done = {}
    for number, (value, arguments) in enumerate(given.items(), start=1):
        try:
            with naming(f"{by}={value}") if by else nullcontext():
                done[value] = do(*arguments)
        except (ValueError, FitError) as error:
            errors[value] = error
        told(number)
    return done


def _alone(asked: Request, runs: Rows, roles: tuple[str, ...], counts: Mapping[str, Any]) -> Law:
    return _fit(asked, runs, asked.shape(runs, roles), counts)


def _best(asked: Request, found: Ranked, runs: Rows, roles: tuple[str, ...], counts: Mapping[str, Any]) -> Law:
    """The law of the form that leads in the backtest, with the ensemble of all that could be tested."""
    refused = list(found.skipped)
    first: FitError | None = None
    for form in found.order:
        try:
            law = _fit(asked, runs, form, counts, tuple(refused))
        except FitError as error:
            refused.append(f"{form.name}: {error}")
            first = first or error
        else:
            return replace(law, scores=found.scores, ensemble=found.ensemble, backtest=found.backtest)
    raise FitError(f"form='auto' believes no form, and of the best of them: {first}")


def _lonely(form: Form, found: Found) -> tuple[str, ...]:
    """A sentence where the lowest minimum of a form that has many was come by once."""
    if form.basins <= Form.basins or found.reached > 1:
        return ()
    return (
        f"the objective of {form.name} has many minima, and of {found.followed} starts that were followed to the end "
        "one reached the lowest; a lower one may exist",
    )


def _fit(asked: Request, runs: Rows, form: Form, counts: Mapping[str, Any], skipped: tuple[str, ...] = ()) -> Law:
    goal, level, settings, hold_out, along = asked.goal, asked.level, asked.settings, asked.hold_out, asked.along
    refuse_unfit(form, runs)
    goal, runs = with_noise(form, goal, runs)
    problem = Problem.over(form, goal, runs)
    found = search(problem)
    theta = found.theta
    value = float(problem.value(theta[None])[0])
    refuse_flat(problem, theta, value)
    published = {k: float(v[0]) for k, v in form.published(theta[None], problem.centre, problem.log_scale).items()}
    short = cut_short(problem, theta, runs, published)
    refuse_hopeless(form, short)
    runs = as_told(problem, theta, as_curve(runs, residuals(problem, theta)))
    doubt = assess(problem, theta, runs, settings["interval"], level, settings["bootstrap"], settings["seed"])
    why = unidentified(form, short, published, doubt.intervals, runs.noise_floor)
    tested = hold_out is not None or along is not None
    test, note = (
        usual(form, runs, goal, tested, ask(runs, hold_out, along)) if tested or settings["bootstrap"] else (None, ())
    )
    noisy = near_noise(problem, theta, runs, published)
    known = set(published) - set(why)
    clean = inspect(problem, theta, runs, doubt.intervals, known, counts) if settings["bootstrap"] else None
    low, high = problem.x.min(0), problem.x.max(0)
    solution = Solution(theta, doubt.draws, doubt.noise, problem.centre, low, high, problem.log_scale)
    return Law(
        form.name, named_columns(runs.columns, runs.units),
        {name: None if name in why else published[name] for name in published},
        {name: None if name in why else doubt.errors[name] for name in published},
        doubt.intervals, level,
        {"name": goal.name, "delta": goal.delta if goal.name == "huber" else None, "value": value,
         **({"spread": goal.spread} if runs.censored is not None else {})},
        len(runs), test,
        (*runs.warnings, *form.misfits(runs.axes, runs.loss), *_lonely(form, found), *why.values(), *noisy,
         *doubt.warnings, *short_axes(form, runs), *(clean.sentences if clean else ()), *note, *skipped),
        solution, runs, measure(runs), (),
        {"axes": list(form.roles), "clusters": int(runs.clusters.max()) + 1, **settings, **doubt.to_json()},
        clean,
    )  # fmt: skip
