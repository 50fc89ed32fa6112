"""NequIP beside the `nequip` package with the same weights: the same energies and forces in float64.

Runs where the package is installed (`pip install nequip`) and is skipped elsewhere.
"""

import warnings

import pytest
import torch
from torch.testing import assert_close

from chemscale.models.irreps import Irrep
from chemscale.models.nequip import NequIP
from tests.models.batches import CUTOFF, MANIFEST, joined, molecule
from tests.models.peers import SYMBOLS, exactly, graph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("nequip", reason="pip install nequip")
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTH, NEIGHBOURS = 8, 7.3


def peer(degree, parity, depth):
    set_global_state()
    return NequIPGNNModel(
        seed=0, model_dtype="float64", compile_mode="eager", r_max=CUTOFF, type_names=SYMBOLS, num_layers=depth,
        l_max=degree, parity=parity, num_features=WIDTH, radial_mlp_depth=2, radial_mlp_width=12,
        avg_num_neighbors=NEIGHBOURS,
    )  # fmt: skip


def ours(degree, parity, depth):
    config = NequIP(
        WIDTH, depth, CUTOFF, degree=degree, parity=parity, types=WIDTH, radial_width=12, radial_depth=2,
        neighbours=NEIGHBOURS,
    )  # fmt: skip
    return exactly(config, MANIFEST)


def irrep(ir):
    return Irrep(ir.l, ir.p)


@torch.no_grad()
def copy(theirs, mine):
    """Weights of the package's model into ours, those of irreps that never touch an energy left out."""
    net = theirs.model.func
    mine.embedding.weight.copy_(net.type_embed.embed_module.weight)
    mine.readout.weights[0].copy_(net.per_atom_energy_readout.mlp_module.mlp[0].weight)
    for k, block in enumerate(mine.interactions):
        conv = getattr(net, f"layer{k}_convnet").conv
        hidden = [ir for _, ir in getattr(net, f"layer{k}_convnet").feature_irreps_hidden]
        gates = columns([irrep(ir) for ir in hidden], block, conv)
        for _, ins, view in conv.linear_1.weight_views(yield_instruction=True):
            ir = irrep(conv.linear_1.irreps_in[ins.i_in].ir)
            if ir in block.shape.inputs:
                block.inward.weights[block.shape.inputs.index(ir)].copy_(view)
        copy_radial(conv, block)
        for _, ins, view in conv.linear_2.weight_views(yield_instruction=True):
            ir = irrep(conv.linear_2.irreps_out[ins.i_out].ir)
            if ir in block.shape.outputs:
                kept = view[rows(conv, block, ir)]
                block.outward.weights[block.shape.outputs.index(ir)].copy_(gates(kept, ir))
        if block.kept:
            for _, ins, view in conv.sc.weight_views(yield_instruction=True):
                ir = irrep(conv.sc.irreps_out[ins.i_out].ir)
                if ir in block.shape.outputs:
                    at = block.kept.index(block.shape.outputs.index(ir))
                    block.own.weights[at].copy_(gates(view.permute(1, 0, 2), ir).flatten(1))


def columns(hidden, block, conv):
    """Picks the channels of scalars and of those gates whose irreps we keep."""
    reached = [ir for ir in hidden if any(irrep(i) == ir for _, i in conv.linear_2.irreps_out)]
    gated = [ir for ir in reached if ir.degree > 0]
    keep = [0] + [1 + k for k, ir in enumerate(gated) if ir in block.shape.outputs]

    def pick(view, ir):
        return torch.cat([view.split(WIDTH, -1)[k] for k in keep], -1) if ir == Irrep(0, 1) else view

    return pick


def instructions(conv, block):
    """Of the package's product: (left, degree of the harmonics, out, whether ours has it) in order."""
    tp = conv.tp_scatter.tp
    for ins in tp.instructions:
        left, out = irrep(tp.irreps_in1[ins.i_in1].ir), irrep(tp.irreps_out[ins.i_out].ir)
        yield out, left in block.shape.inputs and out in block.shape.outputs


def copy_radial(conv, block):
    layers = [m for m in conv.edge_mlp.mlp if hasattr(m, "weight")]
    for weight, layer in zip(block.radial.weights[:-1], layers[:-1], strict=True):
        weight.copy_(layer.weight)
    parts = layers[-1].weight.split(block.channels, -1)
    kept = [part for part, (_, has) in zip(parts, instructions(conv, block), strict=True) if has]
    block.radial.weights[-1].copy_(torch.cat(kept, -1))


def rows(conv, block, ir):
    """Rows of the second linear layer that belong to paths of ours."""
    has = [kept for out, kept in instructions(conv, block) if out == ir]
    return torch.tensor(has).repeat_interleave(block.channels)


@pytest.mark.parametrize(
    ("degree", "parity", "depth"),
    [(0, False, 3), (1, False, 3), (2, False, 3), (3, False, 2), (1, True, 4), (2, True, 4)],
)
def test_energies_and_forces_are_the_packages(degree, parity, depth):
    theirs, mine = peer(degree, parity, depth), ours(degree, parity, depth)
    if not parity:
        assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in mine.parameters())
    copy(theirs, mine)
    batch = joined([molecule(9), molecule(6)])
    expected, found = theirs(graph(batch)), mine(batch)
    scale = mine.scale  # theirs has none
    assert found.forces.abs().max() > 1e-2
    assert_close(found.energy / scale, expected["total_energy"].flatten(), rtol=0, atol=1e-12)
    assert_close(found.forces / scale, expected["forces"], rtol=0, atol=1e-12)
