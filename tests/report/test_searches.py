"""What the report says of a search agrees with what was planted: the ends, the stops, and the setting that decides."""

import csv
import io
import random
from functools import partial

import pytest

from chemscale.audit.convergence import points_of
from chemscale.report import figures
from chemscale.report.collect import collect
from chemscale.report.importance import CLEAR, MEASURED, importances
from chemscale.report.searches import searches, varied
from chemscale.report.values import Tried
from tests.report.planted import rows_of
from tests.report.searched import BEST_LR, POINTS, STOPPED_AT, end_of, search_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return search_store(tmp_path_factory.mktemp("searched") / "store")


@pytest.fixture(scope="module")
def found(store):
    (one,) = searches(rows_of(store), partial(points_of, store))
    return one


def test_the_setting_that_decides_is_found(found):
    first, second = found.importances
    assert first.field == "optim.lr"
    assert first.chance < CLEAR < second.chance
    assert first.share > 0.6
    assert 0.3 * BEST_LR < first.best < 3 * BEST_LR
    assert "learning rate" in found.importance_sentences[0]
    assert "warmup did no more than chance" in found.importance_sentences[0]


def test_stops_and_forecasts_are_counted(found):
    assert len(found.tried) == 24
    assert len(found.stopped) == 12
    assert {one.reached for one in found.stopped} == {STOPPED_AT / POINTS}
    assert found.saved == pytest.approx(0.5 * (1 - STOPPED_AT / POINTS))
    for one in found.tried:
        assert one.end == pytest.approx(end_of(one.settings["optim.lr"]))
    best = min(one.final for one in found.tried if one.final is not None)
    reaching = sum(one.forecast[1] <= best for one in found.stopped)
    sentence = found.stop_sentences[1]
    assert ("every forecast’s 95 % interval lies above it" in sentence) == (reaching == 0)


def test_forecasts_of_finished_runs_are_judged_out_of_fold(found):
    assert found.foretold.runs == 12
    assert found.foretold.share == pytest.approx(STOPPED_AT / POINTS)
    assert found.foretold.error < 0.05  # the planted curves have one shape
    assert found.foretold.rank > 0.8


def test_settings_without_effect_are_not_called_important():
    chance = random.Random(3)
    tried = [
        Tried(str(i), "finished", ((1.0, 1.0),), chance.uniform(1, 2), None, {"a": chance.random(), "b": i % 3})
        for i in range(40)
    ]
    assert all(one.chance > CLEAR for one in importances(tried, ["a", "b"]))
    assert importances(tried[: MEASURED - 1], ["a", "b"]) == ()


def test_a_grid_is_no_search(tmp_path):
    from tests.report.planted import PAINN, plant
    from tests.report.planted import Store as Records

    records = Records(tmp_path / "grid", create=True)
    records.enlist("grid", plant(records, PAINN, forecast=False))
    assert searches(rows_of(records), partial(points_of, records)) == ()
    assert varied([{"optim": {"lr": 1}}, {"optim": {"lr": 1}}]) == []


def test_its_figures_hold_its_values(found):
    drawn = list(csv.DictReader(io.StringIO(figures.stops(found).csv)))
    assert {row["run_id"] for row in drawn} == {one.run_id for one in found.tried}
    by_id = {one.run_id: one for one in found.tried}
    for row in drawn:
        one = by_id[row["run_id"]]
        said = row["final"] or row["forecast"]
        assert float(said) == pytest.approx(one.end, rel=1e-5)
    shares = list(csv.DictReader(io.StringIO(figures.importance(found).csv)))
    assert [row["field"] for row in shares] == [one.field for one in found.importances]
    assert len(figures.slices(found)) == len(found.importances)


def test_the_page_of_a_search_alone_has_its_section(store):
    from chemscale.report import page

    text = page.html(collect(store))
    assert '<section id="searches">' in text
    assert '<section id="frontier">' not in text
    assert "search-1-stops" in text
