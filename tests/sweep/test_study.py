"""A study end to end at a tiny size: the largest cells predicted before they train, the page, nothing done twice."""

import time

import pytest

from chemscale.records.store import Store
from chemscale.sweep.recipe import load_recipe
from chemscale.sweep.study import foresee, run_study
from tests.records.test_store import finished
from tests.test_spec import BASE

QUICKSTART = {"widths": (4, 8), "molecules": (20, 60, 200), "schnet_widths": (4, 8), "painn_widths": (4,)}


@pytest.mark.slow
def test_the_quickstart_at_a_tiny_size(ray_cluster, molecules, structures, tmp_path):
    from chemscale.report.page import report
    from chemscale.report.table import table

    options = {**QUICKSTART, "structures": (20, 80), "source": molecules, "potential_source": structures}
    study = load_recipe("tune_jobs/quickstart.py", options)
    began = time.perf_counter()
    store = run_study(study, store=tmp_path / "store")
    trained = time.perf_counter() - began
    rows = {row["run_id"]: row for row in store.runs().to_pylist()}
    assert len(rows) == len(study.runs())
    assert {row["status"] for row in rows.values()} == {"finished"}
    forecasts = store.forecasts()
    foreseen = {(rows[i]["architecture"], rows[i]["width"], rows[i]["examples"]) for i in forecasts}
    assert foreseen == {("chemgpt", 8, 200), ("schnet", 8, 80), ("painn", 4, 80)}
    for run_id, forecast in forecasts.items():
        assert forecast["registered"] < rows[run_id]["started"]
        assert run_id not in forecast["trained_on"]
        assert forecast["value"] is None or forecast["low"] < forecast["value"] < forecast["high"]
    again = time.perf_counter()
    run_study(study, store=tmp_path / "store")
    assert store.forecasts() == forecasts
    assert time.perf_counter() - again < trained / 4
    page = report(store, out=tmp_path / "page")
    assert "PaiNN" in page.read_text()
    assert table(store) is not None


def planted(store, runs, loss):
    for run in runs:
        store.enlist("s", [run])
        store.claim(run, {}).end(
            {
                **finished(run_id=run.id, params=run.model.width**2, molecules=run.data.size, architecture="chemgpt"),
                "law_metric": "nats_per_token",
                "nats_per_token": loss(run.model.width**2, run.data.size),
            }
        )


def test_a_planted_law_is_foreseen(tmp_path):
    from chemscale.models import ChemGPT
    from chemscale.sweep import Grid

    grid = Grid(BASE, models=[ChemGPT.sized(width=w) for w in (8, 16, 32, 64)], sizes=(100, 1000, 10000, 100000))
    runs = grid.runs()

    def law(n, d):
        return 30 / n**0.4 + 20 / d**0.4

    store = Store(tmp_path / "store", create=True)
    planted(store, runs[:-1], law)
    assert foresee(store, runs[:-1], runs[-1:], {r.id: r.model.width**2 for r in runs}) == []
    forecast = store.forecasts()[runs[-1].id]
    assert forecast["value"] == pytest.approx(law(64**2, 100000), rel=0.02)
    assert forecast["data_column"] == "molecules"


def test_what_no_law_can_predict_says_why(tmp_path):
    store = Store(tmp_path / "store", create=True)
    runs = [BASE]
    unforeseen = foresee(store, [], runs, {BASE.id: 100})
    assert unforeseen[0].reason == "no smaller run finished"
    assert store.forecasts()[BASE.id]["value"] is None
