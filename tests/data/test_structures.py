import json
import os
from pathlib import Path

import ase
import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from chemscale import data
from chemscale.data import duplicates
from chemscale.data.neighbours import close_pairs, neighbours
from chemscale.data.reference import reference_energies
from chemscale.data.sources import embedded
from chemscale.spec import Data

PLANTED = {1: -13.6, 6: -1029.5, 8: -2042.0}  # eV


def molecule(seed, *, atoms=None, group=None, labels="calculator", **changes):
    """A random cloud of H, C and O with a planted energy and random forces."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 12)) if atoms is None else atoms
    found = ase.Atoms(rng.choice([1, 6, 8], n), rng.uniform(0, 5, (n, 3)))
    energy = sum(PLANTED[z] for z in found.numbers) + rng.normal(0, 0.1)
    forces = rng.normal(0, 2.0, (n, 3))
    if labels == "calculator":
        found.calc = SinglePointCalculator(found, energy=energy, forces=forces)
    elif labels == "REF":
        found.info["REF_energy"], found.arrays["REF_forces"] = energy, forces
    if group is not None:
        found.info["group"] = group
    found.info.update(changes)
    return found


def opened(path, cutoff=3.0):
    data.build(path, processes=1, progress=False)
    return data.open_data(Data(path), {"cutoff": cutoff})


def everything(examples):
    return np.concatenate([examples.subset(None, 0, None), examples.split("valid"), examples.split("test")])


def rejected(path):
    lines = Path(data.report(path)["rejected_file"]).read_text().splitlines()[1:]
    return [(int(line.split(",")[0]), line) for line in lines]


def test_planted_reference_energies_are_recovered(home, write):
    examples = opened(write([molecule(i) for i in range(300)]))
    for z, energy in PLANTED.items():
        # noise of 0.1 eV a structure, 240 structures of a few atoms each: a standard error of about 0.005 eV
        assert examples.manifest.reference[z] == pytest.approx(energy, abs=0.03)
    energy = examples.batch(examples.split("test")).energy
    assert float(energy.abs().max()) < 1.0
    assert examples.manifest.scale == pytest.approx(2.0, rel=0.05)


def test_one_composition_gives_the_solution_of_minimum_norm():
    reference, rank = reference_energies(np.array([[3, 4], [3, 4]]), np.array([-25.0, -25.0]))
    np.testing.assert_allclose(reference, [-3.0, -4.0], atol=1e-12)
    assert rank == 1


def test_isolated_atoms_give_the_reference_and_are_no_examples(home, write):
    lone = []
    for z, energy in PLANTED.items():
        atom = ase.Atoms([z], [[0, 0, 0]], info={"config_type": "IsolatedAtom"})
        atom.calc = SinglePointCalculator(atom, energy=energy + 0.5)
        lone.append(atom)
    path = write([*lone, *(molecule(i) for i in range(40))])
    examples = opened(path)
    assert examples.manifest.reference == pytest.approx({z: e + 0.5 for z, e in PLANTED.items()})
    assert sum(examples.manifest.counts.values()) == 40
    without = data.build(write([molecule(i) for i in range(40)], "b.extxyz"), processes=1, progress=False)
    assert without.content != examples.manifest.content  # the labels differ, so the content must


def test_labels_survive_in_float32_of_the_reduced_energy(home, write):
    frames = [molecule(i) for i in range(40)]
    examples = opened(write(frames))
    totals = {round(f.get_potential_energy(), 6) for f in frames}
    batch = examples.batch(everything(examples))
    reference = np.zeros(10)
    reference[list(PLANTED)] = [examples.manifest.reference[z] for z in PLANTED]
    shift = np.bincount(batch.owner, weights=reference[batch.species], minlength=40)
    back = batch.energy.numpy().astype(np.float64) + shift
    np.testing.assert_allclose(sorted(back), sorted(totals), atol=1e-6)  # float32 of numbers below 1 eV


def test_pairs_are_those_of_ase(home, write):
    frames = [molecule(i) for i in range(30)] + [molecule(99, atoms=1), molecule(98, atoms=2)]
    examples = opened(write(frames), cutoff=2.5)
    ids = everything(examples)
    batch = examples.batch(ids)
    first, second = batch.pairs.numpy()
    assert (first < second).all()
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    expected, start = set(), 0
    for n in np.bincount(batch.owner):
        part = slice(start, start + n)
        atoms = ase.Atoms(batch.species[part].numpy(), batch.positions[part].numpy().astype(np.float64))
        i, j = neighbor_list("ij", atoms, 2.5)
        expected |= {(a + start, b + start) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b}
        start += n
    assert found == expected
    assert len(found) == len(first)


def test_counts_and_units_against_brute_force(home, write):
    examples = opened(write([molecule(i, group=i // 3) for i in range(60)]), cutoff=3.0)
    ids = examples.subset(20, 5, 2)
    atoms, pairs = [], []
    for i in ids:
        batch = examples.batch(np.array([i]))
        apart = np.linalg.norm(batch.positions[:, None].double() - batch.positions[None].double(), axis=-1)
        atoms.append(len(batch.species))
        pairs.append(int(np.sum(np.triu(apart < 3.0, 1))))
    assert examples.units(ids)["atoms"].tolist() == atoms == examples.lengths(ids).tolist()
    assert examples.units(ids)["pairs"].tolist() == pairs
    expected = {"structures": 20, "atoms": sum(atoms), "edges": 2 * sum(pairs), "groups": 10}
    assert examples.count(ids) == expected


def test_subsets_nest_by_molecule_at_a_constant_number_of_conformers(home, write):
    examples = opened(write([molecule(i, group=i // 4) for i in range(200)]))
    large = examples.subset(None, 0, 3)
    assert len(np.unique(examples.groups(large))) * 3 == len(large)
    small = examples.subset(30, 0, 3)
    assert small.tolist() == large[:30].tolist()
    assert len(np.unique(examples.groups(small))) == 10
    splits = [set(examples.groups(ids)) for ids in (large, examples.split("valid"), examples.split("test"))]
    assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])


def test_smiles_group_structures_by_identity(home, write):
    names = ["Oc1ccccn1", "O=c1cccc[nH]1", "CCO"] + ["C" * n for n in range(1, 30)]
    examples = opened(write([molecule(i, smiles=s) for i, s in enumerate(names)]))
    assert len(np.unique(examples.groups(everything(examples)))) == len(names) - 2 + 1
    assert examples.manifest.notes["ungrouped"] == 0


def test_structures_without_a_group_stand_alone_and_copies_share_one(home, write):
    frames = [molecule(i) for i in range(40)]
    examples = opened(write([*frames, frames[0], frames[1]]))
    assert sum(examples.manifest.counts.values()) == 42
    assert len(np.unique(examples.groups(everything(examples)))) == 40
    assert "each distinct structure is a group of its own" in examples.manifest.notes["groups"]


def test_mace_keys_and_calculator_results_read_alike(home, write):
    one = data.build(write([molecule(i) for i in range(20)]), processes=1, progress=False)
    other = [molecule(i, labels="REF") for i in range(20)]
    assert data.build(write(other, "b.xyz"), processes=1, progress=False).content == one.content


def test_bad_records_are_listed_with_index_and_reason(home, write, tmp_path):
    bad = [molecule(100 + i) for i in range(5)]
    bad[0].calc.results["forces"][2, 1] = np.nan
    bad[1].calc.results["energy"] = np.inf
    bad[2].pbc = True
    bad[3].calc = None
    bad[4].positions[1] = bad[4].positions[0]
    path = write([*(molecule(i) for i in range(30)), *bad])
    with open(path, "a") as handle:
        handle.write("garbage here\n")
        handle.write('1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1.0 pbc="F F F"\nQq 0 0 0 0 0 0\n')
        handle.write('3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1.0 pbc="F F F"\nH 0 0 0 0 0 0\n')
    manifest = data.build(path, processes=1, progress=False)
    found = rejected(path)
    assert [index for index, _ in found] == list(range(30, 38))
    reasons = [
        "not a finite number: forces",
        "not a finite number: energy",
        "periodic without a cell",
        "missing label: neither energy nor forces",
        "atoms at one place",
        "not extended XYZ",
        "unknown element: Qq",
        "not extended XYZ",
    ]
    for (_, line), reason in zip(found, reasons, strict=True):
        assert reason in line
    assert sum(manifest.counts.values()) == 30
    assert sum(manifest.rejected.values()) == 8


def test_a_negative_or_broken_number_of_atoms_is_a_plain_sentence(home, write):
    path = write([molecule(i) for i in range(40)])
    with open(path, "a") as handle:
        handle.write("-3\n\u00b2\n" + "9" * 5000 + "\n1000000000000\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    data.build(path, processes=1, progress=False)
    reasons = [line for _, line in rejected(path)]
    assert "negative number of atoms" in reasons[0]
    assert all("a record starts with its number of atoms" in line for line in reasons[1:3])
    assert "1 lines of atoms where 1000000000000 are promised" in reasons[3]
    assert not any("Error" in line or "StopIteration" in line for line in reasons)


def test_absurd_labels_are_rejected_with_their_size(home, write, tmp_path):
    frames = [molecule(i, smiles="C" * (1 + i)) for i in range(40)]
    frames[10].calc.results["forces"][1] = [800.0, 0.0, 800.0]
    frames[11].calc.results["forces"][1] = [0.0, -999.0, 0.0]  # strong, but not absurd
    frames[12].calc.results["forces"][0, 0] = np.inf
    frames[13].calc.results["energy"] = -np.inf
    frames[14].calc.results["energy"] = -1e12
    to_parquet(tmp_path / "a.parquet", frames, {})
    for path in (write(frames), str(tmp_path / "a.parquet")):
        manifest = data.build(path, processes=1, progress=False)
        assert [index for index, _ in rejected(path)] == [10, 12, 13, 14]
        reasons = ["absurd forces: 1131", "not a finite number: forces", "not a finite number: energy", "absurd energy"]
        for (_, line), reason in zip(rejected(path), reasons, strict=True):
            assert reason in line
        assert manifest.rejected == {"absurd forces": 1, "not a finite number": 2, "absurd energy": 1}
        assert sum(manifest.counts.values()) == 36


def test_an_energy_in_words_is_rejected(home, write):
    frames = [molecule(i, labels="REF") for i in range(40)]
    frames[3].info["REF_energy"] = "low"
    path = write(frames)
    data.build(path, processes=1, progress=False)
    assert [(i, "not a number: energy" in line) for i, line in rejected(path)] == [(3, True)]


def test_structures_that_leave_a_split_empty_are_refused_and_leave_nothing(home, write):
    path = write([molecule(i, group="one" if i else "two") for i in range(30)])
    message = r"\d+ train, \d+ valid, \d+ test structures, from 2 distinct groups.*structures of more molecules"
    with pytest.raises(ValueError, match=message):
        data.build(path, processes=1, progress=False)
    assert not (home / "built").exists()


@pytest.mark.parametrize("text", ["", "0\n\n", "rubbish\n"])
def test_a_file_without_one_structure_is_an_error_and_leaves_nothing(home, tmp_path, text):
    path = tmp_path / "a.extxyz"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no labelled structure that can be read"):
        data.build(str(path), progress=False)
    assert not (home / "built").exists()


def test_an_element_that_only_held_out_structures_have_is_refused(home, write):
    frames = [molecule(i) for i in range(60)]
    content = opened(write(frames, "plain.extxyz"))
    odd = content.batch(content.split("test", 1)).positions.numpy()
    strange = next(f for f in frames if len(f) == len(odd) and np.allclose(f.positions, odd, atol=1e-4))
    places = []
    for z in range(9, 30):  # until a structure with this element falls outside the training split
        copy = strange.copy()
        copy.numbers[0] = z
        copy.calc = SinglePointCalculator(copy, energy=-1.0, forces=np.zeros((len(copy), 3)))
        places.append(data.build(write([*frames, copy], f"{z}.extxyz"), processes=1, progress=False))
    refused = [m for m in places if m.rejected]
    assert refused
    for manifest in refused:
        assert list(manifest.rejected) == ["held-out structure with an element that no training structure has"]
        assert manifest.species == (1, 6, 8)


def to_parquet(path, frames, metadata):
    columns = {
        "smiles": pa.array([f.info["smiles"] for f in frames]),
        "conformer": pa.array([0] * len(frames), pa.int8()),
        "species": pa.array([f.numbers.tolist() for f in frames], pa.list_(pa.uint8())),
        "positions": pa.array([f.positions.ravel().tolist() for f in frames], pa.list_(pa.float32())),
        "energy": pa.array([f.get_potential_energy() for f in frames], pa.float64()),
        "forces": pa.array([f.get_forces().ravel().tolist() for f in frames], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns).replace_schema_metadata({b"chemscale": json.dumps(metadata).encode()}), path)


def test_parquet_and_extxyz_give_the_same_examples(home, write, tmp_path):
    frames = [molecule(i, smiles="C" * (1 + i // 2)) for i in range(80)]
    noise = {"energy_mae": 1e-6, "force_rmse": 2e-5}
    facts = {"licence": "CC0", "citation": "nobody", "label_noise": {"sample": noise, "most_distorted": {}}}
    to_parquet(tmp_path / "a.parquet", frames, facts)
    manifest = data.build(str(tmp_path / "a.parquet"), progress=False)
    assert manifest.label_noise == noise
    assert (manifest.licence, manifest.citation) == ("CC0", "nobody")
    one, other = opened(str(tmp_path / "a.parquet")), opened(write(frames))
    assert one.manifest.counts == other.manifest.counts
    first, second = (e.batch(e.split("test")) for e in (one, other))
    np.testing.assert_allclose(np.sort(first.energy), np.sort(second.energy), atol=1e-5)  # text keeps 8 decimals


def test_sizes_larger_than_the_data_name_both_numbers(home, write):
    examples = opened(write([molecule(i) for i in range(40)]))
    train, valid = examples.manifest.counts["train"], examples.manifest.counts["valid"]
    with pytest.raises(ValueError, match=rf"Data.size=41 is not possible: there are {train} training examples"):
        examples.subset(41, 0, None)
    with pytest.raises(ValueError, match=rf"Evaluation.valid=40 is not possible: there are {valid} valid examples"):
        examples.split("valid", 40)
    with pytest.raises(ValueError, match="split 'held' is unknown"):
        examples.split("held")


@pytest.mark.parametrize("cutoff", [1.5, 5.0])
@pytest.mark.parametrize("edge", [300.0, 5000.0])
def test_pairs_in_a_wide_box_are_those_of_the_molecule(edge, cutoff):
    """Also across the box's faces; the cell list warns where it would be finer than it can be."""
    atoms = np.random.default_rng(0).uniform(size=(40, 3)) * 6.0
    whole, count = close_pairs(atoms, np.array([40]), cutoff)
    for box in (np.eye(3), np.diag([1.0, 1.0, 0.0])):
        cell = box[None] * edge
        lone, cut = neighbours(atoms, np.array([40]), cutoff, cell), atoms - 3.0
        across = neighbours(np.where(box.any(axis=1), cut % edge, cut), np.array([40]), cutoff, cell)
        assert lone.counts == across.counts == count > 0
        for found in (lone, across):
            assert {frozenset(pair) for pair in found.pairs.T.tolist()} == {
                frozenset(pair) for pair in whole.T.tolist()
            }


