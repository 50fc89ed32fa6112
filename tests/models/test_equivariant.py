"""NequIP and Allegro at degrees and parities beyond those that every model's tests build."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from chemscale.models import Allegro, NequIP
from tests.models.batches import CUTOFF, MANIFEST, joined, molecule

WIDE = [(NequIP, 3, degree, parity) for degree, parity in ((0, False), (2, False), (3, False))]
WIDE += [(NequIP, 4, 2, True), (Allegro, 2, 0, False), (Allegro, 3, 2, True), (Allegro, 2, 3, False)]
every_kind = pytest.mark.parametrize(("kind", "depth", "degree", "parity"), WIDE)
TURN, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))


def built(kind, depth, degree, parity, *, width=8, cutoff=CUTOFF):
    torch.manual_seed(0)
    return kind.sized(width, depth, cutoff, degree=degree, parity=parity).build(MANIFEST)


def forces(potential, positions, species, dtype=torch.float64):
    with torch.no_grad():
        return potential(joined([(species, positions)], dtype))


@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-13)], ids=str)
def test_forces_turn_and_are_mirrored_with_the_molecule(kind, depth, degree, parity, dtype, tolerance):
    """100 eps of the largest force: products of more factors than those of other models."""
    potential = built(kind, depth, degree, parity).to(dtype)
    species, positions = molecule(9)
    still = forces(potential, positions, species, dtype)
    size = still.forces.abs().max().item()
    assert size > 1e-3
    for turn in (TURN, -TURN):
        turned = forces(potential, positions @ turn.T, species, dtype)
        assert_close(turned.energy, still.energy, rtol=0, atol=10 * tolerance)
        expected = still.forces @ torch.as_tensor(turn.T, dtype=dtype)
        assert_close(turned.forces, expected, rtol=0, atol=50 * tolerance * max(size, 0.1))


@every_kind
def test_every_parameter_is_reached(kind, depth, degree, parity):
    potential = built(kind, depth, degree, parity)
    predicted = potential(joined([molecule(9), molecule(8)], torch.float32))
    (predicted.energy.square().sum() + predicted.forces.square().sum()).backward()
    for name, parameter in potential.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def fork(angle):
    """Two hydrogens at 1 angstrom from an oxygen, and nothing else: distances to it do not tell the angle."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]], dtype=float)
    return np.array([8, 1, 1]), positions


@pytest.mark.parametrize(("kind", "depth"), [(NequIP, 1), (NequIP, 2), (Allegro, 1), (Allegro, 2)])
def test_degree_0_sees_no_angles_and_degree_1_does(kind, depth):
    """The hydrogens are beyond each other's cutoff; NequIP needs two blocks of degree 1, Allegro one layer."""
    energies = {}
    for degree in (0, 1):
        potential = built(kind, depth, degree, False, cutoff=1.2).double()
        ends = [forces(potential, fork(a)[1], fork(a)[0]) for a in (2.0, 2.9)]
        bare = [e.energy for e in ends]
        energies[degree] = (bare[1] - bare[0]).abs().item()
    assert energies[0] < 1e-14
    assert (energies[1] > 1e-8) == (kind is Allegro or depth > 1)


def test_allegro_is_local_at_any_depth_and_nequip_is_not():
    """In a chain the energy of an end depends on its neighbours alone, or on theirs too."""
    species = np.array([6, 6, 6, 6])
    chain = np.array([[0.0, 0, 0], [1.4, 0, 0], [2.8, 0.3, 0], [4.1, 0, 0.4]])
    moved = chain + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.2, 0]])
    for kind, local in ((Allegro, True), (NequIP, False)):
        potential, found = built(kind, 3, 1, False, cutoff=1.7).double(), []
        for positions in (chain, moved):
            batch = joined([(species, positions)], cutoff=1.7)
            vectors = batch.positions[batch.pairs[1]] - batch.positions[batch.pairs[0]]
            with torch.no_grad():
                found.append(potential.atomic_energies(batch, vectors, vectors.norm(dim=1))[0])
        assert (found[0] == found[1]).item() == local


@pytest.mark.parametrize(("field", "value"), [("degree", -1), ("neighbours", 0.0), ("degree", 1.5)])
@pytest.mark.parametrize("kind", [NequIP, Allegro])
def test_impossible_fields_are_refused(kind, field, value):
    with pytest.raises(ValueError, match=rf"{field}={value}.* is not allowed"):
        kind(8, **{field: value})


@pytest.mark.parametrize("field", ["types", "radial_width", "radial_depth"])
def test_impossible_sizes_of_nequip_are_refused(field):
    with pytest.raises(ValueError, match=rf"{field}=-1 is not allowed"):
        NequIP(8, **{field: -1})
