"""Missing labels count for nothing: losses, gradients and metrics are those of the labels that are there."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chemscale.train.objectives import EnergyForce, EnergyOnly
from tests.models.batches import joined, module, molecule

MOLECULES = [molecule(n, seed=n) for n in (4, 5, 6, 7)]


def unlabelled(batch, *, energy=(), forces=()):
    """The batch without the energies and forces of some structures."""
    energies, slopes = batch.energy.clone(), batch.forces.clone()
    energies[list(energy)] = math.nan
    for structure in forces:
        slopes[batch.owner == structure] = math.nan
    return replace(batch, energy=energies, forces=slopes)


def gradients(potential, objective, batch, totals=None):
    potential.zero_grad()
    loss = objective.loss(potential, batch, objective.denominators(batch) if totals is None else totals)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in potential.parameters() if p.grad is not None]


def test_the_loss_is_the_weighted_mean_over_what_is_labelled():
    potential, batch = module("painn"), unlabelled(joined(MOLECULES), energy=[1], forces=[2, 3])
    objective = EnergyForce(energy=0.3, force=0.7)
    predicted = potential(batch)
    atoms = torch.bincount(batch.owner)
    energies = torch.stack([(predicted.energy[i] - batch.energy[i]) / atoms[i] for i in (0, 2, 3)])
    there = (batch.owner == 0) | (batch.owner == 1)
    forces = (predicted.forces - batch.forces)[there]
    expected = (0.3 * energies.square().mean() + 0.7 * forces.square().mean()) / potential.scale**2
    found, slopes = gradients(potential, objective, batch)
    assert found == pytest.approx(float(expected.detach()), rel=1e-12)
    potential.zero_grad()
    expected.backward()
    for slope, parameter in zip(slopes, (p for p in potential.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(slope, parameter.grad, rtol=1e-10, atol=1e-12)
        assert torch.isfinite(slope).all()


def test_shares_of_parts_add_up_where_a_part_has_no_label_of_a_kind():
    potential, objective = module("schnet"), EnergyForce()
    whole = unlabelled(joined(MOLECULES), energy=[0, 1], forces=[2])
    totals = objective.denominators(whole)
    assert totals.tolist() == [2, 3 * (4 + 5 + 7)]
    loss, slopes = gradients(potential, objective, whole)
    parts = [joined([m]) for m in MOLECULES]
    for i, part in enumerate(parts):
        atoms = whole.owner == i
        parts[i] = replace(part, energy=whole.energy[[i]], forces=whole.forces[atoms])
    assert sum((objective.denominators(p) for p in parts), torch.zeros(2)).tolist() == totals.tolist()
    shares = [gradients(potential, objective, part, totals) for part in parts]
    assert sum(share for share, _ in shares) == pytest.approx(loss, rel=1e-12)
    for k, slope in enumerate(slopes):
        torch.testing.assert_close(sum(part[k] for _, part in shares), slope, rtol=1e-10, atol=1e-12)


def test_metrics_count_labels_and_a_batch_without_forces_is_told():
    potential, groups = module("schnet"), np.arange(4)
    full, some = joined(MOLECULES), unlabelled(joined(MOLECULES), energy=[3], forces=[0, 3])
    measured = {k: v.detach().numpy() for k, v in EnergyForce().measure(potential, some).items()}
    found = EnergyForce().metrics(measured, groups)
    with torch.no_grad():
        predicted = potential(full)
    kept = (full.owner == 1) | (full.owner == 2)
    mae = (predicted.forces - full.forces)[kept].abs().mean()
    assert found["force_mae"].value == pytest.approx(float(mae), rel=1e-12)
    per_atom = ((predicted.energy - full.energy) / torch.bincount(full.owner))[:3].square().mean().sqrt()
    assert found["energy_rmse"].value == pytest.approx(float(per_atom), rel=1e-12)
    bare = unlabelled(full, forces=range(4))
    measured = {k: v.detach().numpy() for k, v in EnergyForce().measure(potential, bare).items()}
    with pytest.raises(ValueError, match=r"not one of 4 structures has the label that force_mae .*EnergyOnly"):
        EnergyForce().metrics(measured, groups)
    assert set(EnergyOnly().metrics(measured, groups)) == {"energy_mae", "energy_rmse"}
    loss, slopes = gradients(potential, EnergyOnly(), bare)
    assert math.isfinite(loss)
    assert all(torch.isfinite(s).all() for s in slopes)
