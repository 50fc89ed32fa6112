"""Rotations drawn for training, the symmetry loss, and the equivariance error that is measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from chemscale.train.objectives import EnergyForce
from chemscale.train.symmetry import EnergyForceTurned, force_asymmetry, rotation_matrices, side_by_side, turned
from tests.models.batches import ARCHITECTURES, crystal, joined, keeps, module, molecule

MOLECULES = [molecule(n) for n in (7, 5)]


def batch_with_turns(step=0):
    turn = torch.as_tensor(rotation_matrices(np.arange(2), "seed 0", step))
    return replace(joined(MOLECULES), turn=turn)


def test_rotations_are_proper_uniform_and_a_function_of_seed_step_and_example():
    """The mean of each entry of 4,000 is 0 and of its square 1/3, to four standard errors (1/sqrt(3 * 4000))."""
    r = rotation_matrices(np.arange(4000), "seed 1", 7)
    assert np.allclose(r @ r.transpose(0, 2, 1), np.eye(3), atol=1e-12) and np.allclose(np.linalg.det(r), 1)
    assert np.abs(r.mean(0)).max() < 0.037 and np.abs((r**2).mean(0) - 1 / 3).max() < 0.02
    assert np.array_equal(rotation_matrices(np.array([5]), "seed 1", 7)[0], r[5])
    assert not np.allclose(rotation_matrices(np.array([5]), "seed 1", 8)[0], r[5])
    assert not np.allclose(rotation_matrices(np.array([5]), "seed 2", 7)[0], r[5])


def test_a_turned_batch_keeps_distances_and_turns_vectors():
    batch = batch_with_turns()
    copy = turned(batch, batch.turn)
    here, there = (b.positions[b.pairs[1]] - b.positions[b.pairs[0]] for b in (batch, copy))
    assert_close(there.norm(dim=1), here.norm(dim=1))
    assert_close(copy.forces.norm(dim=1), batch.forces.norm(dim=1))
    assert_close(copy.positions[8], batch.turn[1] @ batch.positions[8])
    solid = crystal(np.diag([3.1, 3.4, 4.0]))
    again = turned(solid, batch.turn[:1])
    potential = module("schnet")
    with torch.no_grad():
        assert_close(potential(again).energy, potential(solid).energy)
    assert_close(torch.linalg.det(again.cell), torch.linalg.det(solid.cell))


def test_two_batches_side_by_side_give_what_each_gives_alone():
    one, other = joined(MOLECULES[:1], charge=[1], spin=[0]), joined(MOLECULES[1:], charge=[0], spin=[2])
    potential = module("spookynet")
    with torch.no_grad():
        both, *alone = (potential(b) for b in (side_by_side(one, other), one, other))
    assert_close(both.energy, torch.cat([a.energy for a in alone]))
    assert_close(both.forces, torch.cat([a.forces for a in alone]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_models_without_the_trait_have_an_equivariance_error(architecture):
    """1e-11 is rounding in float64 (`test_potentials`); the control errs by a part of its forces."""
    potential, batch = module(architecture), joined(MOLECULES)
    error = EnergyForceTurned().metrics(measured(potential, batch), np.arange(2))["equivariance_mae"].value
    assert (error < 1e-11) == keeps(architecture, "equivariant")
    with torch.no_grad():
        forces = potential(batch).forces
    assert error < 1e-11 or error > 0.01 * forces.abs().mean().item()


def measured(potential, batch):
    with torch.no_grad():
        return {k: v.numpy() for k, v in EnergyForceTurned().measure(potential, batch).items()}


def test_the_error_of_the_forces_is_what_one_rotation_after_another_gives():
    potential, batch = module("cartesian"), joined(MOLECULES)
    with torch.no_grad():
        forces, found = potential(batch).forces, force_asymmetry(potential, batch)
        expected = 0.0
        for turn in torch.as_tensor(rotation_matrices(np.arange(2), "measured", 0)):
            copy = replace(batch, positions=batch.positions @ turn.T)
            expected = expected + (potential(copy).forces - forces @ turn.T).__matmul__(turn).abs().mean(1) / 2
    assert_close(found, expected)


def test_the_objective_is_the_plain_one_on_what_it_trains_on():
    potential, batch = module("cartesian"), batch_with_turns()
    plain, totals = EnergyForce(), EnergyForceTurned().denominators(batch)
    assert torch.equal(totals[:2], plain.denominators(batch))
    copy = turned(batch, batch.turn)
    given, turned_loss = (plain.loss(potential, b, totals) for b in (batch, copy))
    assert_close(EnergyForceTurned().loss(potential, batch, totals), given)
    assert_close(EnergyForceTurned(copies="turned").loss(potential, batch, totals), turned_loss)
    here, there = potential(batch), potential(copy)
    meant = turned(replace(batch, energy=here.energy, forces=here.forces), batch.turn)
    dE = (there.energy - meant.energy) / torch.tensor([7.0, 5.0])
    dF = there.forces - meant.forces
    pulled = (0.05 * dE.square().sum() / totals[0] + 0.95 * dF.square().sum() / totals[1]) / potential.scale**2
    for copies, loss in (("given", given), ("turned", turned_loss)):
        found = EnergyForceTurned(copies=copies, symmetry=0.5).loss(potential, batch, totals)
        assert_close(found, loss + 0.5 * pulled)


def test_the_symmetry_loss_is_a_mean_over_structures_with_labels_and_without():
    potential, batch = module("cartesian"), batch_with_turns()
    bare = replace(batch, energy=batch.energy * torch.nan, forces=batch.forces * torch.nan)
    pulled = []
    for one in (batch, bare):
        totals = EnergyForceTurned().denominators(one)
        losses = [EnergyForceTurned(symmetry=s).loss(potential, one, totals) for s in (0.0, 1.0)]
        pulled.append(losses[1] - losses[0])
    assert pulled[0].item() > 0
    assert_close(pulled[1], pulled[0])


def test_an_equivariant_model_has_no_symmetry_loss():
    potential, batch = module("painn"), batch_with_turns()
    totals = EnergyForceTurned().denominators(batch)
    plain, pulled = (EnergyForceTurned(symmetry=s).loss(potential, batch, totals) for s in (0.0, 10.0))
    assert_close(pulled, plain)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"EnergyForceTurned\.copies='random' is not allowed: it must be one of given"):
        EnergyForceTurned(copies="random")
    with pytest.raises(ValueError, match=r"EnergyForceTurned\.symmetry=-1"):
        EnergyForceTurned(symmetry=-1)
