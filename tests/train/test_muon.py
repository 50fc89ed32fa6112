"""Muon against torch's own, and what it moves."""

import pytest
import torch

from chemscale.models import ChemGPT, PaiNN
from chemscale.records.schema import POINTS, equal
from chemscale.records.store import Store
from chemscale.spec import Optim, Resources
from chemscale.train.muon import Muon, orthogonal
from chemscale.train.optim import build_optimiser
from chemscale.train.session import train_in_store
from tests.models.test_parametrisation import MANIFEST
from tests.train.runs import atoms_run, text_run, train


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8)])
def test_its_steps_are_those_of_torch_within_bfloat16(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    first = Muon([ours], lr=0.01, weight_decay=0.1)
    second = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
    one, two = ours.detach() - start, theirs.detach() - start
    assert float((one - two).norm() / two.norm()) < 0.03  # bfloat16 keeps 8 bits, and five iterations amplify them


def test_singular_values_end_near_one():
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonal(torch.randn(16, 48, dtype=torch.float64)))
    assert 0.5 < float(found.min()) <= float(found.max()) < 1.5  # the quintic's band: Jordan et al. 2024


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"Muon moves matrices, but a parameter has the shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=1.0)


def test_it_moves_the_matrices_within_the_model_and_nothing_else():
    model = ChemGPT(width=16, depth=2, heads=1, tied=False).build(MANIFEST)
    made = build_optimiser(model, Optim(lr=0.1, name="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    (muon,) = (part for part in made.parts if isinstance(part, Muon))
    hers = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert hers == {n for n, p in model.named_parameters() if n.startswith("h.") and p.ndim == 2}
    everything = [names[id(p)] for group in made.groups for p in group["params"]]
    assert sorted(everything) == sorted(names.values())


def test_it_trains_and_goes_on_after_a_kill_to_the_same_numbers(molecules, tmp_path):
    class Killed(BaseException):
        pass

    def kill(row):
        if row.get("step", 0) >= 10:
            raise Killed

    run = text_run(molecules, optim=Optim(lr=0.01, batch=16, name="muon"))
    calm = train(run, tmp_path / "calm")
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(Killed):
        train_in_store(run, store.path, resources=Resources(), report=kill, saved="measured")
    train_in_store(run, store.path, resources=Resources())
    assert equal(store.points(), calm.points(), POINTS)
    losses = calm.points()["valid_loss"].to_pylist()
    assert losses[-1] < losses[0]


def test_a_potential_can_have_it(structures, tmp_path):
    store = train(atoms_run(structures, PaiNN.sized(width=8), optim=Optim(lr=0.005, batch=8, name="muon")), tmp_path)
    assert store.runs()["optimiser"].to_pylist() == ["muon"]
