"""SchNet against PyTorch Geometric's, a closed form of its size, and its activation."""

import math
import warnings

import pytest
import torch
from torch.testing import assert_close

from chemscale.models.cost import measure
from chemscale.models.schnet import SchNet, ShiftedSoftplus
from tests.models.batches import CUTOFF, MANIFEST, SPECIES, config, joined, loss, module, molecule

WIDTH, DEPTH = 8, 2  # of `module`


def weights_of(block):
    """Our layers of one interaction by the names that PyTorch Geometric gives them."""
    return {
        "mlp.0": block.filter[0],
        "mlp.2": block.filter[2],
        "conv.lin1": block.inward,
        "conv.lin2": block.outward[0],
        "lin": block.outward[2],
    }


def geometric(ours, graph):
    """PyTorch Geometric's SchNet with our weights and Gaussians, on the graph that `graph` gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("torch_geometric.nn.models")
    peer = models.SchNet(WIDTH, WIDTH, DEPTH, len(ours.basis.centres), CUTOFF, interaction_graph=graph).double()
    layers = {"lin1": ours.readout[0], "lin2": ours.readout[2]}
    for k, block in enumerate(ours.interactions):
        layers |= {f"interactions.{k}.{name}": layer for name, layer in weights_of(block).items()}
    for name, layer in layers.items():
        peer.get_submodule(name).load_state_dict(layer.state_dict())
    with torch.no_grad():
        peer.embedding.weight[list(SPECIES)] = ours.embedding.weight
    peer.distance_expansion.offset.copy_(ours.basis.centres)
    peer.distance_expansion.coeff = -0.5 * ours.basis.inverse_width**2
    return peer


def test_half_pairs_give_what_pytorch_geometric_gives_on_directed_edges():
    """Same weights in float64, to the 1e-7 by which the peer's ln 2 and our scale are rounded to float32."""
    ours, batch = module("schnet").eval(), joined([molecule(n) for n in (9, 6, 7)])
    edges = torch.cat((batch.pairs, batch.pairs.flip(0)), dim=1)
    peer = geometric(ours, lambda r, _: (edges, (r[edges[0]] - r[edges[1]]).norm(dim=1)))
    positions = batch.positions.clone().requires_grad_()
    energy = MANIFEST.scale * peer(batch.species, positions, batch.owner)[:, 0]
    (slope,) = torch.autograd.grad(energy.sum(), positions)
    predicted = ours(batch)
    assert_close(predicted.energy, energy, rtol=1e-6, atol=1e-6)
    assert_close(predicted.forces, -slope, rtol=1e-6, atol=1e-6)


def outcome(potential, batch):
    """Energies, forces, and the gradient of a squared error of both."""
    predicted = potential(batch)
    error = (predicted.energy - batch.energy).square().sum() + (predicted.forces - batch.forces).square().sum()
    slopes = torch.autograd.grad(error, list(potential.parameters()))
    return predicted.energy, predicted.forces, torch.cat([slope.flatten() for slope in slopes])


@pytest.mark.parametrize("variant", ["schnet", "schnet direct"])
@pytest.mark.parametrize("steeper", [1, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 5e-6)], ids=str)
def test_filters_read_off_a_table_train_as_those_evaluated_at_every_pair(variant, steeper, dtype, tolerance):
    """In float32 by rounding, 2e-6 as measured. In float64 by what splines err: forces by 1e-7, and by 1e-6 where the
    filters' first layer has weights eight times those that it starts with."""
    torch.manual_seed(0)
    potential = config(variant, width=32, depth=3, cutoff=5.0).build(MANIFEST).to(dtype)
    with torch.no_grad():
        for block in potential.interactions:
            block.filter[0].weight.mul_(steeper)
    batch = joined([molecule(14, seed=k) for k in range(4)], dtype, cutoff=5.0)
    read = outcome(potential.train(), batch)
    evaluated = outcome(potential.eval(), batch)
    for one, other in zip(read, evaluated, strict=True):
        assert 0 < (one - other).norm() <= tolerance * other.norm()


def test_filters_are_evaluated_no_more_often_for_more_pairs_where_it_trains():
    """What a pair adds is the reading: at 6 rows, in the energy, its slope, and both of their slopes."""
    config = SchNet.sized(width=16, depth=2)
    counted = measure(config, MANIFEST, lambda module, batch: loss(module, batch).backward())
    assert counted.matrix.each[2] == 7 * config.depth * 2 * 6 * config.width
    sites = 8 * (config.basis - 1) + 17
    network = 2 * (config.basis + config.width) * config.width  # a pass over one layer's, of which there are three
    assert counted.matrix.once[0] == config.depth * sites * (3 * network - 2 * config.basis * config.width)


def test_the_number_of_parameters_has_a_closed_form():
    """Per block: a filter of two layers, one layer in without bias, two layers out; then the readout."""
    w, depth = 16, 3
    config = SchNet.sized(width=w, depth=depth)
    block = (config.basis + 1) * w + (w + 1) * w + w * w + 2 * (w + 1) * w
    readout = (w + 1) * w // 2 + w // 2 + 1
    expected = len(SPECIES) * w + depth * block + readout
    assert sum(p.numel() for p in config.build(MANIFEST).parameters()) == expected


def test_gaussians_keep_their_spacing_at_any_cutoff():
    assert [SchNet.sized(width=8, cutoff=c).basis for c in (5.0, 10.0, 0.1)] == [25, 50, 2]


def test_the_activation_is_the_papers():
    x = torch.linspace(-20, 20, 101, dtype=torch.float64)
    assert_close(ShiftedSoftplus()(x), torch.log(0.5 * x.exp() + 0.5), rtol=1e-12, atol=1e-8)
    assert ShiftedSoftplus()(torch.zeros(1)).item() == pytest.approx(math.log(1.0), abs=1e-7)
