"""Stops as Ray's schedulers, one for each cell of a search: none of them sees runs of another cell."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTrainingReplay,
    TrialScheduler,
)

from chemscale.records.schema import FINISHED, STOPPED
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.endings import Curves, chosen, stored_curve
from chemscale.sweep.forecast import CurveLaw
from chemscale.sweep.forecast_stop import ForecastStop
from chemscale.sweep.found import KNOWN, Sample, samples_of
from chemscale.sweep.halving import ForecastHalving
from chemscale.sweep.known_curves import KnownCurves
from chemscale.sweep.members import Members
from chemscale.sweep.percell import RUNG, Curve, PerCell
from chemscale.sweep.population import Population
from chemscale.sweep.sampler import tune_space
from chemscale.sweep.search import Search
from chemscale.sweep.space import Choice, LogUniform, Uniform
from chemscale.sweep.stop import ASHA, PBT, Forecast, Halving, HyperBand, Median

PROGRESS = "examples"  # what schedulers count
SLACK = 1e-9  # relative; Ray's HyperBand rounds max_t * reduction**-rung down


def pauses(stop: Any) -> bool:
    """Whether a stop may let runs wait and go on, so that more of them live than train at a time."""
    if isinstance(stop, TrialScheduler):
        return not isinstance(stop, ASHAScheduler) and type(stop) is not FIFOScheduler
    return isinstance(stop, HyperBand | Halving | PBT)


def scheduler_of(search: Search, records: Store) -> PerCell | None:
    """Ray's scheduler for a search whose runs are complete; None where nothing stops early."""
    if search.stop is None:
        return None
    held = samples_of(records, search)
    schedulers = [_one(search, cell, records, before) for cell, before in zip(search.cells, held, strict=True)]
    rungs = [cell.examples / _units(search.stop) for cell in search.cells]
    past = [[_curve(records, s) for s in before if not s.goes_on] for before in held]
    return PerCell(schedulers, rungs, Population(search.run, records), past)


def _curve(records: Store, sample: Sample) -> Curve:
    """The losses of a run on its way; its end is no stop's concern."""
    points = [p for attempt in records.attempts(sample.run.id) for p in attempt.points() if p["valid_loss"] is not None]
    return [(p["examples"], p["valid_loss"]) for p in points if p["examples"] < sample.run.examples]


def _one(search: Search, cell: RunSpec, records: Store, held: Sequence[Sample]) -> TrialScheduler:
    stop = search.stop
    if isinstance(stop, TrialScheduler):
        return copy.deepcopy(stop)
    if isinstance(stop, Forecast):
        return _forecast(stop, search, cell, records, held)
    if isinstance(stop, Halving):
        return _halving(stop, search, records, held)
    return BUILDERS[type(stop)](stop, cell.examples, search)


def _forecast(stop: Forecast, search: Search, cell: RunSpec, records: Store, held: Sequence[Sample]) -> TrialScheduler:
    return ForecastStop(stop, _known(stop, search, records, held), cell.examples)


def _halving(stop: Halving, search: Search, records: Store, held: Sequence[Sample]) -> TrialScheduler:
    ended = [s.run.id for s in held if s.status in (FINISHED, STOPPED)]
    gone = sum(not s.goes_on for s in held)
    known = _known(stop, search, records, held)
    return ForecastHalving(
        stop, known, search.samples_each, gone=gone, ended=[stored_curve(records, run_id) for run_id in ended]
    )


def _known(stop: Forecast | Halving, search: Search, records: Store, held: Sequence[Sample]) -> KnownCurves:
    """What the store holds of a cell: its runs that ended, those that an earlier driver left, and an earlier search."""
    begun = [s.run.id for s in held if s.goes_on]
    ended = [s.run.id for s in held if s.status in KNOWN]
    return KnownCurves(
        search.run,
        earlier=[stored_curve(records, i) for i in ended],
        prior=CurveLaw.fit(chosen(Curves(records, stop.earlier).all())) if stop.earlier else None,
        begun={i: stored_curve(records, i) for i in begun if records.attempts(i)},
    )


def _asha(stop: ASHA, examples: int, search: Search) -> TrialScheduler:
    return ASHAScheduler(
        time_attr=PROGRESS,  # survives a resume, unlike Tune's own count of reports
        max_t=examples,
        grace_period=max(1, math.floor(stop.grace * examples)),
        reduction_factor=stop.reduction,
    )


