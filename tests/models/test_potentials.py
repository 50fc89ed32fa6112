"""What physics asks of every potential: symmetries, conservative forces, locality, smoothness, and batching.

What a model does not keep by construction its config says by `traits`, and then the test asks that it is really broken.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import chemscale.models  # noqa: F401  # registers the models
from chemscale.models.cost import count_flops
from chemscale.spec import MODELS
from chemscale.spec.plain import plain
from chemscale.values import canonical_json
from tests.models.batches import (
    ARCHITECTURES,
    CUTOFF,
    MANIFEST,
    VARIANTS,
    config,
    joined,
    keeps,
    loss,
    module,
    molecule,
)

# Positions of 10 angstrom are rounded to eps * 10, sums run over some 100 terms of either sign, and two layers multiply
# errors: about 1000 eps of the largest force. 1e-4 in float32, and 1e-11 (a margin over 2e-13) in float64.
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-11}

every_model = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_variant = pytest.mark.parametrize("variant", VARIANTS)  # with direct forces, without attention
every_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def predict(potential, molecules, dtype=torch.float64, **state):
    with torch.no_grad():
        return potential(joined(molecules, dtype, **state))


def assert_same(actual, expected, least=1.0):
    """Equal within TOLERANCE of the largest entry, or of `least`."""
    largest = max(least, expected.abs().max().item())
    assert_close(actual, expected, rtol=0, atol=TOLERANCE[expected.dtype] * largest)


def differs(actual, expected):
    """By more than rounding, by a thousandth of the largest entry at least."""
    return (actual - expected).abs().max() > 1e-3 * expected.abs().max()


def step(potential, batch):
    loss(potential, batch).backward()


def rotation(seed, determinant):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn if np.sign(np.linalg.det(turn)) == determinant else -turn


@every_variant
@every_type
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_energies_stay_and_forces_turn_with_the_molecule(variant, dtype, determinant):
    potential = module(variant, dtype)
    species, positions = molecule(9)
    turn, state = rotation(3, determinant), {"charge": [-1], "spin": [1]}
    turned_positions = positions @ turn.T + [1, -2, 3]
    still, turned = (predict(potential, [(species, p)], dtype, **state) for p in (positions, turned_positions))
    assert still.forces.abs().max() > 1e-3
    expected = still.forces @ torch.as_tensor(turn.T, dtype=dtype)
    if keeps(variant, "equivariant"):
        assert_same(turned.energy, still.energy)
        assert_same(turned.forces, expected, least=0.1)
    else:
        assert differs(turned.energy, still.energy) and differs(turned.forces, expected)


@every_variant
@every_type
def test_a_molecule_may_be_moved(variant, dtype):
    potential = module(variant, dtype)
    species, positions = molecule(9)
    here, there = (predict(potential, [(species, positions + shift)], dtype) for shift in (0.0, 5.0))
    assert_same(there.energy, here.energy)
    assert_same(there.forces, here.forces)


@pytest.mark.parametrize("architecture", ["painn", "nequip"])
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_vector_features_turn_with_the_molecule(architecture, determinant):
    """What the first block hands on at l = 1: (atoms, 3, width)."""
    potential, found = module(architecture), []
    block = potential.updates[0] if architecture == "painn" else potential.interactions[0]
    block.register_forward_hook(lambda module, inputs, output: found.append(output[1].detach()))
    species, positions = molecule(9)
    turn = rotation(3, determinant)
    for p in (positions, positions @ turn.T):
        predict(potential, [(species, p)])
    still, turned = found
    assert still.abs().max() > 0.01
    assert_same(turned, torch.einsum("xy,ayc->axc", torch.as_tensor(turn), still))


@every_variant
@every_type
def test_the_order_of_atoms_does_not_matter(variant, dtype):
    potential = module(variant, dtype)
    species, positions = molecule(9)
    order = np.random.default_rng(0).permutation(9)
    before, after = (predict(potential, [m], dtype) for m in ((species, positions), (species[order], positions[order])))
    assert_same(after.energy, before.energy)
    assert_same(after.forces, before.forces[order])


@every_variant
def test_the_order_of_pairs_and_of_their_atoms_does_not_matter(variant):
    potential, batch = module(variant), joined([molecule(9)])
    shuffled = batch.pairs[:, torch.randperm(batch.pairs.shape[1], generator=torch.Generator().manual_seed(0))]
    shuffled[:, ::2] = shuffled[:, ::2].flip(0)
    for actual, expected in zip(potential(replace(batch, pairs=shuffled)), potential(batch), strict=True):
        assert_same(actual, expected)


@every_variant
@every_type
def test_a_batch_gives_what_its_members_give_alone(variant, dtype):
    """Of charges and spins, too, none reaches another structure."""
    potential = module(variant, dtype)
    molecules, charges, spins = [molecule(n) for n in (5, 1, 9, 2)], [0, 1, -2, 0], [0, 2, 0, 1]
    together = predict(potential, molecules, dtype, charge=charges, spin=spins)
    alone = [
        predict(potential, [m], dtype, charge=[c], spin=[s]) for m, c, s in zip(molecules, charges, spins, strict=True)
    ]
    assert_same(together.energy, torch.cat([a.energy for a in alone]))
    assert_same(together.forces, torch.cat([a.forces for a in alone]))


@every_variant
@every_type
def test_far_molecules_add_up_where_a_model_is_local(variant, dtype):
    potential = module(variant, dtype)
    (first, here), (second, there) = molecule(5), molecule(7)
    both = (np.concatenate((first, second)), np.concatenate((here, there + 20.0)))
    whole, one, other = (predict(potential, [m], dtype) for m in (both, (first, here), (second, there)))
    if keeps(variant, "local"):
        assert_same(whole.energy, one.energy + other.energy)
        assert_same(whole.forces, torch.cat((one.forces, other.forces)))
    else:
        assert differs(whole.forces, torch.cat((one.forces, other.forces)))


@every_variant
def test_an_atom_out_of_reach_of_all_layers_is_not_felt_where_a_model_is_local(variant):
    """Of a chain of bonds the last atom moves. An energy reaches over a bond in each layer and one more in DimeNet; a
    force over twice as many: six of seven.
    """
    potential = module(variant)
    chain = np.arange(8)[:, None] * np.array([[3.0, 0.1, 0.0]])
    moved = chain + np.array([0, 0, 0, 0, 0, 0, 0, 0.3])[:, None]
    species = np.array([6, 1, 8, 7, 1, 6, 7, 1])
    before, after = (predict(potential, [(species, p)]).forces[0] for p in (chain, moved))
    assert torch.equal(before, after) == keeps(variant, "local")


@every_variant
def test_forces_are_minus_the_slope_of_the_energy_where_a_model_is_conservative(variant):
    """Differences of fourth order: truncation (1e-4)^4 times fifth derivatives, which the root in PaiNN's
    vector norm makes large, and rounding 1e-15 / 1e-4. Then forces sum to 0, and torques, too, of an invariant energy.
    """
    potential, step = module(variant), 1e-4
    species, positions = molecule(6)
    shifts = [k * step * e.reshape(6, 3) for e in np.eye(18) for k in (-2, -1, 1, 2)]
    energies = predict(potential, [(species, positions + shift) for shift in shifts]).energy.view(6, 3, 4)
    slope = energies @ torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * step)
    forces = predict(potential, [(species, positions)]).forces
    if not keeps(variant, "conservative"):
        assert differs(forces, -slope)
        return
    assert_close(forces, -slope, rtol=0, atol=1e-6 * forces.abs().max().item())
    assert_same(1 + forces.sum(0), torch.ones(3, dtype=torch.float64))
    if keeps(variant, "equivariant"):
        torque = torch.linalg.cross(torch.as_tensor(positions), forces).sum(0)
        assert_same(1 + torque, torch.ones(3, dtype=torch.float64))


@every_variant
def test_the_gradient_of_a_force_loss_is_its_slope(variant):
    """Double backward: the loss holds forces, so its gradient is a second derivative; in three random directions."""
    potential, step = module(variant), 1e-5
    batch = joined([molecule(6), molecule(3)], charge=[1, -1], spin=[1, 2])
    value = loss(potential, batch)
    value.backward()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in potential.parameters()]
        ends = []
        for steps in (-2, -1, 1, 2):  # differences of fourth order
            with torch.no_grad():
                for parameter, direction in zip(potential.parameters(), directions, strict=True):
                    parameter.add_(steps * step * direction)
            ends.append(loss(potential, batch).item())
            with torch.no_grad():
                for parameter, direction in zip(potential.parameters(), directions, strict=True):
                    parameter.sub_(steps * step * direction)
        slope = np.dot(ends, [1, -8, 8, -1]) / (12 * step)
        found = sum((p.grad * d).sum().item() for p, d in zip(potential.parameters(), directions, strict=True))
        assert found == pytest.approx(slope, rel=1e-5, abs=1e-8 * value.item())


@every_variant
def test_energy_and_forces_are_continuous_at_the_cutoff(variant):
    """An atom crosses the cutoff of another; 1e-6 angstrom on either side nothing has changed, 0.5 inside much has."""
    potential = module(variant)

    def at(distance):
        positions = np.array([[0, 0, 0], [distance, 0, 0], [0.3, 1.1, 0.2], [distance - 0.4, 1.0, 0.4]])
        return predict(potential, [(np.array([6, 8, 1, 7]), positions)])

    inside, outside, deep = at(CUTOFF - 1e-6), at(CUTOFF + 1e-6), at(CUTOFF - 0.5)
    largest = deep.forces.abs().max().item()
    assert_close(inside.energy, outside.energy, rtol=0, atol=1e-5 * largest)
    assert_close(inside.forces, outside.forces, rtol=0, atol=1e-4 * largest)
    assert (deep.forces - outside.forces).abs().max().item() > 1e-2 * largest


@every_variant
@every_type
def test_a_pair_listed_beyond_the_cutoff_changes_nothing(variant, dtype):
    potential, molecules = module(variant, dtype), [molecule(9)]
    exact, generous = joined(molecules, dtype), joined(molecules, dtype, cutoff=2 * CUTOFF)
    assert generous.pairs.shape[1] > exact.pairs.shape[1]
    for actual, expected in zip(potential(generous), potential(exact), strict=True):
        assert_same(actual, expected)


@every_variant
@every_type
def test_a_lone_atom_has_an_energy_and_no_force(variant, dtype):
    potential = module(variant, dtype)
    batch = joined([molecule(1), molecule(1, seed=1)], dtype)
    assert batch.pairs.shape == (2, 0)
    predicted = potential(batch)
    assert predicted.energy.isfinite().all()
    assert (predicted.forces == 0).all() or not keeps(variant, "equivariant")  # one that has no direction to point
    loss(potential, batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in potential.parameters())


@every_variant
@every_type
def test_every_parameter_is_reached_by_the_loss(variant, dtype):
    """A gradient of None breaks DistributedDataParallel; one of 0 in a whole row is a parameter for nothing."""
    potential = module(variant, dtype, depth=3)
    batch = joined([molecule(n) for n in (9, 7, 8, 6)], dtype, charge=[1, -1, 0, 2], spin=[1, 1, 2, 0])
    loss(potential, batch).backward()
    for name, parameter in potential.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).view(len(parameter), -1).any(1).all(), name


@every_variant
def test_gradients_are_recorded_only_where_the_caller_records(variant):
    potential, batch = module(variant), joined([molecule(5)])
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


@every_variant
def test_the_scale_multiplies_energies_and_forces(variant):
    potential, batch = module(variant), joined([molecule(5)])
    before = potential(batch)
    potential.scale.mul_(3.0)
    after = potential(batch)
    assert_same(after.energy, 3.0 * before.energy)
    assert_same(after.forces, 3.0 * before.forces)


@every_variant
@pytest.mark.parametrize("width", [4, 16, 64])
def test_training_starts_near_the_error_of_zero_forces(variant, width):
    """The reference energies alone err by `scale`; a fresh model adds less than a quarter of that, in quadrature."""
    batch = joined([molecule(14, seed=k) for k in range(4)], torch.float32, cutoff=5.0)
    sizes = []
    for seed in range(5):
        torch.manual_seed(seed)
        potential = config(variant, width=width, depth=3, cutoff=5.0).build(MANIFEST)
        with torch.no_grad():
            sizes.append(potential(batch).forces.square().mean().sqrt().item())
    assert np.median(sizes) < 0.5 * MANIFEST.scale


@every_model
def test_the_same_seed_gives_the_same_module(architecture):
    first, second = (module(architecture, seed=s) for s in (5, 5))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


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


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.endswith("direct")])
def test_direct_forces_leave_ids_and_need_no_second_derivative(variant):
    """A default stays out of the hash; without `create_graph` a structure costs a third of the work or less."""
    usual, direct = config(variant.split()[0], width=32), config(variant, width=32)
    assert "forces" not in canonical_json(plain(usual)) and "direct" in canonical_json(plain(direct))

    def added(potential):
        """By the second structure: the work that a batch does once is the same."""
        batches = [joined([molecule(9)] * n, torch.float32) for n in (1, 2)]
        one, two = (count_flops(partial(step, potential, batch)).matrix for batch in batches)
        return two - one

    costs = [added(c.build(MANIFEST)) for c in (usual, direct)]
    assert costs[1] < 0.75 * costs[0]


def test_a_third_kind_of_forces_is_refused():
    with pytest.raises(ValueError, match=r"PaiNN\.forces='both' is not allowed: it must be gradient or direct"):
        config("painn", forces="both")


@every_model
def test_a_config_says_what_it_asks_of_batches(architecture):
    config = MODELS[architecture].sized(width=16, depth=2, cutoff=4.0)
    assert (config.width, config.depth, config.view) == (16, 2, {"cutoff": 4.0})
    assert hash(config) == hash(MODELS[architecture].sized(width=16, depth=2, cutoff=4.0))
