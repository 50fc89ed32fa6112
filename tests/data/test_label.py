"""Labels are what GFN2-xTB says, the same bytes however they were made, and the shipped set is as described."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdkit import Chem

from chemscale.data import label as label_module
from chemscale.data.groups import group_key_of_smiles
from chemscale.data.label import label, label_noise
from chemscale.data.labelling import run, sampling
from chemscale.data.labelling.conformers import (
    BOLTZMANN,
    SOFTEST,
    Geometry,
    displaced_conformer,
    geometry_fault,
    spring_network,
    thermal_displacement,
)
from chemscale.data.labelling.disk import METADATA_KEY, SCHEMA, from_table, read_metadata
from chemscale.data.labelling.fragments import Candidate, Tally, candidates, pieces, read_smiles
from chemscale.data.labelling.gfn2 import Settings, evaluate
from chemscale.data.labelling.noise import TIGHT
from chemscale.data.sources import embedded

SMALL = ["CO", "CN", "CC", "C=O", "CF", "CCl", "CS", "CBr", "C#N", "CC#N", "C=C", "CC=O"]
SHIPPED = embedded("fragments-gfn2.parquet")


# --- the label itself -------------------------------------------------------------------------------------------------


def test_forces_are_minus_the_gradient_of_the_energy():
    shape = displaced_conformer("OCCS", 300.0, seed=1)
    forces = evaluate(shape.species, shape.positions, TIGHT).forces
    step = 1e-3  # angstrom: the error of central differences is then of the order of 1e-4 eV/angstrom
    for atom, axis in [(0, 0), (1, 2), (3, 1), (len(forces) - 1, 0)]:
        moved = np.zeros(forces.shape)
        moved[atom, axis] = step
        rise = [evaluate(shape.species, shape.positions + sign * moved, TIGHT).energy for sign in (1, -1)]
        assert forces[atom, axis] == pytest.approx(-(rise[0] - rise[1]) / (2 * step), abs=1e-3)


def test_labels_agree_with_the_ase_calculator_of_tblite():
    from ase import Atoms
    from tblite.ase import TBLite

    shape = displaced_conformer("O=C(N)CBr", 600.0, seed=2)
    ours = evaluate(shape.species, shape.positions)
    atoms = Atoms(numbers=shape.species, positions=shape.positions.astype(float))
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert ours.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)  # ASE's units are CODATA 2014
    np.testing.assert_allclose(ours.forces, atoms.get_forces(), atol=1e-5)


def test_an_unknown_first_guess_leads_to_the_same_tight_state():
    shape = displaced_conformer("CC=O", 1000.0, seed=3)
    energies = [evaluate(shape.species, shape.positions, Settings(1e-4, guess)).energy for guess in ("sad", "eeq")]
    assert energies[0] == pytest.approx(energies[1], abs=1e-7)


# --- geometries -------------------------------------------------------------------------------------------------------


def test_displacements_have_the_covariance_of_heat():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    hessian = spring_network(mol, displaced_conformer("CCO", 0.0, seed=4).positions.astype(float))
    one_at_a_time = [thermal_displacement(hessian, 300.0, _Given(row)).ravel() for row in np.eye(len(hessian))]
    covariance = np.transpose(one_at_a_time) @ np.array(one_at_a_time)
    stiffness, modes = np.linalg.eigh(hessian)
    expected = BOLTZMANN * 300.0 * (modes / np.maximum(stiffness, SOFTEST)) @ modes.T
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
    assert stiffness.min() > -1e-9


class _Given:
    """A generator whose normal numbers are given."""

    def __init__(self, numbers):
        self._numbers = numbers

    def standard_normal(self, size):
        assert size == len(self._numbers)
        return self._numbers


def test_heat_costs_about_what_equipartition_says():
    """The spring network is a model of GFN2's own curvature: the energy rises by (3n - 6) kT/2 within a factor 2."""
    rest = displaced_conformer("CCOC", 0.0, seed=5)
    mol = Chem.AddHs(Chem.MolFromSmiles("CCOC"))
    hessian, random = spring_network(mol, rest.positions.astype(float)), np.random.default_rng(1)
    start = evaluate(rest.species, rest.positions).energy
    moved = [rest.positions + thermal_displacement(hessian, 600.0, random) for _ in range(20)]
    rise = np.mean([evaluate(rest.species, positions).energy for positions in moved]) - start
    expected = (3 * len(rest.species) - 6) * BOLTZMANN * 600.0 / 2
    assert expected / 2 < rise < expected * 2


