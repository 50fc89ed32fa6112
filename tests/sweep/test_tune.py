"""Sweeps and searches on a real Ray: finished once and as the loop alone would, stopped and failed runs told apart."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from chemscale import spec
from chemscale.models import ChemGPT, PaiNN
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep import ASHA, Grid, Search, choice, loguniform
from chemscale.sweep.drive import sweep, tuner
from chemscale.sweep.preparation import prepare
from chemscale.sweep.searching import search
from tests.train.runs import EVALUATION, ONE_BY_ONE

pytestmark = pytest.mark.slow


def text_grid(path, widths=(4, 8), sizes=(40, 100), updates=12):
    base = RunSpec(
        model=ChemGPT.sized(width=widths[0]), data=Data(path), optim=Optim(batch=8), budget=Budget(updates=updates),
        evaluation=EVALUATION,
    )  # fmt: skip
    return Grid(base, models=[ChemGPT.sized(width=w) for w in widths], sizes=sizes)


def atoms_grid(path, updates=8):
    base = RunSpec(
        model=PaiNN.sized(width=4), data=Data(path), optim=Optim(batch=8), budget=Budget(updates=updates),
        evaluation=EVALUATION,
    )  # fmt: skip
    return Grid(base, sizes=(40, 80))


def test_a_grid_of_both_families_finishes_and_a_rerun_does_nothing(ray_cluster, molecules, structures, tmp_path):
    runs = text_grid(molecules).runs() + atoms_grid(structures).runs()
    store = sweep(runs, store=tmp_path / "store")
    assert store.runs()["status"].to_pylist() == ["finished"] * 6
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "runs").rglob("*") if p.is_file()}
    sweep(runs, store=tmp_path / "store")
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "runs").rglob("*") if p.is_file()}
    assert before == after


def test_a_run_in_a_trial_gives_the_numbers_of_the_loop_alone(ray_cluster, molecules, tmp_path):
    from tests.train.runs import train

    run = prepare(text_grid(molecules).runs()[:1], Resources())[0]
    alone = train(run, tmp_path / "alone")
    swept = sweep([run], store=tmp_path / "swept")
    assert equal(alone.points(), swept.points(), POINTS)
    columns = [c for c in RUNS.lasting if c != "studies"]
    assert alone.runs().select(columns).equals(swept.runs().select(columns))


def test_an_asha_search_ends_every_run_in_its_true_status(ray_cluster, molecules, tmp_path):
    base = RunSpec(
        model=ChemGPT.sized(width=4), data=Data(molecules, size=100), optim=Optim(batch=8),
        budget=Budget(updates=48), evaluation=Evaluation(8, 32, 32),
    )  # fmt: skip
    plan = Search(
        base, {"optim.lr": loguniform(1e-7, 1e-1)}, samples=12, stop=ASHA(grace=0.125, reduction=3), sampler="random",
        seed=1,
    )  # fmt: skip
    found = search(plan, store=tmp_path / "store")
    store = Store(tmp_path / "store")
    statuses = Counter(status for _, status, _ in found.trials)
    assert set(statuses) <= {"finished", "stopped", "diverged"}
    assert statuses["stopped"] >= 3
    assert statuses["finished"] >= 1
    assert sum(statuses.values()) == 12
    for row in store.runs().to_pylist():
        points = store.points(row["run_id"]).to_pylist()
        assert points
        if row["status"] == "stopped":
            assert row["law_loss"] is None
            assert points[-1]["examples"] < 48 * 8
        elif row["status"] == "finished":
            assert points[-1]["examples"] == 48 * 8
    finished = [loss for _, status, loss in found.trials if status == "finished"]
    assert found.loss == min(finished)
    rows = len(store.runs())
    again = search(plan, store=tmp_path / "store")
    assert (again.best, again.loss, len(store.runs())) == (found.best, found.loss, rows)
    more = search(replace(plan, samples=14), store=tmp_path / "store")
    assert len(more.trials) == 14


def test_a_tpe_search_replays_what_the_store_holds(ray_cluster, molecules, tmp_path):
    base = RunSpec(
        model=ChemGPT.sized(width=4), data=Data(molecules, size=40), optim=Optim(batch=8), budget=Budget(updates=4),
        evaluation=Evaluation(2, 16, 16),
    )  # fmt: skip
    plan = Search(base, {"optim.lr": loguniform(1e-5, 1e-1), "optim.batch": choice(4, 8)}, samples=4)
    search(plan, store=tmp_path / "store")
    from chemscale.sweep.found import result_of, samples_of
    from chemscale.sweep.proposals import Proposals

    complete_plan, store = replace(plan, base=prepare([base], Resources())[0]), Store(tmp_path / "store")
    result = result_of(store, complete_plan)
    proposals = Proposals(complete_plan, store, samples_of(store, complete_plan))
    assert proposals.trials == 0
    trials = proposals._cells[0].asked._study.trials
    assert [t.params for t in trials] == [values for values, _, _ in result.trials]
    assert [t.value for t in trials] == [loss for _, _, loss in result.trials]


@spec.register_model
@dataclass(frozen=True)
class Raises(ChemGPT):
    """A model of the user's own whose module cannot be built."""

    architecture: ClassVar[str] = "raises"

    def build(self, manifest):
        raise RuntimeError("the reactor is on fire")


