"""Stopping on a forecast: what the scheduler decides, and what real searches leave in the records."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec, with_fields
from chemscale.sweep import ASHA, Forecast, Search, loguniform
from chemscale.sweep.curves import Curve
from chemscale.sweep.endings import curve_of, schedule_of, traits_of
from chemscale.sweep.forecast import CurveLaw
from chemscale.sweep.forecast_stop import ForecastStop
from chemscale.sweep.known_curves import KnownCurves
from chemscale.sweep.searching import search
from chemscale.train.optim import lr_share

TOTAL, POINTS = 1_000, 20
BASE = RunSpec(
    model=ChemGPT.sized(width=4), data=Data("x", size=10), optim=Optim(lr=0.1), budget=Budget(examples=TOTAL)
)


def loss(config, progress):
    """Best at a rate of 0.01, but in the first third the higher the rate, the better it looks."""
    off = math.log(config["optim.lr"] / 0.01)
    early = max(0.0, 1 - 3 * progress)
    return (1 + 0.04 * off**2 + 0.5 * progress**-0.35) * math.exp(-0.1 * off * early)


def played(scheduler, configs):
    """Trials one after the other: name -> share of the training at which it was stopped, 1 for the end."""
    ends = {}
    for number, config in enumerate(configs):
        trial = SimpleNamespace(trial_id=str(number), config=config)
        scheduler.on_trial_add(None, trial)
        for point in range(1, POINTS + 1):
            result = {"examples": TOTAL * point / POINTS, "valid_loss": loss(config, point / POINTS)}
            if point == POINTS:  # as `PerCell` tells of an end
                break
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(None, trial, result)
        ends[number] = point / POINTS
    return ends


def configs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [{"optim.lr": float(np.exp(rng.uniform(math.log(1e-4), 0.0)))} for _ in range(count)]


def scheduler_of(stop, **more):
    made = ForecastStop(stop, KnownCurves(lambda config: with_fields(BASE, config), **more), TOTAL)
    made.set_search_properties("valid_loss", "min")
    return made


def finals(ends, asked):
    return {i: loss(asked[i], 1.0) for i, end in ends.items() if end == 1.0}


def test_the_best_of_a_search_survives_and_little_else_trains_on():
    asked = configs(40)
    ends = played(scheduler_of(Forecast()), asked)
    assert [ends[i] for i in range(4)] == [1.0] * 4  # calibration, whatever they look like
    assert sum(ends.values()) / len(ends) < 0.4
    assert min(finals(ends, asked).values()) <= 1.01 * min(loss(c, 1.0) for c in asked)


def test_a_higher_threshold_stops_more():
    asked = configs(20)
    spent = [sum(played(scheduler_of(Forecast(threshold=t)), asked).values()) for t in (0.001, 0.4)]
    assert spent[0] > spent[1]


def test_runs_that_never_finish_do_not_count_as_calibration():
    scheduler = scheduler_of(Forecast(calibrate=2))
    for number in range(3):  # diverge after a point
        trial = SimpleNamespace(trial_id=f"gone-{number}", config=configs(1)[0])
        scheduler.on_trial_add(None, trial)
        assert scheduler.on_trial_result(None, trial, {"examples": 50, "valid_loss": 9.0}) == TrialScheduler.CONTINUE
        scheduler.on_trial_error(None, trial)
    ends = played(scheduler, configs(6))
    assert ends[0] == ends[1] == 1.0


def test_curves_of_the_store_calibrate_at_once():
    asked = configs(12, seed=1)
    progress = [p / POINTS for p in range(1, POINTS + 1)]
    earlier = [curve_of(with_fields(BASE, c), [(TOTAL * p, loss(c, p)) for p in progress]) for c in configs(6)]
    ends = played(scheduler_of(Forecast(), earlier=earlier), asked)
    fresh = played(scheduler_of(Forecast()), asked)
    assert sum(ends.values()) < sum(fresh.values())
    assert min(ends[i] for i in range(4)) < 1.0


def test_the_law_of_an_earlier_search_stops_runs_after_one_of_its_own():
    asked = configs(8, seed=2)
    progress = [p / POINTS for p in range(1, POINTS + 1)]
    earlier = [curve_of(with_fields(BASE, c), [(TOTAL * p, 2 * loss(c, p)) for p in progress]) for c in configs(12)]
    ends = played(scheduler_of(Forecast(calibrate=1), prior=CurveLaw.fit(earlier)), asked)
    assert ends[0] == 1.0 and min(ends.values()) < 0.3
    assert min(finals(ends, asked).values()) <= 1.02 * min(loss(c, 1.0) for c in asked)


def test_what_an_earlier_driver_left_of_a_run_counts_when_it_goes_on():
    """Points of before are known, once, also after the run's process died; it calibrates where calibration lacks."""
    (config,) = configs(1)
    base = with_fields(BASE, {"data": replace(BASE.data, content="c")})
    run, seen = with_fields(base, config), [(TOTAL * p / POINTS, loss(config, p / POINTS)) for p in range(1, 11)]
    known = KnownCurves(lambda config: with_fields(base, config), begun={run.id: curve_of(run, seen)})
    scheduler = ForecastStop(Forecast(), known, TOTAL)
    scheduler.set_search_properties("valid_loss", "min")
    trial = SimpleNamespace(trial_id="again", config=config)
    scheduler.on_trial_add(None, trial)
    assert list(known.of("again").examples) == [x for x, _ in seen]
    for point in (10, 11):  # the last point is measured again after a resume
        result = {"examples": TOTAL * point / POINTS, "valid_loss": loss(config, point / POINTS)}
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
    scheduler.on_trial_error(None, trial)
    scheduler.on_trial_add(None, trial)
    assert list(known.of("again").examples) == [TOTAL * p / POINTS for p in range(1, 12)]


