"""The verbs plan and explore: what they print for people and for programs, and mistakes."""

import csv
import json

import numpy as np
import pytest

from chemscale.cli import main
from chemscale.records.store import Store
from tests.laws.planted import chinchilla
from tests.records.test_store import finished
from tests.test_spec import BASE


@pytest.fixture
def table(tmp_path):
    path, rng = tmp_path / "runs.csv", np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["architecture", "params", "structures", "force_mae", "flops", "device_seconds"])
        for architecture, alpha, each in (("schnet", 0.30, 400), ("painn", 0.36, 1500)):
            for n in np.geomspace(1e4, 1e7, 5):
                for d in np.geomspace(1e3, 1e6, 5):
                    loss = chinchilla(n, d, E=0.02, A=3, B=4, alpha=alpha, beta=0.35) * np.exp(rng.normal(0, 0.01))
                    flops = each * n**0.9 * d
                    out.writerow([architecture, n, d, loss, flops, flops * 1e-9 * n**-0.25])
    return str(path)


def said(capsys, *words):
    status = main([*map(str, words)])
    out = capsys.readouterr()
    return status, out.out, out.err


def plan(capsys, table, *words):
    return said(capsys, "plan", table, "--loss", "force_mae", "--form", "chinchilla", "--bootstrap", 100, *words)


def test_architectures_each_at_its_own_cost(table, capsys):
    status, out, _ = plan(capsys, table, "--by", "architecture", "--money", 50, "--price", 2, "--json")
    found = json.loads(out)
    assert status == 0 and {found["architecture"], found["rivals"][0]["architecture"]} == {"painn", "schnet"}
    assert found["best"]["money"] == pytest.approx(50, rel=1e-3)
    assert found["worth"]["money_per_label"] > 0 and found["first"]["answer"] in ("data", "parameters", "cannot tell")
    status, out, _ = plan(capsys, table, "--by", "architecture", "--labels", 3e5)
    assert status == 0 and out.startswith("train ") and "first: at twice the cost" in out and "one more of the" in out


def test_an_architecture_with_too_few_runs_is_named_and_the_others_planned(table, capsys):
    with open(table, "a", newline="") as file:
        csv.writer(file).writerows([["nequip", 1e4, d, 1.0, 1e9 * d, d] for d in (1e3, 1e4)])
    status, out, _ = plan(capsys, table, "--by", "architecture", "--flops", 1e15, "--json")
    found = json.loads(out)
    assert status == 0 and {found["architecture"], found["rivals"][0]["architecture"]} == {"painn", "schnet"}
    assert found["warnings"][0].startswith("not compared, for it has no law: architecture=nequip: form='chinchilla'")


def test_another_column_of_flops_and_none(tmp_path, capsys):
    path, rows = tmp_path / "t.csv", ["N,tokens,loss,C"]
    for n in np.geomspace(1e7, 1e9, 5):
        rows += [f"{n},{d},{chinchilla(n, d)},{12 * n * d}" for d in np.geomspace(1e9, 1e11, 5)]
    path.write_text("\n".join(rows))
    words = ("plan", path, "--params", "N", "--data", "tokens", "--loss", "loss", "--flops", 1e21, "--bootstrap", 20)
    words = (*words, "--form", "chinchilla", "--json")
    six, twelve = (json.loads(said(capsys, *words, *more)[1])["best"] for more in ((), ("--cost", "C")))
    assert six["params"] * six["data"] == pytest.approx(1e21 / 6, rel=1e-3)
    out = said(capsys, *words[:-1])[1]
    assert ") by the chinchilla law of 25 runs, with cost" in out and "loss loss" not in out and "8 loss (" not in out
    assert "20 refits are few" in out and "give bootstrap at least 399" in out
    assert twelve["params"] * twelve["data"] == pytest.approx(1e21 / 12, rel=1e-3)


def test_next_runs_and_their_target(table, capsys):
    only = ("--where", "architecture == 'painn'", "--device-hours", 5)
    status, out, _ = plan(capsys, table, *only, "--next-runs", 1, "--target", "params=1e7,data=1e7", "--json")
    found = json.loads(out)["next_runs"]
    assert status == 0 and found["after"] < found["before"] and found["spent"] <= 1
    assert plan(capsys, table, *only, "--next-runs", 1, "--target", "alpha")[0] == 0
    status, _, err = plan(capsys, table, *only, "--next-runs", 1, "--target", "gamma")
    assert status == 2 and "no parameter of chinchilla" in err


