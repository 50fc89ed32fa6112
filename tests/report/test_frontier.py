"""What the frontier takes a run to cost."""

import numpy as np
import pytest

from chemscale.report.frontier import Cost


def test_beyond_the_most_data_cost_grows_with_every_unit():
    cost = Cost(coefficient=7.0, by_params=0.9, by_data=0.6, spread=0.0, most=1e4)
    assert cost.flops(100.0, 1e3) == pytest.approx(7 * 100**0.9 * 1e3**0.6)
    assert cost.flops(100.0, 1e6) == pytest.approx(100 * cost.flops(100.0, 1e4))
    data = np.geomspace(1e2, 1e7, 11)
    assert [float(cost.data(50.0, float(cost.flops(50.0, d)))) for d in data] == pytest.approx(data)
