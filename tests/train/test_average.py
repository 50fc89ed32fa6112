"""The moving average of weights: its closed form, and that it is what a run measures, keeps and goes on with."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from chemscale.records.store import Store
from chemscale.spec import Optim, Resources
from chemscale.train.average import blend, in_place
from chemscale.train.parallel import Whole
from chemscale.train.ranks import Ranks
from chemscale.train.state import kept_weights
from tests.train.group import Job
from tests.train.runs import text_run, train


def test_the_average_is_a_weighted_sum_of_all_weights():
    """Closed form: the newest weights count 1 - d, those before d times what they counted."""
    layout = Whole(nn.Linear(1, 1, bias=False), Ranks())
    values, average, expected = [3.0, -1.0, 4.0, 1.5], None, 0.0
    for n, value in enumerate(values, 1):
        nn.init.constant_(layout.module.weight, value)
        average = blend(average, layout, 0.9, n)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = value if n == 1 else decay * expected + (1 - decay) * value
    assert average is not None
    assert float(average["weight"]) == pytest.approx(expected, rel=1e-6)
    with in_place(layout, average):
        assert float(layout.module.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(layout.module.weight.detach()) == values[-1]


def test_it_is_measured_and_kept_and_goes_on_after_a_stop(molecules, tmp_path):
    run = text_run(molecules, optim=Optim(batch=16))
    averaged = replace(run, optim=replace(run.optim, ema=0.9))
    assert averaged.id != run.id
    assert replace(averaged, optim=replace(averaged.optim, ema=None)).id == run.id
    plain, whole = train(run, tmp_path / "plain"), train(averaged, tmp_path / "whole")
    for stop_at in (5, None):
        Store(tmp_path / "halves", create=True)
        Job(averaged, str(tmp_path / "halves"), Resources(checkpoint_seconds=0), stop_at=stop_at)(Ranks())
    halves = Store(tmp_path / "halves")
    curves = [store.points()["valid_loss"].to_pylist() for store in (plain, whole, halves)]
    assert curves[1] == curves[2]
    assert curves[0] != curves[1]
    trained = [store.points()["train_loss"].to_pylist() for store in (plain, whole)]
    assert trained[0] == trained[1]  # training goes on with the weights themselves
    kept = [kept_weights(store, store.runs().to_pylist()[0]["run_id"]) for store in (plain, whole, halves)]
    assert all(torch.equal(kept[1][name], kept[2][name]) for name in kept[1])
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[1])


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"Optim\.ema=1 is not allowed: it must be between 0 and 1, or None"):
        Optim(ema=1)
