"""A calculator of ASE: the published minima of Lennard-Jones, ASE's own stresses, dynamics that keep their energy."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import chemscale as cs
from chemscale.data.neighbours import neighbours
from chemscale.use.atoms import lattices
from chemscale.use.calculator import Nearby
from chemscale.use.load import load
from tests.models.batches import ARCHITECTURES, CUTOFF, MANIFEST, keeps, molecule
from tests.models.batches import module as small
from tests.train.runs import atoms_run, train
from tests.use.crystals import ARGON, lennard_jones

FAR = 100.0  # angstrom: no pair of a cluster is cut off


@pytest.fixture(scope="module")
def stored(structures, tmp_path_factory):
    """A store with a trained PaiNN, and its run."""
    run = atoms_run(structures)
    return train(run, tmp_path_factory.mktemp("store") / "s"), run


@pytest.fixture(scope="module")
def labelled(stored):
    """Structures of the run's test split as ASE has them, with their labels."""
    store, run = stored
    examples = load(store, run.id).examples()
    found = []
    for k in examples.split("test")[:12]:
        batch = examples.batch(np.array([k]))
        atoms = Atoms(batch.species.numpy(), batch.positions.double().numpy())
        found.append((atoms, float(examples.arrays["energy"][k]), batch))
    return found


def jittered(atoms, seed=0, by=0.05):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=by, size=atoms.positions.shape)
    return atoms


def silicon_like(seed=0):
    """Two atoms in a cell smaller than the cutoff, without any symmetry, of elements that the small models know."""
    atoms = bulk("Si", cubic=False)
    atoms.numbers[:] = (6, 8)
    atoms.set_cell(atoms.cell.array * 0.62 + np.random.default_rng(seed).normal(scale=0.1, size=(3, 3)), True)
    return atoms


def of_module(architecture, dtype=torch.float64):
    from types import SimpleNamespace

    from chemscale.use.load import Trained

    model = SimpleNamespace(family="structures", architecture=architecture, view={"cutoff": CUTOFF})
    return Trained(SimpleNamespace(model=model, id=architecture), small(architecture, dtype), MANIFEST)


def test_relaxation_finds_the_published_minimum():
    """Icosahedron of 13 atoms: -44.326801 (Wales and Doye 1997, table I), six decimals."""
    atoms = jittered(Icosahedron("Ar", 2, latticeconstant=1.55))
    assert len(atoms) == 13
    atoms.calc = cs.calculator(lennard_jones(FAR))
    assert BFGS(atoms, logfile=None).run(fmax=1e-5, steps=200)
    assert atoms.get_potential_energy() == pytest.approx(-44.326801, abs=1e-6)


def test_a_crystal_relaxes_to_the_published_lattice():
    """Fcc in the limit of all neighbours: nearest at 1.09, energy -8.61 an atom (Kittel, chapter 3: 2.15 x 4).

    Beyond a cutoff of 8 lie 4 pi rho 4 r^2 r^-6 / 2 = 0.017 of energy, and the shift adds as much: 0.4 %.
    """
    atoms = bulk("Ar", "fcc", a=1.7)
    atoms.calc = cs.calculator(lennard_jones(8.0))
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=100)
    nearest = atoms.cell.lengths()[0]
    assert nearest == pytest.approx(1.09, abs=0.003)
    assert atoms.get_potential_energy() == pytest.approx(-8.61, rel=0.006)
    assert np.abs(atoms.get_stress()).max() < 1e-4


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_energies_forces_and_stresses_are_those_of_ase(pbc):
    """Sums over pairs in another order: 1e-10."""
    atoms = jittered(bulk("Ar", cubic=True, a=1.6) * (2, 1, 1))
    atoms.set_cell(np.add(atoms.cell.array, [[0, 0.1, 0], [0, 0, 0.2], [0.1, 0, 0]]), scale_atoms=True)
    atoms.pbc = pbc
    atoms.positions += [7.0, -9.0, 30.0]  # not wrapped
    theirs = atoms.copy()
    atoms.calc = cs.calculator(lennard_jones(2.5, argon=-17000.25))
    theirs.calc = LennardJones(sigma=1, epsilon=1, rc=2.5)
    expected = theirs.get_potential_energy() - 17000.25 * len(atoms)
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), theirs.get_forces(), atol=1e-10)
    if any(pbc):
        np.testing.assert_allclose(atoms.get_stress(), theirs.get_stress(), atol=1e-10)
    else:
        with pytest.raises(PropertyNotImplementedError, match="a stress needs periodic atoms in a cell"):
            atoms.get_stress()