def test_broken_geometries_are_named():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    sound = displaced_conformer("CCO", 300.0, seed=6).positions
    assert geometry_fault(mol, sound) == ""
    onto, away = sound.copy(), sound.copy()
    onto[0] = onto[1] + [0.5, 0, 0]
    away[8] = away[2] + 1.9 * (away[8] - away[2])  # the hydrogen of the hydroxyl group, along its bond
    assert geometry_fault(mol, onto).startswith("collapsed: two atoms closer")
    assert geometry_fault(mol, away).startswith("dissociated: a bond longer")


def test_a_molecule_without_enough_sound_geometries_is_dropped_with_reasons(monkeypatch):
    fault = "collapsed: two atoms closer than 0.7 covalent radii"
    nothing = Geometry(np.array([6], np.uint8), np.zeros((0, 3), np.float32), fault)
    monkeypatch.setattr(sampling, "displaced_conformer", lambda *_: nothing)
    outcome = run.label_molecule(Candidate("CCO", 7), _plan())
    reasons = Counter(reject.reason for reject in outcome.rejects)
    assert outcome.structures == ()
    assert reasons == {fault: run.ATTEMPTS, "dropped: fewer than 2 conformers accepted": 1}
    assert {reject.line for reject in outcome.rejects} == {7}


def test_a_force_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(run, "MAX_FORCE", 0.01)
    assert "force above" in run.label_molecule(Candidate("CCO", 1), _plan()).rejects[0].reason


# --- molecules --------------------------------------------------------------------------------------------------------


def test_pieces_are_whole_neutral_molecules():
    mol = Chem.MolFromSmiles("CC(=O)Nc1ccc(S(=O)(=O)N2CCOCC2)cc1")
    found = {Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(piece))) for piece in pieces(mol, 25)}
    assert {"CC(N)=O", "C1COCCN1"} <= found  # an amide made of two pieces; a piece
    assert "O=S(=O)(c1ccccc1)N1CCOCC1" in found  # a sulfonamide made of two pieces
    assert not any("*" in smiles or "." in smiles for smiles in found)


def test_stereoisomers_and_tautomers_are_one_molecule():
    lines = enumerate(["C[C@H](N)C=O", "C[C@@H](N)C=O", "CC(=O)CC", "CC(O)=CC", "CC(N)C=O"], 1)
    found = list(candidates(lines, tally=Tally(), fragments=False, max_atoms=25))
    assert [(c.smiles, c.line) for c in found] == [("CC(N)C=O", 1), ("CCC(C)=O", 3)]


@pytest.mark.parametrize("name", ["a.smi", "a.txt", "a.csv", "a.csv.gz", "a.tsv", "a.txt.zip", "a.parquet"])
def test_every_kind_of_file_reads_the_same(tmp_path, name):
    import gzip

    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"SMILES": ["CO", "CN"]}), path)
    elif name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "CO first\n\nCN\n")
    else:
        text = "SMILES,id\nCO,1\n\nCN,2\n" if "csv" in name else "CO first\n\nCN\n"
        text = "\ufeffid\tSmiles\n1\tCO\n2\tCN\n" if "tsv" in name else text  # as spreadsheets begin it
        (gzip.open if name.endswith("gz") else open)(path, "wt").write(text)
    assert [smiles for _, smiles in read_smiles(path)] == ["CO", "CN"]


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CHUNK", 2)
        return label(SMALL, tmp_path_factory.mktemp("label") / "set.parquet", **SETTINGS, progress=False).out


