"""Kernels of cuEquivariance beside the plain products: the same energies, forces and second derivatives.

The library's own plain torch stands in for its kernels, which run on NVIDIA's GPUs alone: what is held here is what the
kernels are asked for. Runs where it is installed (`pip install 'chemscale[cuequivariance]'`).
"""

from importlib.util import find_spec

import pytest
import torch
from torch.testing import assert_close

from chemscale.models import Allegro, NequIP, SchNet
from chemscale.models.kernels import REFERENCE
from chemscale.models.nequip import Interaction
from chemscale.spec import Data, Optim, Resources, RunSpec
from chemscale.sweep.tuning import _other_kernels
from chemscale.train import kernels
from chemscale.train.kernels import use_kernels, why_not
from tests.models.batches import CUTOFF, MANIFEST, joined, loss, module, molecule

CPU = torch.device("cpu")
BATCH = joined([molecule(6), molecule(5, seed=1)])
installed = pytest.mark.skipif(find_spec("cuequivariance_torch") is None, reason="chemscale[cuequivariance]")
KINDS = [(kind, degree, parity) for kind in (NequIP, Allegro) for degree in range(4) for parity in (False, True)]
QUICK = [(NequIP, 1, True), (NequIP, 2, False), (Allegro, 1, True)]
CASES = [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in KINDS]


def built(kind, degree, parity, dtype):
    torch.manual_seed(0)
    return kind.sized(4, 3, CUTOFF, degree=degree, parity=parity).build(MANIFEST).to(dtype)


def found(potential, batch):
    predicted = potential(batch)
    wanted = list(potential.parameters())
    slopes = torch.autograd.grad(loss(potential, batch), wanted)
    return predicted.energy, predicted.forces, torch.cat([slope.flatten() for slope in slopes])


@installed
@pytest.mark.parametrize(("kind", "degree", "parity"), CASES)
def test_kernels_give_what_the_plain_products_give(kind, degree, parity):
    """float64 to 1e-10 and float32 to 1e-5 of the largest number of each sort: rounding in another order."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        plain, fast, batch = built(kind, degree, parity, dtype), built(kind, degree, parity, dtype), BATCH.astype(dtype)
        use_kernels(fast, CPU, REFERENCE)
        fast(batch)  # the first batch, by which it is held against itself
        assert fast.forward.differs is None
        assert all(part.kernel is not None for part in fast.forward.parts)
        for one, other in zip(found(plain, batch), found(fast, batch), strict=True):
            assert_close(other, one, rtol=0, atol=tolerance * one.abs().max().item())
        assert list(plain.state_dict()) == list(fast.state_dict())  # checkpoints of the one are those of the other


@installed
@pytest.mark.parametrize("name", ["nequip", "allegro"])
def test_no_pairs_and_no_gradients(name):
    """Atoms that are all alone have no product to make; measuring uses kernels that were held against the plain."""
    plain, fast = module(name), module(name)
    use_kernels(fast, CPU, REFERENCE)
    alone = joined([molecule(1), molecule(1, seed=1)])
    for batch in (alone, BATCH, alone):
        assert_close(fast(batch).energy, plain(batch).energy, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert_close(fast(BATCH).forces, plain(BATCH).forces, rtol=0, atol=1e-12)


class Wrong:
    """A product that is a thousandth too large."""

    def __init__(self, part):
        self.part = part

    def __call__(self, *given):
        return tuple(block * 1.001 for block in self.part._convolved(*given))


class Broken(Wrong):
    def __call__(self, *given):
        raise RuntimeError("no kernel image is available\nlong story")


@pytest.mark.parametrize(("kernel", "reason"), [(Wrong, "its energies differ"), (Broken, "no kernel image is")])
def test_kernels_that_err_are_given_up(monkeypatch, kernel, reason):
    monkeypatch.setattr(Interaction, "with_kernel", lambda part, method: kernel(part))
    plain, fast = module("nequip"), module("nequip")
    use_kernels(fast, CPU, REFERENCE)
    with pytest.warns(RuntimeWarning, match=f"'cuequivariance' is given up for this NequIPPotential.*{reason}"):
        fast(BATCH)
    for one, other in zip(found(plain, BATCH), found(fast, BATCH), strict=True):
        assert torch.equal(one, other)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package cuequivariance; install it by pip .*kernels='plain'\.$"):
        use_kernels(module("nequip"), CPU)
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    assert "runs on NVIDIA's GPUs, not on cpu" in str(why_not(CPU))
    with pytest.raises(ValueError, match="multiplies irreps, and SchNetPotential has none"):
        use_kernels(module("schnet"), CPU)


def test_tuning_offers_them_where_they_run(monkeypatch):
    runs = [RunSpec(model, Data("fragments-gfn2", size=8), Optim(batch=4)) for model in (NequIP(8), SchNet(8))]
    on = Resources(gpus=1)
    monkeypatch.setattr("chemscale.sweep.tuning.visible_device", lambda gpus: CPU)
    assert [_other_kernels(run, on) for run in runs] == [[], []]  # no NVIDIA GPU
    monkeypatch.setattr("chemscale.sweep.tuning.why_not", lambda device: None)
    assert [_other_kernels(run, on) for run in runs] == [["cuequivariance"], []]
    assert _other_kernels(runs[0], Resources(gpus=1, kernels="cuequivariance")) == ["plain"]
    assert _other_kernels(runs[0], Resources()) == _other_kernels(runs[0], Resources(gpus=1, compile="step")) == []


@pytest.mark.parametrize("fields", [{}, {"gpus": 1, "compile": "step"}])
def test_resources_that_cannot_have_kernels_are_refused(fields):
    with pytest.raises(ValueError, match=r"is not allowed: it must be .* with kernels='cuequivariance'"):
        Resources(kernels="cuequivariance", **fields)