def test_close_pairs_of_lone_atoms_are_none():
    pairs, counts = close_pairs(np.zeros((2, 3), dtype=np.float32), np.array([1, 1]), 5.0)
    assert pairs.shape == (2, 0)
    assert counts.tolist() == [0, 0]


@pytest.mark.skipif(not embedded("fragments-gfn2.parquet").exists(), reason="the labelled fragments are not packaged")
def test_embedded_structures_hold_what_is_promised(shared_home, monkeypatch):
    monkeypatch.setenv("CHEMSCALE_HOME", str(shared_home))
    examples = opened("fragments-gfn2", cutoff=5.0)
    manifest = examples.manifest
    assert manifest.rejected == {}
    assert manifest.species == (1, 6, 7, 8, 9, 16, 17, 35)
    assert {"energy_mae", "energy_rmse", "force_mae", "force_rmse"} <= set(manifest.label_noise)
    train = examples.subset(None, 0, None)
    assert np.bincount(examples.groups(train)).max() == 4
    assert sum(manifest.counts.values()) >= 12_000
    for name in ("valid", "test"):
        assert len(np.unique(examples.groups(examples.split(name)))) >= 300
    batch = examples.batch(examples.split("test"))
    per_atom = np.abs(batch.energy.numpy()) / examples.lengths(examples.split("test"))
    assert per_atom.mean() < 0.2  # eV: what is left after reference energies is bonding, not totals of -15 keV


