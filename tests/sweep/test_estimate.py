"""What a grid will cost: also where its smallest cell is too large to be timed whole."""

import numpy as np
import pytest

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import estimate
from chemscale.sweep.drive import prepare


@pytest.fixture
def runs(molecules):
    """Two widths."""
    made = [
        RunSpec(
            model=ChemGPT.sized(width=width), data=Data(molecules, size=60), optim=Optim(lr=0.01, batch=16),
            budget=Budget(updates=50), evaluation=Evaluation(points=2, valid=16, test=16),
        )
        for width in (16, 48)
    ]  # fmt: skip
    return prepare(made, None)


def seconds(runs):
    return np.array([cell.seconds for cell in estimate.costs(runs)]) - estimate.SECONDS_PER_RUN


def test_a_grid_whose_steps_are_all_too_large_is_timed_on_a_few_examples(runs, monkeypatch):
    """FLOPs a second of four examples are a little lower than those of sixteen."""
    whole = seconds(runs)
    step = estimate.costs(runs)[0].flops / runs[0].updates
    monkeypatch.setattr(estimate, "TIMED_FLOPS", step / 4)
    few = seconds(runs)
    assert whole[0] / 4 < few[0] < whole[0] * 12
    assert few[1] / few[0] == pytest.approx(estimate.costs(runs)[1].flops / estimate.costs(runs)[0].flops, rel=0.3)


def test_where_one_example_is_too_large_a_matrix_product_gives_the_rate(runs, monkeypatch):
    monkeypatch.setattr(estimate, "TIMED_FLOPS", 1.0)
    cells = estimate.costs(runs)
    assert 1e8 < estimate._matrix_rate() < 1e13
    for cell, got in zip(cells, seconds(runs), strict=True):
        assert got >= cell.flops / estimate._matrix_rate() * (1 - 1e-9)
        assert got < 3 * cell.flops / estimate._matrix_rate()
