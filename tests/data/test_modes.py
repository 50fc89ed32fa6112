"""Normal modes: against ASE's vibrations, and the heat that a harmonic mode holds."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.vibrations import Vibrations

from chemscale.data.label import label
from chemscale.data.labelling.conformers import BOLTZMANN
from chemscale.data.labelling.disk import from_table
from chemscale.data.labelling.gfn2 import Evaluator
from chemscale.data.labelling.modes import SOFTEST, WAVENUMBER, hessian, normal_modes
from chemscale.data.labelling.sampling import NormalModes

WATER = np.array([[0.0, 0.0, 0.1], [0.76, 0.0, -0.48], [-0.76, 0.0, -0.48]])


@pytest.mark.parametrize(("species", "places", "modes"), [([8, 1, 1], WATER, 3), ([6, 8], [[0, 0, 0], [0, 0, 1.1]], 1)])
def test_frequencies_are_those_of_ase(species, places, modes, tmp_path):
    """Of another calculator too; rigid motions leave no mode, of a line one turn fewer."""
    atoms = Atoms(species, places)
    atoms.calc = EMT()
    vibrations = Vibrations(atoms, name=str(tmp_path / "v"), delta=0.005)
    vibrations.run()
    theirs = np.real(vibrations.get_frequencies())[-modes:]

    def forces(positions):
        moved = Atoms(species, positions)
        moved.calc = EMT()
        return moved.get_forces()

    found = normal_modes(hessian(forces, atoms.positions), atoms.positions, atoms.get_masses())
    assert len(found.squares) == modes
    # away from a minimum turns and vibrations mix at the order of the forces; both ends are differences of one step
    assert found.wavenumbers[-1] == pytest.approx(theirs[-1], rel=0.01)


def planted(atoms, stiff, random):
    """A molecule of unequal masses and a Hessian that rigid motions do not feel."""
    positions, masses = random.normal(size=(atoms, 3)), random.uniform(1, 30, atoms)
    free = normal_modes(np.eye(3 * atoms), positions, masses)  # its shapes span all but the rigid motions
    roots = np.repeat(np.sqrt(masses), 3)
    basis, _ = np.linalg.qr(free.shapes * roots[:, None])
    axes, _ = np.linalg.qr(random.normal(size=(basis.shape[1],) * 2))
    weighted = basis @ axes * stiff @ (basis @ axes).T
    return positions, masses, weighted * np.outer(roots, roots)


def test_every_harmonic_mode_holds_half_of_kt():
    random = np.random.default_rng(0)
    stiff = np.geomspace(2 * (SOFTEST / WAVENUMBER) ** 2, 60.0, 9)
    positions, masses, second = planted(5, stiff, random)
    modes = normal_modes(second, positions, masses)
    np.testing.assert_allclose(modes.squares, stiff, rtol=1e-8)
    draws = np.array([modes.heated(300.0, random).ravel() for _ in range(4000)])
    heat = BOLTZMANN * 300.0
    energies = 0.5 * np.einsum("ni,ij,nj->n", draws, second, draws) / heat
    # the energy of k modes is gamma distributed: mean k/2 and variance k/2, in kT; four standard errors
    assert energies.mean() == pytest.approx(4.5, abs=4 * np.sqrt(4.5 / 4000))
    assert energies.var() == pytest.approx(4.5, rel=0.15)
    along = np.linalg.pinv(modes.shapes) @ draws.T
    each = 0.5 * stiff[:, None] * along**2 / heat
    np.testing.assert_allclose(each.mean(1), 0.5, atol=4 * np.sqrt(0.5 / 4000))
    masses_moved = draws.reshape(4000, 5, 3) * masses[None, :, None]
    np.testing.assert_allclose(masses_moved.sum(1), 0, atol=1e-10)  # the centre of mass rests


def test_a_soft_mode_moves_no_further_than_the_softest():
    random = np.random.default_rng(1)
    positions, masses, second = planted(3, np.array([1e-5, 1.0, 2.0]), random)
    modes = normal_modes(second, positions, masses)
    draws = np.array([np.linalg.pinv(modes.shapes) @ modes.heated(300.0, random).ravel() for _ in range(2000)])
    assert draws[:, 0].var() == pytest.approx(BOLTZMANN * 300 / (SOFTEST / WAVENUMBER) ** 2, rel=0.15)


def test_cold_water_holds_what_equipartition_says():
    """GFN2-xTB's own energies above its minimum, at a temperature where they are harmonic."""
    source, temperature = NormalModes("O", 0, 200), 20.0
    places = [source.geometry(k, 0, temperature, (0, 0)).positions for k in range(200)]
    energy = Evaluator(np.array([8, 1, 1]))
    rest, modes = source._known[0, (0, 0)]
    # observed are 1595, 3657 and 3756 (Shimanouchi 1972, NSRDS-NBS 39), anharmonic; GFN2 is within 8 % of them
    assert 1500 < modes.wavenumbers[0] < 1700 and 3300 < modes.wavenumbers[1] < modes.wavenumbers[2] < 4000
    above = np.array([energy(p).energy for p in places]) - energy(rest).energy
    heat = BOLTZMANN * temperature
    assert above.mean() / heat == pytest.approx(1.5, abs=4 * np.sqrt(1.5 / 200))


def test_labels_along_normal_modes(tmp_path):
    how = {
        "sampling": "modes",
        "conformers": 6,
        "per_shape": 6,
        "temperatures": (300.0,),
        "noise": 0,
        "progress": False,
    }
    one = label(["CO"], tmp_path / "one.parquet", **how)
    other = label(["CO"], tmp_path / "two.parquet", **how)
    first, second = (from_table(pq.read_table(made.out)) for made in (one, other))
    assert [s.energy for s in first] == [s.energy for s in second] and len(first) == 6
    assert len({s.energy for s in first}) == 6
    assert "along the normal modes of GFN2-xTB" in one.metadata["rules"]["geometry"]
