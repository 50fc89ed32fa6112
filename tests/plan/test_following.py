"""The next runs of a law, in the unit of a budget."""

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.plan import Spend, following, law_cost
from tests.laws.planted import grid


@pytest.fixture(scope="module")
def law():
    return fit(
        grid(np.geomspace(1e6, 1e8, 4), np.geomspace(1e8, 1e10, 4), noise=0.01),
        data="tokens",
        loss="loss",
        bootstrap=100,
    )


def test_next_runs_spend_the_budget_on_the_target(law):
    spend, target = Spend(law_cost(law)), {"params": 1e10, "data": 1e12}
    found = following(law, spend, budget=1e20, target=target)
    assert found.spent == pytest.approx(sum(found.costs)) and found.spent <= 1e20
    assert found.after < found.rivals["d"] < found.before
    for run, cost in zip(found.runs, found.costs, strict=True):
        assert cost == pytest.approx(6 * run.params * run.data * run.replicates)
    alpha = following(law, spend, budget=1e20, target="alpha")
    assert alpha.after < alpha.rivals["d"] < alpha.before


def test_mistakes_are_one_sentence(law):
    with pytest.raises(ValueError, match="needs params=… and data=…"):
        following(law, Spend(law_cost(law)), budget=1e20, target={"params": 1e9})
    with pytest.raises(ValueError, match="pays for none"):
        following(law, Spend(law_cost(law)), budget=1.0, target="alpha")
