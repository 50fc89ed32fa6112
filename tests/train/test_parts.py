"""Order, schedule, objectives: pure parts against closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chemscale.spec import Budget, Optim
from chemscale.train.objectives import ratio, root
from chemscale.train.optim import lr_share
from chemscale.train.order import seen_counts, step_positions


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40), batch=st.integers(1, 50), total=st.integers(1, 200), seed=st.integers(0, 5))
def test_every_epoch_sees_every_example_once(size, batch, total, seed):
    steps = math.ceil(total / batch)
    stream = [step_positions(k, batch=batch, size=size, seed=seed, total=total) for k in range(steps)]
    flat = np.concatenate(stream)
    assert len(flat) == total
    assert all(len(s) == batch for s in stream[:-1])
    for start in range(0, total - size + 1, size):
        assert sorted(flat[start : start + size]) == list(range(size))
    assert np.array_equal(np.bincount(flat, minlength=size), seen_counts(size, seed, total))


def test_order_is_a_pure_function_of_seed_and_epoch():
    a = step_positions(7, batch=8, size=30, seed=3, total=1000)
    step_positions(100, batch=8, size=30, seed=4, total=1000)
    assert np.array_equal(a, step_positions(7, batch=8, size=30, seed=3, total=1000))
    assert not np.array_equal(a, step_positions(7, batch=8, size=30, seed=4, total=1000))


@pytest.mark.parametrize("shape", ["linear", "sqrt"])
def test_schedule_warms_up_holds_and_cools_down(shape):
    optim = Optim(lr=1.0, warmup=0.1, cooldown=0.3, shape=shape)
    shares = [lr_share(k, 100, optim) for k in range(100)]
    assert shares[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert set(shares[10:70]) == {1.0}
    done = np.arange(1, 31) / 31
    assert shares[70:] == pytest.approx(1 - (np.sqrt(done) if shape == "sqrt" else done))


def test_schedule_of_one_update_moves():
    assert lr_share(0, 1, Optim(lr=1.0)) > 0


@pytest.mark.parametrize(
    ("budget", "examples"),
    [
        (Budget(epochs=2), 200),
        (Budget(epochs=0.5), 50),
        (Budget(updates=7), 56),
        (Budget(examples=33), 33),
        (Budget(epochs=1, min_updates=40), 320),
    ],
)
def test_budget_in_examples(budget, examples):
    assert budget.total_examples(100, 8) == examples


def test_standard_error_of_a_mean_is_the_closed_form():
    values = np.random.default_rng(0).normal(3, 2, 500)
    found = ratio(values, np.ones(500), np.arange(500))
    assert found.value == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=1) / np.sqrt(500))


def test_standard_error_counts_groups_not_copies():
    values = np.random.default_rng(0).normal(3, 2, 50)
    copied, groups = np.repeat(values, 10), np.repeat(np.arange(50), 10)
    alone = ratio(values, np.ones(50), np.arange(50))
    assert ratio(copied, np.ones(500), groups).se == pytest.approx(alone.se)
    assert ratio(copied, np.ones(500), np.arange(500)).se < 0.4 * alone.se
    assert ratio(values, np.ones(50), np.zeros(50)).se is None


def test_error_of_a_root_is_the_delta_method():
    squares = np.random.default_rng(1).normal(size=4000) ** 2
    found = root(ratio(squares, np.ones(4000), np.arange(4000)))
    assert found.value == pytest.approx(np.sqrt(squares.mean()))
    assert found.se == pytest.approx(np.sqrt(2) / 2 / np.sqrt(4000), rel=0.1)  # of a standard normal's scale


def test_next_token_loss_counts_the_end_and_not_the_start():
    from chemscale.batch import TokenBatch
    from chemscale.train.objectives import NextToken

    class Uniform(torch.nn.Module):
        def forward(self, batch):
            return torch.zeros(*batch.tokens[:, 1:].shape, 10)

    batch = TokenBatch(torch.tensor([[1, 5, 6, 2], [1, 5, 2, 0]]), torch.tensor([4, 3]))
    objective = NextToken()
    totals = objective.denominators(batch)
    assert totals.tolist() == [5.0]
    assert objective.loss(Uniform(), batch, totals).item() == pytest.approx(math.log(10))
    measured = {k: v.numpy() for k, v in objective.measure(Uniform(), batch).items()}
    found = objective.metrics(measured, np.arange(2))
    assert found["nats_per_token"].value == pytest.approx(math.log(10))
    assert found["nats_per_molecule"].value == pytest.approx(2.5 * math.log(10))
