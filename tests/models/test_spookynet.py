"""SpookyNet against its authors' package where that is installed, and against closed forms of its parts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from chemscale.models.electrons import configuration, descriptors
from chemscale.models.performer import Performer
from chemscale.models.radial import ExponentialBernstein, smooth_cutoff
from chemscale.models.repulsion import BOHR, COULOMB, Repulsion
from chemscale.models.spookynet import SpookyNet, second_order
from tests.models.batches import CUTOFF, MANIFEST, SPECIES, config, joined, module, molecule

WIDTH, DEPTH = 8, 2  # of `module`
CHARGES, SPINS = [1.0, -2.0, 0.0], [1.0, 0.0, 2.0]


def authors(ours, repulsion):
    """The authors' module with our weights (github.com/OUnke/SpookyNet, with scikit-learn beside it)."""
    peers = pytest.importorskip("spookynet", reason="the authors' package is not on the package index")
    attention = pytest.importorskip("spookynet.modules.attention").Attention
    attention._phi.__defaults__ = (0.0,)  # two constants that we leave out: the first puts kinks into forces
    attention._approximate_attention.__defaults__ = (None, 0.0)
    peer = peers.SpookyNet(
        num_features=WIDTH, num_basis_functions=16, num_modules=DEPTH, cutoff=CUTOFF, use_zbl_repulsion=repulsion,
        use_electrostatics=False, use_d4_dispersion=False,
    ).double()  # fmt: skip
    peer.radial_basis_functions._alpha.data.fill_(ours.basis.decay.item())
    copy = _Copier()
    with torch.no_grad():
        peer.element_bias[:, 0] = ours.readout.bias  # theirs is of each element
        peer.nuclear_embedding.element_embedding[list(SPECIES)] = ours.embedding.weight
        peer.nuclear_embedding.config_linear.weight.copy_(ours.configuration.weight)
        for theirs, mine in ((peer.charge_embedding, ours.charge), (peer.magmom_embedding, ours.spin)):
            for name, layer in (("q", mine.query), ("k", mine.key), ("v", mine.value)):
                copy.linear(getattr(theirs, f"linear_{name}"), layer)
            copy.mlp(theirs.resblock, mine.out)
        for theirs, mine in zip(peer.module, ours.interactions, strict=True):
            copy.interaction(theirs, mine)
        peer.output.weight[0] = ours.readout.weight[0]
        if repulsion:
            copy.repulsion(peer.zbl_repulsion_energy, ours.repulsion)
    return peer


class _Copier:
    def linear(self, theirs, mine):
        theirs.load_state_dict(mine.state_dict())

    def residual(self, theirs, mine):
        first, one, second, two = mine.branch
        self.linear(theirs.activation1, first)
        self.linear(theirs.linear1, one)
        self.linear(theirs.activation2, second)
        self.linear(theirs.linear2, two)

    def mlp(self, theirs, mine):
        self.residual(theirs.residual.stack[0], mine[0])
        self.linear(theirs.activation, mine[1])
        self.linear(theirs.linear, mine[2])

    def interaction(self, theirs, mine):
        self.residual(theirs.residual_pre.stack[0], mine.before)
        self.residual(theirs.residual_post.stack[0], mine.after)
        self.mlp(theirs.resblock, mine.told)
        local, near = theirs.local_interaction, mine.local
        self.mlp(local.resblock_x, near.own)
        self.mlp(local.resblock, near.out)
        for kind, sent, radial in zip("spd", near.sent, near.radial.weight.chunk(3), strict=True):
            self.mlp(getattr(local, f"resblock_{kind}"), sent)
            getattr(local, f"radial_{kind}").weight.copy_(radial)
        for kind, contract in zip("pd", near.contract, strict=True):
            self.linear(getattr(local, f"projection_{kind}"), contract)
        wide, far = theirs.nonlocal_interaction, mine.wide
        for kind, network in (("q", far.query), ("k", far.key), ("v", far.value)):
            self.mlp(getattr(wide, f"resblock_{kind}"), network)
        wide.attention.omega.copy_(far.attention.directions)

    def repulsion(self, theirs, mine):
        for n in range(4):
            getattr(theirs, f"_c{n + 1}").fill_(mine.amplitudes[n].item())
            getattr(theirs, f"_a{n + 1}").fill_(mine.rates[n].item())
        theirs._adiv.fill_(mine.inverse.item())
        theirs._apow.fill_(mine.power.item())


