"""The page's best sizes are those of `plan` and of the law itself: one rule for what a run costs."""

from dataclasses import asdict

import numpy as np
import pytest

from chemscale.audit.groups import groups_of
from chemscale.laws import MeasuredCost
from chemscale.plan import measure_cost, plan
from chemscale.report.fitted import laws_of
from chemscale.report.frontier import cost_of, frontiers
from chemscale.report.planned import planned
from tests.report.planted import rows_of


def test_beyond_the_most_data_cost_grows_with_every_unit():
    cost = MeasuredCost(7.0, 0.9, 0.0, 9, by_data=0.6, most=1e4)
    assert cost.flops(100.0, 1e3) == pytest.approx(7 * 100**0.9 * 1e4 * 0.1**0.6)
    assert cost.flops(100.0, 1e6) == pytest.approx(100 * cost.flops(100.0, 1e4))
    data = np.geomspace(1e2, 1e7, 11)
    assert [float(cost.data(50.0, float(cost.flops(50.0, d)))) for d in data] == pytest.approx(data)


def test_page_plan_and_law_name_the_same_optimum(store):
    """FLOPs here are k N^0.8 D^0.6: small sets were seen more often, and a step is not 6 N D."""
    rows = [row for row in rows_of(store) if row["architecture"] == "chemgpt"]
    for row in rows:
        row["flops"] = 90 * row["params"] ** 0.8 * row["molecules"] ** 0.6
    (group,) = groups_of(rows)
    laws, _ = laws_of([group], None)
    law = laws[group.slug]
    (front,), (text,) = frontiers([group], laws), planned([group], laws)
    (told,) = [budget for budget in text.budgets if budget.times == 10]
    given, shown = measure_cost(rows, data="molecules"), cost_of(group)  # as `plan` measures it, and as the page does
    for rule in (given.rule, shown.rule):
        assert asdict(rule) == pytest.approx(asdict(law.cost), rel=1e-9, abs=1e-9)
    for best in front.best:
        found = plan(law, flops=best.flops, cost=given)
        assert (best.params, best.data) == pytest.approx((found.best.params, found.best.data))
        assert (best.params_low, best.params_high) == pytest.approx(found.params_interval)
        own = plan(law, flops=best.flops).best  # with the rule that the law carries
        assert (own.params, own.data) == pytest.approx((best.params, best.data))
        assert law.optimal(best.flops).params == pytest.approx(best.params, rel=1e-3)  # on another grid
        assert 90 * best.params**0.8 * min(best.data, 1e5) ** 0.6 * max(best.data / 1e5, 1) == pytest.approx(best.flops)
    (option,) = told.options
    found = plan(law, flops=told.flops, cost=given).best
    assert (option.params[0], option.data[0]) == pytest.approx((found.params, found.data))
