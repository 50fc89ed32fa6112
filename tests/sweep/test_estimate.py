"""What a grid will cost: also where its smallest cell is too large to be timed whole."""

import time
from dataclasses import replace

import numpy as np
import pytest

from chemscale import data
from chemscale.models import ChemGPT
from chemscale.spec import MODELS, Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import estimate
from chemscale.sweep.preparation import prepare
from chemscale.sweep.tune import _counted
from chemscale.train.rows import cost_key, training_cost
from chemscale.train.symmetry import EnergyForceTurned
from tests.models.batches import ARCHITECTURES
from tests.train.runs import atoms_run, train


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


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_takes_about_what_was_estimated(architecture, structures, tmp_path):
    """Within a factor of 1.8 of its processor time, of every family: other work on the machine moves either by 1.5."""
    changes = {"budget": Budget(updates=15), "evaluation": Evaluation(points=2, valid=24, test=24)}
    run = atoms_run(structures, MODELS[architecture].sized(width=8, depth=2), **changes)
    (cell,) = estimate.costs([run])
    begin = time.process_time()
    train(run, tmp_path / "store")
    taken = time.process_time() - begin
    assert (cell.seconds - estimate.SECONDS_PER_RUN) / 1.8 < taken < 1.8 * cell.seconds
    assert 0 < cell.measuring < cell.seconds


def test_a_model_is_counted_for_each_alphabet_and_each_objective(runs, molecules, structures):
    """The same model has more work where the alphabet is larger, or the loss predicts a rotated copy too."""
    other = replace(runs[0], data=Data(molecules, size=60, representation="smiles"))
    plain = atoms_run(structures)
    pulled = replace(plain, objective=EnergyForceTurned(symmetry=1.0))
    several = [*runs, *prepare([other], None), plain, pulled]
    counted = _counted(several)
    for run in several:
        assert counted[cost_key(run, run.data.content)] == training_cost(run, data.manifest(run.data))
    assert len({str(cost) for cost in counted.values()}) == len(several)
