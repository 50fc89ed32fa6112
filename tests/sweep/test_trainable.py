"""A user's own Tune program: its scheduler and its search decide, and the store says truly what became of each run."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler as Base
from ray.tune.search import Searcher

import chemscale as cs
from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec, with_fields
from chemscale.sweep.preparation import prepare
from chemscale.sweep.trainable import Fields, OpenPlan, flattened, train_open
from chemscale.sweep.trial import Plan, Steady, trial
from chemscale.sweep.tune import _untold
from tests.head_node import wait_until
from tests.sweep.test_tune import Raises
from tests.train.runs import EVALUATION

PROGRAM = Path(__file__).with_name("own_program.py")


def base_run(path, **changes):
    kept = {"budget": Budget(updates=24), "evaluation": EVALUATION, **changes}
    return RunSpec(ChemGPT.sized(width=4), Data(path, size=60), Optim(batch=8), **kept)


def test_groups_of_a_configuration_may_be_nested(molecules):
    run = Fields(base_run(molecules))({"optim": {"lr": 0.01, "batch": 4}, "seed": 3})
    assert (run.optim.lr, run.optim.batch, run.seed) == (0.01, 4, 3)
    assert flattened({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"optim.rate": 1}, "optim.rate is not a field of a run"),
        ({"model": {"wdth": 8}}, "model.wdth is not a field of a run"),
        ({"data.source": "moses"}, "cannot be searched"),
        ({"optim.lr": -1.0}, "must be a number above 0"),
    ],
)
def test_a_configuration_that_is_no_run_is_one_sentence(config, words, molecules):
    with pytest.raises(ValueError, match=words) as caught:
        Fields(base_run(molecules))(config)
    assert "\n" not in str(caught.value)


def test_what_is_neither_a_run_nor_a_function_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a RunSpec nor a function"):
        cs.trainable("chemgpt", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_every_report_has_the_metric():
    told = []
    report = Steady(told.append)
    for row in ({"examples": 1}, {"examples": 2, "valid_loss": 3.0}, {"examples": 3}, {"status": "finished"}):
        report(row)
    assert [(row.get("examples"), row["valid_loss"]) for row in told] == [(2, 3.0), (3, 3.0), (None, 3.0)]


def test_between_measurements_a_run_of_a_grid_reports_the_last_one(molecules, tmp_path, monkeypatch):
    """A scheduler that a user hands to `cs.tuner` makes Tune ask for the metric in every report."""
    told, run = [], prepare([base_run(molecules)], None)[0]
    monkeypatch.setattr(tune, "report", told.append)
    monkeypatch.setattr("chemscale.train.journal.REPORT_SECONDS", 0.0)
    store = Store(tmp_path / "store", create=True)
    trial({"run_id": run.id}, Plan(store.url, Resources(), runs={run.id: run}))
    assert len(told) > 2 * EVALUATION.points
    assert all(row["valid_loss"] > 0 for row in told)
    assert _untold(ASHAScheduler(metric="valid_loss", mode="min")) == {}
    assert _untold(ASHAScheduler()) == {"metric": "valid_loss", "mode": "min"}


def test_a_diverged_run_is_the_worst_of_all_also_when_it_is_asked_for_again(molecules, tmp_path, monkeypatch):
    """Though it measured a finite loss on its way, or none at all."""
    told, store = [], Store(tmp_path / "store", create=True)
    base = with_fields(base_run(molecules, evaluation=Evaluation(points=24, valid=8, test=8)), {"optim.lr": 1e30})
    plan = OpenPlan(store.url, Resources(), make=Fields(base))
    monkeypatch.setattr(tune, "report", told.append)
    for _ in range(2):
        train_open({}, plan)
        assert (told[-1]["status"], told[-1]["valid_loss"]) == ("diverged", math.inf)
    (row,) = store.runs().to_pylist()
    assert row["status"] == "diverged" and row["attempt"] == 1


def test_a_run_that_tune_leaves_is_marked_by_its_own_process(molecules, tmp_path, monkeypatch):
    def left(row):
        sys.exit(0)  # as Ray ends a function that a scheduler stopped

    monkeypatch.setattr(tune, "report", left)
    store, base = Store(tmp_path / "store", create=True), base_run(molecules)
    plan = OpenPlan(store.url, Resources(), driver={"pid": 1, "born": 0, "host": "other"}, make=Fields(base))
    with pytest.raises(SystemExit):
        train_open({}, plan)
    (row,) = store.runs().to_pylist()
    assert row["status"] == "interrupted"
    assert row["stop_reason"] == "left by Tune: stopped, paused, or its driver ended"


def test_the_process_that_trains_answers_for_the_run(molecules, tmp_path, monkeypatch):
    store, owners = Store(tmp_path / "store", create=True), set()
    plan = OpenPlan(
        store.url, Resources(), driver={"pid": 1, "born": 0, "host": "other"}, make=Fields(base_run(molecules))
    )
    monkeypatch.setattr(tune, "report", lambda row: owners.update(state.owner for state in store.states().values()))
    train_open({}, plan)
    assert f"{os.getpid()}@{socket.gethostname()}" in owners
    assert "1@other" not in owners


# -- on a real Ray ----------------------------------------------------------------------------------------------------


class Largest(Searcher):
    """Learning rates that double; remembers what it was told."""

    def __init__(self):
        super().__init__(metric="valid_loss", mode="min")
        self.rate, self.results = 0.002, []

    def suggest(self, trial_id):
        self.rate *= 2
        return {"optim.lr": self.rate}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.results.append(result)


class StopSecond(TrialScheduler):
    """Stops every second trial at its first measurement; else first come, first served."""

    _metric = "valid_loss"

    def __init__(self):
        self.order = []

    def set_search_properties(self, metric, mode, **spec):
        return (metric, mode) == ("valid_loss", "min")

    def on_trial_add(self, tune_controller, trial):
        self.order.append(trial.trial_id)

    def on_trial_result(self, tune_controller, trial, result):
        return Base.STOP if self.order.index(trial.trial_id) % 2 else Base.CONTINUE

    def on_trial_error(self, tune_controller, trial):
        pass

    def on_trial_complete(self, tune_controller, trial, result):
        pass

    def on_trial_remove(self, tune_controller, trial):
        pass

    def choose_trial_to_run(self, tune_controller):
        waiting = [t for t in tune_controller.get_trials() if t.status == "PENDING"]
        return waiting[0] if waiting else None

    def debug_string(self):
        return "every second trial is stopped"


@pytest.fixture
def ray_folder(ray_cluster, tmp_path, monkeypatch):
    """Ray, and a folder for what Tune itself writes."""
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    return tmp_path


def fit(made, folder, **config):
    """Fit a Tuner around a trainable, as a user would."""
    callbacks = config.pop("callbacks", [])
    run_config = tune.RunConfig(storage_path=str(folder / "tune"), callbacks=callbacks, verbose=0)
    tune_config = tune.TuneConfig(metric="valid_loss", mode="min", **config)
    return tune.Tuner(made, tune_config=tune_config, run_config=run_config).fit()


@pytest.mark.slow
def test_own_scheduler_and_search_through_trainable_leave_true_statuses(ray_folder, molecules):
    searcher, store = Largest(), Store(ray_folder / "store", create=True)
    made = cs.trainable(base_run(molecules), store=store, name="mine")
    results = fit(
        made, ray_folder, callbacks=[made.word], scheduler=StopSecond(), search_alg=searcher, num_samples=4
    )  # fmt: skip
    rows = {row["lr"]: row for row in store.runs().to_pylist()}
    assert sorted(rows) == pytest.approx([0.004, 0.008, 0.016, 0.032])
    assert [rows[lr]["status"] for lr in sorted(rows)] == ["finished", "stopped", "finished", "stopped"]
    assert {row["run_id"] for row in rows.values()} == set(store.studies()["mine"]["runs"])
    best = results.get_best_result()
    assert best.metrics["law_loss"] == rows[best.config["optim.lr"]]["law_loss"]
    finished = [row for row in rows.values() if row["status"] == "finished"]
    assert best.metrics["valid_loss"] == min(row["valid_loss"] for row in finished)
    assert len(searcher.results) == 4 and not any(result is None for result in searcher.results)


@pytest.mark.slow
def test_without_the_word_a_stopped_run_reads_interrupted_and_goes_on_later(ray_folder, molecules):
    store = Store(ray_folder / "store", create=True)
    made = cs.trainable(lambda config: base_run(molecules, seed=config["seed"]), store=store)
    tuner = tune.Tuner(
        made,
        param_space={"seed": tune.grid_search([0, 1])},
        tune_config=tune.TuneConfig(metric="valid_loss", mode="min", scheduler=StopSecond()),
        run_config=tune.RunConfig(storage_path=str(ray_folder / "tune"), verbose=0),
    )
    tuner.fit()  # gives a stopped trial two seconds to end, then kills its process
    wait_until(lambda: sorted(store.runs()["status"].to_pylist()) == ["finished", "interrupted"], 20)
    again = cs.tuner(base_run(molecules), {"seed": tune.grid_search([0, 1])}, store=store, name="again")
    assert [result.metrics["valid_loss"] > 0 for result in again.fit()] == [True, True]
    assert store.runs()["status"].to_pylist() == ["finished", "finished"]


@pytest.mark.slow
def test_a_trial_that_raises_has_failed_once_and_a_bad_space_is_refused_before_any_trial(ray_folder, molecules):
    store = Store(ray_folder / "store", create=True)
    with pytest.raises(ValueError, match=r"optim\.rate is not a field of a run"):
        cs.tuner(base_run(molecules), {"optim.rate": tune.uniform(0, 1)}, store=store)
    broken = Raises(**vars(ChemGPT.sized(width=4)))
    made = cs.trainable(
        lambda config: with_fields(base_run(molecules), {"model": broken, "optim.lr": 0.01}), store=store
    )
    results = fit(made, ray_folder, callbacks=[made.word])
    (row,) = store.runs().to_pylist()
    assert results.errors
    assert row["status"] == "failed"
    assert "the reactor is on fire" in row["stop_reason"]
    assert store.state(row["run_id"]).failures == 1


@pytest.mark.slow
def test_the_program_of_the_readme_runs(tmp_path, short_folder):
    env = {**os.environ, "RAY_TMPDIR": short_folder, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rate, loss = done.stdout.splitlines()[-1].split()
    rows = Store(tmp_path / "runs" / "own").runs().to_pylist()
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    assert len(rows) == 6
    (best,) = [row for row in rows if row["lr"] == float(rate)]
    assert best["law_loss"] == float(loss)
