"""Halving of forecasts: who goes on from a rung, that nobody waits for ever, and what a real search leaves behind."""

import math
from collections import Counter

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from chemscale.models import ChemGPT
from chemscale.records.store import MAX_RETRIES, Store, process_identity
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec, with_fields
from chemscale.sweep import Forecast, Halving, Search, loguniform
from chemscale.sweep.endings import curve_of
from chemscale.sweep.forecast import CurveLaw
from chemscale.sweep.halving import ForecastHalving
from chemscale.sweep.known_curves import KnownCurves
from chemscale.sweep.schedulers import require_curves, scheduler_of
from chemscale.sweep.searching import search
from chemscale.train.rows import opening_row
from tests.sweep.test_schedulers import CELLS, TOTAL, Run, Tune, runs_of, search_of

POINTS = 40
RUNGS = ((0.025, 1 / 4), (0.1, 1 / 8), (0.3, 1 / 16))
ONE_CELL = CELLS.runs()[:1]
SPACE = {"optim.lr": loguniform(1e-4, 1e-1)}


class Fallible(Tune):
    """Tune's loop in which runs fail, and in which a sign of life may make a run wait.

    Args:
        fails: trial -> examples at which it fails, once where it is in `again`.
    """

    def __init__(self, *args, fails=(), again=(), **settings):
        super().__init__(*args, points=POINTS, **settings)
        self.fails, self.again, self.begun = dict(fails), set(again), Counter()

    def report(self, run):
        if self.seen[run.trial_id] >= self.fails.get(run.trial_id, math.inf):
            return self.fail(run)
        self.begun[run.trial_id] += 1
        if self.scheduler.on_trial_result(self, run, {"examples": self.seen[run.trial_id]}) == TrialScheduler.PAUSE:
            run.status = Trial.PAUSED
            return None
        return super().report(run)

    def fail(self, run):
        del self.fails[run.trial_id]
        self.scheduler.on_trial_error(self, run)
        run.status = Trial.ERROR
        if run.trial_id in self.again:
            run.status = Trial.PENDING
            self.scheduler.on_trial_add(self, run)


def number(run):
    return int(run.trial_id.split("-")[1])


def loss(run, examples):
    """The higher its number, the worse a run; the second cell is a hundred times worse."""
    return 100 ** run.config["cell"] * (1 + 0.1 * number(run)) * (1 + (examples / TOTAL) ** -0.3)


def halving_of(samples, base=ONE_CELL, **settings):
    return Search(base, SPACE, samples=samples, stop=Halving(RUNGS, **settings))


def finished(tune):
    return {run.trial_id for run in tune.runs if tune.seen[run.trial_id] >= TOTAL}


def spent(tune):
    return sum(min(seen, TOTAL) for seen in tune.seen.values()) / TOTAL / len(tune.seen)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def test_the_best_of_each_cell_survive_and_little_else_trains_on(store):
    plan = halving_of(32, CELLS)
    tune = Fallible(scheduler_of(plan, store), runs_of(plan, 32)[::-1], loss).fit()
    # the first of each cell calibrates; of the others 8 of 32 go on, then 4, then 2, where it has no place among them
    assert finished(tune) == {"0-31", "1-31", "0-0", "0-1", "1-0", "1-1"}
    for cell in "01":
        reached = sorted(tune.seen[f"{cell}-{k}"] / TOTAL for k in range(31))
        assert [round(share, 1) for share in reached[-8:]] == [0.1] * 4 + [0.3] * 2 + [1.0] * 2
        assert max(reached[:-8]) < 0.03
    assert spent(tune) == pytest.approx((3 + 2 * 0.3 + 4 * 0.1 + 23 * 0.025) / 32, abs=0.01)
    assert tune.most_running <= 2