def test_a_forecast_of_a_table_is_a_file_that_is_never_overwritten(table, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    only = ("--where", "architecture == 'painn'", "--register", "next")
    status, out, _ = plan(capsys, table, *only, "--flops", 1e15, "--json")
    held = json.loads((tmp_path / "next.forecast.json").read_text())
    assert status == 0 and json.loads(out)["registered"]["hash"] == held["hash"]
    assert plan(capsys, table, *only, "--flops", 1e15)[0] == 0  # the same once more
    status, _, err = plan(capsys, table, *only, "--flops", 2e15)
    assert status == 2 and "never overwritten" in err
    assert json.loads((tmp_path / "next.forecast.json").read_text()) == held
    n, d = held["params"], held["data"]
    loss = chinchilla(n, d, E=0.02, A=3, B=4, alpha=0.36, beta=0.35)
    with open(table, "a", newline="") as file:  # the run that came of it
        csv.writer(file).writerow(["painn", n, d, loss, 1e15, 1.0])
    words = ("audit", table, "--params", "params", "--data", "structures", "--loss", "force_mae", *only[:2])
    status, out, _ = said(capsys, *words, "--forecast", "next.forecast.json", "--json")
    (claim,) = (c for c in json.loads(out)["claims"] if c["kind"] == "forecast")
    assert status == 0 and claim["mark"] == "supported" and claim["numbers"]["measured"] == loss
    (tmp_path / "next.forecast.json").write_text(json.dumps({**held, "value": 2 * held["value"]}))
    out = said(capsys, *words, "--forecast", "next.forecast.json", "--json")[1]
    (claim,) = (c for c in json.loads(out)["claims"] if c["kind"] == "forecast")
    assert claim["mark"] == "not supported" and "was changed after" in claim["why"]
    for name, content, told in (("law.json", "{}", "is no forecast"), ("none.json", None, "cannot be read")):
        if content is not None:
            (tmp_path / name).write_text(content)
        status, _, err = said(capsys, *words, "--forecast", name)
        assert status == 2 and told in err


def test_a_forecast_of_a_store_is_scored_by_its_report_once_the_run_is_made(tmp_path, capsys):
    from dataclasses import replace

    from chemscale.plan import resolved
    from chemscale.spec import Data

    store, rng = Store(tmp_path / "store", create=True), np.random.default_rng(1)

    def made(n, d, seed):
        run = replace(BASE, data=Data("moses", size=d, content="c"), seed=seed)
        loss = chinchilla(n, d, E=0.5, A=8, B=20, alpha=0.3, beta=0.35) * np.exp(rng.normal(0, 0.002))
        row = finished(run_id=run.id, params=n, molecules=d, architecture="chemgpt", flops=6.0 * n * d)
        store.enlist("s", [run])
        store.claim(run, {}).end({**row, "law_metric": "nats_per_token", "nats_per_token": loss})
        return run.id

    seeds = iter(range(1000))
    for n in (10_000, 40_000, 160_000, 640_000):
        for d in (1000, 4000, 16_000, 64_000):
            made(n, d, next(seeds))
    words = ("plan", tmp_path / "store", "--loss", "nats_per_token", "--form", "chinchilla", "--bootstrap", 100)
    status, out, _ = said(capsys, *words, "--flops", 1e12, "--register", "next", "--json")
    planned = json.loads(out)["registered"]
    assert status == 0 and store.forecasts()["next"]["hash"] == planned["hash"]
    run_id = made(round(planned["params"] * 1.1), round(planned["data"] * 0.9), next(seeds))
    rows = store.runs().to_pylist()
    for row in rows:
        row["started"] = row.get("started") or planned["registered"] + 1
    found = resolved(store.forecasts(), rows)
    assert set(found) == {run_id} and found[run_id]["params"] == round(planned["params"] * 1.1)
    other = replace(BASE, data=Data("moses", size=7, content="c"), seed=next(seeds))  # of another loss and architecture
    row = finished(run_id=other.id, params=9, architecture="painn", law_metric="force_mae", force_mae=1.0)
    store.claim(other, {}).end({**row, "nats_per_token": None})
    status, out, _ = said(capsys, *words[:4], "--bootstrap", 100, "--flops", 1e12, "--register", "second", "--json")
    assert status == 0 and store.forecasts()["second"]["architecture"] == "chemgpt"
    assert sum("forms weighted by their backtests" in note for note in json.loads(out)["warnings"]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--money", 5), "price=None must be positive"),
        ((), "give one budget"),
        (("--flops", 1e15, "--money", 1), "give one budget"),
        (("--flops", 1e15, "--cost", "nothing"), "--cost='nothing' is not a column"),
        (("--flops", 1e3, "--register", "x"), "no planned run to register"),
        (("--flops", 1e15, "--rule", "d"), "--next-runs BUDGET or leave"),
        (("--flops", 1e15, "--target", "alpha"), "--next-runs BUDGET or leave"),
    ],
)
def test_mistakes_are_one_sentence(table, capsys, words, told):
    status, _, err = plan(capsys, table, "--where", "architecture == 'painn'", *words)
    assert status == 2 and told in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give one budget"),
        (("--money", 5), "price=None must be positive"),
        (("--flops", 1e15, "--label-price", 2), "the budget must be money too"),
        (("--flops", 1e15), "name its column of FLOPs (--cost COL)"),
        (("--device-hours", 1, "--cost", "structures"), "add a column device_seconds"),
    ],
)
def test_what_no_fit_would_mend_is_refused_before_it(tmp_path, capsys, monkeypatch, words, told):
    path = tmp_path / "bare.csv"
    path.write_text("params,structures,force_mae\n" + "\n".join(f"{i},{i},{i}" for i in range(1, 9)))
    monkeypatch.setattr("chemscale.cli.deciding.fit_law", lambda *_, **__: pytest.fail("it was fitted"))
    status, _, err = plan(capsys, path, *words)
    assert status == 2 and told in err


def test_an_exploration_needs_a_grid_of_one_architecture(capsys, tmp_path, molecules):
    recipe = tmp_path / "recipe.py"
    recipe.write_text("def recipe():\n    from chemscale.sweep import Search\n    return 3\n")
    words = ("explore", recipe, "--store", tmp_path / "store", "--target", "params=1e5,data=1e5")
    status, _, err = said(capsys, *words, "--flops", 1e12)
    assert status == 2 and "return a Grid" in err
    status, _, err = said(capsys, "explore", "tune_jobs/quickstart.py", "--store", tmp_path / "s", "--target", "alpha")
    assert status == 2 and "give one budget" in err
