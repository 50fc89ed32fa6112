"""DimeNet++ against PyTorch Geometric's, which lists every triplet, and a closed form of its size."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn
from torch.testing import assert_close

from chemscale.models.dimenet import DimeNet
from chemscale.models.radial import SphericalBessel
from tests.models.batches import CUTOFF, MANIFEST, SPECIES, joined, module, molecule

WIDTH, DEPTH = 8, 2  # of `module`


def geometric(ours, edges):
    """PyTorch Geometric's DimeNet++ with our weights, on these edges."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peers = pytest.importorskip("torch_geometric.nn.models.dimenet")
    peer = peers.DimeNetPlusPlus(
        WIDTH, 1, DEPTH, WIDTH // 2, 8, 2 * WIDTH, num_spherical=4, num_radial=6, cutoff=CUTOFF
    ).double()
    pairs = {"emb.lin_rbf": ours.first_radial, "emb.lin": ours.first}
    for k, output in enumerate(ours.readout):
        layers = {"lin_rbf": output.radial, "lin_up": output.up, "lin": output.layers[-1]}
        layers |= {f"lins.{n}": output.layers[2 * n] for n in range(3)}
        pairs |= {f"output_blocks.{k}.{name}": layer for name, layer in layers.items()}
    for k, block in enumerate(ours.interactions):
        layers = {"lin_rbf1": block.radial[0], "lin_rbf2": block.radial[1], "lin_sbf2": block.angle}
        layers |= {"lin_kj": block.sent, "lin_ji": block.kept, "lin_down": block.down, "lin_up": block.up}
        layers |= {"lin": block.mixed}
        for name, residuals in (("layers_before_skip", block.before), ("layers_after_skip", block.after)):
            for n, residual in enumerate(residuals):
                layers |= {f"{name}.{n}.lin1": residual.one, f"{name}.{n}.lin2": residual.two}
        pairs |= {f"interaction_blocks.{k}.{name}": layer for name, layer in layers.items()}
    with torch.no_grad():
        for name, layer in pairs.items():
            theirs = peer.get_submodule(name)
            theirs.load_state_dict(layer.state_dict())
        for theirs, block in zip(peer.interaction_blocks, ours.interactions, strict=True):
            theirs.lin_sbf1.weight.copy_(block.shells.flatten(1))
        peer.emb.emb.weight[list(SPECIES)] = ours.embedding.weight
    peers.radius_graph = lambda *args, **kwargs: edges
    peers.triplets = triplets  # theirs needs torch-sparse
    return peer


def triplets(edges, num_nodes):
    """Every bond k -> j before a bond j -> i, k other than i: ends of bonds; i, j, k; both bonds."""
    source, target = edges
    found = [
        (after, before)
        for after in range(edges.shape[1])
        for before in range(edges.shape[1])
        if target[before] == source[after] and source[before] != target[after]
    ]
    after, before = torch.tensor(found).T
    return target, source, target[after], source[after], source[before], before, after


def test_sums_over_bonds_give_what_pytorch_geometric_gives_on_triplets():
    """Same weights in float64, to the 1e-6 by which both round roots of Bessel functions and the scale."""
    ours, batch = module("dimenet"), joined([molecule(n) for n in (9, 6, 7)])
    peer = geometric(ours, torch.cat((batch.pairs, batch.pairs.flip(0)), dim=1))
    positions = batch.positions.clone().requires_grad_()
    energy = MANIFEST.scale * peer(batch.species, positions, batch.owner)[:, 0]
    (slope,) = torch.autograd.grad(energy.sum(), positions)
    predicted = ours(batch)
    assert_close(predicted.energy, energy, rtol=3e-6, atol=3e-6)
    assert_close(predicted.forces, -slope, rtol=3e-6, atol=3e-6)


def test_spherical_bessel_functions_are_scipys_and_orthonormal():
    """Each is 0 at the cutoff; under the weight x^2 on [0, 1], by the trapezoidal rule on 4,000 points."""
    basis = SphericalBessel(4, 3, CUTOFF).double()
    x = torch.linspace(0, 1, 4001, dtype=torch.float64)[200:]
    values = basis(x * CUTOFF)
    for degree in range(4):
        z = basis.wavenumbers[degree].numpy() * CUTOFF * x[:, None].numpy()
        expected = spherical_jn(degree, z) * basis.norms[degree].numpy()
        assert_close(values[:, degree], torch.as_tensor(expected), rtol=0, atol=1e-10)
        assert_close(values[-1, degree], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-5)
    fine = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
    high = basis(fine * CUTOFF)[:, 0] * fine[:, None]
    assert_close(high.T @ high / 4000, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_number_of_parameters_has_a_closed_form():
    """Nine square layers of each interaction and the bottlenecks of its bases; an output is as wide as two messages."""
    w, depth, radial, angular = 16, 3, 6, 4
    square = w * w + w
    interaction = 8 * (radial + w) + 8 * (angular * radial + w // 2) + 2 * w * (w // 2) + 9 * square
    output = radial * w + w * 2 * w + 3 * (4 * w * w + 2 * w) + 2 * w
    first = radial * w + w + 3 * w * w + w
    built = DimeNet.sized(width=w, depth=depth).build(MANIFEST)
    expected = len(SPECIES) * w + first + depth * interaction + (depth + 1) * output
    assert sum(p.numel() for p in built.parameters()) == expected


def test_it_sees_angles_at_equal_distances():
    """Two hydrogens at one distance from an oxygen and beyond the cutoff of each other."""
    potential = module("dimenet", depth=1, cutoff=1.5)

    def energy(angle):
        turned = [math.cos(angle), math.sin(angle), 0.0]
        with torch.no_grad():
            water = np.array([8, 1, 1]), np.array([[0, 0, 0], [1, 0, 0], turned])
            return potential(joined([water], cutoff=1.5)).energy

    assert (energy(1.8) - energy(2.4)).abs().item() > 1e-6