@pytest.mark.parametrize("pbc", [(True, True, True), (False, True, False)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forces_and_stress_are_slopes(architecture, pbc):
    """ASE's central differences with steps of 1e-4 and 1e-5: the third derivative times 1e-8, rounding 1e-15 / 1e-5.

    The cell is smaller than the cutoff and left-handed; of PaiNN's forces, which bend most, 4e-5 was seen.
    """
    atoms = silicon_like()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert (atoms.cell.handedness, atoms.cell.lengths().max() < CUTOFF) == (-1, True)
    atoms.pbc = pbc
    atoms.calc = cs.calculator(of_module(architecture))
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    assert np.abs(stress).max() > 1e-6
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-4 * np.abs(forces).max())
    numerical = calculate_numerical_stress(atoms, eps=1e-5, voigt=False)
    np.testing.assert_allclose(stress, numerical, atol=1e-6 * np.abs(stress).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_atoms_alone_and_atoms_that_left_their_cell(architecture):
    """Lone atoms feel nothing and atoms beyond the cutoff add up, where a model is local; whole lattice vectors,
    labels, and an atom that is held change no energy. Sums in another order: 1e-12."""
    answering = cs.calculator(of_module(architecture))

    def energy(atoms):
        atoms.calc = answering
        return atoms.get_potential_energy()

    one, other = Atoms("C"), Atoms("O")
    alone = energy(one) + energy(other)
    assert not one.get_forces().any()
    if keeps(architecture, "local"):
        assert energy(Atoms("CO", [[0, 0, 0], [0, 0, CUTOFF + 0.1]])) == pytest.approx(alone, abs=1e-12)
    crystal = silicon_like()
    before, pulled = energy(crystal), crystal.get_forces()
    crystal.positions[0] += [3, 0, -2] @ crystal.cell.array
    crystal.set_tags([1, 2])
    crystal.set_constraint(FixAtoms([0]))
    assert energy(crystal) == pytest.approx(before, abs=1e-12)
    assert not crystal.get_forces()[0].any()
    np.testing.assert_allclose(crystal.get_forces(apply_constraint=False), pulled, atol=1e-10)


def test_totals_are_the_labels_with_reference_energies(stored, labelled):
    """A trained run: as its own test data measure it, and the two float types of each other."""
    store, run = stored
    single, double = (cs.calculator(store.path, run.id, precision=p) for p in ("float32", "float64"))
    trained = load(store, run.id)
    for atoms, label, batch in labelled:
        with torch.no_grad():
            found = trained.module(batch)
        atoms.calc = single
        missed = float(found.energy - batch.energy)  # of the stored label, which has no reference energies
        assert atoms.get_potential_energy() - label == pytest.approx(missed, abs=2e-4)
        np.testing.assert_allclose(atoms.get_forces(), found.forces, atol=1e-4)
        atoms.calc = double
        assert atoms.get_potential_energy() - label == pytest.approx(missed, abs=2e-4)


def test_many_structures_at_once_are_as_one_by_one(stored, labelled):
    made = cs.calculator(stored[0], precision="float64")
    structures = [atoms for atoms, _, _ in labelled]
    for atoms, answer in zip(structures, made.evaluate_many(structures), strict=True):
        atoms.calc = made
        assert answer.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(answer.forces, atoms.get_forces(), atol=1e-9)


def test_molecules_and_crystals_go_together():
    made = cs.calculator(of_module("painn"))
    structures = [silicon_like(), Atoms(*molecule(7)), silicon_like(seed=1), Atoms(*molecule(5))]
    answers = made.evaluate_many(structures)
    alone = [made.evaluate_many([atoms])[0] for atoms in structures]
    np.testing.assert_allclose([a.energy for a in answers], [a.energy for a in alone], atol=1e-10)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_dynamics_keep_their_energy(precision):
    """1,000 steps of velocity Verlet of 13 atoms: the energy swings by a share of the kinetic energy's range that falls
    with the square of the step (0.2 % at 0.005), and does not drift; float32 adds 1e-6 of the energy at random."""
    atoms = jittered(Icosahedron("Ar", 2, latticeconstant=1.55), by=0.03)
    atoms.set_masses(np.ones(13))
    atoms.calc = cs.calculator(lennard_jones(FAR), precision=precision)
    keeps_its_energy(atoms, temperature=0.15, step=0.005, steps=1000)


@pytest.mark.slow
def test_dynamics_of_a_network_keep_their_energy():
    atoms = Atoms(*molecule(7, closest=1.3))
    atoms.calc = cs.calculator(of_module("painn"))
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    keeps_its_energy(atoms, temperature=300 * units.kB, step=0.25 * units.fs, steps=1000)


def keeps_its_energy(atoms, *, temperature, step, steps):
    widths = np.sqrt(temperature * atoms.get_masses())[:, None]  # of Maxwell and Boltzmann
    atoms.set_momenta(widths * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    total, kinetic = [], []
    with VelocityVerlet(atoms, step) as dynamics:
        for _ in dynamics.irun(steps):
            total.append(atoms.get_total_energy())
            kinetic.append(atoms.get_kinetic_energy())
    third = steps // 3
    assert np.ptp(total) < 0.02 * np.ptp(kinetic)
    assert abs(np.mean(total[-third:]) - np.mean(total[:third])) < 0.003 * np.ptp(kinetic)


def test_langevin_brings_the_temperature():
    """A crystal of 32 atoms from cold to T = 0.2: over 96 momenta and 600 correlated samples about 5 %, taken twice."""
    atoms = bulk("Ar", cubic=True, a=1.6) * (2, 2, 2)
    atoms.set_masses(np.ones(len(atoms)))
    atoms.calc = cs.calculator(lennard_jones(2.5))
    temperatures = []
    with Langevin(
        atoms, 0.01, temperature_K=0.2 / units.kB, friction=2.0, rng=np.random.default_rng(0), fixcm=False
    ) as dynamics:
        for _ in dynamics.irun(900):
            temperatures.append(atoms.get_temperature() * units.kB)
    assert np.mean(temperatures[300:]) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
def test_pairs_of_a_walk_are_those_found_anew(pbc):
    random = np.random.default_rng(0)
    atoms = bulk("Ar", cubic=True, a=2.0) * (2, 1, 1)
    atoms.pbc = pbc
    near = Nearby(2.4, skin=0.6)
    kept = []
    for step in range(30):
        atoms.positions += random.normal(scale=0.05, size=(8, 3))
        if step == 20:
            atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
        found = near.pairs(atoms)
        anew = neighbours(atoms.positions, np.array([8]), 2.4, lattices([atoms]))
        assert found.counts == anew.counts
        one, other = (lengths(atoms, pairs) for pairs in (found, anew))
        np.testing.assert_allclose(one, other, atol=1e-12)
        kept.append(near._listed)
    assert 2 < len({id(one) for one in kept}) < 25


def lengths(atoms, found):
    first, second = found.pairs
    apart = atoms.positions[second] - atoms.positions[first]
    return np.sort(np.linalg.norm(apart if found.shifts is None else apart + found.shifts, axis=1))


def test_charge_and_spin_come_from_the_atoms_or_the_call():
    class Asked:
        """Says what it was asked with."""

        cutoff = 5.0

        def answer(self, structures, electrons, pairs, properties):
            from chemscale.use.atoms import Answer

            return [Answer(10 * electrons[0].charge + electrons[0].spin, np.zeros((1, 3)), None)]

    from chemscale.use.calculator import PotentialCalculator

    atoms = Atoms("Ar", calculator=PotentialCalculator(Asked()))
    assert atoms.get_potential_energy() == 0
    atoms.info["charge"] = -1
    assert atoms.get_potential_energy() == -9  # 19 electrons: one of them is alone
    atoms.info["multiplicity"] = 4
    assert atoms.get_potential_energy() == -7
    atoms.info["spin"] = 2
    with pytest.raises(ValueError, match=r"spin=2 of atoms.info is not multiplicity=4 less 1"):
        atoms.get_potential_energy()
    for charge, energy in ((0, 0), (1, 11), (2, 20)):
        atoms = Atoms("Ar", calculator=PotentialCalculator(Asked(), charge=charge))
        assert atoms.get_potential_energy() == energy
    atoms = Atoms("Ar", info={"charge": 5}, calculator=PotentialCalculator(Asked(), charge=2, spin=1))
    assert atoms.get_potential_energy() == 21


def test_electrons_are_those_that_a_build_says(home, tmp_path):
    """What a model is asked with is what it was trained on, whatever a structure leaves unsaid."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    from chemscale.data.formats import format_of
    from chemscale.data.frames import checked
    from chemscale.data.units import units_of
    from chemscale.spec import Reading
    from chemscale.use.atoms import electrons_of

    states = [{}, {"charge": 0}, {"charge": 1}, {"charge": -2}, {"multiplicity": 2}, {"charge": 1, "spin": 2}]
    frames = [Atoms("OH", [[0, 0, 0], [0, 0, 1.0]], info=dict(info)) for info in states]
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=-1.0)
    ase.io.write(tmp_path / "a.extxyz", frames)
    path, asked = tmp_path / "a.extxyz", Reading()
    (chunk,) = format_of(path).chunks(path, asked)
    built = [checked(record, units_of("ev angstrom")) for record in format_of(path).records(path, chunk.where, asked)]
    assert [(f.charge, f.spin) for f in built] == [tuple(electrons_of(frame)) for frame in frames]


def test_mistakes_are_one_sentence(stored, molecules, tmp_path):
    store, _ = stored
    made = cs.calculator(store)
    with pytest.raises(ValueError, match=r"contains Au, which run \w+ was not trained on; it knows H, C"):
        Atoms("HAu", [[0, 0, 0], [0, 0, 1.5]], calculator=made).get_potential_energy()
    with pytest.raises(ValueError, match="precision='half' is not allowed: it must be one of float32, float64"):
        cs.calculator(store, precision="half")
    with pytest.raises(ValueError, match="is not a chemscale store"):
        cs.calculator(tmp_path)
    assert ARGON not in made.answering.trained.manifest.species
    for position, words in ((np.nan, "a position is not a finite number"), (0.0, "do two atoms lie at one place")):
        with pytest.raises(CalculationFailed, match=words):
            Atoms("H2", [[0, 0, 0], [0, 0, position]], calculator=cs.calculator(store)).get_potential_energy()


def test_the_recipe_trains_what_moves(stored, capsys):
    """At a tiny size; that the numbers are right is the business of the tests above."""
    from tune_jobs.potentials_dynamics import main, recipe

    (run,) = recipe(updates=5, sizes=(200,)).runs()
    assert (run.model.width, run.data.size, run.budget.updates) == (32, 200, 5)
    main([stored[0].url, "--molecule", "H2O", "--steps", "12"])
    told = capsys.readouterr().out
    assert told.startswith("relaxed: -")
    assert "K where 300 were asked for" in told
