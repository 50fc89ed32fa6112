"""Budgets become runs, and an unidentified law becomes "cannot tell"."""

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.plan import Spend, measure_cost, plan
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
    assert float(cost.flops(1e5, 7.0)) == pytest.approx(7 * 400 * 1e5**0.9)
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
    table = grid(np.geomspace(1e7, 5e7, 4), np.geomspace(1e9, 5e9, 4), noise=0.05)
    law = fit(table, data="tokens", loss="loss", bootstrap=100)
    found = plan(law, flops=1e22)
    assert found.answer.startswith("cannot tell") and found.best is None
    assert found.answer.startswith("cannot tell: neither exponent is identified (alpha is not identified")
    assert any(run.params > 5e7 for run in found.would_decide) and any(run.data > 5e9 for run in found.would_decide)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one budget, flops, .* labels, as a positive number: none was given"),
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


def two(noise=0.004):
    """Two architectures of known laws; the second has the smaller exponent of parameters and costs more each."""
    tables = {}
    for name, alpha, each, seed in (("painn", 0.4, 900, 1), ("schnet", 0.3, 400, 2)):
        table = grid(
            np.geomspace(1e4, 1e7, 5), np.geomspace(1e3, 1e6, 5), noise=noise, A=50, B=20, alpha=alpha, seed=seed
        )
        table["structures"] = table.pop("tokens")
        table["flops"] = each * table["params"] ** 0.9 * table["structures"]
        table["device_seconds"] = table["flops"] * 1e-9 * table["params"] ** -0.25
        tables[name] = table
    return tables


@pytest.fixture(scope="module")
def laws():
    return {k: fit(t, data="structures", loss="loss", bootstrap=200) for k, t in two().items()}


@pytest.fixture(scope="module")
def costs():
    return {name: measure_cost(table, data="structures") for name, table in two().items()}


def test_the_architecture_with_the_lowest_loss_is_chosen_each_at_its_own_cost(laws, costs):
    found = plan(laws, flops=1e15, cost=costs)
    alone = {name: plan(law, flops=1e15, cost=costs[name]) for name, law in laws.items()}
    assert found.architecture == "painn" and found.best == alone["painn"].best
    assert [rival.architecture for rival in found.rivals] == ["schnet"]
    assert found.rivals[0].best.loss.value == alone["schnet"].best.loss.value > found.best.loss.value
    assert found.rivals[0].best.flops == pytest.approx(1e15, rel=1e-3)
    assert found.certainty > 0.95 and "train painn" in found.answer
    alike = plan({"a": laws["painn"], "b": laws["painn"]}, flops=1e15)
    assert 0.3 < alike.certainty < 0.7 and "choice of architecture is open" in alike.answer


def test_money_is_hours_at_their_price_and_labels_at_theirs(laws, costs):
    law, cost = laws["painn"], costs["painn"]
    hours, money = plan(law, device_hours=5.0, cost=cost), plan(law, money=10.0, price=2.0, cost=cost)
    assert money.best.params == pytest.approx(hours.best.params, rel=1e-6)
    assert money.best.money == pytest.approx(10.0, rel=1e-3)
    dear = plan(law, money=500.0, price=2.0, label_price=1e-3, cost=cost)
    paid = dear.best.device_hours * 2.0 + 1e-3 * max(dear.best.data - 1e6, 0)
    assert paid == pytest.approx(500.0, rel=1e-3) and dear.best.money == pytest.approx(paid)
    bought = dear.worth  # at the optimum the last label is worth what it costs: its price and its training
    assert bought.money_per_label == pytest.approx(1e-3 + bought.training_per_label, rel=2e-2)
    free = plan(law, money=500.0, price=2.0, cost=cost)
    assert dear.best.data < free.best.data and dear.best.params > free.best.params


def test_labels_as_the_budget_find_the_compute_optimal_model(laws, costs):
    found = plan(laws["painn"], labels=3e5, cost=costs["painn"])
    assert found.best.data == pytest.approx(3e5, rel=1e-2)
    back = plan(laws["painn"], flops=found.best.flops, cost=costs["painn"])
    assert back.best.params == pytest.approx(found.best.params, rel=2e-2)
    assert all(choice.data <= 3e5 for choice in found.alternatives)


