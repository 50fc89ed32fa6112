"""Costs are counted, so they must equal what a real step does, on any device and for any model."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from chemscale.batch import TextManifest, TokenBatch
from chemscale.models import ChemGPT, cost
from chemscale.spec import MODELS
from tests.models.batches import ARCHITECTURES, MANIFEST, joined, loss, molecule

SIZES = (9, 4, 6)  # atoms
TEXT = TextManifest("test", "text", "", 1, {}, {}, vocabulary=tuple("_<>?CNOF"), longest=20)

every_model = pytest.mark.parametrize("architecture", ARCHITECTURES)


def train(module, batch):
    loss(module, batch).backward()


def predict(module, batch):
    with torch.no_grad():
        module(batch)


def next_token(module, batch):
    logits = module(batch)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten()).backward()


def strings(examples, tokens):
    return TokenBatch(torch.full((examples, tokens + 1), 4), torch.full((examples,), tokens + 1))


def atoms_and_pairs(batch):
    owners = (batch.owner, batch.owner[batch.pairs[0]])
    counts = [torch.bincount(o, minlength=batch.structures).numpy() for o in owners]
    return dict(zip(("atoms", "pairs"), counts, strict=True))


@every_model
@pytest.mark.parametrize("work", [train, predict], ids=["train", "predict"])
@pytest.mark.parametrize("small", [cost.SMALL, 0], ids=["cpu", "meta"])
def test_a_real_step_of_a_potential_costs_what_was_foreseen(architecture, work, small, monkeypatch):
    monkeypatch.setattr(cost, "SMALL", small)
    config = MODELS[architecture].sized(width=8, depth=2)
    batch = joined([molecule(n) for n in SIZES], torch.float32, cutoff=5.0)
    module, units = config.build(MANIFEST), atoms_and_pairs(batch)
    counted = cost.count_flops(lambda: work(module, batch))
    foreseen = cost.measure(config, MANIFEST, work)
    assert foreseen.flops(units).sum() + foreseen.matrix.once[0] == counted.matrix > 0
    assert foreseen.elementwise(units).sum() + foreseen.elements.once[0] == counted.elementwise > 0


@pytest.mark.parametrize("small", [cost.SMALL, 0], ids=["cpu", "meta"])
def test_a_real_step_on_strings_costs_what_was_foreseen(small, monkeypatch):
    monkeypatch.setattr(cost, "SMALL", small)
    config = ChemGPT.sized(width=16)
    module, batch = config.build(TEXT), strings(3, 11)
    counted = cost.count_flops(lambda: next_token(module, batch))
    foreseen = cost.measure(config, TEXT, next_token)
    assert foreseen.flops({"tokens": np.full(3, 11)}).sum() == counted.matrix > 0


def test_the_flops_of_a_transformer_have_a_closed_form():
    """Forward: 2 per weight and token, and 4 width per two tokens and layer in unfused attention (Kaplan et al.)."""
    config = ChemGPT.sized(width=32)
    forward, whole = (cost.measure(config, TEXT, work) for work in (predict, next_token))
    matrices = sum(p.numel() for p in config.build(TEXT).h.parameters() if p.ndim == 2) + 32 * len(TEXT.vocabulary)
    assert forward.matrix.each == (0, 2 * matrices, 4 * 32 * config.depth)
    assert whole.matrix.each == tuple(3 * c for c in forward.matrix.each)


def test_counts_beyond_the_exact_floats_are_exact():
    """Energies and forces: 2 passes of 2 for each weight of a filter network and pair; floats are 16 apart there."""
    config = MODELS["schnet"].sized(width=10**8)
    counted = cost.measure(config, MANIFEST, lambda module, batch: predict(module.eval(), batch))
    assert counted.matrix.each[2] == 4 * config.depth * (config.basis * config.width + config.width**2) > 2**53


@every_model
def test_double_backward_costs_more_than_three_forwards(architecture):
    """Energy, its gradient and the gradient of both: 5.9 forward passes were measured for SchNet elsewhere."""
    config, units = MODELS[architecture].sized(width=32), {"atoms": np.array([14]), "pairs": np.array([80])}
    training = cost.measure(config, MANIFEST, train).flops(units)[0]

    def energy_only(module, batch):
        vectors = batch.positions.index_select(0, batch.pairs[1]) - batch.positions.index_select(0, batch.pairs[0])
        with torch.no_grad():
            module.atomic_energies(batch, vectors, vectors.square().sum(-1).sqrt())

    forward = cost.measure(config, MANIFEST, energy_only).flops(units)[0]
    assert 5 < training / forward < 7


def test_saved_bytes_of_a_linear_layer_have_a_closed_form():
    """A linear layer and a square keep their inputs, 4 bytes a number."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, batch):
            return self.layer(batch.positions).square().sum()

    config = custom(lambda manifest: Square())
    counted = cost.measure(config, MANIFEST, lambda module, batch: module(batch).backward())
    assert counted.saved.each == (0, 4 * (3 + 5), 0)
    assert counted.bytes({"atoms": np.array([2, 10]), "pairs": np.array([1, 30])}).tolist() == [64.0, 320.0]
    assert counted.parameters == {"embedding": 0, "other": 20, "all": 20, "non_embedding": 20}


