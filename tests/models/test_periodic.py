"""Potentials under periodic boundaries: images of atoms, also an atom's own, and stresses."""

import ase
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.models.batches import ARCHITECTURES, crystal, joined, module, molecule

CELL = np.array([[3.1, 0.0, 0.0], [0.4, 3.4, 0.0], [-0.3, 0.2, 4.0]])  # angstrom; shorter than the cutoff of 3.5

every_model = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_model
def test_a_cell_repeated_has_the_energy_and_forces_of_its_copies(architecture):
    """Small cells see their own images, which a doubled cell holds as other atoms."""
    potential = module(architecture)
    single, double = crystal(CELL), crystal(CELL, copies=2)
    assert (single.pairs[0] == single.pairs[1]).any()
    with torch.no_grad():
        one, two = potential(single), potential(double)
    assert_close(two.energy, 2 * one.energy, rtol=1e-11, atol=1e-11)
    assert_close(two.forces, one.forces.repeat(2, 1), rtol=0, atol=1e-10)


@every_model
def test_stress_is_the_slope_of_the_energy_with_strain(architecture):
    """Differences of fourth order in each symmetric strain, over the volume."""
    potential, step = module(architecture), 1e-4
    predicted, stress = potential.stressed(crystal(CELL))
    with torch.no_grad():
        plain = potential(crystal(CELL))
    assert_close(predicted.energy, plain.energy, rtol=0, atol=1e-12)
    assert_close(predicted.forces, plain.forces, rtol=0, atol=1e-12)
    volume = ase.Atoms("H", cell=CELL).get_volume()
    for a, b in ((0, 0), (1, 2), (2, 0)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        with torch.no_grad():
            energies = [potential(crystal(CELL, strain=k * step * strain)).energy.item() for k in (-2, -1, 1, 2)]
        slope = np.dot(energies, [1, -8, 8, -1]) / (12 * step) / volume
        assert stress[0, a, b].item() == pytest.approx(slope, abs=1e-7 * stress.abs().max().item() + 1e-9)
        assert stress[0, b, a].item() == stress[0, a, b].item()


@every_model
def test_a_stress_without_a_cell_is_refused(architecture):
    with pytest.raises(ValueError, match="needs a cell with a volume"):
        module(architecture).stressed(joined([molecule(4)]))