# --- periodic ---------------------------------------------------------------------------------------------------------


def crystal(seed, periodic, *, atoms=4):
    """Atoms at random in and around a skewed cell of which some directions repeat."""
    rng = np.random.default_rng([seed, 7])
    cell = np.array([[4.0, 0.5, 0.0], [0.0, 4.5, 1.0], [0.3, 0.0, 5.0]]) * rng.uniform(0.9, 1.1)
    places = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[:atoms]
    places = places + rng.uniform(-0.05, 0.05, (atoms, 3)) + rng.integers(-1, 2, (atoms, 3)) * np.array(periodic)
    found = ase.Atoms(rng.choice([1, 6, 8], atoms), places @ cell, cell=cell, pbc=periodic)
    found.calc = SinglePointCalculator(found, energy=rng.normal(), forces=rng.normal(0, 1.0, (atoms, 3)))
    return found


BOUNDARIES = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]


def test_pairs_of_cells_are_those_of_ase_with_mixed_boundaries(home, write):
    frames = [crystal(i, BOUNDARIES[i % 4]) for i in range(60)]
    examples = opened(write(frames), cutoff=5.0)
    ids = everything(examples)
    batch = examples.batch(ids)
    directed = 0
    first, second = batch.pairs.numpy()
    for place, i in enumerate(ids):
        assert np.array_equal(batch.species[batch.owner == place], frames[i].numbers)  # kept in the order of the file
        a, b, far = neighbor_list("ijd", frames[i], 5.0)
        start = int(np.flatnonzero(batch.owner == place)[0])
        mine = batch.owner[first] == place
        vectors = batch.positions[second] + batch.shifts - batch.positions[first]
        found = [(a - start, b - start, round(float(d), 3)) for a, b, d in
                 zip(first[mine], second[mine], vectors[mine].norm(dim=1), strict=True)]  # fmt: skip
        both = sorted(found + [(b, a, d) for a, b, d in found])
        expected = sorted(zip(a.tolist(), b.tolist(), np.round(far, 3).tolist(), strict=True))
        assert len(both) == len(expected)
        for one, other in zip(both, expected, strict=True):
            assert one == pytest.approx(other, abs=2e-3)  # rounded to 0.001 on both sides, from float32 and text
        directed += len(expected)
    assert examples.count(ids)["edges"] == directed
    assert batch.cell[int(np.flatnonzero(ids == 1)[0])][2].tolist() == [0, 0, 0]  # a direction that does not repeat
    assert examples.manifest.notes["states"] == {"periodic": 45}


