"""What physics asks of every potential: symmetries, conservative forces, locality, smoothness, and batching."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import chemscale.models  # noqa: F401  # registers the models
from chemscale.spec import MODELS
from tests.models.batches import ARCHITECTURES, CUTOFF, MANIFEST, SPECIES, joined, loss, module, molecule

# Positions of 10 angstrom are rounded to eps * 10, sums run over some 100 terms of either sign, and two layers multiply
# errors: about 1000 eps of the largest force. 1e-4 in float32, and 1e-11 (a margin over 2e-13) in float64.
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-11}

every_model = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def predict(potential, molecules, dtype=torch.float64):
    with torch.no_grad():
        return potential(joined(molecules, dtype))


def assert_same(actual, expected):
    """Equal within TOLERANCE of the largest entry."""
    largest = max(1.0, expected.abs().max().item())
    assert_close(actual, expected, rtol=0, atol=TOLERANCE[expected.dtype] * largest)


def rotation(seed, determinant):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn if np.sign(np.linalg.det(turn)) == determinant else -turn


@every_model
@every_type
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_energies_stay_and_forces_turn_with_the_molecule(architecture, dtype, determinant):
    potential = module(architecture, dtype)
    species, positions = molecule(9)
    turn = rotation(3, determinant)
    still, turned = (predict(potential, [(species, p)], dtype) for p in (positions, positions @ turn.T + [1, -2, 3]))
    assert still.forces.abs().max() > 0.01
    assert_same(turned.energy, still.energy)
    assert_same(turned.forces, still.forces @ torch.as_tensor(turn.T, dtype=dtype))


@every_model
@every_type
def test_the_order_of_atoms_does_not_matter(architecture, dtype):
    potential = module(architecture, dtype)
    species, positions = molecule(9)
    order = np.random.default_rng(0).permutation(9)
    before, after = (predict(potential, [m], dtype) for m in ((species, positions), (species[order], positions[order])))
    assert_same(after.energy, before.energy)
    assert_same(after.forces, before.forces[order])


@every_model
def test_the_order_of_pairs_and_of_their_atoms_does_not_matter(architecture):
    potential, batch = module(architecture), joined([molecule(9)])
    shuffled = batch.pairs[:, torch.randperm(batch.pairs.shape[1], generator=torch.Generator().manual_seed(0))]
    shuffled[:, ::2] = shuffled[:, ::2].flip(0)
    for actual, expected in zip(potential(replace(batch, pairs=shuffled)), potential(batch), strict=True):
        assert_same(actual, expected)


@every_model
@every_type
def test_a_batch_gives_what_its_members_give_alone(architecture, dtype):
    potential = module(architecture, dtype)
    molecules = [molecule(n) for n in (5, 1, 9, 2)]
    together = predict(potential, molecules, dtype)
    alone = [predict(potential, [m], dtype) for m in molecules]
    assert_same(together.energy, torch.cat([a.energy for a in alone]))
    assert_same(together.forces, torch.cat([a.forces for a in alone]))


@every_model
@every_type
def test_far_molecules_add_up(architecture, dtype):
    potential = module(architecture, dtype)
    (first, here), (second, there) = molecule(5), molecule(7)
    both = (np.concatenate((first, second)), np.concatenate((here, there + 20.0)))
    whole, one, other = (predict(potential, [m], dtype) for m in (both, (first, here), (second, there)))
    assert_same(whole.energy, one.energy + other.energy)
    assert_same(whole.forces, torch.cat((one.forces, other.forces)))


@every_model
def test_forces_are_minus_the_slope_of_the_energy(architecture):
    """Differences of fourth order: truncation (1e-4)^4 times fifth derivatives, which the root in PaiNN's
    vector norm makes large, and rounding 1e-15 / 1e-4.
    """
    potential, step = module(architecture), 1e-4
    species, positions = molecule(6)
    shifts = [k * step * e.reshape(6, 3) for e in np.eye(18) for k in (-2, -1, 1, 2)]
    energies = predict(potential, [(species, positions + shift) for shift in shifts]).energy.view(6, 3, 4)
    slope = energies @ torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * step)
    forces = predict(potential, [(species, positions)]).forces
    assert_close(forces, -slope, rtol=0, atol=1e-6 * forces.abs().max().item())


@every_model
def test_the_gradient_of_a_force_loss_is_its_slope(architecture):
    """Double backward: the loss holds forces, so its gradient is a second derivative."""
    potential, batch, step = module(architecture), joined([molecule(6), molecule(3)]), 1e-5
    value = loss(potential, batch)
    value.backward()
    generator = torch.Generator().manual_seed(1)
    for parameter in potential.parameters():
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                ends.append(loss(potential, batch).item())
                parameter.sub_(sign * step * direction)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-8 * value.item())


@every_model
def test_energy_and_forces_are_continuous_at_the_cutoff(architecture):
    """An atom crosses the cutoff of another; 1e-6 angstrom on either side nothing has changed, 0.5 inside much has."""
    potential = module(architecture)

    def at(distance):
        positions = np.array([[0, 0, 0], [distance, 0, 0], [0.3, 1.1, 0.2], [distance - 0.4, 1.0, 0.4]])
        return predict(potential, [(np.array([6, 8, 1, 7]), positions)])

    inside, outside, deep = at(CUTOFF - 1e-6), at(CUTOFF + 1e-6), at(CUTOFF - 0.5)
    largest = deep.forces.abs().max().item()
    assert_close(inside.energy, outside.energy, rtol=0, atol=1e-5 * largest)
    assert_close(inside.forces, outside.forces, rtol=0, atol=1e-4 * largest)
    assert (deep.forces - outside.forces).abs().max().item() > 1e-2 * largest


@every_model
@every_type
def test_a_pair_listed_beyond_the_cutoff_changes_nothing(architecture, dtype):
    potential, molecules = module(architecture, dtype), [molecule(9)]
    exact, generous = joined(molecules, dtype), joined(molecules, dtype, cutoff=2 * CUTOFF)
    assert generous.pairs.shape[1] > exact.pairs.shape[1]
    for actual, expected in zip(potential(generous), potential(exact), strict=True):
        assert_same(actual, expected)


@every_model
@every_type
def test_a_lone_atom_has_an_energy_and_no_force(architecture, dtype):
    potential = module(architecture, dtype)
    batch = joined([molecule(1), molecule(1, seed=1)], dtype)
    assert batch.pairs.shape == (2, 0)
    predicted = potential(batch)
    assert predicted.energy.isfinite().all()
    assert (predicted.forces == 0).all()
    loss(potential, batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in potential.parameters())


@every_model
@every_type
def test_every_parameter_is_reached_by_the_loss(architecture, dtype):
    """A gradient of None breaks DistributedDataParallel; one of 0 in a whole row is a parameter for nothing."""
    potential = module(architecture, dtype, depth=3)
    loss(potential, joined([molecule(n) for n in (9, 7, 8, 6)], dtype)).backward()
    for name, parameter in potential.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).view(len(parameter), -1).any(1).all(), name


@every_model
def test_gradients_are_recorded_only_where_the_caller_records(architecture):
    potential, batch = module(architecture), joined([molecule(5)])
    recorded = potential(batch)
    assert recorded.energy.requires_grad
    assert recorded.forces.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            plain = potential(batch)
        assert not plain.energy.requires_grad
        assert not plain.forces.requires_grad
        assert_same(plain.energy, recorded.energy.detach())
        assert_same(plain.forces, recorded.forces.detach())
    assert not batch.positions.requires_grad


@every_model
def test_the_scale_multiplies_energies_and_forces(architecture):
    potential, batch = module(architecture), joined([molecule(5)])
    before = potential(batch)
    potential.scale.mul_(3.0)
    after = potential(batch)
    assert_same(after.energy, 3.0 * before.energy)
    assert_same(after.forces, 3.0 * before.forces)


@every_model
@pytest.mark.parametrize("width", [4, 16, 64])
def test_training_starts_near_the_error_of_zero_forces(architecture, width):
    """The reference energies alone err by `scale`; a fresh model adds less than a quarter of that, in quadrature."""
    batch = joined([molecule(14, seed=k) for k in range(4)], torch.float32, cutoff=5.0)
    sizes = []
    for seed in range(5):
        torch.manual_seed(seed)
        potential = MODELS[architecture].sized(width=width).build(MANIFEST)
        with torch.no_grad():
            sizes.append(potential(batch).forces.square().mean().sqrt().item())
    assert np.median(sizes) < 0.5 * MANIFEST.scale


@every_model
def test_the_same_seed_gives_the_same_module(architecture):
    first, second = (module(architecture, seed=s) for s in (5, 5))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@every_model
def test_an_unknown_element_is_named(architecture):
    potential = module(architecture)
    potential.check_species(torch.tensor(SPECIES))
    with pytest.raises(ValueError, match=r"17, 35.*knows 1, 6, 7, 8"):
        potential.check_species(torch.tensor([1, 35, 17]))


@every_model
def test_a_manifest_without_species_is_refused(architecture):
    with pytest.raises(ValueError, match=r"species=\(\) is empty"):
        MODELS[architecture].sized(width=8).build(replace(MANIFEST, species=()))


@every_model
@pytest.mark.parametrize(
    ("field", "value"), [("width", 0), ("width", 7), ("depth", 0), ("depth", 1.5), ("cutoff", -1.0), ("basis", 1)]
)
def test_impossible_dials_are_refused(architecture, field, value):
    with pytest.raises(ValueError, match=rf"{field}={value}.* is not allowed"):
        replace(MODELS[architecture].sized(width=8), **{field: value})


@every_model
def test_a_config_says_what_it_asks_of_batches(architecture):
    config = MODELS[architecture].sized(width=16, depth=2, cutoff=4.0)
    assert (config.width, config.depth, config.view) == (16, 2, {"cutoff": 4.0})
    assert hash(config) == hash(MODELS[architecture].sized(width=16, depth=2, cutoff=4.0))
