"""Labels of ions, radicals and dynamics, in bounded memory, and dear labels beside cheap ones."""

import resource
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rdkit import Chem

from chemscale import data
from chemscale.data.formats.table import labels_of
from chemscale.data.label import label, label_noise
from chemscale.data.labelling import run
from chemscale.data.labelling.conformers import displaced_conformer, relaxed_conformer
from chemscale.data.labelling.disk import EXTENDED, Outcome, Structure, WorkFolder, from_table, read_metadata
from chemscale.data.labelling.fragments import Candidate
from chemscale.data.labelling.gfn2 import HARTREE, Evaluator, evaluate
from chemscale.data.labelling.sampling import SharedShapes, geometries_of
from chemscale.data.spot_checks import spot_check
from chemscale.spec import Data, Reading

IONS = ["C[NH3+]", "CC(=O)[O-]", "C[CH2]", "CCO", "[OH-]"]
STATES = {"states": "any", "conformers": 6, "temperatures": (300.0, 600.0), "charges": (0, 1, -1), "noise": 0}


def test_ions_and_radicals_have_the_energies_of_tblite(tmp_path):
    from tblite.interface import Calculator

    made = label(IONS, tmp_path / "a.parquet", **STATES, per_shape=3, seed=3, progress=False)
    structures = from_table(pq.read_table(made.out))
    assert pq.read_schema(made.out).equals(EXTENDED)
    by_molecule = {s: [x for x in structures if x.smiles == s] for s in {x.smiles for x in structures}}
    assert set(by_molecule) == {Chem.CanonSmiles(s) for s in IONS[:4]}
    for smiles, found in by_molecule.items():
        own = Chem.GetFormalCharge(Chem.MolFromSmiles(smiles))
        assert [s.charge - own for s in found] == [0, 0, 1, 1, -1, -1]
        assert [s.temperature for s in found] == [300.0, 600.0] * 3
        for s in found:
            assert (int(s.species.sum()) - s.charge - s.spin) % 2 == 0
            theirs = Calculator(
                "GFN2-xTB", s.species.astype(int), s.positions.astype(float) / 0.529177210903, s.charge, s.spin
            )
            theirs.set("verbosity", 0)
            assert s.energy == pytest.approx(theirs.singlepoint().get("energy") * 27.211386245988, abs=1e-6)
    assert [s.spin for s in by_molecule["[CH2]C"]] == [1, 1, 0, 0, 0, 0]
    assert made.metadata["counts"]["states"]["charge +1, 1 unpaired"] == 2  # of ethanol; the ammonium's gives +2
    assert "as few as there can be" in made.metadata["rules"]["states"]
    assert "charged" not in made.metadata["rejected"]


def test_labelled_states_reach_the_model(home, tmp_path):
    molecules = [f"{'C' * n}{end}" for n in range(1, 6) for end in ("O", "N", "[NH3+]", "[CH2]")]
    made = label(molecules, tmp_path / "a.parquet", states="any", conformers=2, noise=0, progress=False)
    examples = _opened(str(made.out))
    batch = examples.batch(np.arange(len(examples.offsets) - 1))
    assert set(batch.charge.tolist()) == {0, 1}
    assert set(batch.spin.tolist()) == {0, 1}
    assert Counter(examples.arrays["charge"].tolist())[1] == examples.manifest.notes["states"]["charged"]


def _opened(path, reading=Reading()):  # noqa: B008 - a frozen value
    data.build(path, reading=reading, processes=1, progress=False)
    return data.open_data(Data(path, reading=reading), {"cutoff": 4.0})


def test_shapes_are_shared_and_labels_depend_on_nothing_before_them():
    shared = SharedShapes("CCOC", 5, 4)
    shapes = [shared.geometry(k, 0, 300.0, (0, 0)) for k in range(6)]
    rest = [shared.shape(k) for k in (0, 3, 4)]
    assert rest[0] is not rest[2]
    for k, shape in enumerate(shapes):
        own, other = (np.linalg.norm(shape.positions - (rest[2 * which].positions - rest[2 * which].positions.mean(0)))
                      for which in (k > 3, k <= 3))  # fmt: skip
        assert own < other
    evaluator = Evaluator(shapes[0].species)
    in_turn = [evaluator(shape.positions) for shape in shapes]
    for one, shape in zip(in_turn[::-1], shapes[::-1], strict=True):
        alone = evaluate(shape.species, shape.positions)
        assert one.energy == alone.energy
        np.testing.assert_array_equal(one.forces, alone.forces)


def test_a_conformer_at_rest_is_displaced_as_before():
    from chemscale.data.labelling.conformers import displaced

    rest = relaxed_conformer("CCO", 11)
    np.testing.assert_array_equal(displaced(rest, 300.0, 11).positions, displaced_conformer("CCO", 300.0, 11).positions)


