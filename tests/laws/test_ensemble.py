"""Ensembles and backtests: what is weighed, what it is weighed by, and that nothing ahead is looked at."""

import json

import numpy as np
import pytest

from chemscale.laws import Law, fit
from chemscale.laws.backtests.assemble import _within
from chemscale.laws.backtests.ensemble import weigh, weighted_median
from chemscale.laws.backtests.origins import Cell, cuts, nearness, window_mask
from chemscale.laws.tables.serial import blocks, effective_rows, neighbour_correlation
from tests.laws.planted import wide

X = np.geomspace(1e6, 1e9, 60)


def early_plateau(x):
    """A curve that starts on a plateau, as few-shot errors do, so that only its end is a power law."""
    return 0.1 + 0.85 / (1 + (x / 3e7) ** 0.8)


@pytest.fixture(scope="module")
def law():
    noise = np.exp(np.random.default_rng(0).normal(0, 0.005, len(X)))
    return fit({"n": X, "loss": early_plateau(X) * noise}, form="auto", data="n", loss="loss", bootstrap=50)


def test_the_ensemble_beats_a_floor_and_power_on_a_curve_with_a_plateau(law):
    ahead = np.geomspace(1.1e9, 3e9, 5)
    alone = fit({"n": X, "loss": law.runs.loss}, form="power_floor", data="n", loss="loss", bootstrap=0)
    error, single = (np.abs(np.log(one.losses(data=ahead) / early_plateau(ahead))).max() for one in (law, alone))
    assert error < 0.02 < single
    for x in ahead:
        said = law.predict(data=x)
        assert said.low < early_plateau(x) < said.high
        assert said.value == pytest.approx(float(law.losses(data=x)[0]))


def test_members_are_named_with_weights_that_sum_to_one(law):
    table = law.ensemble.table()
    assert sum(row["weight"] for row in table) == pytest.approx(1)
    assert {"power_floor", "power_floor top 50%"} <= {row["member"] for row in table}
    assert [row["weight"] for row in table] == sorted((row["weight"] for row in table), reverse=True)
    assert law.form in {row["form"] for row in table}


def test_json_goes_round_exactly(law):
    points = [{"data": 2e9}, {"data": 1e10}]
    found = json.loads(json.dumps(law.to_json(points), allow_nan=False))
    again = Law.from_json(found)
    assert json.dumps(again.to_json(points)) == json.dumps(law.to_json(points))
    assert found["ensemble"][0]["weight"] > 0 and found["predictions"][0]["members"][0]["weight"] > 0


def test_intervals_widen_with_distance(law):
    width = [np.log(p.high / p.low) for p in (law.predict(data=x) for x in (1.2e9, 1e10, 1e12))]
    assert width[0] < width[1] < width[2]


def test_a_backtest_does_not_know_the_runs_it_predicts():
    """Losses beyond the cut change neither the ensemble's predictions of them nor a single form's."""
    loss = early_plateau(X)
    held = X.max() / 2 < X
    for form in ("auto", "power_floor"):
        said = [
            fit({"n": X, "loss": np.where(held, change * loss, loss)}, form=form, data="n", loss="loss", bootstrap=20,
                hold_out="beyond:2").backtest or pytest.fail("no backtest")
            for change in (1.0, 1.02)
        ]  # fmt: skip
        assert said[0].rows == held.sum()
        values = [[p["value"] for p in test.predictions] for test in said]
        assert values[0] == values[1] and said[0].rmsle != said[1].rmsle


def test_rolling_backtests_have_several_origins():
    law = fit(wide(noise=0.003), data="tokens", loss="loss", bootstrap=0, hold_out="rolling")
    assert law.backtest is not None
    origins = {p["origin"] for p in law.backtest.predictions}
    assert len(origins) > 3 and law.backtest.rows == len(law.backtest.predictions)
    error = [np.log(p["value"] / p["measured"]) for p in law.backtest.predictions]
    assert law.backtest.rmsle == pytest.approx(np.sqrt(np.mean(np.square(error))))


@pytest.mark.parametrize("wrong", ["beyond", "beyond:0.5", "rolling:2", "smallest", "largest:2"])
def test_a_hold_out_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be 'largest'.*'beyond:FACTOR'.*'rolling'"):
        fit(wide(), data="tokens", loss="loss", bootstrap=0, hold_out=wrong)


def test_weights_follow_errors_and_leave_out_what_does_not_pass():
    errors = np.array([[1.0, 1.0], [1.0, 4.0], [1.0, np.nan], [100.0, 100.0]])
    alike, far = weigh(errors, np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert alike[0] == alike[1] == alike[2] and alike[3] == 0
    assert far[0] > far[1] > far[2] == far[3] == 0


def test_a_weighted_median_is_the_median_of_repeated_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 4))
    assert weighted_median(values, np.ones((9, 4))) == pytest.approx(np.median(values, axis=0))
    heavy = weighted_median(np.array([[0.0], [1.0], [9.0]]), np.array([[1.0], [98.0], [1.0]]))
    assert heavy[0] == pytest.approx(1, abs=0.02)


def test_near_tests_in_the_same_direction_count():
    reach = np.array([[1.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    near = nearness(np.array([[1.1, 0.0]]), reach)[0]
    assert near[0] == 1 and near[1] < 0.05 and near[2] < 0.3


def test_cuts_leave_enough_and_windows_shrink_from_the_top():
    edges = cuts(X, 5)
    assert edges == sorted(edges) and edges[-1] < X.max() and (edges[0] >= X).sum() >= 5
    assert window_mask(X, 0.5).sum() == 30 and window_mask(X, 0.5)[-1] and not window_mask(X, 0.5)[0]


def test_rows_of_a_curve_count_as_fewer():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=400)
    walk = np.zeros(400)
    for i in range(1, 400):
        walk[i] = 0.8 * walk[i - 1] + steps[i]
    size = np.geomspace(1, 1e6, 400)
    found = neighbour_correlation(walk, size)
    assert found == pytest.approx(0.8, abs=0.1) and neighbour_correlation(steps, size) == 0.0
    assert effective_rows(400, 0.8) == pytest.approx(400 / 9)
    assert np.bincount(blocks(size, 0.75)).max() == 7
    law = fit({"n": size, "loss": 10 * size**-0.2 * np.exp(0.01 * walk)}, form="power", data="n", loss="loss")
    assert any("rows tell as much as" in warning for warning in law.warnings)
    alone = fit({"n": size, "loss": 10 * size**-0.2 * np.exp(0.01 * rng.permutation(walk))}, form="power", data="n",
                loss="loss")  # fmt: skip
    width = [np.diff(one.interval("alpha"))[0] for one in (law, alone)]
    assert width[0] > 1.5 * width[1]


def test_weights_come_from_fits_that_saw_nothing_of_what_they_foretell():
    inside = Cell(0, np.zeros(2), np.array([0, 1]), np.array([2]))
    seen = Cell(1, np.zeros(2), np.array([0, 5]), np.array([2]))  # fitted to a run beyond the origin
    assert _within(inside, np.arange(4)) and not _within(seen, np.arange(4))
