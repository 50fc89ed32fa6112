"""The rule that carries a best rate along width: planted parabolas recovered, doubts told."""

import math
import warnings

import numpy as np
import pytest

from chemscale.laws.errors import FitError
from chemscale.spec import with_fields
from chemscale.sweep import Grid
from chemscale.sweep.rule import Cell, Rule, fit_rule
from chemscale.sweep.transfer import _cells, transfer
from tests.test_spec import BASE

A, B = 0.24, -0.9  # the planted rule: rate = A width^B


def planted(rng, widths=(16, 32, 64), noise=0.01, runs=10, reach=5.0):
    cells = []
    for width in widths:
        star = math.log(A * width**B)
        u = star + rng.uniform(-math.log(reach), math.log(reach), runs)
        log_loss = 1 - 0.1 * math.log(width) + 0.05 * (u - star) ** 2 + rng.normal(0, noise, runs)
        cells.append(Cell((width,), np.exp(u), np.exp(log_loss)))
    return cells


def fitted(rng, **planting) -> Rule:
    return fit_rule(planted(rng, **planting), field="optim.lr", along=["model.width"])


def test_a_planted_rule_is_recovered_exactly_without_noise():
    rule = fitted(np.random.default_rng(0), noise=0.0)
    assert rule.exponent == pytest.approx(B, abs=1e-9)
    assert rule.at(256).value == pytest.approx(A * 256**B, rel=1e-8)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = sum(c.low <= A * 256**B <= c.high for c in (fitted(rng).at(256) for _ in range(400)))
    # 380 expected; the binomial's standard deviation is 4.4, and the window's choice costs a little coverage
    assert 365 <= hits <= 394


def test_more_noise_makes_a_wider_interval_and_a_flat_parabola_an_infinite_one():
    widths = []
    for noise in (0.005, 0.02):
        at = fitted(np.random.default_rng(2), noise=noise).at(256)
        widths.append(math.log(at.high / at.low))
    assert widths[1] > 2 * widths[0]
    unsure = Rule("optim.lr", ("model.width",), (0.01, -0.1, 0.0), np.eye(3), 10, ((16, 64),))  # k = 0.01 +- 1
    assert (unsure.at(32).low, unsure.at(32).high) == (0.0, math.inf)


def test_a_minimum_that_was_not_enclosed_and_a_size_beyond_the_searched_ones_are_doubted():
    inner = fitted(np.random.default_rng(3))
    assert inner.at(32).doubts == ()
    assert "model.width=256 lies beyond the searched 16 to 64" in inner.at(256).doubts[0]
    cells = planted(np.random.default_rng(3), noise=0.0)
    low = cells[0].values < A * 16**B  # only rates below the best were tried
    below = Cell((16,), cells[0].values[low], cells[0].losses[low])
    rule = fit_rule([below, *cells[1:]], field="optim.lr", along=["model.width"])
    assert "best optim.lr at model.width=16 is the highest that was tried" in rule.at(32).doubts[0]


def test_a_grid_takes_its_rates_from_the_rule():
    rule = fitted(np.random.default_rng(0), noise=0.0)
    models = [with_fields(BASE, {"model.width": w}).model for w in (16, 64)]
    grid = Grid(BASE, models=models, derive=rule)
    assert [run.optim.lr for run in grid.runs()] == pytest.approx([A * 16**B, A * 64**B])
    beyond = Grid(BASE, models=[with_fields(BASE, {"model.width": 128}).model], derive=rule)
    with pytest.warns(UserWarning, match="lies beyond the searched 16 to 64"):
        beyond.runs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid.runs()


def test_a_straight_slope_and_too_few_runs_are_no_rule():
    u = np.linspace(-8, -2, 9)
    cells = [Cell((w,), np.exp(u), np.exp(-0.1 * u - 0.01 * u**2)) for w in (16, 32)]
    with pytest.raises(FitError, match="no minimum"):
        fit_rule(cells, field="optim.lr", along=["model.width"])
    with pytest.raises(FitError, match="sample more"):
        fit_rule(planted(np.random.default_rng(0), widths=(16, 32), runs=2), field="optim.lr", along=["model.width"])


def test_a_search_that_the_store_lacks_is_refused(tmp_path):
    from chemscale.records.store import Store

    with pytest.raises(ValueError, match="search='lr' is not in"):
        transfer(Store(tmp_path / "store", create=True), search="lr")


BOTH = ("data.size", "optim.batch")


def runs_of(rate=(0.3, -0.25, 0.5), batch=(0.5, 0.3), noise=0.0, sizes=(1000, 3000, 9000, 27000)):
    """Runs whose best rate is r0 D^r1 B^r2 and whose best batch, each at its best rate, is b0 D^b1."""
    rng, runs = np.random.default_rng(4), []
    for size in sizes:
        for each in (2, 4, 8, 16, 32):
            star = math.log(rate[0] * size ** rate[1] * each ** rate[2])
            apart = math.log(each) - math.log(batch[0] * size ** batch[1])
            for u in star + np.linspace(-1.4, 1.4, 6) + rng.uniform(-0.2, 0.2, 6):
                log_loss = 1 - 0.1 * math.log(size) + 0.05 * (u - star) ** 2 + 0.01 * apart**2 + rng.normal(0, noise)
                run = with_fields(BASE, {"data.size": size, "optim.batch": each, "optim.lr": math.exp(u)})
                runs.append((run, math.exp(log_loss)))
    return runs


def test_a_rate_that_follows_data_and_batch_is_recovered_and_said():
    rule = fit_rule(_cells(runs_of(), "optim.lr", BOTH, None), field="optim.lr", along=BOTH)
    assert [power.value for power in rule.exponents.values()] == pytest.approx([-0.25, 0.5], abs=1e-9)
    assert rule.at(9000, 8).value == pytest.approx(0.3 * 9000**-0.25 * 8**0.5, rel=1e-8)
    assert rule.at(9000, 64).doubts == ("optim.batch=64 lies beyond the searched 2 to 32",)
    noisy = fit_rule(_cells(runs_of(noise=0.005), "optim.lr", BOTH, None), field="optim.lr", along=BOTH)
    for power, truth in zip(noisy.exponents.values(), (-0.25, 0.5), strict=True):
        assert power.low < truth < power.high < power.low + 0.2
    said = "the best optim.lr goes as data.size^-0.25 (95 % interval -0.25 to -0.25) times optim.batch^0.50 "
    assert str(rule) == said + "(95 % interval 0.50 to 0.50)"
    with pytest.raises(ValueError, match=r"the rule takes data.size, optim.batch, one number each"):
        rule.at(9000)


def test_the_best_batch_is_found_at_its_own_best_rate_and_given_as_a_whole_number():
    cells = _cells(runs_of(), "optim.batch", ["data.size"], "optim.lr")
    assert [len(cell.values) for cell in cells] == [5] * 4
    rule = fit_rule(cells, field="optim.batch", along=["data.size"])
    assert rule.exponent == pytest.approx(0.3, abs=1e-6)
    run = rule(with_fields(BASE, {"data.size": 9000}))
    assert run.optim.batch == round(0.5 * 9000**0.3)


def test_a_value_whose_least_loss_was_not_enclosed_is_left_out_with_a_warning():
    runs = [(run, loss) for run, loss in runs_of(sizes=(1000, 3000)) if run.optim.batch > 2 or run.optim.lr < 0.06]
    with pytest.warns(UserWarning, match="least loss over optim.lr at optim.batch=2 is not enclosed"):
        cells = _cells(runs, "optim.batch", ["data.size"], "optim.lr")
    assert 4 in [len(cell.values) for cell in cells]
