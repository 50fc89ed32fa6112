"""Trackers see what each run is and how it ended: any callback of Ray Tune, MLflow and W&B where they are installed."""

import importlib.util

import pytest
from ray.tune.logger import LoggerCallback

from chemscale.cli import main
from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep import Search, loguniform
from chemscale.sweep.drive import sweep
from chemscale.sweep.searching import search
from chemscale.sweep.trackers import Informed
from chemscale.sweep.trial import Plan
from tests.train.runs import EVALUATION, ONE_BY_ONE

RECIPE = """
from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep.grid import Grid
from tests.train.runs import EVALUATION
base = RunSpec(ChemGPT.sized(width=4), Data({path!r}), Optim(batch=8), Budget(updates=12), EVALUATION)
def recipe():
    return Grid(base, sizes=(40, 80))
"""


class Notes(LoggerCallback):
    """What a tracker is told."""

    def __init__(self):
        self.configs, self.results, self.ended = {}, {}, []

    def log_trial_start(self, trial):
        self.configs[trial.trial_id] = dict(trial.config)

    def log_trial_result(self, iteration, trial, result):
        self.results.setdefault(trial.trial_id, []).append(dict(result))

    def log_trial_end(self, trial, failed=False):
        self.ended.append((trial.trial_id, failed))


def base_run(path):
    return RunSpec(ChemGPT.sized(width=4), Data(path, size=60), Optim(batch=8), Budget(updates=12), EVALUATION)


@pytest.mark.slow
def test_any_callback_is_told_what_each_run_of_a_grid_and_a_search_is(ray_cluster, molecules, tmp_path):
    grid, found = Notes(), Notes()
    store = sweep([base_run(molecules)], store=tmp_path / "store", callbacks=[grid])
    (row,) = store.runs().to_pylist()
    (config,) = grid.configs.values()
    for name in ("architecture", "width", "examples", "lr", "batch", "seed", "run_id"):
        assert config[name] == row[name]
    (results,) = grid.results.values()
    assert results[-1]["law_loss"] == row["law_loss"]
    assert results[-1]["timesteps_total"] == row["examples_seen"]
    assert [failed for _, failed in grid.ended] == [False]
    space = {"optim.lr": loguniform(1e-3, 1e-1)}
    plan = Search(base_run(molecules), space, samples=2, name="rates")
    search(plan, store=store, on=ONE_BY_ONE, callbacks=[found])
    rates = {run.optim.lr for run in (store.spec(i) for i in store.studies()["rates"]["runs"])}
    assert {config["lr"] for config in found.configs.values()} == rates
    assert {config["architecture"] for config in found.configs.values()} == {"chemgpt"}


def test_a_trial_keeps_its_own_configuration_whatever_the_tracker_does():
    class Trial:
        def __init__(self):
            self.config = {"run_id": "nobody knows it"}

    class Broken(Notes):
        def log_trial_start(self, trial):
            raise RuntimeError("the tracker is away")

    trial = Trial()
    with pytest.raises(RuntimeError, match="away"):
        Informed(Broken(), Plan("store", None)).on_trial_start(iteration=1, trials=[trial], trial=trial)
    assert trial.config == {"run_id": "nobody knows it"}


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_sentence(package, molecules, tmp_path, capsys, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else known(name))
    (tmp_path / "recipe.py").write_text(RECIPE.format(path=molecules))
    asked = ["sweep", str(tmp_path / "recipe.py"), "--store", str(tmp_path / "store"), f"--{package}", "somewhere"]
    assert main(asked) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith(f"pip install 'chemscale[{package}]'.") and "\n" not in said
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of MLflow and of the database behind it
def test_mlflow_holds_what_was_trained_and_its_losses_by_examples(ray_cluster, molecules, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    (tmp_path / "recipe.py").write_text(RECIPE.format(path=molecules))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store = str(tmp_path / "store")
    asked = ["sweep", str(tmp_path / "recipe.py"), "--store", store, "--concurrent", "1", "--mlflow", uri]
    assert main(asked) == 0
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("recipe")
    logged = {run.data.params["run_id"]: run for run in client.search_runs([experiment.experiment_id])}
    rows = Store(store).runs().to_pylist()
    assert set(logged) == {row["run_id"] for row in rows}
    for row in rows:
        run = logged[row["run_id"]]
        assert run.info.status == "FINISHED"
        assert (run.data.params["architecture"], run.data.params["examples"]) == ("chemgpt", str(row["examples"]))
        assert run.data.metrics["law_loss"] == pytest.approx(row["law_loss"])
        points = Store(store).points(row["run_id"]).to_pylist()
        shown = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "valid_loss")}
        assert shown == {p["examples"]: pytest.approx(p["valid_loss"]) for p in points}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of W&B
def test_wandb_holds_what_was_trained(ray_cluster, molecules, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (tmp_path / "recipe.py").write_text(RECIPE.format(path=molecules))
    from chemscale.sweep.recipe import load_recipe
    from chemscale.sweep.study import run_study
    from chemscale.sweep.trackers import wandb

    tracker = wandb("chemscale-test", "recipe")
    study = load_recipe(str(tmp_path / "recipe.py"))
    store = run_study(study, store=tmp_path / "store", on=ONE_BY_ONE, callbacks=[tracker])
    kept = b"".join(path.read_bytes() for path in (tmp_path / "wandb").rglob("run-*.wandb"))
    for row in store.runs().to_pylist():
        assert row["run_id"].encode() in kept
    assert b"law_loss" in kept and b"architecture" in kept