def test_forecasts_choose_where_losses_so_far_mislead(store):
    def crossing(rate, progress):
        """Best at a rate of 0.01, but at first the higher the rate, the better it looks."""
        off = math.log(rate / 0.01)
        return (1 + 0.04 * off**2 + 0.5 * progress**-0.35) * math.exp(-0.15 * off * max(0.0, 1 - 3 * progress))

    def rates(seed):
        return 10 ** np.random.default_rng(seed).uniform(-4, -1, 16)

    plan, points = halving_of(16, calibrate=0), [(k + 1) / POINTS for k in range(POINTS)]
    earlier = [
        curve_of(with_fields(ONE_CELL[0], {"optim.lr": r}), [(TOTAL * p, 2 * crossing(r, p)) for p in points])
        for r in rates(1)
    ]
    asked = rates(2)
    known = KnownCurves(plan.run, prior=CurveLaw.fit(earlier))
    runs = [Run(f"0-{k}", {"cell": 0, "optim.lr": rate}) for k, rate in enumerate(asked)]
    tune = Alone(
        ForecastHalving(Halving(((0.025, 1 / 16),), calibrate=0), known, 16),
        runs,
        lambda run, e: crossing(run.config["optim.lr"], e / TOTAL),
    )
    tune.fit()
    (chosen,) = finished(tune)
    ends, starts = [crossing(r, 1.0) for r in asked], [crossing(r, 1 / POINTS) for r in asked]
    assert ends[int(chosen[2:])] <= 1.01 * min(ends)
    assert ends[int(np.argmin(starts))] > 1.02 * min(ends)  # whom the first losses would have chosen


class Alone(Tune):
    """Tune's loop around the scheduler of one cell, told of measurements only."""

    def __init__(self, *args):
        super().__init__(*args, points=POINTS)

    def nobody_comes(self):
        return True

    def report(self, run):
        examples = self.seen[run.trial_id] = self.seen[run.trial_id] + TOTAL // POINTS
        result = {"examples": examples, "valid_loss": self.loss(run, examples)}
        if examples >= TOTAL * 0.9999:
            return self.complete(run, result)
        if self.scheduler.on_trial_result(self, run, result) == TrialScheduler.PAUSE:
            run.status = Trial.PAUSED
        return None


def test_a_run_whose_losses_are_not_positive_is_not_judged_and_holds_nobody_up(store):
    plan, runs = halving_of(16), runs_of(halving_of(16), 16)
    tune = Fallible(scheduler_of(plan, store), runs, lambda run, e: -1.0 if number(run) == 5 else loss(run, e)).fit()
    assert "0-5" in finished(tune)
    assert 2 <= len(finished(tune)) <= 4
    assert spent(tune) < 0.4


def test_of_runs_that_are_alike_as_many_go_on_as_there_are_places(store):
    plan = halving_of(16)
    tune = Fallible(scheduler_of(plan, store), runs_of(plan, 16), lambda run, e: 1 + (e / TOTAL) ** -0.3).fit()
    assert 1 <= len(finished(tune)) <= 2
    assert spent(tune) < 0.2


@pytest.mark.parametrize("dead", [range(1), range(5), range(15), range(16)], ids=len)
@pytest.mark.parametrize("at", [0, 0.02, 0.2, 0.5])
@pytest.mark.parametrize("how", ["diverged", "failed", "failed once"])
def test_nobody_waits_for_the_dead_and_the_best_of_the_others_survives(store, dead, at, how):
    def deadly(run, examples):
        return 1e9 if how == "diverged" and number(run) in dead and examples > at * TOTAL else loss(run, examples)

    plan, runs = halving_of(16), None
    runs = runs_of(plan, 16)
    fails = {} if how == "diverged" else {f"0-{k}": at * TOTAL for k in dead}
    again = fails if how == "failed once" else ()
    tune = Fallible(scheduler_of(plan, store), runs, deadly, fails=fails, again=again).fit()
    if how == "failed once":
        assert "0-0" in finished(tune)
        assert spent(tune) < 0.35
        assert "16 runs begun" in tune.scheduler.debug_string()
    elif len(dead) < 16 and at < 0.025:
        assert f"0-{len(dead)}" in finished(tune)
    living = {run.trial_id for run in tune.runs if number(run) not in dead}
    assert how == "failed once" or finished(tune) - living == set()