def test_dynamics_hold_their_temperature_on_average():
    """Of harmonic motion half of 3n kT is potential energy; 40 structures of ethane, weakly correlated: within 40 %."""
    source = geometries_of("CC", 2, "md", 41)
    energies = []
    for k in range(41):
        shape = source.geometry(k, 0, 400.0, (0, 0))
        assert not shape.reason
        energies.append(source.label(shape, (0, 0)).energy)
    rest = source.shape(0)
    lowest = evaluate(rest.species, rest.positions).energy
    mean = np.mean(energies[5:]) - lowest
    expected = (3 * len(rest.species) - 6) * 8.617333262e-5 * 400.0 / 2
    assert 0.6 < mean / expected < 1.4


def test_dynamics_are_the_same_however_they_are_run(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 1)
    how = {"sampling": "md", "conformers": 2, "per_shape": 2, "noise": 0, "progress": False}
    one = label(["CO", "CN"], tmp_path / "one.parquet", **how)
    other = label(["CO", "CN"], tmp_path / "two.parquet", **how, processes=2)
    first, second = (from_table(pq.read_table(made.out)) for made in (one, other))
    assert [s.energy for s in first] == [s.energy for s in second]
    assert "Langevin dynamics on GFN2-xTB" in one.metadata["rules"]["geometry"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"states": "odd"}, "states='odd' must be one of neutral, any"),
        ({"charges": (3,)}, r"charges=\[3\] must be one or more of -2 to 2"),
        (
            {"charges": (0, 1, -1)},
            r"conformers=4 never comes to the last of charges=.0, 1, -1., .* all 4 temperatures .*; give at least 9",
        ),
        ({"sampling": "xtb"}, "sampling='xtb' must be one of springs, modes, md"),
        ({"per_shape": 5}, "per_shape=5 must be 1 to conformers=4"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words):
        label(["CO"], tmp_path / "out.parquet", **wrong)


def test_old_plans_keep_their_names():
    values = ("a.smi", "0" * 64, False, 25, None, 4, [300.0], ["C"], 0, 500, {"tblite": "0.8"})
    plan = run.Plan(*values)
    assert set(plan.facts) == set(run.Plan.__dataclass_fields__) - {"states", "charges", "sampling", "per_shape"}
    assert replace(plan, per_shape=2).id != plan.id


def _made_up(task):
    """Outcomes of 40 structures a molecule without any chemistry."""
    found, plan = task
    rng = np.random.default_rng(found[0].line)
    outcomes = []
    for candidate in found:
        species = np.full(8, 6, np.uint8)
        structures = tuple(
            Structure(candidate.smiles, k, 300.0, species, rng.normal(size=(8, 3)).astype(np.float32), -1.0,
                      rng.normal(size=(8, 3)).astype(np.float32))
            for k in range(plan.conformers)
        )  # fmt: skip
        outcomes.append(Outcome(candidate, structures, ()))
    return outcomes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_structures(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "label_chunk", _made_up)
    numbered = lambda records, **_: (Candidate(smiles, line) for line, smiles in records)  # noqa: E731
    monkeypatch.setattr(run, "candidates", numbered)
    peaks = []
    for count in (200, 2500):
        label([f"C{i}" for i in range(count)], tmp_path / f"{count}.parquet", conformers=40, noise=0, progress=False)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert pq.read_metadata(tmp_path / "2500.parquet").num_rows == 100_000
    # 100,000 structures are 150 MB and more as objects; some MB are lists of what was left out
    assert peaks[1] - peaks[0] < 60


# --- dear labels ------------------------------------------------------------------------------------------------------


def test_without_pyscf_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    from chemscale.data import spot_checks

    monkeypatch.setattr(spot_checks, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'chemscale\[dft\]'"):
        spot_check("a.parquet", tmp_path / "b.parquet")
    monkeypatch.setattr(spot_checks, "find_spec", lambda _: True)
    with pytest.raises(ValueError, match=r"source=a\.parquet is no file on this machine"):
        spot_check("a.parquet", tmp_path / "b.parquet")


@pytest.fixture
def cheap(tmp_path):
    molecules = [
        "C#N",
        "CO",
        "C=O",
        "CN",
        "CF",
        "CC",
        "C=C",
        "C#C",
        "NN",
        "CCl",
        "CS",
        "CBr",
        "CC#N",
        "CC=O",
        "CCO",
        "CCC",
    ]
    return label(molecules, tmp_path / "cheap.parquet", conformers=2, noise=0, progress=False).out


@pytest.mark.slow
def test_forces_of_dft_are_minus_the_gradient_of_its_energy():
    pytest.importorskip("pyscf")
    from chemscale.data.labelling import dft

    species, positions = np.array([8, 1, 1]), np.array([[0, 0, 0], [0.97, 0.1, 0], [-0.3, 0.9, 0.1]])
    step = 1e-3
    for state in ({}, {"charge": 1, "spin": 1}):
        found = dft.evaluate(species, positions, **state)
        moved = np.zeros((3, 3))
        moved[1, 0] = step
        rise = [dft.evaluate(species, positions + sign * moved, **state).energy for sign in (1, -1)]
        # a quarter of a meV/angstrom: the third derivative (1e-5 of it) and cycles ended at 1e-9 Hartree
        assert found.forces[1, 0] == pytest.approx(-(rise[0] - rise[1]) / (2 * step), abs=2.5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "unpaired", "published"),
    [(1, 1, -0.499321232710), (6, 2, -37.8338334397), (7, 3, -54.5732824628), (8, 2, -75.0424519384)],
)
def test_atoms_have_the_published_energies_of_this_level(number, unpaired, published):
    """Self energies of wB97X/6-31G* by Gaussian, as the authors of ANI-1x use them (`torchani`), in Hartree.

    Two programs' grids differ by some 1e-5; five instead of six d functions would by 1e-3 (H has none).
    """
    pytest.importorskip("pyscf")
    from chemscale.data.labelling import dft

    found = dft.evaluate(np.array([number]), np.zeros((1, 3)), spin=unpaired)
    assert found.energy / HARTREE == pytest.approx(published, abs=1e-7 if number == 1 else 3e-5)


