"""Runs of several workers under Tune: what a stop, or the death of a trial, leaves of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

import chemscale as cs
from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Evaluation, Resources
from chemscale.sweep import admission
from chemscale.sweep.admission import Listed
from chemscale.sweep.drive import sweep
from chemscale.sweep.groups import nested_groups, remove_orphans
from chemscale.sweep.trial import Plan
from chemscale.sweep.tune import _run_config, trainable_of
from chemscale.sweep.ushers import Cleaners
from chemscale.sweep.word import DriverWord
from chemscale.train.room import rooms_of
from tests.head_node import wait_until
from tests.train.runs import text_run

pytestmark = pytest.mark.slow

WITHIN = 10.0  # seconds in which all that a stopped run held is free again


class Rough(FIFOScheduler):
    """Stops the first trial at its second report and kills the process of the second one at its first."""

    def __init__(self):
        super().__init__()
        self.order, self.reports, self.struck = [], {}, {}

    def on_trial_result(self, tune_controller, trial, result):
        if trial.trial_id not in self.order:
            self.order.append(trial.trial_id)
        self.reports[trial.trial_id] = self.reports.get(trial.trial_id, 0) + 1
        place, count = self.order.index(trial.trial_id), self.reports[trial.trial_id]
        if (place, count) == (0, 2):
            self.struck["stopped"] = (time.monotonic(), nested_groups().alive)
            return TrialScheduler.STOP
        if (place, count) == (1, 1):
            self.struck["killed"] = (time.monotonic(), nested_groups().alive)
            os.kill(result["pid"], signal.SIGKILL)
        return TrialScheduler.CONTINUE


class Watching:
    """Notes when each placement group of Ray Train was gone."""

    def __init__(self):
        self.gone, self._alive, self._stop = {}, set(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.1):
            now = set(nested_groups().alive)
            self.gone.update(dict.fromkeys(self._alive - now, time.monotonic()))
            self._alive = now


def test_a_stop_and_a_dead_trial_free_every_processor_and_the_next_cell_starts(ray_cluster, molecules, tmp_path):
    runs = [
        text_run(molecules, seed=seed, budget=Budget(updates=60), evaluation=Evaluation(points=6, valid=24, test=24))
        for seed in range(2)
    ]
    store = Store(tmp_path / "store", create=True)
    plan = Plan(store.url, Resources(workers=2, checkpoint_seconds=0.2), runs={run.id: run for run in runs})
    listed, scheduler = Listed(plan, {runs[0].id: 2.0, runs[1].id: 1.0}), Rough()
    made = tune.Tuner(
        trainable_of(plan),
        tune_config=tune.TuneConfig(search_alg=listed, scheduler=scheduler, num_samples=2, reuse_actors=True),
        run_config=_run_config(DriverWord(plan, "s"), Cleaners(plan), listed, "s", str(tmp_path / "tune"), ()),
    )
    with Watching() as watching:
        made.fit()
        assert nested_groups().alive == ()
    assert ray_cluster.available_resources()["CPU"] == 2
    for what in ("stopped", "killed"):
        when, (held,) = scheduler.struck[what]
        assert watching.gone[held] - when < WITHIN, what
    assert [store.state(run.id).status for run in runs] == ["stopped", "finished"]
    assert len(store.attempts(runs[1].id)) == 2
    steps = store.points(runs[1].id)["step"].to_pylist()
    assert steps == [10, 20, 30, 40, 50, 60]
    assert len(store.points(runs[0].id)) < 6


def by_width(run):
    """Two processors for the wider of two."""
    return Resources(workers=2 if run.model.width == 8 else 1, checkpoint_seconds=0.2)


def test_workers_get_the_room_of_a_process_that_tune_keeps_for_the_next_trial(
    ray_cluster, molecules, tmp_path, monkeypatch
):
    """The ledger takes the cluster for larger than it is, as when a node is lost, so that a wide run waits for a narrow
    one; then it knows better and admits nobody. The narrow run's process is kept for the next and holds the room.
    """
    crowds = []

    def lost_later(nodes):
        cpus = 2.0 if any(crowds) else 3.0
        return rooms_of([{**node, "Resources": {**node["Resources"], "CPU": cpus}} for node in nodes])

    monkeypatch.setattr(admission, "rooms_of", lost_later)
    wide, long, short = (
        text_run(molecules, model=ChemGPT.sized(width=width), seed=seed, budget=Budget(updates=updates),
                 evaluation=Evaluation(points=2, valid=8, test=8))
        for seed, (width, updates) in enumerate([(8, 8), (4, 1_000), (4, 8)])
    )  # fmt: skip
    real = Cleaners.on_step_begin

    def noted(self, *args, **info):
        real(self, *args, **info)
        crowds.append(self.crowded)

    monkeypatch.setattr(Cleaners, "on_step_begin", noted)
    store = sweep([wide, long, short], store=tmp_path / "store", on=by_width)
    assert store.runs()["status"].to_pylist() == ["finished"] * 3
    assert any(crowds)


class StopsFirst(FIFOScheduler):
    """Stops the first trial at its first measurement."""

    first, when, held = None, 0.0, ()

    def on_trial_result(self, tune_controller, trial, result):
        self.first = self.first or trial.trial_id
        if trial.trial_id != self.first:
            return TrialScheduler.CONTINUE
        self.when, self.held = time.monotonic(), nested_groups().alive
        return TrialScheduler.STOP


def test_in_a_users_own_tuner_too_a_stop_frees_every_processor(ray_cluster, molecules, tmp_path):
    base = text_run(molecules, budget=Budget(updates=60), evaluation=Evaluation(points=6, valid=24, test=24))
    store, scheduler = Store(tmp_path / "store", create=True), StopsFirst()
    space, on = {"seed": tune.grid_search([0, 1])}, Resources(workers=2, checkpoint_seconds=0.2)
    with Watching() as watching:
        results = cs.tuner(base, space, store=store, on=on, scheduler=scheduler).fit()
        assert not results.errors
        assert nested_groups().alive == ()
    (held,) = scheduler.held
    assert watching.gone[held] - scheduler.when < WITHIN
    assert sorted(store.runs()["status"].to_pylist()) == ["finished", "stopped"]
    wait_until(lambda: ray_cluster.available_resources().get("CPU") == 2, WITHIN)


LEAVES_A_GROUP = """
import sys, time, ray
from ray.util.placement_group import placement_group
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", namespace="service")

