"""How examples lie in memory changes rounding alone; precisions change numbers, and say so in the id."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from chemscale.models.products import linear, products_in
from chemscale.train.parallel import recompute
from tests.train.runs import atoms_run, text_run, train


def curves(run, folder, **resources):
    return train(run, folder, **resources).points()["valid_loss"].to_pylist()


def test_layouts_and_recomputation_change_only_rounding(molecules, tmp_path):
    """Tolerance: 15 updates in float32, sums in another order; measured below 1e-6."""
    run = text_run(molecules)
    packed = curves(run, tmp_path / "packed")
    assert curves(run, tmp_path / "padded", layout="padded", micro_batch=5) == pytest.approx(packed, rel=1e-5)
    assert curves(run, tmp_path / "recomputed", activations="recomputed") == pytest.approx(packed, rel=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16_linears", "bfloat16"])
def test_half_precision_trains_nearly_alike_under_an_id_of_its_own(precision, molecules, tmp_path):
    """bfloat16 has 8 bits: a loss of 2.3 after 15 updates moves by less than a hundredth."""
    run = text_run(molecules)
    half = replace(run, precision=precision)
    assert half.id != run.id
    full, rounded = curves(run, tmp_path / "full"), curves(half, tmp_path / "half")
    assert rounded == pytest.approx(full, rel=1e-2)
    assert rounded != pytest.approx(full, rel=1e-7)


def test_a_model_that_does_not_name_a_precision_refuses_it(structures):
    run = atoms_run(structures)
    with pytest.raises(ValueError, match=r"precision='bfloat16' is not allowed.*one of float32, float64 for painn"):
        replace(run, precision="bfloat16")


def test_products_round_their_factors_and_nothing_else():
    """Against float64 products of the rounded factors; only the result is rounded again, to 8 bits."""
    torch.manual_seed(0)
    x, weight = torch.randn(4, 5, 16, requires_grad=True), torch.randn(7, 16, requires_grad=True)
    bias, grad = torch.randn(7, requires_grad=True), torch.randn(4, 5, 7)
    with products_in(torch.bfloat16):
        made = linear(x, weight, bias)
    made.backward(grad)
    low = [t.detach().bfloat16().double() for t in (x, weight, grad)]
    assert made.dtype == x.grad.dtype == weight.grad.dtype == torch.float32
    close = {"rtol": 2**-7, "atol": 2**-5, "check_dtype": False}  # sums of 16 to 20 terms of order one
    torch.testing.assert_close(made.detach(), low[0] @ low[1].T + bias.detach(), **close)
    torch.testing.assert_close(x.grad, low[2] @ low[1], **close)
    torch.testing.assert_close(weight.grad, torch.einsum("bto,bti->oi", low[2], low[0]), **close)
    torch.testing.assert_close(bias.grad, grad.sum((0, 1)))
    assert torch.equal(linear(x, weight, bias), nn.functional.linear(x, weight, bias))


def test_a_model_without_blocks_has_nothing_to_recompute():
    with pytest.raises(ValueError, match="activations='recomputed' needs the blocks of a model, and Linear names none"):
        recompute(nn.Linear(2, 2))
