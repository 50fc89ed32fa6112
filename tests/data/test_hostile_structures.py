"""Files of structures that nobody should give: one sentence that names the file, and nothing is left behind."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chemscale import data
from chemscale.data.formats import format_of
from chemscale.spec import Reading
from chemscale.use.labelled import read_labelled

ROWS = 40


def frame(k, comment="energy=-1.5", atoms="H 0 0 0\nH 0 0"):
    return f"2\nProperties=species:S:1:pos:R:3 {comment}\n{atoms} {0.7 + k / 20}\n"


def built(path, **reading):
    return data.build(str(path), reading=Reading(**reading), processes=1, progress=False)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "home"))
    yield
    left = [p for p in (tmp_path / "home").rglob("*") if p.is_dir() and p.parent.name in ("built", "building")]
    assert not [p for p in left if not (p / "manifest.json").exists()]


def ani(path, **changed):
    with h5py.File(path, "w") as file:
        for k in range(3):
            group = file.create_group(f"CH{k}")
            arrays = {
                "atomic_numbers": np.array([6] + [1] * k), "coordinates": np.zeros((ROWS, 1 + k, 3)),
                "wb97x_dz.energy": np.zeros(ROWS), "wb97x_dz.forces": np.zeros((ROWS, 1 + k, 3)),
            }  # fmt: skip
            for name, value in {**arrays, **changed}.items():
                group[name] = value


@pytest.mark.parametrize(
    "changed", [{"wb97x_dz.energy": np.zeros(3)}, {"coordinates": 1.0}, {"wb97x_dz.forces": np.zeros((3, 1, 3))}]
)
def test_arrays_that_do_not_belong_together_are_told(tmp_path, changed):
    ani(tmp_path / "a.h5", **changed)
    with pytest.raises(ValueError, match=r"a.h5' cannot be read as ANI-1x: \w+ .*; give a whole file"):
        built(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"F": np.zeros((ROWS - 1, 2, 3))}, "cannot be read as MD17"),
        ({"E": np.zeros(ROWS - 1)}, "cannot be read as MD17"),
        ({"R": np.float64(3)}, "cannot be read as MD17"),
        ({"z": np.array(["H", "H"])}, "not atomic numbers"),
        ({"z": np.array([1, None])}, "cannot be read as MD17: Object arrays"),
        ({"z": np.array([1.0, 1.5])}, r"atomic number 1\.5"),
    ],
)
def test_archives_of_numpy(tmp_path, changed, said):
    np.savez(tmp_path / "a.npz", **{"z": [1, 1], "R": np.zeros((ROWS, 2, 3)), "E": np.zeros(ROWS), **changed})
    with pytest.raises(ValueError, match=said):
        built(tmp_path / "a.npz")


def test_what_is_no_archive_is_not_run(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"\x80\x04junk" * 9)
    with pytest.raises(ValueError, match=r"a.npz' cannot be read as an npz archive: it is no archive of numpy"):
        built(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"species": [1] * ROWS}, "int64 in its column 'species'"),
        ({"positions": ["a"] * ROWS}, "string in its column 'positions'"),
        ({"positions": [[[0.0] * 3] * 2] * ROWS}, "in its column 'positions'; .* a list of numbers in each row"),
        ({"species": [None] * ROWS}, "null in its column 'species'"),
        ({"species": [["H", "H"]] * ROWS}, "in its column 'species'"),
        ({"species": [[1.5, 1]] * ROWS}, r"atomic number 1\.5"),
        ({"charge": ["a"] * ROWS}, "not a number: charge"),
    ],
)
def test_tables(tmp_path, changed, said):
    columns = {
        "species": [[1, 1]] * ROWS, "positions": [[0.0] * 5 + [0.7 + k] for k in range(ROWS)],
        "energy": [-1.0] * ROWS, "forces": [[0.0] * 6] * ROWS,
    }  # fmt: skip
    pq.write_table(pa.table({**columns, **changed}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=said):
        built(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("comment", "atoms", "said"),
    [
        ("energy=-1 multiplicity=low", "H 0 0 0\nH 0 0", "not a number: spin"),
        ("energy=-1", "H 0 0 0\nH 1e30 0", "absurd positions: 1e\\+30 angstrom"),
        ('energy=-1 Lattice="1e20 0 0 0 1e20 0 0 0 1e20" pbc="T T T"', "H 0 0 0\nH 0 0", "absurd cell"),
    ],
)
def test_records_that_say_nonsense(tmp_path, comment, atoms, said):
    (tmp_path / "a.xyz").write_text("".join(frame(k, comment, atoms) for k in range(ROWS)))
    with pytest.raises(ValueError, match=f"record 0: {said}"):
        built(tmp_path / "a.xyz")


def test_a_byte_order_mark_costs_no_frame(tmp_path):
    text = "".join(frame(k) for k in range(ROWS))
    (tmp_path / "a.xyz").write_text(text, encoding="utf-8-sig")
    (tmp_path / "b.xyz").write_text(text)
    assert built(tmp_path / "a.xyz").content == built(tmp_path / "b.xyz").content
    assert len(read_labelled(tmp_path / "a.xyz").structures) == ROWS


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        ({"level": "wb97x_dz"}, r"Reading.level='wb97x_dz' says nothing .*\(extended XYZ\), which heed energy, forces"),
        ({"vocabulary": "chemgpt-selfies1"}, "Reading.vocabulary='chemgpt-selfies1' says nothing"),
        ({"groups": "molecule"}, "Reading.groups='molecule' is in no record"),
        ({"isolated": "empty.xyz"}, "Reading.isolated='empty.xyz' holds no atom"),
    ],
)
def test_what_a_file_cannot_answer_is_refused(tmp_path, monkeypatch, reading, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "a.xyz").write_text("".join(frame(k) for k in range(ROWS)))
    with pytest.raises(ValueError, match=said):
        built(tmp_path / "a.xyz", **reading)


def test_a_promise_of_many_atoms_is_not_waited_for(tmp_path):
    (tmp_path / "a.xyz").write_text(frame(0) + "999999999999999\n\nH 0 0 0\n")
    assert read_labelled(tmp_path / "a.xyz").left_out == {"not extended XYZ": 1}


def test_tables_of_labels_are_measured_as_they_are_trained_on(tmp_path):
    columns = {
        "species": [[1, 1]] * 6, "positions": [[0.0] * 5 + [0.7 + k] for k in range(6)],
        "energy": [-1.0] * 6, "forces": [[0.0] * 6] * 6, "temperature": [100.0, 300.0] * 3, "smiles": ["[H][H]"] * 6,
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = read_labelled(tmp_path / "a.parquet")
    assert (found.named_by, found.subsets.tolist()) == ("temperature", ["100", "300"] * 3)
    assert len(set(found.groups)) == 1
    assert format_of(tmp_path / "a.parquet").name == "Parquet table"