def test_dear_labels_beside_cheap_ones(home, tmp_path, cheap, monkeypatch):
    from chemscale.data import spot_checks
    from chemscale.data.labelling import dft

    calls = []

    def shifted(structure):
        calls.append(structure)
        if structure.smiles == "CN":
            return "the DFT did not converge"
        energy = structure.energy - 10.0 * len(structure.species)
        return replace(structure, energy=energy, forces=structure.forces + np.float32(0.5), level=dft.LEVEL)

    monkeypatch.setattr(spot_checks, "find_spec", lambda _: True)
    monkeypatch.setattr(spot_checks, "version", lambda _: "0")
    monkeypatch.setattr(dft, "relabelled", shifted)
    kept, keep = [], WorkFolder.keep

    def killed(self, index, outcomes):
        if len(kept) == 4:
            raise KeyboardInterrupt
        keep(self, index, outcomes)
        kept.append(index)

    out = tmp_path / "both.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            spot_check(cheap, out, structures=200, progress=False)
    assert not out.exists()
    calls.clear()
    made = spot_check(cheap, out, structures=200, progress=False)
    total = pq.read_metadata(cheap).num_rows
    assert len(calls) == total - 4  # what was done before the kill is not done again
    levels = made.metadata["levels"]
    assert levels["not_converged"] == 2
    listing = [line.split(",") for line in made.rejected.read_text().splitlines()]
    assert [row[1:3] for row in listing] == [["smiles", "reason"], *[["CN", "the DFT did not converge"]] * 2]
    assert levels["force_rmse"] == pytest.approx(0.5, rel=1e-5)
    assert levels["energy_rmse_after_composition"] < 1e-6
    assert Counter(s.level for s in from_table(pq.read_table(out))) == {"gfn2": total - 2, dft.LEVEL: total - 2}
    assert read_metadata(out)["spot_check"]["level"] == dft.LEVEL
    with pytest.raises(ValueError, match="made by another command"):
        spot_check(cheap, out, structures=3, progress=False)
    one, other = (_opened(str(out), Reading(level=level)) for level in ("gfn2", dft.LEVEL))
    np.testing.assert_array_equal(one.arrays["split"], other.arrays["split"])
    np.testing.assert_array_equal(one.arrays["positions"], other.arrays["positions"])
    np.testing.assert_allclose(other.arrays["energy"], one.arrays["energy"] - 10 * np.diff(one.offsets), rtol=1e-12)
    assert one.manifest.content != other.manifest.content
    with pytest.raises(ValueError, match=r"Reading.level='mp2' is not in both.parquet, which has gfn2, wb97x"):
        data.build(str(out), reading=Reading(level="mp2"), progress=False)
    with pytest.raises(ValueError, match=r"labels of several levels, gfn2, wb97x/6-31g\*; say which are meant"):
        data.build(str(out), progress=False)
    assert one.manifest.notes["labels"].startswith("GFN2-xTB")
    assert other.manifest.notes["labels"].endswith(f"labels of version {dft.VERSION}: {dft.OF_VERSION[dft.VERSION]}")
    facts = read_metadata(out)
    del facts["levels"]["version"], facts["spot_check"]["version"]  # as they were written at first
    assert "of version 1: five spherical d functions" in str(labels_of(facts, dft.LEVEL))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "wb97x", "--conformers", "9"], "--conformers says nothing with --method wb97x"),
        (["--method", "wb97x", "--max-atoms", "9"], "--max-atoms says nothing with --method wb97x"),
        (["--structures", "9"], "--structures goes with --method wb97x; of molecules --molecules says how many."),
    ],
)
def test_options_of_the_other_method_are_refused(tmp_path, capsys, options, says):
    from chemscale.cli import main

    assert main(["data", "label", "a.smi", "--out", str(tmp_path / "a.parquet"), *options]) == 2
    assert says in capsys.readouterr().err


def test_noise_of_ions_is_measured_in_their_own_state(tmp_path):
    made = label(["C[NH3+]", "C[CH2]"], tmp_path / "a.parquet", states="any", conformers=2, noise=0, progress=False)
    floor = label_noise(made.out, structures=4, progress=False)["sample"]
    assert floor["energy_rmse"] < 1e-5  # a label of another charge would be off by whole eV