def test_a_cell_and_its_supercell_have_the_same_energy_and_forces(home, write):
    from tests.models.batches import module

    frames = [crystal(i, (True, True, True)) for i in range(30)]
    doubled = [frame.repeat((2, 1, 1)) for frame in frames]
    for frame in doubled:
        frame.calc = SinglePointCalculator(frame, energy=0.0)
    examples = opened(write([*frames, *doubled]), cutoff=3.5)
    potential = module("painn")
    batch = examples.batch(np.array([3, 33])).astype(next(potential.parameters()).dtype)
    found, stress = potential.stressed(batch)
    # positions are float32 of text with 8 decimals: 1e-6 angstrom, under forces of some eV/angstrom
    assert float(found.energy[1]) == pytest.approx(2 * float(found.energy[0]), abs=1e-4)
    np.testing.assert_allclose(found.forces[4:8], found.forces[:4], atol=1e-4)
    np.testing.assert_allclose(stress[0], stress[1], atol=1e-5)


def test_molecules_and_cells_are_told_apart_in_one_batch(home, write):
    frames = [crystal(i, BOUNDARIES[3 * (i % 2)]) for i in range(40)] + [molecule(7, atoms=450)]
    frames[-1].positions *= 4  # as sparse as a molecule
    examples = opened(write(frames), cutoff=3.0)
    ids = np.array([0, 1, 40])
    assert examples.units(ids)["pairs"].tolist() == [len(neighbor_list("i", frames[i], 3.0)) // 2 for i in ids.tolist()]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda atoms: atoms.set_cell([0, 0, 0]), "periodic without a cell"),
        (lambda atoms: atoms.set_cell([[4, 0, 0], [4, 0.01, 0], [0, 0, 4]]), "flat cell"),
        (lambda atoms: atoms.positions.__setitem__(0, atoms.positions[1] + atoms.cell[2]), "atoms at one place"),
    ],
)
def test_cells_that_cannot_be_are_rejected(home, write, change, reason):
    frames = [crystal(i, (True, True, True)) for i in range(40)]
    change(frames[5])
    manifest = data.build(write(frames), processes=1, progress=False)
    assert manifest.rejected == {reason: 1}


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_copies_are_reported_within_a_file_and_across_its_splits(home, write):
    frames = [molecule(i, group=i) for i in range(60)]
    copies = [molecule(i, group=1000 + i) for i in range(20)]  # another name for the same coordinates
    manifest = data.build(write([*frames, *copies]), processes=1, progress=False)
    found = manifest.notes["duplicates"]
    assert found["repeated"] == 20
    assert found["first"] == [[i, 60 + i] for i in range(20)]
    examples = data.open_data(Data(write([*frames, *copies])), {"cutoff": 3.0})
    split = examples.arrays["split"]
    leaks = sum(split[i] != split[60 + i] for i in range(20))
    assert leaks > 0
    assert sum(found["across_splits"].values()) == leaks


