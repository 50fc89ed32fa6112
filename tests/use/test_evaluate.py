"""Errors and their standard errors against closed forms; shares of a sample counted by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from chemscale.batch import AtomicBatch
from chemscale.use.evaluate import StructureValues, clustered_mean, errors, evaluate_potential, sample_quality


def test_shares_of_a_sample():
    made = sample_quality(["CCO", "OCC", "C1CC1", None, "C(", "CC"], training=["C(C)O", "CCC"])
    assert made.n == 6
    assert made.validity == pytest.approx(4 / 6)
    assert made.uniqueness == pytest.approx(3 / 4)
    assert made.novelty == pytest.approx(2 / 3)


def test_shares_of_nothing_are_missing():
    assert sample_quality([], []).validity is None
    nothing = sample_quality([None], ["C"])
    assert (nothing.validity, nothing.uniqueness, nothing.novelty) == (0.0, None, None)


def test_groups_of_one_give_the_usual_standard_error():
    values = np.random.default_rng(0).exponential(size=50)
    made = clustered_mean(values, np.arange(50))
    assert made.value == pytest.approx(values.mean())
    assert made.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_equal_groups_give_the_standard_error_of_their_means():
    values = np.random.default_rng(0).normal(size=(12, 7)) + np.random.default_rng(1).normal(size=(12, 1))
    made = clustered_mean(values.ravel(), np.repeat([f"molecule {i}" for i in range(12)], 7))
    assert made.standard_error == pytest.approx(values.mean(1).std(ddof=1) / np.sqrt(12))


def test_standard_errors_cover_the_spread_of_repeated_test_sets():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, size=(400, 60))  # unequal groups, each with an offset of its own
    made = []
    for row in sizes:
        groups = np.repeat(np.arange(60), row)
        made.append(clustered_mean(random.normal(size=60)[groups] + random.normal(size=len(groups)), groups))
    spread = np.std([m.value for m in made], ddof=1)
    assert np.mean([m.standard_error for m in made]) == pytest.approx(spread, rel=0.12)  # 3 sigma at 400 test sets


def test_one_group_has_no_standard_error():
    assert clustered_mean(np.ones(4), np.zeros(4)).standard_error is None


def test_errors_by_hand():
    atoms = np.array([2, 1])
    labelled = StructureValues(np.array([1.0, 2.0]), np.zeros((3, 3)), atoms)
    predicted = StructureValues(np.array([1.4, 1.0]), np.diag([0.3, -0.3, 0.6]), atoms)
    made = errors(predicted, labelled, [0, 1])
    assert made.energy_mae.value == pytest.approx((0.2 + 1.0) / 2)
    assert made.energy_rmse.value == pytest.approx(np.sqrt((0.04 + 1.0) / 2))
    assert made.force_mae.value == pytest.approx(1.2 / 9)
    assert made.force_rmse.value == pytest.approx(np.sqrt((0.09 + 0.09 + 0.36) / 9))
    assert made.energy_mae.standard_error == pytest.approx(0.4)  # |1.0 - 0.2| / 2
    assert made.energy_rmse.standard_error == pytest.approx(0.48 / (2 * np.sqrt(0.52)))
    assert (made.structures, made.atoms, made.groups) == (2, 3, 2)
    np.testing.assert_allclose(made.energy_pairs, [[0.5, 0.7], [2.0, 1.0]])
    assert made.force_pairs.shape == (9, 2)


def test_perfect_predictions_have_no_error():
    values = StructureValues(np.ones(3), np.ones((6, 3)), np.array([1, 2, 3]))
    made = errors(values, values, [0, 1, 1])
    assert (made.force_rmse.value, made.force_rmse.standard_error) == (0.0, 0.0)


def test_what_has_no_label_is_left_out_and_its_groups_with_it():
    rng, atoms = np.random.default_rng(0), np.array([2, 1, 3])
    predicted = StructureValues(rng.normal(size=3), rng.normal(size=(6, 3)), atoms)
    labelled = StructureValues(rng.normal(size=3), rng.normal(size=(6, 3)), atoms)
    energy, forces = labelled.energy.copy(), labelled.forces.copy()
    energy[1], forces[3:] = np.nan, np.nan
    made = errors(predicted, StructureValues(energy, forces, atoms), [0, 1, 2])
    missed = np.abs(predicted.energy - labelled.energy) / atoms
    assert made.energy_mae.value == pytest.approx(missed[[0, 2]].mean())
    assert made.force_mae.value == pytest.approx(np.abs(predicted.forces - labelled.forces)[:3].mean())
    assert (len(made.energy_pairs), len(made.force_pairs)) == (2, 9)
    none = errors(predicted, StructureValues(energy * np.nan, forces, atoms), [0, 1, 2])
    assert none.energy_mae is None and none.energy_rmse is None and len(none.energy_pairs) == 0


def test_parity_points_are_a_fixed_part_of_the_components():
    values = StructureValues(np.ones(10), np.arange(300.0).reshape(100, 3), np.full(10, 10))
    made = [errors(values, values, np.arange(10), points=50).force_pairs for _ in range(2)]
    np.testing.assert_array_equal(*made)
    assert len(np.unique(made[0][:, 0])) == 50


class Spring(nn.Module):
    """Every atom on a spring to the origin: E = k/2 sum r^2, F = -k r."""

    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, batch):
        positions = batch.positions.requires_grad_()
        each = self.k / 2 * (positions**2).sum(1)
        energy = torch.zeros(batch.structures, dtype=each.dtype).index_add(0, batch.owner, each)
        return SimpleNamespace(energy=energy, forces=-torch.autograd.grad(energy.sum(), positions)[0])


class Springs:
    """Structures of 1 to 5 atoms labelled with k = 1; two structures to a group."""

    def __init__(self, count=11):
        random = torch.Generator().manual_seed(0)
        self.positions = [torch.randn(1 + i % 5, 3, generator=random) for i in range(count)]

    def batch(self, ids):
        chosen = [self.positions[i] for i in ids]
        owner = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(p) for p in chosen]))
        r = torch.cat(chosen)
        energy = torch.tensor([(p**2).sum() / 2 for p in chosen])
        pairs = torch.zeros(2, 0, dtype=torch.int64)
        return AtomicBatch(torch.ones_like(owner), r, owner, pairs, len(chosen), energy, -r)

    def groups(self, ids):
        return np.asarray(ids) // 2


@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_a_potential_is_measured_whatever_the_micro_batch(micro_batch):
    data = Springs()
    r = torch.cat(data.positions)
    with torch.no_grad():
        made = evaluate_potential(Spring(), data, range(11), micro_batch=micro_batch)
    assert made.force_mae.value == pytest.approx(r.abs().mean().item(), rel=1e-6)
    assert made.force_rmse.value == pytest.approx((r**2).mean().sqrt().item(), rel=1e-6)
    each = [(p**2).sum().item() / 2 / len(p) for p in data.positions]
    assert made.energy_mae.value == pytest.approx(np.mean(each), rel=1e-6)
    assert (made.structures, made.atoms, made.groups) == (11, len(r), 6)


def test_real_potentials_are_measured(structures):
    from chemscale import data
    from chemscale.models import SchNet
    from chemscale.spec import Data

    config = SchNet.sized(width=8)
    data.build(structures)
    examples = data.open_data(Data(structures), config.view)
    model = config.build(data.manifest(Data(structures)))
    made = evaluate_potential(model, examples, examples.split("test"))
    assert made.groups < made.structures
    assert 0 < made.force_mae.value < made.force_rmse.value < 20
    assert 0 < made.force_mae.standard_error < made.force_mae.value


def test_mistakes_are_clear():
    values = StructureValues(np.ones(2), np.ones((2, 3)), np.ones(2, dtype=int))
    with pytest.raises(ValueError, match="2 predicted, 2 labelled, 1 grouped"):
        errors(values, values, [0])
    with pytest.raises(ValueError, match="no structure to measure"):
        evaluate_potential(Spring(), Springs(), [])
    unlabelled = SimpleNamespace(batch=lambda ids: replace(Springs().batch(ids), forces=None), groups=np.asarray)
    with pytest.raises(ValueError, match="without energy or forces"):
        evaluate_potential(Spring(), unlabelled, [0])
