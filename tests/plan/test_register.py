"""Forecasts frozen before a run: never changed, matched to the run that came of them, scored where it was made."""

import json

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.plan import freeze, resolved, scores
from chemscale.plan.register import intact, score
from tests.laws.planted import chinchilla, grid


@pytest.fixture(scope="module")
def frozen():
    table = grid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5), noise=0.003)
    law = fit(table, data="tokens", loss="loss", bootstrap=100)
    made = freeze(law, params=1e9, data=1e11, metric="loss", architecture="chemgpt")
    return json.loads(json.dumps({**made, "run_id": "next", "registered": 100.0}))


def run(params=1e9, data=1e11, started=200.0, off=1.0, **changes):
    row = {"run_id": "abc", "status": "finished", "architecture": "chemgpt", "started": started}
    return {**row, "params": params, "tokens": data, "loss": chinchilla(params, data) * off, **changes}


def test_a_forecast_that_was_changed_is_refused(frozen):
    assert intact(frozen)
    changed = {**frozen, "value": frozen["value"] * 0.9}
    with pytest.raises(ValueError, match="is not what was registered"):
        score("next", changed, [])


def test_the_nearest_later_run_is_scored_at_its_own_size(frozen):
    rows = [
        run(run_id="far", params=1.9e9),
        run(run_id="near", params=1.2e9, data=0.9e11),
        run(run_id="off", params=9e9),
    ]
    told = score("next", frozen, rows)
    assert told.run_id == "near" and (told.params, told.data) == (1.2e9, 0.9e11)
    assert told.measured == pytest.approx(chinchilla(1.2e9, 0.9e11)) and told.inside
    assert told.off == pytest.approx(told.predicted / told.measured - 1)
    assert told.predicted != frozen["value"]  # the law speaks of the run that was made


def test_the_forecasts_own_run_goes_before_a_nearer_one(frozen):
    told = score("abc", frozen, [run(run_id="near"), run(run_id="abc", params=3e9)])
    assert told.run_id == "abc" and told.params == 3e9


@pytest.mark.parametrize(
    "row", [run(started=50.0), run(status="running"), run(architecture="painn"), run(params=3e9), run(data=4e10)]
)
def test_what_is_no_run_of_the_plan(frozen, row):
    told = score("next", frozen, [row])
    assert (told.run_id, told.measured, told.inside) == (None, None, None)
    assert told.predicted == pytest.approx(frozen["value"])


def test_a_miss_is_said(frozen):
    told = score("next", frozen, [run(off=1.5)])
    assert told.inside is False and told.off == pytest.approx(1 / 1.5 - 1, abs=0.02)


def test_reports_get_plans_by_the_run_that_came_of_them(frozen):
    other = {"value": 1.0, "architecture": "painn"}
    rows = [run()]
    assert [s.name for s in scores({"next": frozen, "xyz": other}, rows)] == ["next"]
    found = resolved({"next": frozen, "xyz": other}, rows)
    assert set(found) == {"abc", "xyz"} and found["xyz"] == other and found["abc"]["params"] == 1e9
    assert set(resolved({"next": frozen}, [])) == {"next"}
    changed = resolved({"next": {**frozen, "value": 1.0}}, rows)
    assert changed["next"]["value"] is None and "was changed" in changed["next"]["reason"]