def test_copies_are_found_among_any_number_of_sources(tmp_path):
    found = duplicates.Duplicates(tmp_path / "members", 300)
    for source in range(300):
        found.add(np.array([source // 2], np.uint64), np.array([0]), np.array([0], np.uint8), source)
    assert [rows["source"].tolist() for rows in found.runs()] == [[i, i + 1] for i in range(0, 300, 2)]


SHARED = Path(os.environ.get("CHEMSCALE_SHARED", "shared")) / "data" / "atoms"


@pytest.mark.skipif(not SHARED.is_dir(), reason="3BPA is not here; CHEMSCALE_SHARED names the folder that holds it")
def test_the_frames_that_two_files_of_3bpa_share(home, capsys):
    from chemscale.cli import main

    names = [str(SHARED / f"3bpa_train_{name}.xyz") for name in ("300K", "mixedT")]
    assert main(["data", "report", *names, "--processes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"shared       31 structures of {names[1]} lie at coordinates of 31 of {names[0]}" in lines
    frames = [{tuple(np.round(f.positions, 4).ravel()) for f in ase.io.read(name, ":")} for name in names]
    assert len(frames[0] & frames[1]) == 31  # counted another way
    assert sum("compositions have rank 1 of 4" in line for line in lines) == 2


def test_several_sources_of_strings_are_refused(home, write, tmp_path):
    (tmp_path / "a.smi").write_text("CO\n")
    with pytest.raises(ValueError, match=r"a.smi' holds strings, which are reported on one at a time"):
        data.report(write([molecule(i) for i in range(60)]), str(tmp_path / "a.smi"), progress=False)
