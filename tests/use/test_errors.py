"""Errors of a potential on a file: planted ones are found, intervals are those of scipy, what is missing is skipped."""

import json
import re

import numpy as np
import pyarrow.csv
import pytest
import scipy.stats
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from chemscale.cli import main
from chemscale.spec import Reading
from chemscale.use.atoms import Answering
from chemscale.use.errors import ERRORS, measure, table_of
from chemscale.use.labelled import read_labelled
from tests.train.runs import atoms_run, text_run, train
from tests.use.crystals import lennard_jones

CUTOFF, REFERENCE, WRONG, TILT = 2.5, -17000.25, 0.012, 0.003  # eV/atom, eV/angstrom


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """20 crystals and 10 clusters of argon; labels are ASE's less known errors, in two subsets and four groups."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("planted") / "argon.extxyz"
    frames = []
    for k in range(30):
        atoms = bulk("Ar", cubic=True, a=1.6) if k < 20 else Atoms("Ar4", bulk("Ar", cubic=True, a=1.7).positions)
        atoms.positions += random.normal(scale=0.04, size=(4, 3))
        atoms.calc = LennardJones(sigma=1, epsilon=1, rc=CUTOFF)
        sign = 1 if k % 2 else -2  # of the error
        energy = atoms.get_potential_energy() + 4 * (REFERENCE - sign * WRONG)
        forces = atoms.get_forces() - TILT
        atoms.calc = None
        atoms.info |= {"config_type": "bulk" if k < 20 else "cluster", "mol_id": k % 4}
        if k == 7:
            energy = np.nan
        atoms.info["REF_energy"] = energy
        if k != 8:
            atoms.arrays["REF_forces"] = forces
        frames.append(atoms)
    frames.append(Atoms("Ar", info={"config_type": "IsolatedAtom", "REF_energy": REFERENCE}))
    frames.append(Atoms("KrAr", [[0, 0, 0], [0, 0, 1.1]], info={"config_type": "bulk", "REF_energy": 1.0}))
    write(path, frames)
    return path


@pytest.fixture(scope="module")
def answering():
    return Answering(lennard_jones(CUTOFF, argon=REFERENCE))


def test_planted_errors_are_found_per_subset(planted, answering):
    """Labels are written with eight decimals."""
    found = measure(answering, read_labelled(planted), draws=50)
    assert [one.name for one in found.subsets] == ["all", "bulk", "cluster"]
    assert found.labelled.left_out == {"isolated atom": 1, "not trained on Kr": 1}
    whole, crystals, clusters = found.subsets
    assert (whole.structures, whole.energies, whole.forces, whole.groups, whole.atoms) == (30, 29, 29, 4, 120)
    assert (crystals.structures, crystals.energies, crystals.forces) == (20, 19, 19)
    share = {"bulk": 9 / 19, "cluster": 5 / 10}  # of the errors of +1; structure 7 is one of +1 without its energy
    for one in (crystals, clusters):
        p = share[one.name]
        expected = {
            "energy_mae": WRONG * (p + 2 * (1 - p)), "energy_rmse": WRONG * np.sqrt(p + 4 * (1 - p)),
            "total_mae": 4 * WRONG * (p + 2 * (1 - p)), "total_rmse": 4 * WRONG * np.sqrt(p + 4 * (1 - p)),
            "force_mae": TILT, "force_rmse": TILT,
        }  # fmt: skip
        assert {k: v.value for k, v in one.errors.items()} == pytest.approx(expected, abs=2e-7)


def test_the_table_has_every_structure(planted, answering):
    table = table_of(measure(answering, read_labelled(planted), draws=0))
    assert len(table) == 30
    assert table["energy_label"].null_count == 1
    assert table["force_mae"].null_count == 1
    assert table["force_rmse"].to_numpy()[0] == pytest.approx(TILT, abs=1e-6)


def test_intervals_are_those_of_scipy(answering):
    """Percentile bootstrap of a mean over 40 structures: with 20,000 draws each the ends agree to a few per cent."""
    random = np.random.default_rng(1)
    errors = random.exponential(size=40)
    frames = []
    for k, wrong in enumerate(errors):
        atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.1 + 0.001 * k]])
        energy = answering.answer([atoms], [(0, 0)])[0].energy - 2 * wrong
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
    labelled = labelled_of(frames)
    (found,) = measure(answering, labelled, draws=20_000, level=0.9).subsets
    theirs = scipy.stats.bootstrap(
        (errors,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    mae = found.errors["energy_mae"]
    assert mae.value == pytest.approx(errors.mean(), abs=1e-9)
    assert (mae.low, mae.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert found.errors["force_mae"] is None


def labelled_of(frames):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.traj"
        write(path, frames)
        return read_labelled(path)


def test_one_group_has_no_interval(answering):
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.1]])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    (found,) = measure(answering, labelled_of([atoms])).subsets
    assert found.errors["force_mae"].low is None


def test_units_keys_and_subsets_are_as_asked(planted, answering, tmp_path):
    from ase.io import read

    from chemscale.data.units import BOHR, HARTREE  # ASE's are of CODATA 2014: 5e-4 eV of these totals

    frames = read(planted, ":30")
    for k, atoms in enumerate(frames):
        atoms.info["where"] = float(k // 15)
        atoms.info["E"] = atoms.info.pop("REF_energy") / HARTREE
        if "REF_forces" in atoms.arrays:
            atoms.arrays["F"] = atoms.arrays.pop("REF_forces") * BOHR / HARTREE
        atoms.set_cell(atoms.cell.array / BOHR, scale_atoms=False)
        atoms.positions /= BOHR
    path = tmp_path / "atomic.extxyz"
    write(path, frames)
    reading = Reading(energy="E", forces="F", units="hartree bohr", groups="mol_id")
    found = measure(answering, read_labelled(path, subsets="where", reading=reading), draws=0)
    before = measure(answering, read_labelled(planted), draws=0)
    assert [one.name for one in found.subsets] == ["all", "0", "1"]
    for name in ERRORS:  # positions have eight decimals
        assert found.subsets[0].errors[name].value == pytest.approx(before.subsets[0].errors[name].value, abs=1e-5)


def test_mistakes_are_one_sentence(planted, answering, tmp_path):
    with pytest.raises(ValueError, match="has the key 'phase' to name a subset; keys there: REF_energy, config_type"):
        read_labelled(planted, subsets="phase")
    with pytest.raises(ValueError, match="is no file on this machine"):
        read_labelled(tmp_path / "none.xyz")
    (tmp_path / "bad.xyz").write_text("2\n\nAr 0 0 0\n")
    with pytest.raises(ValueError, match=r"no labelled structure to measure on: not extended XYZ: 1 lines"):
        read_labelled(tmp_path / "bad.xyz")
    (tmp_path / "bad.traj").write_text("2\n\nAr 0 0 0\n")
    with pytest.raises(
        ValueError, match=r"cannot be read as a file that ASE knows: .*; give a whole file of that kind"
    ):
        read_labelled(tmp_path / "bad.traj")
    write(tmp_path / "bare.xyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match=r"no labelled structure to measure on: missing label: neither"):
        read_labelled(tmp_path / "bare.xyz")


def test_the_command_says_it_all(structures, molecules, planted, tmp_path, capsys):
    run = atoms_run(structures)
    store = train(run, tmp_path / "store")
    path = tmp_path / "test.extxyz"
    write(path, frames_of(store, run))
    assert main(["evaluate", store.url, str(path), "--json", "--bootstrap", "200"]) == 0
    record = json.loads(capsys.readouterr().out)
    row = store.runs(run_id=run.id).to_pylist()[0]
    whole = record["subsets"][0]
    assert [one["name"] for one in record["subsets"]] == ["all", "first", "last"]
    for name in ("energy_mae", "energy_rmse", "force_mae", "force_rmse"):  # what the loop measured at the run's end
        assert whole["errors"][name]["value"] == pytest.approx(row[name], rel=1e-4)
        assert whole["errors"][name]["low"] < row[name] < whole["errors"][name]["high"]
    assert main(["evaluate", store.url, str(path), "--out", str(tmp_path / "page.html")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"all +24 +[\d.]+ \([\d.]+–[\d.]+\)", told)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", page)
    assert main(["evaluate", store.url, str(path), "--out", str(tmp_path / "all.csv")]) == 0
    assert len(pyarrow.csv.read_csv(tmp_path / "all.csv")) == 24
    capsys.readouterr()
    assert main(["evaluate", store.url, str(path), "--out", str(tmp_path / "all.txt")]) == 2
    assert "for structures use one of .json, .html, .csv, .parquet" in capsys.readouterr().err
    assert main(["evaluate", store.url, str(planted)]) == 2
    assert "contains Ar" in capsys.readouterr().err
    text = text_run(molecules)
    train(text, tmp_path / "store")
    assert main(["evaluate", store.url, str(path), "--run", text.id]) == 2
    assert "is a chemgpt; this needs a potential" in capsys.readouterr().err


def frames_of(store, run):
    """The test split as ASE has it."""
    from chemscale.use.load import load

    examples = load(store, run.id).examples()
    frames = []
    for k in examples.split("test")[:24]:
        batch = examples.batch(np.array([k]))
        atoms = Atoms(batch.species.numpy(), batch.positions.double().numpy())
        energy, forces = float(examples.arrays["energy"][k]), batch.forces.double().numpy()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        atoms.info = {"config_type": "first" if len(frames) < 10 else "last", "group": int(examples.groups([k])[0])}
        frames.append(atoms)
    return frames
