"""The critical batch: planted trade-offs recovered, intervals that hold the truth, and what cannot be told said so."""

import math

import numpy as np
import pytest

from chemscale.laws.errors import FitError
from chemscale.records.store import Store
from chemscale.spec import with_fields
from chemscale.sweep.critical import critical_batch, fit_critical
from chemscale.sweep.rule import Cell, fit_rule
from tests.sweep.records import record
from tests.test_spec import BASE

BATCH, POWER, BETA = 14.0, 0.45, 0.15  # the critical batch at 3,000 examples, how it grows, the loss's exponent


def planted(noise=0.0, seed=0, sizes=(1000, 3000, 9000), batches=(2, 8, 32), batch=BATCH):
    rng, cells = np.random.default_rng(seed), []
    for examples in sizes:
        for each in batches:
            star = math.log(0.004 * (each / 8) ** 0.35)
            u = star + np.array([-0.7, 0.0, 0.7]) + rng.uniform(-0.1, 0.1)
            effective = examples / (1 + each / (batch * (examples / 3000) ** POWER))
            log_loss = 1.5 - BETA * math.log(effective) + 0.03 * (u - star) ** 2 + rng.normal(0, noise, 3)
            cells.append(Cell((float(examples), float(each)), np.exp(u), np.exp(log_loss)))
    return cells


def fitted(**planting):
    cells = planted(**planting)
    return fit_critical(cells, fit_rule(cells, field="optim.lr", along=("examples", "optim.batch")))


def test_a_planted_trade_off_is_recovered():
    """To the last lattice's step."""
    found = fitted()
    assert found.at(3000).value == pytest.approx(BATCH, rel=0.02)
    assert found.exponent.value == pytest.approx(POWER, abs=0.01)
    assert found.beta == pytest.approx(BETA, rel=0.02)
    assert "a batch of a tenth of it needs a tenth more data than the smallest" in str(found)
    assert found.at(1000).doubts == found.at(9000).doubts == ()
    assert "90000 examples lie beyond the searched 1000 to 9000" in found.at(90_000).doubts[0]


def test_intervals_hold_the_truth_as_often_as_they_say():
    hits = 0
    for seed in range(60):
        at = fitted(noise=0.004, seed=seed).at(3000)
        hits += at.low <= BATCH <= at.high
    assert hits >= 53  # 57 expected, a binomial's standard deviation is 1.7


def test_batches_far_below_the_critical_one_bound_it_from_below_alone():
    found = fitted(noise=0.004, batches=(1, 2, 3), batch=300.0)
    assert found.at(3000).high == math.inf and found.at(3000).low > 1
    assert "the losses set it no upper bound: try larger batches" in str(found)


def test_too_few_batches_and_a_loss_that_grows_are_refused():
    with pytest.raises(FitError, match="needs 3 batches and 2 sizes of data at least; this search has 2 and 3"):
        fitted(batches=(2, 8))
    worse = [
        Cell(cell.sizes, cell.values, 9 * np.exp(0.06 * np.log(cell.values / cell.values[1]) ** 2) / cell.losses)
        for cell in planted()
    ]
    rule = fit_rule(worse, field="optim.lr", along=("examples", "optim.batch"))
    with pytest.raises(FitError, match="does not fall with the examples"):
        fit_critical(worse, rule)


def test_a_search_in_a_store_is_read_and_runs_that_do_not_belong_together_are_refused(tmp_path):
    store = Store(tmp_path / "store", create=True)
    for cell in planted():
        for rate, loss in zip(cell.values, cell.losses, strict=True):
            examples, batch = map(int, cell.sizes)
            record(store, with_fields(BASE, {"data.size": examples, "optim.batch": batch, "optim.lr": rate}), [loss])
    assert critical_batch(store, search="search").at(3000).value == pytest.approx(BATCH, rel=0.02)
    record(store, with_fields(BASE, {"data.size": 500, "budget.epochs": 2}), [1.5], study="twice")
    with pytest.raises(ValueError, match="1 runs of search='twice' repeat their data"):
        critical_batch(store, search="twice")
    record(store, with_fields(BASE, {"model.width": 32}), [1.5], study="twice")
    with pytest.raises(ValueError, match="runs of 2 models"):
        critical_batch(store, search="twice")