def test_a_run_that_died_takes_no_place_and_another_calibrates(store):
    plan = halving_of(16)
    tune = Fallible(scheduler_of(plan, store), runs_of(plan, 16), loss, fails={"0-0": TOTAL // 2}).fit()
    assert finished(tune) == {"0-1", "0-2"}
    beyond = {name for name, seen in tune.seen.items() if seen > 0.03 * TOTAL}
    assert beyond == {"0-0", "0-1", "0-2", "0-3", "0-4"}


def test_nobody_is_judged_before_calibration_has_ended_and_one_goes_on_though_it_was_best(store):
    plan, calibrated = halving_of(4), []

    def watched(run, examples):
        if number(run) > 0 and examples > 0.03 * TOTAL:
            calibrated.append(tune.seen["0-0"])
        return loss(run, examples)

    tune = Fallible(scheduler_of(plan, store), runs_of(plan, 4), watched)
    tune.fit()
    assert finished(tune) == {"0-0", "0-1"}
    assert min(calibrated) >= TOTAL


@pytest.mark.parametrize("came", [1, 2, 7])
def test_fewer_runs_than_were_asked_for_are_halved_all_the_same(store, came):
    plan = halving_of(16)
    tune = Fallible(scheduler_of(plan, store), runs_of(plan, came), loss).fit()
    assert "0-0" in finished(tune)
    assert len(finished(tune)) <= 2


def leave(store, plan, run, points, status):
    """What a killed driver left in the store of a run with so many points."""
    spec = plan.run(run.config)
    store.enlist(plan.name, [spec])
    opening = opening_row(spec) | {"params": 1000}
    attempt = store.claim(spec, opening, {**process_identity(), "born": 0.0})
    for step in range(1, points + 1):
        examples = round(TOTAL * step / POINTS)
        row = {"run_id": spec.id, "step": step, "examples": examples, "valid_loss": loss(run, examples)}
        attempt.point(row)
    attempt.flush()
    if status == "finished":
        attempt.end(opening | {"status": status, "valid_loss": loss(run, TOTAL), "examples_seen": TOTAL})
    elif status != "interrupted":
        store.mark(spec.id, status, "for a test")
    assert store.state(spec.id).status == status


def resumed(store, plan, runs, left, losses=loss):
    """Tune's loop over runs of which some go on where they were: number -> points."""
    tune = Fallible(scheduler_of(plan, store), runs, losses)
    for run in runs:
        tune.seen[run.trial_id] = round(TOTAL * left.get(number(run), 0) / POINTS)
    return tune


def test_new_samples_are_ranked_among_those_of_an_earlier_driver(store):
    plan, runs = halving_of(32, calibrate=0), runs_of(halving_of(32), 32)
    before = {2: 40, 3: 40, 4: 12, 5: 12, **dict.fromkeys(range(6, 10), 4), **dict.fromkeys(range(10, 18), 1)}
    for k, points in before.items():
        leave(store, plan, runs[k], points, "finished" if points == 40 else "stopped")
    tune = resumed(store, plan, [run for run in runs if number(run) not in before], {}).fit()
    assert finished(tune) == {"0-0", "0-1"}
    assert max(seen for name, seen in tune.seen.items() if name not in ("0-0", "0-1")) < 0.03 * TOTAL


def test_runs_that_waited_under_a_killed_driver_wait_again_without_training(store):
    plan, runs = halving_of(16), runs_of(halving_of(16), 16)
    leave(store, plan, runs[8], 40, "finished")  # it calibrated
    waited = dict.fromkeys(range(8), 1)
    for k in waited:
        leave(store, plan, runs[k], 1, "interrupted")
    tune = resumed(store, plan, [*runs[:8], *runs[9:]], waited).fit()
    assert finished(tune) == {"0-0"}
    assert [tune.seen[f"0-{k}"] for k in (5, 6, 7)] == [round(TOTAL / POINTS)] * 3
    assert tune.begun["0-7"] == 1


def test_a_run_that_calibrated_under_a_killed_driver_is_waited_for(store):
    plan, runs, calibrated = halving_of(16), runs_of(halving_of(16), 16), []
    left = {9: 20, **dict.fromkeys(range(8), 1)}
    for k, points in left.items():
        leave(store, plan, runs[k], points, "interrupted")

    def watched(run, examples):
        if number(run) != 9 and examples > 0.03 * TOTAL:
            calibrated.append(tune.seen["0-9"])
        return loss(run, examples)

    tune = resumed(store, plan, runs, left, watched)
    tune.fit()
    assert finished(tune) == {"0-0", "0-9"}
    assert min(calibrated) >= TOTAL


def test_runs_that_a_killed_driver_had_chosen_go_on(store):
    plan, runs = halving_of(16), runs_of(halving_of(16), 16)
    left = {0: 3, 1: 4, 2: 3, 9: 20}  # of the four chosen one waited; the ninth calibrated
    for k in range(16):
        status = "interrupted" if k in left else "stopped" if k > 3 else "failed"
        leave(store, plan, runs[k], left.get(k, 1), status)
    for _ in range(MAX_RETRIES):  # the third was tried as often as it may be
        store.mark(plan.run(runs[3].config).id, "failed", "again")
    tune = resumed(store, plan, [runs[k] for k in left], left).fit()
    assert finished(tune) == {"0-0", "0-9"}
    assert tune.seen["0-1"] / TOTAL == pytest.approx(0.3, abs=0.03)
    assert tune.seen["0-2"] / TOTAL == pytest.approx(0.1, abs=0.03)


def test_a_measurement_beyond_several_rungs_is_judged_at_all_of_them(store):
    plan = halving_of(16)
    tune = Tune(scheduler_of(plan, store), runs_of(plan, 16)[::-1], loss, points=5).fit()
    reached = Counter(round(seen / TOTAL, 1) for seen in tune.seen.values())
    assert reached == {0.2: 13, 0.4: 1, 1.0: 2}
    assert {"0-0", "0-15"} == finished(tune)


def test_bad_values_are_refused_in_one_sentence():
    bad = {
        "rungs": [(), ((0.1, 0.2, 0.3),), ((0.0, 0.5),), ((0.1, 0.5), (0.1, 0.2)), ((0.1, 0.2), (0.2, 0.3)), "half"],
        "calibrate": [-1, 0.5],
    }
    for field, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match=f"Halving.{field}=") as caught:
                Halving(**{field: value})
            assert "\n" not in str(caught.value)


def test_a_forecast_without_any_finished_run_is_refused(store):
    plan, (run,) = halving_of(16, calibrate=0), runs_of(halving_of(16), 1)
    with pytest.raises(
        ValueError, match=r"Halving.calibrate=0 .* use calibrate=1, or name an earlier search"
    ) as caught:
        require_curves(plan, store)
    assert "\n" not in str(caught.value)
    leave(store, plan, run, 3, "stopped")
    with pytest.raises(ValueError, match="no finished run"):
        require_curves(halving_of(16, calibrate=0, earlier=plan.name), store)
    leave(store, plan, run, 40, "finished")
    require_curves(plan, store)
    for stop in (Halving(earlier="nowhere"), Forecast(earlier="nowhere")):
        with pytest.raises(ValueError, match="earlier='nowhere' is no study"):
            require_curves(search_of(stop), store)


@pytest.mark.slow
def test_a_real_search_stops_all_but_the_best_and_trains_no_step_twice(ray_cluster, molecules, tmp_path):
    base = RunSpec(
        model=ChemGPT.sized(width=4), data=Data(molecules, size=100), optim=Optim(batch=8), budget=Budget(updates=20),
        evaluation=Evaluation(10, 16, 16),
    )  # fmt: skip
    plan = Search(
        base, {"optim.lr": loguniform(1e-6, 1e-1)}, samples=8, stop=Halving(((0.1, 3 / 8), (0.3, 1 / 8))),
        sampler="qmc", name="halved",
    )  # fmt: skip
    found, store = search(plan, store=tmp_path / "store"), Store(tmp_path / "store")
    rows = store.runs().to_pylist()
    statuses = Counter(row["status"] for row in rows)
    assert statuses["stopped"] >= 6
    assert 1 <= statuses["finished"] <= 2
    assert sum(statuses.values()) == len(rows) == 8
    for row in rows:
        stopped = row["status"] == "stopped"
        assert (row["forecast_loss"] is not None) == stopped
        assert not stopped or 0 < row["forecast_low"] < row["forecast_loss"] < row["forecast_high"]
    trained = []
    for row in rows:
        steps = [p["step"] for attempt in store.attempts(row["run_id"]) for p in attempt.points()]
        assert steps == sorted(set(steps))  # a run that waited went on from its state
        trained.append(steps[-1])
    assert sorted(trained)[:4] == [2] * 4
    assert sum(trained) <= 0.4 * 8 * 20
    assert found.loss == min(row["valid_loss"] for row in rows if row["status"] == "finished")
    assert any(len(store.attempts(row["run_id"])) == 3 for row in rows if row["status"] == "finished")
    again = search(plan, store=tmp_path / "store")
    assert again.best == found.best


def test_a_store_that_is_not_there_holds_no_earlier_search_and_is_not_made(molecules, tmp_path):
    base = RunSpec(model=ChemGPT.sized(width=4), data=Data(molecules, size=20), budget=Budget(updates=4))
    stop = Halving(calibrate=0, earlier="other")
    with pytest.raises(ValueError, match="is not a chemscale store"):
        search(base, {"optim.lr": loguniform(1e-3, 1e-1)}, samples=2, stop=stop, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
