"""Plans for three budgets against the laws that were planted."""

import numpy as np
import pytest

from chemscale.audit.groups import groups_of
from chemscale.report import page
from chemscale.report.fitted import law_of
from chemscale.report.frontier import cost_of
from chemscale.report.planned import TIMES, planned, table
from tests.report.planted import ALL, CHEMGPT, rows_of


@pytest.fixture(scope="module")
def groups(store):
    return groups_of(rows_of(store))


def test_budgets_are_what_was_spent_and_ten_and_a_hundred_times_it(found, store):
    text = next(one for one in found.plans if one.names == ("ChemGPT",))
    spent = sum(row["flops"] for row in rows_of(store) if row["architecture"] == "chemgpt")
    assert text.spent == pytest.approx(spent)
    assert [b.flops for b in text.budgets] == pytest.approx([times * spent for times in TIMES])


def test_the_best_run_is_that_of_the_planted_law(found, groups):
    text = next(one for one in found.plans if one.names == ("ChemGPT",))
    cost = cost_of(next(g for g in groups if g.architecture == "chemgpt"))
    for budget in text.budgets:
        (best,) = budget.options
        sizes = np.geomspace(1e2, 1e9, 4000)
        losses = CHEMGPT.loss(sizes, cost.rule.data(sizes, budget.flops))
        value, low, high = best.params
        assert low <= sizes[losses.argmin()] <= high
        assert low < value < high
        assert best.loss[0] == pytest.approx(losses.min(), rel=0.1)
        assert cost.flops(best.params[0], best.data[0]) == pytest.approx(budget.flops, rel=1e-3)


def test_architectures_on_the_same_data_compete(found):
    pair = next(one for one in found.plans if len(one.names) == 2)
    assert set(pair.names) == {"PaiNN", "SchNet"}
    for budget in pair.budgets:
        known = [one.loss[0] for one in budget.options if one.loss]
        assert known == sorted(known)
        assert (budget.certainty is not None) == (len(known) == 2)
        if len(known) == 2:
            assert budget.options[0].model == "PaiNN"  # its planted floor and amplitudes are lower


def test_the_table_has_every_option_of_the_budgets_that_are_known(found):
    for plan in found.plans:
        known = [b for b in plan.budgets if b.options[0].loss]
        assert len(table(plan).rows) == sum(len(b.options) for b in known)


def test_forms_weighted_by_their_backtests_say_their_opinion_once_an_architecture(found, groups, store):
    """As `chemscale plan` does: their best run for ten times the budget lies near the planted law's."""
    told = [line for one in found.plans for line in one.sentences if "forms weighted by their backtests" in line]
    planned_for = [o.model for one in found.plans for o in one.budgets[1].options if o.loss]
    assert [next(m for m in planned_for if f", {m}: forms" in line) for line in told] == planned_for
    assert all(line.startswith("10 × as much, ") and line.endswith("--form auto plans by them.") for line in told)
    laws = {g.slug: law_of(g, "chinchilla") for g in groups if g.architecture == "chemgpt"}
    assert not any("weighted by" in line for one in planned(groups, laws) for line in one.sentences)


def test_without_flops_or_a_law_there_is_no_plan(groups, found):
    assert planned(groups, {}) == ()
    assert {law.model.architecture for law in ALL} == {"chemgpt", "schnet", "painn"}
    text = page.html(found)
    assert '<section id="plan">' in text


def test_what_labels_are_worth_is_that_of_the_planted_law(found):
    """Ten times the data take B D^-beta (1 - 10^-beta) off; the page says it of every model that it plans for."""
    text = next(one for one in found.plans if one.names == ("ChemGPT",))
    (worth,) = text.labels
    value, low, high = worth.tenfold
    truth = CHEMGPT.loss(worth.params, worth.data) - CHEMGPT.loss(worth.params, 10 * worth.data)
    assert low <= truth <= high and low < value < high
    assert worth.answer in ("data", "parameters", "cannot tell") and 0 <= worth.probability <= 1
    assert [one.model for plan in found.plans for one in plan.labels] == [n for p in found.plans for n in p.names]
    assert '<section id="labels">' in page.html(found)