def test_a_loss_that_is_not_positive_foretells_nothing_and_stops_nothing():
    """A likelihood of a density may be anything; laws of curves are laws of positive losses."""
    scheduler = scheduler_of(Forecast(calibrate=1))
    played(scheduler, configs(3))
    trial = SimpleNamespace(trial_id="below", config=configs(1)[0])
    scheduler.on_trial_add(None, trial)
    for point in range(1, POINTS):
        result = {"examples": TOTAL * point / POINTS, "valid_loss": -1.0 * point}
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
    scheduler.on_trial_complete(None, trial, result)


def test_traits_lie_on_scales_on_which_effects_are_smooth():
    traits = traits_of(with_fields(BASE, {"optim.beta2": 0.99, "optim.weight_decay": 0.0, "optim.warmup": 0.1}))
    assert traits["optim.lr"] == math.log(0.1)
    assert traits["optim.beta2"] == pytest.approx(math.log(0.01))
    assert traits["optim.warmup"] == 0.1
    assert "optim.weight_decay" not in traits and "optim.name" not in traits
    assert isinstance(curve_of(BASE, [(10, 2.0)]), Curve)


@pytest.mark.parametrize("given", [{"warmup": 0.2}, {"warmup_updates": 40}, {"epoch_warmup": 4}], ids=str)
def test_a_forecast_knows_the_schedule_that_a_run_trains_under(given):
    """Areas differ by the width of a step, and under stairs of one epoch by half an epoch, a fortieth of this run."""
    optim = Optim(lr=0.1, batch=10, cooldown=0.3, **given)
    run = replace(BASE, data=Data("x", size=100), optim=optim, budget=Budget(updates=200))
    shares = [lr_share(step, 200, optim, step // 10) for step in range(200)]
    assert schedule_of(run).area(np.ones(1))[0] == pytest.approx(np.mean(shares), abs=0.026)


def test_bad_stops_are_refused():
    for field, value in {"threshold": 1.5, "margin": -0.1, "calibrate": 0, "grace": 0, "reduction": 1}.items():
        with pytest.raises(ValueError, match=f"Forecast.{field}"):
            Forecast(**{field: value})


def plan(molecules, stop, name, samples=14):
    base = RunSpec(
        model=ChemGPT.sized(width=4), data=Data(molecules, size=100), optim=Optim(batch=8), budget=Budget(updates=48),
        evaluation=Evaluation(12, 32, 32),
    )  # fmt: skip
    return Search(
        base, {"optim.lr": loguniform(1e-6, 1e-1)}, samples=samples, stop=stop, sampler="random", seed=1, name=name
    )


@pytest.mark.slow
def test_stopped_runs_carry_a_forecast_whichever_scheduler_stopped_them(ray_cluster, molecules, tmp_path):
    for stop in (ASHA(grace=0.125), Forecast(calibrate=3)):
        name = type(stop).__name__
        store = Store(tmp_path / name, create=True)
        found = search(plan(molecules, stop, name), store=store)
        rows = store.runs().to_pylist()
        stopped = [row for row in rows if row["status"] == "stopped"]
        assert len(rows) == 14 and found.best is not None
        assert stopped, name
        for row in rows:
            whole = row["status"] != "stopped"
            assert (row["forecast_loss"] is None) == whole, row["status"]
            if not whole:
                assert 0 < row["forecast_low"] < row["forecast_loss"] < row["forecast_high"] < 100
                assert row["law_loss"] is None
        with pytest.raises(ValueError, match=r"earlier='nowhere' is no study"):
            search(plan(molecules, Forecast(earlier="nowhere"), "third"), store=store)