@pytest.mark.parametrize("repulsion", ["none", "zbl"])
def test_half_pairs_give_what_the_authors_package_gives_on_directed_edges(repulsion):
    """Same weights in float64, to the 1e-6 by which the authors round their table of electrons to float32."""
    ours = module("spookynet", repulsion=repulsion)
    batch = joined([molecule(n) for n in (9, 6, 7)], charge=CHARGES, spin=SPINS)
    peer = authors(ours, repulsion == "zbl")
    edges = torch.cat((batch.pairs, batch.pairs.flip(0)), dim=1)
    positions = batch.positions.clone().requires_grad_()
    told = peer.atomic_properties(
        batch.species, batch.charge, batch.spin, positions, edges[0], edges[1], num_batch=3, batch_seg=batch.owner
    )
    atomic = MANIFEST.scale * told[1] + told[3]  # our network's energies are in units of the scale, their ZBL in eV
    energy = torch.zeros(3, dtype=torch.float64).index_add(0, batch.owner, atomic)
    (slope,) = torch.autograd.grad(energy.sum(), positions)
    predicted = ours(batch)
    assert_close(predicted.energy, energy, rtol=3e-6, atol=3e-6)
    assert_close(predicted.forces, -slope, rtol=3e-6, atol=3e-6)


def test_electrons_fill_orbitals_as_the_periodic_table_says():
    """Iron, copper and gold: [Ar] 3d6 4s2, [Ar] 3d10 4s1, [Xe] 4f14 5d10 6s1; valence electrons."""
    iron, copper, gold = (configuration(n) for n in (26, 29, 79))
    assert (iron["3d"], iron["4s"], copper["3d"], copper["4s"]) == (6, 2, 10, 1)
    assert (gold["4f"], gold["5d"], gold["6s"], sum(gold.values())) == (14, 10, 1, 79)
    assert all(sum(configuration(n).values()) == n for n in range(1, 87))
    table = descriptors((9, 79)) * torch.tensor([86, *[2, 2, 6, 2, 6, 2, 10, 6, 2, 10, 6, 2, 14, 10, 6], 2, 6, 10, 14])
    assert_close(table[:, [0, 16, 17, 18, 19]], torch.tensor([[9.0, 2, 5, 0, 0], [79, 1, 0, 10, 14]]))
    with pytest.raises(ValueError, match="atomic number 92; electron configurations are known here from 1 to 86"):
        descriptors((1, 92))


def test_random_features_come_near_softmax_attention():
    """Errors fall as one over the root of the directions: two hundredths at 4,096; two structures do not mix."""
    torch.manual_seed(0)
    width, owner = 8, torch.tensor([0, 0, 0, 1, 1])
    q, k, v = (0.5 * torch.randn(5, width, dtype=torch.float64) for _ in range(3))
    same = owner[:, None] == owner
    exact = (q @ k.T / math.sqrt(width)).masked_fill(~same, -math.inf).softmax(1) @ v
    assert_close(Performer(width, 4096).double()(q, k, v, owner, 2), exact, rtol=0, atol=0.02)