def test_a_label_is_worth_what_the_algebra_says():
    """L = E + A N^-a + B D^-b: a label takes off b B D^-b-1, a FLOP in a larger model a A N^-a-1 / (dC/dN)."""
    table = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 6), noise=1e-6, A=50, B=20, alpha=0.4, beta=0.3)
    table["flops"] = 400 * table["params"] ** 0.9 * table["tokens"]
    table["device_seconds"] = table["flops"] * 1e-12
    law = fit(table, data="tokens", loss="loss", bootstrap=100)
    found = plan(law, flops=1e14, cost=measure_cost(table, data="tokens"), price=3.0)
    n, d, worth = found.best.params, found.best.data, found.worth
    per_label = 0.3 * 20 * d**-1.3
    per_flop = 0.4 * 50 * n**-1.4 / (0.9 * 400 * n**-0.1 * d)
    assert worth.per_label == pytest.approx(per_label, rel=1e-3)
    assert worth.flops_per_label == pytest.approx(per_label / per_flop, rel=1e-3)
    assert worth.money_per_label == pytest.approx(per_label / per_flop * 1e-12 / 3600 * 3.0, rel=1e-3)
    assert worth.tenfold == pytest.approx(20 * d**-0.3 * (1 - 10**-0.3), rel=1e-3)
    gone = 50 * n**-0.4 - worth.tenfold
    assert (worth.flops_for_tenfold is None) == (gone <= 0 or (50 / gone) ** 2.5 > 1e4 * n)
    # at the optimum both buys are equal per log unit of cost
    assert per_label * d == pytest.approx(per_flop * found.best.flops, rel=1e-2)


def test_no_model_uses_a_device_better_than_the_largest_that_was_timed():
    table = grid(np.geomspace(1e4, 1e6, 4), np.geomspace(1e3, 1e5, 4))
    table["flops"] = 400 * table["params"] * table["tokens"]
    table["device_seconds"] = 1e-9 * table["flops"] * table["params"] ** -0.5
    cost = measure_cost(table, data="tokens")
    hours = cost.hours(np.array([1e5, 1e6, 1e8]), np.array([1e12, 1e12, 1e12])) * 3600
    assert hours == pytest.approx(1e3 * np.array([1e5, 1e6, 1e6]) ** -0.5, rel=1e-6)
    table["device_seconds"] = 1e-12 * table["flops"] * table["params"] ** 0.1  # slower when larger: that goes on
    slower = measure_cost(table, data="tokens").hours(np.array([1e6, 1e8]), np.array([1.0, 1.0]))
    assert slower[1] / slower[0] == pytest.approx(100**0.1, rel=1e-6)


def test_what_a_label_may_cost_counts_the_hours_of_either_model():
    """Small models use a device less well: a larger one's FLOPs are cheaper, and so are those that it replaces."""
    table = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 6), noise=1e-6, A=50, B=2, alpha=0.4, beta=0.3)
    table["flops"] = 400 * table["params"] ** 0.9 * table["tokens"]
    table["device_seconds"] = 1e-12 * table["flops"] * table["params"] ** -0.3
    law = fit(table, data="tokens", loss="loss", bootstrap=100)
    found = plan(law, flops=1e12, cost=measure_cost(table, data="tokens"), price=3.0)
    n, d, worth = found.best.params, found.best.data, found.worth

    def money(params):
        return 3.0 / 3600 * 1e-12 * 400 * params**0.9 * min(params, 1e7) ** -0.3 * d  # timed to 1e7

    per_label, per_size = 0.3 * 2 * d**-1.3, 0.4 * 50 * n**-1.4
    assert worth.money_per_label == pytest.approx(per_label / per_size * 0.6 * money(n) / n, rel=1e-3)
    assert worth.training_per_label == pytest.approx(money(n) / d, rel=1e-3)
    larger = ((50 * n**-0.4 - worth.tenfold) / 50) ** -2.5
    assert worth.money_for_tenfold == pytest.approx(money(larger) - money(n), rel=1e-2)  # sizes lie 0.2 % apart


