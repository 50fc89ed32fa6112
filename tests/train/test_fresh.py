"""What a reused process has left behind changes no number of the next run."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from chemscale.records.schema import POINTS, RUNS, equal
from tests.train.runs import run_of, train


@pytest.fixture
def used_process():
    """Puts back what the test leaves behind."""
    threads, kind, modes = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(kind)
    torch.set_rng_state(modes)


@pytest.mark.parametrize("family", ["chemgpt", "painn"])
def test_a_reused_process_gives_the_numbers_of_a_new_one(used_process, family, molecules, structures, tmp_path):
    run = run_of(family, molecules, structures)
    fresh = train(run, tmp_path / "fresh")
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    torch.rand(11)
    reused = train(run, tmp_path / "reused")
    assert torch.get_num_threads() == 1
    assert equal(fresh.points(), reused.points(), POINTS)
    assert equal(fresh.runs(), reused.runs(), RUNS)


def test_a_model_may_draw_from_any_generator(molecules, structures, tmp_path, monkeypatch):
    """A model of the user's own that initialises itself with NumPy or `random` is the same in every process."""
    run = run_of("chemgpt", molecules, structures)
    build = type(run.model).build

    def with_numpy(self, manifest):
        module = build(self, manifest)
        nn.init.constant_(module.ln_f.weight, 1 + 0.1 * np.random.rand() + 0.1 * random.random())
        return module

    monkeypatch.setattr(type(run.model), "build", with_numpy)
    tables = []
    for k in range(2):
        np.random.seed(k)
        random.seed(k)
        tables.append(train(run, tmp_path / str(k)).points())
    assert equal(*tables, POINTS)