@ray.remote(num_cpus=0)
class Service:
    def reserve(self):
        self.group = placement_group([{"CPU": 1}])
        return ray.get(self.group.ready())

service = Service.options(name="service", lifetime="detached").remote()
ray.get(service.reserve.remote())
ray.get(placement_group([{"CPU": 1}]).ready())
print("made", flush=True)
time.sleep(600)
"""


def test_what_an_ended_job_left_on_the_cluster_is_removed(ray_cluster, monkeypatch):
    """The other job is only said to have ended: what Ray forgets at an end is a matter of milliseconds.

    What a detached actor of that job holds is left to it: it lives on.
    """
    from ray._private import state

    address = ray_cluster.get_runtime_context().gcs_address
    command = [sys.executable, "-c", LEAVES_A_GROUP, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"made\n"
            assert nested_groups().orphans == ()
            mine, known = ray_cluster.get_runtime_context().get_job_id(), state.jobs()
            monkeypatch.setattr(state, "jobs", lambda: [{**job, "IsDead": job["JobID"] != mine} for job in known])
            assert len(remove_orphans().orphans) == 1
            wait_until(lambda: ray_cluster.available_resources().get("CPU") == 1, 20)
            assert remove_orphans().orphans == ()
            ray_cluster.kill(ray_cluster.get_actor("service", namespace="service"))
            wait_until(lambda: remove_orphans() and ray_cluster.available_resources().get("CPU") == 2, 20)
        finally:
            other.kill()


def test_resources_by_run_reach_the_trial(molecules):
    """The rule decides for each run; a rule that returns nothing is refused with its name."""
    run = text_run(molecules)
    plan = Plan("s", lambda r: Resources(workers=2 if r.seed else 1, cpus=2), runs={})
    assert plan.resources_of(run).workers == 1
    assert plan.resources_of(replace(run, seed=1)).workers == 2
    with pytest.raises(ValueError, match=r"return a chemscale\.Resources for every run"):
        Plan("s", lambda r: None, runs={}).resources_of(run)