@pytest.mark.parametrize(("A", "B", "answer"), [(0.5, 200, "data"), (500, 0.5, "parameters")])
def test_what_to_buy_first(A, B, answer):
    table = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 6), noise=1e-3, A=A, B=B)
    table["flops"] = 6 * table["params"] * table["tokens"]
    first = plan(fit(table, data="tokens", loss="loss", bootstrap=100), flops=1e14).first
    assert first.answer == answer and (first.params, first.data) == (pytest.approx(1e7), pytest.approx(1e6))
    loss = 1.69 + A * 1e7**-0.34 + B * 1e6**-0.28
    gains = {"data": B * 1e6**-0.28 * (1 - 2**-0.28) / loss, "parameters": A * 1e7**-0.34 * (1 - 2**-0.34) / loss}
    found = {"data": first.by_data, "parameters": first.by_params}
    assert found[answer] == pytest.approx(gains[answer], rel=0.05)
    assert min(found.values()) < 0.1 * found[answer]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"money": 5.0}, "price=None must be positive"),
        ({"flops": 1e15, "label_price": 1.0}, "label_price is money"),
        ({"flops": 1e15, "label_price": -1.0}, "label_price=-1.0"),
        ({"labels": 0.0}, "give one budget"),
    ],
)
def test_mistakes_about_money_are_one_sentence(laws, costs, options, words):
    with pytest.raises(ValueError, match=words):
        plan(laws["painn"], cost=costs["painn"], **options)


def test_laws_of_different_losses_are_not_compared(laws, law):
    with pytest.raises(ValueError, match="different losses"):
        plan({"a": laws["painn"], "b": law}, flops=1e15)


def test_where_data_run_out_the_largest_useful_model_is_planned_and_the_rest_of_the_budget_left():
    """Ten times the parameters take 1 % off where A N^-a (1 - 10^-a) = 0.01 (E + A N^-a + B D^-b)."""
    table = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 6), noise=1e-3, A=50, B=20, alpha=0.4, beta=0.3)
    law = fit(table, data="tokens", loss="loss", bootstrap=200)
    size = (50 * (1 - 10**-0.4 - 0.01) / (0.01 * (1.69 + 20 * 1e4**-0.3))) ** (1 / 0.4)
    plans = [plan(law, flops=flops, most_data=1e4) for flops in (6e13, 1e25, 1e30)]
    spent_all, *found = plans
    assert spent_all.best.params == pytest.approx(1e9, rel=2e-2)  # sizes lie 2 % apart
    for one, flops in zip(found, (1e25, 1e30), strict=True):
        assert one.best.params == pytest.approx(size, rel=0.1) and one.best.data == 1e4
        assert one.params_interval[0] < size < one.params_interval[1] and one.data_interval == (1e4, 1e4)
        assert one.best.loss.low < 1.69 + 50 * size**-0.4 + 20 * 1e4**-0.3 < one.best.loss.high
        assert one.best.cost_ratio == pytest.approx(6 * one.best.params * 1e4 / flops)
        assert "less than 1% off" in one.answer and "data run out at 1e+04" in " ".join(one.warnings)
    few = fit(grid(np.geomspace(1e4, 1e5, 4), np.geomspace(1e3, 1e6, 6), noise=2e-2, A=50, B=20), data="tokens",
              loss="loss", bootstrap=200)  # fmt: skip
    assert plan(few, flops=1e30, most_data=1e4).answer.startswith("cannot tell: data run out at 1e+04, and ")


def test_money_buys_labels_where_small_sets_were_seen_more_often(laws):
    """FLOPs k N^a D^b below the most data: what a budget pays for costs that budget, and no split beats the plan."""
    table = {**two()["painn"]}
    table["flops"] = 900 * table["params"] ** 0.9 * 1e6 * (table["structures"] / 1e6) ** 0.6
    table["device_seconds"] = table["flops"] * 1e-9
    cost, law = measure_cost(table, data="structures"), laws["painn"]
    for spend in (Spend(cost), Spend(cost, "money", 2.0, 1e-3, 1e5)):
        sizes, budget = np.geomspace(1e3, 1e8, 9), 50.0 if spend.unit == "money" else 1e13
        data = spend.data_for(sizes, budget)
        assert spend.of(sizes, data) == pytest.approx(np.full(9, budget), rel=1e-9)
    best = plan(law, flops=1e13, cost=cost).best
    sizes = best.params * np.geomspace(0.1, 10, 401)
    share = 1e13 / (900 * sizes**0.9 * 1e6)
    data = 1e6 * np.where(share < 1, share ** (1 / 0.6), share)
    assert best.loss.value == pytest.approx(law.losses(params=sizes, data=data).min(), rel=1e-4)
    assert law.optimal(1e13, lambda n: 900 * n**0.9).params != pytest.approx(best.params, rel=0.05)
