"""Ensembles and backtests: what is weighed, what it is weighed by, and that nothing ahead is looked at."""

import json

import numpy as np
import pytest

from chemscale.laws import Law, fit
from chemscale.laws.backtests.ensemble import HELD, held_mean, relative, weigh, weighted_median
from chemscale.laws.backtests.member import members
from chemscale.laws.backtests.origins import cuts, window_mask
from chemscale.laws.backtests.pool import within
from chemscale.laws.doubt.residuals import KEPT_DIGITS, short
from chemscale.laws.errors import FitError
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Objective
from chemscale.laws.tables.serial import blocks, effective_rows, neighbour_correlation
from tests.laws.planted import grid, wide

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
        assert values[0] == pytest.approx(values[1], rel=1e-12)  # sums are rounded as the solver's batches fall
        assert said[0].rmsle != said[1].rmsle


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


def test_weights_follow_errors_and_more_steeply_where_axes_are_several():
    squared = np.array([[1.0, 2.0], [1.0, 8.0], [1.0, np.nan], [50.0, 4.0], [np.nan, np.nan]])
    errors = relative(squared, np.ones(2))
    assert errors[:3].tolist() == [(1 + 2 / 4) / 2, (1 + 8 / 4) / 2, 1.0]  # of the second test four is typical
    assert np.isnan(errors[4]) and errors[3] > 15
    one, two = weigh(errors, 1), weigh(errors, 2)
    assert one.sum() == pytest.approx(1) and one[0] > one[2] > one[1] > one[3] > one[4] == 0
    assert two / two[0] == pytest.approx((one / one[0]) ** 2)
    assert weigh(np.full(3, np.nan), 1).tolist() == [pytest.approx(1 / 3)] * 3


def test_opposite_errors_cancel_and_one_wild_member_moves_little():
    near = np.array([[-0.1], [-0.05], [0.0], [0.05], [0.1]])
    assert held_mean(near, np.full(5, 0.2))[0] == pytest.approx(0, abs=1e-12)
    far = [held_mean(np.array([*near, [x]]), np.full(6, 1 / 6))[0] for x in (5.0, 1e6, np.inf)]
    assert far[0] == pytest.approx(far[1]) and 0 < far[1] < HELD * 0.1 / 6 + 0.05
    assert far[2] == pytest.approx(0, abs=1e-12)


def test_groups_tell_one_another_whatever_their_order():
    """Curves of one shape at other scales, as the models of one task show: each one's weights depend on all."""
    rows = [
        {"who": f"m{i}", "n": x, "loss": (0.5 + i / 4) * early_plateau(x * (1 + i / 3)) * (1 + np.sin(7 * k + i) / 99)}
        for i in range(3)
        for k, x in enumerate(X[::4])
    ]  # fmt: skip
    told = fit(rows, form="auto", data="n", loss="loss", bootstrap=0, by="who")
    turned = fit(rows[::-1], form="auto", data="n", loss="loss", bootstrap=0, by="who")
    alone = fit(rows[: len(X[::4])], form="auto", data="n", loss="loss", bootstrap=0)
    assert list(told) == ["m0", "m1", "m2"]
    for who, law in told.items():
        assert turned[who].ensemble.weights == pytest.approx(law.ensemble.weights, rel=1e-3)
    assert [m.name for m in alone.ensemble.members] == [m.name for m in told["m0"].ensemble.members]
    assert alone.ensemble.weights != pytest.approx(told["m0"].ensemble.weights, rel=1e-2)


def test_members_fitted_together_are_those_fitted_alone():
    """One batch over sets of runs gives what each set gives by itself, to what polishing from other units leaves."""
    noise = np.exp(np.random.default_rng(1).normal(0, 0.01, len(X)))
    law = fit({"n": X, "loss": early_plateau(X) * noise}, form="power_floor", data="n", loss="loss", bootstrap=0)
    form, masks = choose("power_floor", ("data",)), np.stack([X > 0, X <= 3e8, window_mask(X, 0.5)])
    together = members(form, Objective(), law.runs, X, [1.0, 1.0, 0.5], masks)
    ahead = np.log([[2e9], [5e9]])
    for mask, window, made in zip(masks, (1.0, 1.0, 0.5), together, strict=True):
        (alone,) = members(form, Objective(), law.runs.take(mask), X[mask], [window], np.ones((1, mask.sum()), bool))
        assert made is not None and alone is not None and made.name == alone.name
        assert made.log_mean(ahead) == pytest.approx(alone.log_mean(ahead), abs=0.3 * made.noise)


@pytest.mark.parametrize(
    ("axes", "count", "said"),
    [({"data": "tokens"}, 3, "3 runs at 2 different"), ({"params": "params", "data": "tokens"}, 5, "5 runs at 4")],
)
def test_too_few_rows_are_refused_in_one_sentence(axes, count, said):
    table = {name: np.asarray(values)[[0, 8, 16, 24, 35][:count]] for name, values in wide(noise=0.003).items()}
    with pytest.raises(FitError, match=said) as refused:
        fit(table, form="auto", loss="loss", bootstrap=0, **axes)
    text = str(refused.value)
    assert f"the table has {count} runs over" in text and "decades" in text and len(text) < 320


def test_a_weighted_median_is_the_median_of_repeated_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 4))
    assert weighted_median(values, np.ones((9, 4))) == pytest.approx(np.median(values, axis=0))
    heavy = weighted_median(np.array([[0.0], [1.0], [9.0]]), np.array([[1.0], [98.0], [1.0]]))
    assert heavy[0] == pytest.approx(1, abs=0.02)


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
    rests_on = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 1]])  # the second is fitted to a run beyond the origin
    assert within(rests_on, np.arange(4)).tolist() == [0]


def test_progress_is_told_after_every_group():
    table = {**grid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4), noise=0.01, repeats=2)}
    table["kind"] = ["a", "b"] * 16
    for form, steps in (("tied", 2), ("auto", 4)):
        told = []
        fit(table, form=form, params="params", data="tokens", loss="loss", by="kind", bootstrap=0,
            progress=lambda done, total, told=told: told.append((done, total)))  # fmt: skip
        assert told == [(done, steps) for done in range(1, steps + 1)]


def test_a_law_keeps_so_many_digits():
    """As Python writes and reads them, whatever the size of the number."""
    values = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.random.default_rng(1).uniform(-40, 40, 2000)
    values = np.concatenate([values, [0.0, np.inf, -np.inf, 1e-310, 1234567.0, 1e22]])
    assert (short(values) == [float(f"{v:.{KEPT_DIGITS}g}") for v in values]).all()