def test_a_failing_cell_is_a_row_and_the_others_go_on(ray_cluster, molecules, tmp_path):
    good = text_grid(molecules, widths=(4,), sizes=(40,)).runs()
    bad = replace(
        good[0], model=Raises(**vars(good[0].model)),
        optim=Optim(lr=1e-3, batch=8),
    )  # fmt: skip
    store = Store(tmp_path / "store", create=True)
    runs = prepare([*good, bad], Resources())
    store.enlist("s", runs)
    from chemscale.sweep.drive import train_missing

    train_missing(store, runs, on=Resources(), name="s")
    rows = {row["architecture"]: row for row in store.runs().to_pylist()}
    assert rows["chemgpt"]["status"] == "finished"
    assert rows["raises"]["status"] == "failed"
    assert "RuntimeError: the reactor is on fire" in rows["raises"]["stop_reason"]


def test_a_cluster_too_small_is_refused_with_both_numbers(ray_cluster, molecules, tmp_path):
    for on, numbers in ((Resources(workers=3), "3 CPUs"), (Resources(gpus=1), "1 GPUs")):
        with pytest.raises(ValueError, match=f"asks for {numbers}, the cluster has"):
            sweep(text_grid(molecules), store=tmp_path / "store", on=on)


def test_the_plain_tuner_is_tunes_own(ray_cluster, molecules, tmp_path, monkeypatch):
    """Without the settings of `cs.sweep`, which a program of one's own does not have."""
    from chemscale.sweep.cluster import QUIET

    for name in QUIET:
        monkeypatch.delenv(name, raising=False)

    grid = text_grid(molecules, widths=(4,))
    patient = ASHAScheduler(time_attr="examples", max_t=10**6, grace_period=10**6)
    made = tuner(grid, store=tmp_path / "store", scheduler=patient)
    assert isinstance(made, tune.Tuner)
    results = made.fit()
    assert not results.errors
    assert results.get_best_result("valid_loss", "min", scope="last-5-avg").metrics["valid_loss"] > 0
    assert Store(tmp_path / "store").runs()["status"].to_pylist() == ["finished"] * 2
    with pytest.raises(ValueError, match="already holds every run"):
        tuner(grid, store=tmp_path / "store")


def test_a_model_of_the_users_own_runs_from_its_recipe(ray_cluster, molecules, tmp_path):
    from chemscale.sweep.recipe import load_recipe
    from chemscale.sweep.study import run_study

    options = {"widths": (2, 4), "sizes": (40,), "source": molecules, "updates": 20}
    try:
        store = run_study(load_recipe("tune_jobs/own_model.py", options), store=tmp_path / "store", on=ONE_BY_ONE)
        rows = store.runs().to_pylist()
        assert [(row["architecture"], row["status"]) for row in rows] == [("bigram", "finished")] * 2
        assert all(row["params"] > 0 and row["flops"] > 0 for row in rows)
    finally:
        spec.MODELS.pop("bigram", None)


class Seen(tune.Callback):
    """Keeps the trials that Tune ends with."""

    trials = ()

    def on_experiment_end(self, trials, **info):
        self.trials = tuple(trials)


def test_tune_keeps_no_metrics_of_trials_that_ended(ray_cluster, molecules, tmp_path):
    """They were most of what a sweep of a thousand cells grew by; a Tuner of the user's own keeps them."""
    seen = Seen()
    sweep(text_grid(molecules, widths=(4,)), store=tmp_path / "store", on=ONE_BY_ONE, callbacks=[seen])
    assert [trial.status for trial in seen.trials] == ["TERMINATED"] * 2
    assert not any(trial.run_metadata.metric_analysis or trial.run_metadata.metric_n_steps for trial in seen.trials)
