"""Budgets become runs, and an unidentified law becomes "cannot tell"."""

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.plan import measure_cost, plan
from tests.laws.planted import grid, wide


@pytest.fixture(scope="module")
def law():
    return fit(wide(noise=0.003), data="tokens", loss="loss", bootstrap=200)


def timed():
    table = grid(np.geomspace(1e4, 1e7, 5), np.geomspace(1e3, 1e6, 5), noise=0.004, A=50, B=20)
    table["structures"] = table.pop("tokens")
    table["flops"] = 400 * table["params"] ** 0.9 * table["structures"]
    table["device_seconds"] = table["flops"] * 1e-9 * table["params"] ** -0.25
    return table


def test_plan_is_the_optimum_of_the_law(law):
    found, best = plan(law, flops=1e22), law.optimal(1e22)
    assert found.best.params == pytest.approx(best.params, rel=1e-3) and found.best.cost_ratio == pytest.approx(1)
    assert found.params_interval[0] < found.best.params < found.params_interval[1]
    assert found.best.loss.low < found.best.loss.value < found.best.loss.high
    assert found.answer.startswith("train") and "6 N FLOPs per token" in found.answer


def test_alternatives_reach_the_same_loss_with_less_model_and_more_data(law):
    best, others = plan(law, flops=1e22).best, plan(law, flops=1e22).alternatives
    assert [round(best.params / other.params) for other in others] == [2, 4]
    for other in others:
        assert other.loss.value == pytest.approx(best.loss.value, rel=1e-3)
        assert other.data > best.data and other.cost_ratio > 1


def test_no_other_split_of_the_budget_is_better(law):
    best = plan(law, flops=1e22).best
    sizes = best.params * np.geomspace(0.1, 10, 41)
    assert law.losses(params=sizes, data=1e22 / (6 * sizes)).min() >= best.loss.value * (1 - 1e-6)


def test_cost_is_measured_and_hours_are_planned():
    table = timed()
    cost = measure_cost(table, data="structures")
    assert float(cost.flops(np.array(1e5))) == pytest.approx(400 * 1e5**0.9)
    law = fit(table, data="structures", loss="loss", bootstrap=100)
    found = plan(law, device_hours=2.0, cost=cost)
    assert found.best.device_hours == pytest.approx(2.0, rel=1e-3) and found.best.flops > 0
    by_flops = plan(law, flops=found.best.flops)
    assert by_flops.best.params < found.best.params  # large models use this device better, so hours favour them


def test_data_run_out(law):
    found = plan(law, flops=1e24, most_data=1e11)
    assert found.best.data == pytest.approx(1e11) and any("data run out" in w for w in found.warnings)


@pytest.mark.parametrize(("flops", "words"), [(1e3, "less than one unit of structures"), (1e30, "outside the runs")])
def test_a_budget_out_of_reach_cannot_tell(flops, words):
    law = fit(timed(), data="structures", loss="loss", bootstrap=100)
    found = plan(law, flops=flops)
    assert found.answer.startswith("cannot tell") and words in found.answer and found.best is None


def test_reach_holds_on_data_too():
    law = fit(wide(noise=0.003), data="tokens", loss="loss", bootstrap=100)
    found = plan(law, flops=1e17, most_data=1e5)
    assert found.answer.startswith("cannot tell") and "amount of tokens" in found.answer


def test_an_axis_of_two_values_cannot_tell():
    table = grid(np.geomspace(1e7, 1e10, 6), np.array([1e9, 1e12]), noise=1e-5)
    found = plan(fit(table, data="tokens", loss="loss", bootstrap=100), flops=1e22)
    assert found.answer.startswith("cannot tell: beta is not identified: tokens has 2 different values")


def test_unidentified_law_cannot_tell():
    table = grid(np.geomspace(1e7, 3e7, 4), np.geomspace(1e9, 3e9, 4), noise=0.05)
    law = fit(table, data="tokens", loss="loss", bootstrap=100)
    found = plan(law, flops=1e22)
    assert found.answer.startswith("cannot tell") and found.best is None
    assert any(run.params > 3e7 for run in found.would_decide) and any(run.data > 3e9 for run in found.would_decide)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one budget"),
        ({"flops": -1.0}, "give one budget"),
        ({"flops": 1e20, "device_hours": 1.0}, "give one budget"),
        ({"device_hours": 1.0}, "no device-seconds"),
        ({"flops": 1e20, "most_data": 0.0}, "most_data=0.0"),
    ],
)
def test_mistakes_are_one_sentence(law, options, words):
    with pytest.raises(ValueError, match=words):
        plan(law, **options)


def test_a_law_of_one_axis_has_no_plan():
    one = fit(wide(noise=0.01), form="power_floor", data="tokens", where="params < 2e7", loss="loss", bootstrap=20)
    with pytest.raises(ValueError, match="needs a law of params and data"):
        plan(one, flops=1e20)
    with pytest.raises(ValueError, match="needs a law of params and data"):
        one.optimal(1e20)
