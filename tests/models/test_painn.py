"""PaiNN against the paper's equations written out edge by edge, and a closed form of its size."""

import math

import pytest
import torch
from torch.nn.functional import silu
from torch.testing import assert_close

from chemscale.models.painn import NORM_FLOOR, PaiNN
from tests.models.batches import CUTOFF, MANIFEST, SPECIES, joined, module, molecule


def full(weight, width):
    """The paper's three branches: what our two-branch layers leave out is filled with arbitrary numbers."""
    rows = 3 * width - len(weight)
    return torch.cat((weight, torch.full((rows, *weight.shape[1:]), 0.7, dtype=weight.dtype)))


def naive_energies(ours, species, positions, owner, structures):
    """Equations 7 to 10 of the paper and figure 2, one directed edge at a time."""
    width, atoms = ours.embedding.weight.shape[1], len(species)
    s = list(ours.embedding.weight[ours.rows(species)])
    v = [torch.zeros(3, width, dtype=positions.dtype) for _ in range(atoms)]
    count = len(ours.basis.wavenumbers)
    for message, update in zip(ours.messages, ours.updates, strict=True):
        phi_in, phi_out = message.phi[0], message.phi[2]
        phi = [full(phi_out.weight, width) @ silu(phi_in(x)) + full(phi_out.bias, width) for x in s]
        filters = full(message.filter.weight, width)
        new_s, new_v = list(s), list(v)
        for i in range(atoms):
            for j in range(atoms):
                r = positions[j] - positions[i]
                d = r.square().sum().sqrt() if i != j else torch.tensor(math.inf)
                if owner[i] != owner[j] or d >= CUTOFF:
                    continue
                bessel = torch.stack([torch.sin((n + 1) * math.pi * d / CUTOFF) / d for n in range(count)])
                fade = 0.5 * (torch.cos(math.pi * d / CUTOFF) + 1)
                w = (filters[:, :-1] @ (math.sqrt(2 / CUTOFF) * bessel) + filters[:, -1]) * fade
                in_s, in_r, in_v = (phi[j] * w).split(width)
                new_s[i] = new_s[i] + in_s
                new_v[i] = new_v[i] + v[j] * in_v + in_r * (r / d)[:, None]
        s, v = new_s, new_v
        u_matrix, v_matrix = update.mix.weight.split(width)
        inner, outer = update.gates[0], update.gates[2]
        for i in range(atoms):
            uv, vv = v[i] @ u_matrix.T, v[i] @ v_matrix.T
            norm = (vv.square().sum(0) + NORM_FLOOR).sqrt()
            hidden = silu(inner(torch.cat((s[i], norm))))
            ss, sv, vv_gate = (full(outer.weight, width) @ hidden + full(outer.bias, width)).split(width)
            s[i] = s[i] + ss + sv * (uv * vv).sum(0)
            v[i] = v[i] + vv_gate * uv
    atomic = ours.readout(torch.stack(s)).squeeze(-1)
    return MANIFEST.scale * torch.zeros(structures, dtype=positions.dtype).index_add(0, owner, atomic)


def test_half_pairs_give_what_the_papers_equations_give():
    """To the 1e-7 by which wavenumbers and scale are rounded when a module is built in float32.

    The rows that ours leaves out are arbitrary there, so they touch nothing.
    """
    ours, batch = module("painn", depth=3), joined([molecule(5), molecule(4)])
    positions = batch.positions.clone().requires_grad_()
    energy = naive_energies(ours, batch.species, positions, batch.owner, batch.structures)
    (slope,) = torch.autograd.grad(energy.sum(), positions)
    predicted = ours(batch)
    assert_close(predicted.energy, energy, rtol=1e-6, atol=1e-6)
    assert_close(predicted.forces, -slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_number_of_parameters_has_a_closed_form(depth):
    """The paper's count, less what never touches an energy: a third branch of the first message and last update."""
    w = 16
    config = PaiNN.sized(width=w, depth=depth)
    message = (w + 1) * w + (w + 1) * 3 * w + (config.basis + 1) * 3 * w
    update = 2 * w * w + (2 * w + 1) * w + (w + 1) * 3 * w
    readout = (w + 1) * w // 2 + w // 2 + 1
    unread = (w + 1) * w + (config.basis + 1) * w + (w + 1) * w
    expected = len(SPECIES) * w + depth * (message + update) + readout - unread
    assert sum(p.numel() for p in config.build(MANIFEST).parameters()) == expected


def test_bessel_functions_keep_their_density_at_any_cutoff():
    assert [PaiNN.sized(width=8, cutoff=c).basis for c in (5.0, 10.0, 0.1)] == [20, 40, 2]
