"""Allegro beside the `nequip-allegro` package with the same weights: the same energies and forces in float64.

Runs where the package is installed (`pip install nequip-allegro`) and is skipped elsewhere.
"""

import warnings

import pytest
import torch
from torch.testing import assert_close

from chemscale.models.allegro import Allegro
from tests.models.batches import CUTOFF, MANIFEST, joined, molecule
from tests.models.peers import SYMBOLS, exactly, graph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("allegro", reason="pip install nequip-allegro")
    from allegro.model import AllegroModel
    from nequip.utils.global_state import set_global_state

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTH, TENSORS, NEIGHBOURS = 8, 6, 7.3


def peer(degree, parity, depth):
    set_global_state()
    return AllegroModel(
        seed=0, model_dtype="float64", compile_mode="eager", r_max=CUTOFF, type_names=SYMBOLS, num_layers=depth,
        l_max=degree, parity=parity, num_scalar_features=WIDTH, num_tensor_features=TENSORS,
        scalar_embed_mlp_hidden_layers_width=WIDTH, allegro_mlp_hidden_layers_width=WIDTH,
        readout_mlp_hidden_layers_width=WIDTH // 2, avg_num_neighbors=NEIGHBOURS,
        radial_chemical_embed={"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8},
    )  # fmt: skip


def by_degree(view):
    """Columns (channels, degrees) of the package -> (degrees, channels) of ours."""
    return view.unflatten(-1, (TENSORS, -1)).transpose(-1, -2).flatten(-2)


def scalars_first(view):
    return torch.cat((view[:, :WIDTH], by_degree(view[:, WIDTH:])), 1) if view.shape[1] > WIDTH else view


@torch.no_grad()
def copy(theirs, mine):
    net = theirs.model.func
    typed = net.radial_chemical_embed.type_embed
    mine.embedding.weight.copy_(torch.cat((typed.center_embed.weight, typed.neighbor_embed.weight), 1))
    networks = [
        (mine.radial, typed.basis_linear, lambda w: w),
        (mine.two_body, net.scalar_embed_mlp.mlp_module, lambda w: w),
        (mine.tensors, net.tensor_embed.env_embed_linear, by_degree),
        (mine.start, net.allegro.first_layer_env_embed_projection, scalars_first),
        (mine.readout, net.edge_readout.mlp_module, lambda w: w),
        *((a.latent, b, scalars_first) for a, b in zip(mine.layers, net.allegro.latents, strict=True)),
    ]
    for our, other, last in networks:
        layers = [m.weight for m in other.mlp if hasattr(m, "weight")]
        for k, (weight, view) in enumerate(zip(our.weights, layers, strict=True)):
            weight.copy_(last(view) if k == len(layers) - 1 else view)
    for number, (layer, tp) in enumerate(zip(mine.layers, net.allegro.tps, strict=True)):
        steps = layer.product.steps
        # ours couples the environment with the harmonics, theirs the harmonics with the environment: an odd sum of
        # degrees changes the sign of Wigner's symbol
        signs = [(-1) ** sum(path.degrees) if number == 0 else 1 for path in steps]
        weights = tp.weights.view(TENSORS, -1).T
        layer.product.weights.copy_(weights * torch.tensor(signs)[:, None])


@pytest.mark.parametrize(
    ("degree", "parity", "depth"),
    [(0, False, 2), (1, False, 2), (2, True, 2), (1, False, 1), (1, True, 3), (2, True, 3), (3, False, 3)],
)
def test_energies_and_forces_are_the_packages(degree, parity, depth):
    theirs = peer(degree, parity, depth)
    config = Allegro(
        WIDTH, depth, CUTOFF, degree=degree, parity=parity, tensors=TENSORS, neighbours=NEIGHBOURS
    )  # fmt: skip
    mine = exactly(config, MANIFEST)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in mine.parameters())
    copy(theirs, mine)
    batch = joined([molecule(9), molecule(6)])
    expected, found = theirs(graph(batch)), mine(batch)
    assert found.forces.abs().max() > 1e-2
    assert_close(found.energy / mine.scale, expected["total_energy"].flatten(), rtol=0, atol=1e-12)
    assert_close(found.forces / mine.scale, expected["forces"], rtol=0, atol=1e-12)
