"""Every kind of file gives the structures that were written into it by another hand, in eV and angstrom.

Files are written by ASE, or by h5py, numpy and lmdb after the published description of the layout; conversions are
checked with the constants of ASE, whose CODATA 2014 differs from CODATA 2018 in the ninth digit.
"""

import json
import zlib
from pathlib import Path

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode

from chemscale import data
from chemscale.data.units import units_of
from chemscale.spec import Data, Reading

COUNT = 60


def cloud(seed, *, atoms=5):
    """Species, positions, an energy and forces, in whatever units a test says they are."""
    rng = np.random.default_rng(seed)
    grid = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)], dtype=float)
    places = 1.3 * grid[rng.permutation(27)[:atoms]] + rng.uniform(-0.2, 0.2, (atoms, 3))
    return np.array([1, 6, 8, 1, 6, 7][:atoms]), places, rng.normal(-3.0, 0.2), rng.normal(0, 0.05, (atoms, 3))


def stored(path, reading=Reading()):  # noqa: B008 - a frozen value
    """The arrays of the built file, and its manifest."""
    manifest = data.build(str(path), reading=reading, processes=1, progress=False)
    examples = data.open_data(Data(str(path), reading=reading), {"cutoff": 3.0})
    return examples.arrays, manifest


def expect(path, energy, length, reading=Reading(), *, slope=1.0, count=COUNT):  # noqa: B008
    """The stored numbers are those of `cloud`, times the factors to eV and angstrom."""
    arrays, manifest = stored(path, reading)
    written = [cloud(i) for i in range(count)]
    np.testing.assert_array_equal(arrays["species"], np.concatenate([w[0] for w in written]))
    places, forces = (np.concatenate([w[k] for w in written]) for k in (1, 3))
    np.testing.assert_allclose(arrays["positions"], places * length, rtol=1e-6, atol=1e-6)  # float32
    np.testing.assert_allclose(arrays["energy"], [w[2] * energy for w in written], rtol=1e-7)
    np.testing.assert_allclose(arrays["forces"], slope * forces * energy / length, rtol=1e-6, atol=1e-6)
    return arrays, manifest


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def ani(path):
    """ANI-1x: three conformations of each formula, of which the first has no label of the second level."""
    with h5py.File(path, "w") as file:
        for k in range(COUNT // 3):
            part = [cloud(3 * k + i) for i in range(3)]
            group = file.create_group(f"C2H2O1 {k:02d}")
            group["atomic_numbers"] = part[0][0].astype(np.uint8)
            group["coordinates"] = np.array([w[1] for w in part], np.float32)
            energy = np.array([w[2] for w in part])
            group["wb97x_dz.energy"] = energy
            group["wb97x_dz.forces"] = np.array([w[3] for w in part], np.float32)
            rare = np.where(np.arange(len(part)) % 3 == 0, np.nan, energy - 0.5)
            group["ccsd(t)_cbs.energy"] = rare
    return path


def test_ani1x_is_hartree_and_angstrom_with_a_level_to_choose(home, tmp_path):
    path = ani(tmp_path / "ani.h5")
    _, manifest = expect(path, units.Hartree, 1.0)
    assert "hartree angstrom (Smith" in manifest.notes["read_units"]
    assert manifest.notes["ungrouped"] == 0
    reading = Reading(level="ccsd(t)_cbs")
    arrays, manifest = stored(path, reading)
    kept = [i for i in range(COUNT) if i % 3]
    np.testing.assert_allclose(arrays["energy"], [(cloud(i)[2] - 0.5) * units.Hartree for i in kept], rtol=1e-7)
    assert np.isnan(arrays["forces"]).all()
    assert manifest.rejected == {"missing label": COUNT - len(kept)}
    assert manifest.notes["labelled"] == {"energy": len(kept), "forces": 0}


def test_a_level_that_is_not_there_names_those_that_are(home, tmp_path):
    with pytest.raises(ValueError, match=r"level='pbe' is not in ani.h5, which has ccsd\(t\)_cbs.energy, wb97x"):
        stored(ani(tmp_path / "ani.h5"), Reading(level="pbe"))
    with pytest.raises(ValueError, match=r"Reading.energy='e_total' is not in ani.h5"):
        stored(tmp_path / "ani.h5", Reading(energy="e_total", forces="none"))


def test_an_energy_by_its_name_never_meets_forces_of_another_level(home, tmp_path):
    arrays, manifest = stored(ani(tmp_path / "ani.h5"), Reading(energy="ccsd(t)_cbs.energy"))
    assert np.isnan(arrays["forces"]).all()
    assert manifest.notes["labelled"]["forces"] == 0
    arrays, _ = stored(tmp_path / "ani.h5", Reading(energy="ccsd(t)_cbs.energy", forces="wb97x_dz.forces"))
    assert np.isfinite(arrays["forces"]).all()


def spice(path, *, written_units=None):
    with h5py.File(path, "w") as file:
        for k in range(20):
            group = file.create_group(f"pair {k:02d}")
            part = [cloud(3 * k + i) for i in range(3)]
            group["atomic_numbers"] = part[0][0]
            group["conformations"] = np.array([w[1] for w in part], np.float32)
            group["dft_total_energy"] = np.array([w[2] for w in part])
            group["dft_total_gradient"] = np.array([w[3] for w in part], np.float32)
            group["smiles"] = np.array([b"[O-:1][C-:2]([H:3])[H:4]"], dtype=object)
            if written_units:
                group["dft_total_gradient"].attrs["units"] = written_units
    return path


def test_spice_is_bohr_and_hartree_and_a_gradient_is_no_force(home, tmp_path):
    arrays, manifest = expect(spice(tmp_path / "s.hdf5"), units.Hartree, units.Bohr, slope=-1.0)
    assert set(arrays["charge"].tolist()) == {-2}  # of the formal charges of its SMILES
    assert len(arrays["group_digest"]) == 20
    assert manifest.notes["states"] == {"charged": COUNT}


def test_what_is_named_forces_in_a_file_of_spices_layout_keeps_its_sign(home, tmp_path):
    with h5py.File(spice(tmp_path / "s.hdf5"), "a") as file:
        for group in file.values():
            group["mbis_forces"] = -group["dft_total_gradient"][...]
    expect(tmp_path / "s.hdf5", units.Hartree, units.Bohr, Reading(forces="mbis_forces"), slope=-1.0)


def test_units_that_contradict_the_layout_are_refused_unless_declared(home, tmp_path):
    path = spice(tmp_path / "s.hdf5", written_units="kcal/mol/angstrom")
    with pytest.raises(ValueError, match="gradient is in 'kcal/mol/angstrom', where SPICE has 'hartree/bohr'") as told:
        stored(path)
    assert str(told.value).endswith("name the units of the whole file (Reading.units, --units), e.g. 'hartree bohr'.")
    reading = Reading(units="hartree bohr kcal/mol/angstrom")
    arrays, manifest = stored(path, reading)
    kcal = units.kcal / units.mol
    np.testing.assert_allclose(arrays["forces"][:5], -cloud(0)[3] * kcal, rtol=1e-6)
    assert manifest.notes["read_units"] == "hartree bohr kcal/mol/angstrom (declared)"


def test_qm7x_is_ev_and_angstrom_by_molecule(home, tmp_path):
    with h5py.File(tmp_path / "1000.hdf5", "w") as file:
        for k in range(20):
            for i in range(3):
                numbers, places, energy, forces = cloud(3 * k + i)
                group = file.create_group(f"{k:04d}/Geom-m{k:04d}-i1-c{i}")
                group["atNUM"], group["atXYZ"] = numbers, places
                group["ePBE0+MBD"], group["totFOR"] = np.array([energy]), forces
    arrays, _ = expect(tmp_path / "1000.hdf5", 1.0, 1.0)
    assert len(arrays["group_digest"]) == 20


def test_hdf5_of_another_layout_is_told_with_what_it_holds(home, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("empty")
        file["molecules/coords"] = np.zeros(3)
    with pytest.raises(ValueError, match="unknown layout: its first groups hold coords; known are ANI-1x"):
        stored(tmp_path / "a.h5")


def test_an_empty_group_is_passed_over(home, tmp_path):
    path = ani(tmp_path / "ani.h5")
    with h5py.File(path, "a") as file:
        file.create_group("A nothing")
    expect(path, units.Hartree, 1.0)


def test_a_truncated_file_is_one_sentence(home, tmp_path):
    whole = ani(tmp_path / "ani.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ValueError, match=r"cut.h5' cannot be read as HDF5: .*truncated.*; give a whole file of that kind."
    ):
        stored(tmp_path / "cut.h5")
    np.savez(tmp_path / "whole.npz", z=[1], R=np.zeros((9, 1, 3)), E=np.zeros(9), F=np.zeros((9, 1, 3)))
    half = (tmp_path / "whole.npz").read_bytes()[:400]
    (tmp_path / "cut.npz").write_bytes(half)
    with pytest.raises(ValueError, match=r"cut.npz' cannot be read as an npz archive"):
        stored(tmp_path / "cut.npz")
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    with pytest.raises(ValueError, match=r"cut.db' cannot be read as ASE database"):
        stored(tmp_path / "cut.db")


# --- npz --------------------------------------------------------------------------------------------------------------


def trajectory(names, **more):
    written = [cloud(i) for i in range(COUNT)]
    values = (written[0][0], *(np.array([w[k] for w in written]) for k in (1, 2, 3)))
    return dict(zip(names, values, strict=True)) | more


KCAL = units.kcal / units.mol


@pytest.mark.parametrize(
    ("names", "more", "energy", "length"),
    [
        (("nuclear_charges", "coords", "energies", "forces"), {"old_indices": np.arange(COUNT)}, KCAL, 1.0),
        (("z", "R", "E", "F"), {"theory": "PBE+vdW-TS", "md5": "0"}, KCAL, 1.0),
        (("z", "R", "E", "F"), {"e_unit": "eV", "r_unit": "Ang"}, 1.0, 1.0),
        (("z", "R", "E", "F"), {"e_unit": "Ha", "r_unit": "bohr"}, units.Hartree, units.Bohr),
    ],
)
def test_trajectories_of_md17(home, tmp_path, names, more, energy, length):
    np.savez(tmp_path / "a.npz", **trajectory(names, **more))
    expect(tmp_path / "a.npz", energy, length)


def test_trajectories_are_read_a_run_at_a_time(home, tmp_path, monkeypatch):
    from chemscale.data.formats import npz

    form = trajectory(("z", "R", "E", "F"), E=np.array([[cloud(i)[2]] for i in range(COUNT)]))
    np.savez_compressed(tmp_path / "a.npz", **form)
    monkeypatch.setattr(npz, "runs", lambda count: ((start, min(start + 7, count)) for start in range(0, count, 7)))
    expect(tmp_path / "a.npz", KCAL, 1.0)
    numbers = np.tile(form["z"], (COUNT, 1))
    numbers[9:] = numbers[9:, ::-1]  # atoms in another order from the middle of a run on
    np.savez(tmp_path / "b.npz", **{**form, "z": numbers})
    arrays, _ = stored(tmp_path / "b.npz")
    assert arrays["species"].tolist() == numbers.ravel().tolist()


def test_an_archive_of_other_arrays_is_told(home, tmp_path):
    np.savez(tmp_path / "a.npz", positions=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="npz of an unknown layout: it has positions; known are rMD17"):
        stored(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **trajectory(("z", "R", "E", "F"), e_unit="furlong", r_unit="Ang"))
    with pytest.raises(ValueError, match="'furlong' is unknown"):
        stored(tmp_path / "b.npz")


# --- ASE and fairchem -------------------------------------------------------------------------------------------------


def atoms_of(seed, **info):
    numbers, places, energy, forces = cloud(seed)
    found = ase.Atoms(numbers, places, info=info)
    found.calc = SinglePointCalculator(found, energy=energy, forces=forces)
    return found


def test_a_database_of_ase(home, tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        for i in range(COUNT):
            database.write(atoms_of(i), group=f"g{i // 3}", charge=1, data={"energy_mp2": cloud(i)[2] - 1.0})
    arrays, _ = expect(tmp_path / "a.db", 1.0, 1.0)
    assert len(arrays["group_digest"]) == 20
    assert set(arrays["charge"].tolist()) == {1}
    assert set(arrays["spin"].tolist()) == {(int(cloud(0)[0].sum()) - 1) % 2}  # the lowest that there can be
    arrays, _ = stored(tmp_path / "a.db", Reading(energy="energy_mp2"))
    np.testing.assert_allclose(arrays["energy"], [cloud(i)[2] - 1.0 for i in range(COUNT)])


def lmdb_rows(path, rows, deleted=()):
    lmdb = pytest.importorskip("lmdb")
    pack = lambda value: zlib.compress(encode(value).encode())  # noqa: E731
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 24)
    with environment.begin(write=True) as out:
        for number, row in enumerate(rows, 1):
            if number not in deleted:
                out.put(str(number).encode(), pack(row))
        out.put(b"nextid", pack(len(rows) + 1))
        out.put(b"deleted_ids", pack(list(deleted)))
        out.put(b"metadata", pack({"format": "ase"}))
    environment.close()
    return path


def fairchem_row(seed, **more):
    numbers, places, energy, forces = cloud(seed)
    return {
        "numbers": numbers, "positions": places, "cell": np.zeros((3, 3)), "pbc": np.zeros(3, bool),
        "unique_id": f"{seed:032x}", "ctime": 0.0, "mtime": 0.0, "user": "", "calculator": "unknown",
        "calculator_parameters": {}, "energy": energy, "forces": forces, "key_value_pairs": {}, "constraints": [],
        "data": {"charge": -1, "spin": 2, "source": "here"}, **more,
    }  # fmt: skip


def test_fairchem_rows_with_a_multiplicity_of_their_own(home, tmp_path):
    rows = [fairchem_row(i) for i in range(COUNT + 2)]
    for row in rows:
        row["numbers"] = np.array([1, 6, 8, 1, 6])
    path = lmdb_rows(tmp_path / "a.aselmdb", rows, deleted=(61, 62))
    electrons = int(cloud(0)[0].sum()) + 1
    assert electrons % 2 == 1  # a doublet can be
    arrays, manifest = expect(path, 1.0, 1.0)
    assert set(arrays["charge"].tolist()) == {-1}
    assert set(arrays["spin"].tolist()) == {1}
    assert manifest.notes["states"] == {"charged": COUNT, "open shells": COUNT}


def test_fairchem_rows_are_read_a_run_at_a_time(home, tmp_path, monkeypatch):
    from chemscale.data.formats import aselmdb

    monkeypatch.setattr(aselmdb, "CHUNK", 7)
    rows = [fairchem_row(i, data={}) for i in range(COUNT)]
    expect(lmdb_rows(tmp_path / "a.aselmdb", rows), 1.0, 1.0)


def test_a_row_that_is_damaged_is_counted_and_listed(home, tmp_path):
    lmdb = pytest.importorskip("lmdb")
    path = lmdb_rows(tmp_path / "a.aselmdb", [fairchem_row(i) for i in range(COUNT)])
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 24)
    with environment.begin(write=True) as out:
        out.put(b"7", b"rubbish")
        out.delete(b"9")
    environment.close()
    _, manifest = stored(path)
    assert manifest.rejected == {"not a row of ASE": 2}


def test_a_folder_of_files_is_one_source(home, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for k in range(3):
        ase.io.write(folder / f"{k}.extxyz", [atoms_of(i) for i in range(20 * k, 20 * k + 20)])
    (folder / "._0.extxyz").write_bytes(b"\0")  # what macOS leaves beside files that it copies
    (folder / "more.extxyz").mkdir()
    expect(folder, 1.0, 1.0)
    (folder / "x.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a folder with files of several kinds \(.extxyz, .npz\)"):
        stored(folder)


# --- extended XYZ -----------------------------------------------------------------------------------------------------


def test_labels_under_any_names(home, tmp_path):
    frames = []
    for i in range(COUNT):
        numbers, places, energy, forces = cloud(i)
        found = ase.Atoms(numbers, places, info={"dft_E": energy, "energy": 0.0, "molecule": i // 2})
        found.arrays["dft_F"] = forces
        frames.append(found)
    ase.io.write(tmp_path / "a.extxyz", frames)
    reading = Reading(energy="dft_E", forces="dft_F", groups="molecule")
    arrays, _ = expect(tmp_path / "a.extxyz", 1.0, 1.0, reading)
    assert len(arrays["group_digest"]) == 30
    reading = Reading(energy="dft_E", forces="dft_F", units="kcal/mol bohr")
    expect(tmp_path / "a.extxyz", KCAL, units.Bohr, reading)
    with pytest.raises(ValueError, match=r"Reading.forces='gradient' is in no record of .*a.extxyz"):
        stored(tmp_path / "a.extxyz", Reading(energy="dft_E", forces="gradient"))
    with pytest.raises(
        ValueError,
        match=r"holds no labelled structure .*: .*dft_E, molecule, dft_F, energy\); name their keys .*--energy, --f",
    ):
        stored(tmp_path / "a.extxyz", Reading(energy="E", forces="F"))


def test_charges_spins_and_multiplicities_and_what_cannot_be(home, tmp_path):
    radical = {"charge": 0, "multiplicity": 2}
    states = [{}, {"charge": 1}, {"charge": -1, "spin": 2}, {"multiplicity": 1}, radical, {"charge": 0.5}, {"spin": 60}]
    frames = [atoms_of(i) for i in range(COUNT)]
    for i, state in enumerate(states):
        frames[i].info.update(state)
        frames[i].numbers[-1] = 6 if i in (0, 3, 6) else 7
    electrons = [int(frame.numbers.sum()) for frame in frames[:7]]
    assert [n % 2 for n in electrons] == [0, 1, 1, 0, 1, 1, 0]
    ase.io.write(tmp_path / "a.extxyz", frames)
    arrays, manifest = stored(tmp_path / "a.extxyz")
    assert arrays["charge"][:5].tolist() == [0, 1, -1, 0, 0]
    assert arrays["spin"][:5].tolist() == [0, 0, 2, 0, 1]
    assert manifest.rejected == {"not a whole number": 1, "impossible spin": 1}
    batch = data.open_data(Data(str(tmp_path / "a.extxyz")), {"cutoff": 3.0}).batch(np.arange(5))
    assert batch.charge.tolist() == [0, 1, -1, 0, 0]
    assert batch.spin.tolist() == [0, 0, 2, 0, 1]


def test_a_multiplicity_by_the_name_of_a_spin_is_found_out(home, tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [atoms_of(i, charge=0, spin=1) for i in range(COUNT)])
    with pytest.raises(ValueError, match="impossible spin: 1 unpaired among 22 electrons"):
        stored(tmp_path / "a.extxyz")


def test_missing_labels_are_kept_quantity_by_quantity(home, tmp_path):
    frames = [atoms_of(i) for i in range(COUNT)]
    frames[3].calc.results.pop("forces")
    frames[4].calc.results["energy"] = np.nan
    frames[5].calc.results.update(energy=np.nan, forces=np.full((5, 3), np.nan))
    frames[6].calc = None
    ase.io.write(tmp_path / "a.extxyz", frames)
    arrays, manifest = stored(tmp_path / "a.extxyz")
    assert manifest.notes["labelled"] == {"energy": COUNT - 3, "forces": COUNT - 3}
    assert manifest.rejected == {"missing label": 2}
    assert np.flatnonzero(np.isnan(arrays["energy"])).tolist() == [4]
    assert np.flatnonzero(np.isnan(arrays["forces"][:, 0])).tolist() == list(range(15, 20))
    assert np.isfinite(manifest.scale)
    assert all(np.isfinite(list(manifest.reference.values())))


def test_isolated_atoms_of_a_file_of_their_own(home, tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [atoms_of(i) for i in range(COUNT)])
    lone = []
    for z, energy in ((1, -0.5), (6, -37.8), (8, -75.0)):
        atom = ase.Atoms([z], [[0, 0, 0]])
        atom.calc = SinglePointCalculator(atom, energy=energy)
        lone.append(atom)
    ase.io.write(tmp_path / "lone.xyz", lone, format="extxyz")
    _, manifest = stored(tmp_path / "a.extxyz", Reading(isolated=str(tmp_path / "lone.xyz")))
    assert manifest.reference == pytest.approx({1: -0.5, 6: -37.8, 8: -75.0})
    assert manifest.notes["reference"] == "isolated atoms of the file"
    _, fitted = stored(tmp_path / "a.extxyz")
    assert "rank 1 of 3" in fitted.notes["reference_open"]
    assert fitted.content != manifest.content
    ase.io.write(tmp_path / "two.xyz", lone[:2], format="extxyz")
    _, manifest = stored(tmp_path / "a.extxyz", Reading(isolated=str(tmp_path / "two.xyz")))
    assert manifest.notes["reference_open"].startswith("isolated atoms lack O, so that none is used; compositions")
    with pytest.raises(ValueError, match="record of more than one atom"):
        stored(tmp_path / "a.extxyz", Reading(isolated=str(tmp_path / "a.extxyz")))


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "energy", "length"),
    [
        ("eV angstrom", 1.0, 1.0),
        ("Hartree bohr", units.Hartree, units.Bohr),
        ("kcal/mol Å", KCAL, 1.0),
        ("kJ/mol, nm", units.kJ / units.mol, units.nm),
        ("Rydberg bohr", units.Rydberg, units.Bohr),
    ],
)
def test_units_are_those_of_ase(text, energy, length):
    found = units_of(text)
    assert found.energy == pytest.approx(energy, rel=1e-7)
    assert found.length == pytest.approx(length, rel=1e-7)
    assert found.force == pytest.approx(energy / length, rel=1e-7)


@pytest.mark.parametrize("text", ["", "eV", "eV parsec", "stone angstrom", "eV angstrom eV angstrom", "eV angstrom eV"])
def test_unknown_units_are_refused_with_those_that_are_known(text):
    with pytest.raises(ValueError, match=r"Reading.units=.*; give an energy \(ev, mev, hartree, rydberg, kcal/mol"):
        units_of(text)


def test_the_command_that_builds_is_told_with_the_reading(home, tmp_path):
    path = Path(ani(tmp_path / "ani.h5"))
    with pytest.raises(ValueError, match=r"chemscale data build .*ani.h5 --level 'ccsd\(t\)_cbs'"):
        data.open_data(Data(str(path), reading=Reading(level="ccsd(t)_cbs")), {"cutoff": 3.0})
    assert json.loads(json.dumps(data.report(str(path))))["notes"]["read_as"] == "ANI-1x"