def test_attention_survives_large_queries_and_keys():
    attention, owner = Performer(8, 8), torch.zeros(4, dtype=torch.long)
    x = (100 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    y = attention(x, x, torch.eye(4, 8), owner, 1)
    assert y.isfinite().all() and torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_bernstein_polynomials_are_those_of_the_binomial_theorem():
    """All of one degree sum to 1; each is faded by x."""
    basis, d = ExponentialBernstein(5).double(), torch.linspace(0.3, 4, 20, dtype=torch.float64)
    x = torch.exp(-torch.nn.functional.softplus(basis.decay) * d)
    assert_close(basis(d).sum(1), x)
    assert torch.nn.functional.softplus(basis.decay).item() == pytest.approx(0.5 / BOHR, rel=1e-6)


def test_the_cutoff_is_one_at_zero_and_level_at_its_end():
    d = torch.tensor([0.0, 2.0, 4.99999, 5.0, 6.0], dtype=torch.float64).requires_grad_()
    values = smooth_cutoff(d, 5.0)
    (slope,) = torch.autograd.grad(values.sum(), d)
    assert_close(values.detach(), torch.tensor([1.0, math.exp(-4 / 21), 0, 0, 0], dtype=torch.float64))
    assert slope.isfinite().all() and (slope[2:] == 0).all()


def test_d_functions_depend_on_the_angle_alone():
    """Addition theorem: of two unit vectors, the products of their d functions sum to P_2 of the cosine."""
    p = torch.nn.functional.normalize(torch.randn(2, 3, dtype=torch.float64), dim=1)
    left, right = second_order(p)
    assert (left @ right).item() == pytest.approx(1.5 * (p[0] @ p[1]).item() ** 2 - 0.5)


def test_repulsion_at_the_start_is_the_universal_potential():
    """Carbon and oxygen at 1 angstrom, with the constants of Ziegler, Biersack and Littmark."""
    length = 0.8854 * BOHR / (6**0.23 + 8**0.23)
    terms = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016))
    total = sum(c for c, _ in terms)
    expected = COULOMB * 48 * sum(c / total * math.exp(-a / length) for c, a in terms)
    pairs, one = torch.tensor([[0], [1]]), torch.ones(1)
    atoms = Repulsion()(torch.tensor([6, 8]), one, one[:, None], pairs)
    assert atoms.sum().item() == pytest.approx(expected, rel=1e-3)
    assert atoms[0] == atoms[1]


def test_weights_give_the_same_energies_in_a_model_for_data_of_another_scale():
    """As a run does that starts from trained weights; the repulsion counts in eV, whatever the labels' size."""
    trained, batch = module("spookynet", repulsion="zbl"), joined([molecule(n) for n in (5, 6)])
    other = config("spookynet", repulsion="zbl").build(replace(MANIFEST, scale=7 * MANIFEST.scale)).double()
    other.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert_close(other(batch).energy, trained(batch).energy)


@pytest.mark.parametrize("attention", ["performer", "none"])
def test_the_number_of_parameters_has_a_closed_form(attention):
    """Of an MLP: three layers with biases and three activations of two numbers a channel."""
    w, depth, basis, species = 16, 3, 16, len(SPECIES)
    block = 2 * (w * w + w) + 4 * w
    mlp = block + 2 * w + w * w + w
    electronic = (w * w + w) + (mlp - 3 * w)  # query and an MLP without biases; keys and values come below
    embedding = species * w + 20 * w + 2 * electronic + 2 * w * (2 + 1)
    local = 5 * mlp + 3 * basis * w + 2 * 2 * w * w
    wide = 3 * mlp if attention == "performer" else 0
    expected = embedding + 1 + depth * (2 * block + mlp + local + wide) + w + 1
    built = SpookyNet(width=w, depth=depth, attention=attention).build(MANIFEST)
    assert sum(p.numel() for p in built.parameters()) == expected


def test_charge_and_spin_change_energies_and_neutral_singlets_need_neither():
    potential, molecules = module("spookynet"), [molecule(n) for n in (5, 6)]
    with torch.no_grad():
        plain, same, charged, open_ = (
            potential(joined(molecules, charge=c, spin=s)).energy
            for c, s in ((None, None), ([0, 0], [0, 0]), ([1, 0], [0, 0]), ([0, 0], [0, 2]))
        )
    assert torch.equal(plain, same)
    assert abs(charged[0] - plain[0]) > 1e-4 and charged[1] == plain[1]
    assert abs(open_[1] - plain[1]) > 1e-4 and open_[0] == plain[0]


def test_without_attention_it_sees_angles_at_equal_distances():
    """Three atoms within one cutoff of each other's centre, at one set of distances to it and two angles."""
    potential = module("spookynet", attention="none", depth=1, cutoff=1.5)

    def energy(angle):
        turned = [math.cos(angle), math.sin(angle), 0.0]
        with torch.no_grad():
            return potential(
                joined([(np.array([8, 1, 1]), np.array([[0, 0, 0], [1, 0, 0], turned]))], cutoff=1.5)
            ).energy

    assert (energy(1.8) - energy(2.4)).abs().item() > 1e-6  # the two hydrogens are 1.57 and 1.86 angstrom apart