SETTINGS = {"conformers": 2, "temperatures": (300, 1000), "noise": 3, "seed": 1}
SCRIPT = f"""
from chemscale.data.label import label
from chemscale.data.labelling import run, sampling
run.CHUNK = 2
import sys
label({SMALL!r}, sys.argv[1], **{SETTINGS!r}, progress=False)
"""


def test_any_number_of_processes_writes_the_same_bytes(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 2)
    again = label(SMALL, tmp_path / "set.parquet", **SETTINGS, processes=2, progress=False)
    assert again.out.read_bytes() == undisturbed.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.parquet", "set.parquet.rejected.csv"]


def test_the_order_of_molecules_changes_no_structure(undisturbed, tmp_path):
    turned = label(SMALL[::-1], tmp_path / "turned.parquet", **SETTINGS, progress=False)
    first, second = (
        {(s.smiles, s.conformer): s for s in from_table(pq.read_table(p))} for p in (undisturbed, turned.out)
    )
    assert first.keys() == second.keys()
    for key, structure in first.items():
        assert structure.energy == second[key].energy
        np.testing.assert_array_equal(structure.positions, second[key].positions)


def test_killed_and_called_again_writes_the_same_bytes(undisturbed, tmp_path):
    out = tmp_path / "set.parquet"
    job = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], cwd=Path(__file__).parents[2])
    work = out.with_name("set.parquet.work")
    deadline = time.monotonic() + 60
    while not (work / "part-000001.parquet").exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not out.exists()
    with pytest.raises(ValueError, match=r"holds the parts of another command \(seed=1, not 2\)"):
        label(SMALL, out, **{**SETTINGS, "seed": 2}, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CHUNK", 2)
        patch.setattr(run, "label_molecule", _counted(calls := []))
        label(SMALL, out, **SETTINGS, progress=False)
    assert 0 < len(calls) <= len(SMALL) - 4  # two chunks of two were there
    assert out.read_bytes() == undisturbed.read_bytes()


def _counted(calls: list[str]):
    original = run.label_molecule

    def counted(candidate, plan):
        calls.append(candidate.smiles)
        return original(candidate, plan)

    return counted


def test_a_finished_file_is_left_alone_and_another_command_is_refused(undisturbed):
    before = undisturbed.stat().st_mtime_ns
    assert label(SMALL, undisturbed, **SETTINGS, progress=False).metadata == read_metadata(undisturbed)
    assert undisturbed.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="made by another command"):
        label(SMALL, undisturbed, **{**SETTINGS, "seed": 2}, progress=False)


def test_bad_lines_are_listed_and_skipped(tmp_path):
    source = tmp_path / "mixed.smi"
    source.write_text("CO\nnonsense((\n[Xe]\n[NH4+]\nC[CH2]\nCO.CN\n" + "C" * 30 + "\nCN\n")
    report = label(source, tmp_path / "out.parquet", conformers=1, noise=0, progress=False)
    rows = list(csv.DictReader(report.rejected.open()))
    assert [(int(row["line"]), row["reason"]) for row in rows] == [
        (2, "not a SMILES"),
        (3, "element Xe"),
        (4, "charged"),
        (5, "open shell"),
        (6, "more than one component"),
        (7, "not 4 to 25 atoms with hydrogens"),
    ]
    assert report.metadata["counts"]["molecules"] == 2
    assert report.metadata["rejected"]["charged"] == 1
    assert pq.read_schema(report.out).equals(SCHEMA)


def test_a_source_without_one_molecule_says_so(tmp_path):
    source = tmp_path / "none.smi"
    source.write_text("[Na+]\nxx\n")
    with pytest.raises(ValueError, match="not one molecule to label in 2 lines"):
        label(source, tmp_path / "out.parquet", progress=False)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_atoms": 2}, "max_atoms=2"),
        ({"molecules": 0}, "molecules=0"),
        ({"conformers": 200}, "conformers=200 must be 1 to 127"),
        ({"temperatures": (-1.0,)}, "temperatures="),
        ({"processes": 0}, "processes=0"),
        ({"noise": -1}, "noise=-1"),
        ({"elements": ["C", "Au"]}, "Au"),
        ({"source": "absent.smi"}, "absent.smi is not a file"),
        ({"source": __file__}, "ends in .py; give one of .smi, .txt"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words):
        label(**{"source": ["CO"], "out": tmp_path / "out.parquet", **wrong})
    assert list(tmp_path.iterdir()) == []