@dataclass(frozen=True)
class Custom:
    """A model from outside the package, as little of one as counting needs."""

    architecture: ClassVar[str] = "custom"
    family: ClassVar[str] = "structures"
    objective: ClassVar[str] = "energy_force"
    make: object

    def build(self, manifest):
        return self.make(manifest)


def custom(make, family="structures"):
    return type("Custom", (Custom,), {"family": family})(make)


def test_work_that_is_no_polynomial_is_refused():
    class AllPairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, batch):
            return (batch.positions @ batch.positions.T * self.weight).sum()

    with pytest.raises(ValueError, match="polynomial in atoms, pairs"):
        cost.measure(custom(lambda manifest: AllPairs()), MANIFEST, lambda module, batch: module(batch))


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"family='images' .* structures or text"):
        cost.measure(custom(lambda manifest: nn.Linear(1, 1), family="images"), MANIFEST, predict)


@every_model
def test_a_missing_unit_is_named(architecture):
    counted = cost.measure(MODELS[architecture].sized(width=8, depth=1), MANIFEST, predict)
    with pytest.raises(ValueError, match="lacks 'pairs'"):
        counted.flops({"atoms": np.array([3])})


@every_model
def test_parameters_add_up_by_group_and_leave_out_what_is_frozen(architecture):
    module = MODELS[architecture].sized(width=16).build(MANIFEST)
    counted = cost.parameters(module)
    groups = {k: v for k, v in counted.items() if k not in ("all", "non_embedding")}
    assert sum(groups.values()) == counted["all"] == sum(p.numel() for p in module.parameters())
    assert counted["non_embedding"] == counted["all"] - len(MANIFEST.species) * 16
    module.embedding.weight.requires_grad_(False)
    assert cost.parameters(module)["embedding"] == 0
    assert cost.parameters(module)["all"] == counted["non_embedding"]


@every_model
def test_counting_draws_nothing_from_the_random_state(architecture):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    cost.measure(MODELS[architecture].sized(width=8, depth=1), MANIFEST, predict)
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_is_counted_on_the_processor():
    """The fused kernel of CPUs counts 0 in torch's own table."""
    q = torch.randn(1, 2, 7, 4)
    attention = nn.functional.scaled_dot_product_attention
    assert cost.count_flops(lambda: attention(q, q, q)).matrix == 2 * (2 * 7 * 7 * 4) * 2


def test_vector_products_are_matrix_work_and_views_are_free():
    a, x = torch.randn(3, 5), torch.randn(5)
    assert cost.count_flops(lambda: a @ x) == cost.Flops(matrix=30, elementwise=0)
    assert cost.count_flops(lambda: x @ x) == cost.Flops(matrix=10, elementwise=0)
    assert cost.count_flops(lambda: a.t().reshape(5, 3)[1:].detach()) == cost.Flops(0, 0)
    assert cost.count_flops(lambda: a + x) == cost.Flops(0, 15 + 5 + 15)
