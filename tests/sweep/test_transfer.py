"""The rule that carries a best rate along width: planted parabolas recovered, doubts told."""

import math
import warnings

import numpy as np
import pytest

from chemscale.laws.errors import FitError
from chemscale.spec import with_fields
from chemscale.sweep import Grid
from chemscale.sweep.transfer import Rule, fit_rule, transfer
from tests.test_spec import BASE

A, B = 0.24, -0.9  # the planted rule: rate = A width^B


def planted(rng, widths=(16, 32, 64), noise=0.01, runs=10, reach=5.0):
    cells = []
    for width in widths:
        star = math.log(A * width**B)
        u = star + rng.uniform(-math.log(reach), math.log(reach), runs)
        log_loss = 1 - 0.1 * math.log(width) + 0.05 * (u - star) ** 2 + rng.normal(0, noise, runs)
        cells.append((width, np.exp(u), np.exp(log_loss)))
    return cells


def fitted(rng, **planting) -> Rule:
    return fit_rule(planted(rng, **planting), field="optim.lr", along="model.width")


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
    unsure = Rule("optim.lr", "model.width", (0.01, -0.1, 0.0), np.eye(3), 10, (16, 64))  # k = 0.01 +- 1
    assert (unsure.at(32).low, unsure.at(32).high) == (0.0, math.inf)


def test_a_minimum_that_was_not_enclosed_and_a_size_beyond_the_searched_ones_are_doubted():
    inner = fitted(np.random.default_rng(3))
    assert inner.at(32).doubts == ()
    assert "model.width=256 lies beyond the searched 16 to 64" in inner.at(256).doubts[0]
    cells = planted(np.random.default_rng(3), noise=0.0)
    width, values, losses = cells[0]
    low = values < A * width**B  # only rates below the best were tried
    rule = fit_rule([(width, values[low], losses[low]), *cells[1:]], field="optim.lr", along="model.width")
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
    cells = [(w, np.exp(u), np.exp(-0.1 * u - 0.01 * u**2)) for w in (16, 32)]
    with pytest.raises(FitError, match="no minimum"):
        fit_rule(cells, field="optim.lr", along="model.width")
    with pytest.raises(FitError, match="sample more"):
        fit_rule(planted(np.random.default_rng(0), widths=(16, 32), runs=2), field="optim.lr", along="model.width")


def test_a_search_that_the_store_lacks_is_refused(tmp_path):
    from chemscale.records.store import Store

    with pytest.raises(ValueError, match="search='lr' is not in"):
        transfer(Store(tmp_path / "store", create=True), search="lr")