def test_without_tblite_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(label_module, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'chemscale\[label\]'"):
        label(["CO"], tmp_path / "out.parquet")


def test_the_noise_floor_of_a_file(undisturbed):
    floor = label_noise(undisturbed, structures=3, progress=False)
    assert floor == json.loads(json.dumps(read_metadata(undisturbed)["label_noise"]))
    assert floor["sample"]["energy_rmse"] < 1e-6
    assert floor["sample"]["force_rmse"] < 1e-3


# --- what is shipped --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return pq.read_table(SHIPPED)


def test_shipped_columns_and_counts(shipped):
    assert shipped.schema.equals(SCHEMA)
    groups = Counter(shipped["smiles"].to_pylist())
    assert len(groups) >= 3300
    assert set(groups.values()) == {4}
    assert len({group_key_of_smiles(smiles) for smiles in groups}) == len(groups)
    atoms = shipped["species"].combine_chunks().value_lengths().to_numpy()
    assert atoms.max() <= 25
    for name in ("positions", "forces"):
        np.testing.assert_array_equal(shipped[name].combine_chunks().value_lengths().to_numpy(), 3 * atoms)
        assert np.isfinite(shipped[name].combine_chunks().values.to_numpy()).all()
    present = set(shipped["species"].combine_chunks().values.unique().to_pylist())
    assert present == {1, 6, 7, 8, 9, 16, 17, 35}
    assert SHIPPED.stat().st_size < 6.5e6


def test_shipped_forces_grow_with_temperature(shipped):
    structures = from_table(shipped)
    squares: dict[float, list[float]] = {}
    for s in structures:
        squares.setdefault(s.temperature, []).append(float(np.square(s.forces).mean()))
    rms = [float(np.sqrt(np.mean(squares[t]))) for t in sorted(squares)]
    assert sorted(squares) == [100.0, 300.0, 600.0, 1000.0]
    assert rms == sorted(rms)
    assert 0.3 < rms[0] < rms[-1] < 3.0  # eV/angstrom


def test_shipped_metadata_tells_how_it_was_made(shipped):
    metadata = json.loads(shipped.schema.metadata[METADATA_KEY])
    assert metadata["command"].startswith("chemscale data label train.csv.gz --out fragments-gfn2.parquet --fragments")
    assert metadata["units"]["forces"] == "eV/angstrom"
    assert "MIT" in metadata["licence"]
    assert metadata["counts"]["structures"] == shipped.num_rows
    assert (
        metadata["label_noise"]["sample"]["structures"] + metadata["label_noise"]["most_distorted"]["structures"] >= 500
    )
    assert min(metadata["counts"]["molecules_with"][e] for e in ("F", "S", "Cl", "Br")) > 100


def test_shipped_labels_come_out_again(shipped):
    floor = json.loads(shipped.schema.metadata[METADATA_KEY])["label_noise"]
    for s in from_table(shipped.take([5, shipped.num_rows // 2, shipped.num_rows - 1])):
        again = evaluate(s.species, s.positions)
        assert again.energy == pytest.approx(
            s.energy, abs=max(1e-6, floor["sample"]["energy_rmse"] * 10 * len(s.species))
        )
        np.testing.assert_allclose(again.forces, s.forces, atol=max(1e-5, 30 * floor["sample"]["force_rmse"]))


def _plan() -> run.Plan:
    plan = run.Plan("a", "b", False, 25, None, 2, [300.0], ["C", "H", "O"], 0, 0, {})
    return replace(plan, seed=3)