def _hyperband(stop: HyperBand, examples: int, search: Search) -> TrialScheduler:
    units: Any = _units(stop) * (1 + SLACK)
    return HyperBandScheduler(time_attr=RUNG, max_t=units, reduction_factor=stop.reduction)


def _units(stop: Any) -> int:
    """First rungs of a HyperBand in a whole training."""
    return stop.reduction**stop.rungs if isinstance(stop, HyperBand) else 1


def _median(stop: Median, examples: int, search: Search) -> TrialScheduler:
    never: Any = math.inf  # a run that cannot be judged yet keeps its slot
    return MedianStoppingRule(
        time_attr=PROGRESS,
        grace_period=stop.grace * examples,
        min_samples_required=stop.least,
        min_time_slice=never,
    )


def _pbt(stop: PBT, examples: int, search: Search) -> TrialScheduler:
    domains, tuned = dict(search.space), tune_space(search.choices)
    mutations = {f: list(d.values) if isinstance(d, Choice) else tuned[f] for f, d in domains.items()}

    def inside(config: dict[str, Any]) -> dict[str, Any]:
        bounded = {f: d for f, d in domains.items() if isinstance(d, LogUniform | Uniform)}
        return {**config, **{f: min(d.high, max(d.low, config[f])) for f, d in bounded.items()}}

    return Members(
        time_attr=PROGRESS,
        perturbation_interval=stop.interval * examples,
        hyperparam_mutations=mutations,
        quantile_fraction=stop.share,
        resample_probability=stop.resample,
        perturbation_factors=stop.factors,
        custom_explore_fn=inside,
        log_config=False,
    )


BUILDERS: dict[type, Callable[[Any, int, Search], TrialScheduler]] = {
    ASHA: _asha,
    HyperBand: _hyperband,
    Median: _median,
    PBT: _pbt,
}
STOPS = (*BUILDERS, Forecast, Halving)


def require_stop(stop: Any) -> None:
    """Refuse a stop that no scheduler can be made of, before anything is written.

    Raises:
        ValueError: it is none, or a scheduler of Ray's that does not count examples or compares another loss.
    """
    if isinstance(stop, TrialScheduler):
        _require_examples(stop)
    elif stop is not None and type(stop) not in STOPS:
        kinds = ", ".join(kind.__name__ for kind in STOPS)
        raise ValueError(f"Search.stop={stop!r} is not allowed: use one of {kinds}, a scheduler of Ray's or None.")


def require_curves(search: Search, records: Store) -> None:
    """Refuse a stop that forecasts from curves which the store does not hold.

    Raises:
        ValueError: there is no study that it names, or no finished run where it trains none to its end itself.
    """
    stop = search.stop
    if not isinstance(stop, Forecast | Halving):
        return
    before = Curves(records, stop.earlier).all() if stop.earlier is not None else []
    if stop.calibrate > 0 or any(curve.finished for curve in before):
        return
    for held in samples_of(records, search):
        if not any(stored_curve(records, s.run.id).finished for s in held if s.status == FINISHED):
            raise ValueError(
                f"{type(stop).__name__}.calibrate=0 with earlier={stop.earlier!r} is not allowed: {records.url} has "
                "no finished run of the cell that a forecast could start from; use calibrate=1, or name an earlier "
                "search."
            )


def _require_examples(scheduler: TrialScheduler) -> None:
    counted = getattr(scheduler, "_time_attr", PROGRESS)
    if counted != PROGRESS:
        raise ValueError(
            f"Search.stop={type(scheduler).__name__} counts {counted!r}; give it time_attr={PROGRESS!r}, which goes on "
            "where a run was resumed."
        )
    if scheduler.metric not in (None, "valid_loss"):
        raise ValueError(
            f"Search.stop={type(scheduler).__name__} compares {scheduler.metric!r}; a search compares 'valid_loss'."
        )
    if isinstance(scheduler, PopulationBasedTrainingReplay):
        raise ValueError("Search.stop=PopulationBasedTrainingReplay is not allowed: it copies no other run.")
    if getattr(scheduler, "_synch", False):
        raise ValueError("Search.stop=PopulationBasedTraining(synch=True) is not allowed: give it synch=False.")
