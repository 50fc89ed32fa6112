"""Splits that a user gives: files, slices and labels, of strings and of structures."""

import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest

from chemscale import data
from chemscale.data.groups import group_key_of_smiles
from chemscale.data.splits import BY_GROUP, Marking, decided
from chemscale.data.subsets import digests, split_of_groups
from chemscale.spec import Data, Portion, Reading
from tests.data.test_structures import molecule

SHARED = Path(os.environ.get("CHEMSCALE_SHARED", "shared")) / "data" / "atoms"


def built(source, **reading):
    said = Reading(**reading)
    manifest = data.build(source, reading=said, processes=1, progress=False)
    return manifest, data.open_data(Data(source, reading=said), {"cutoff": 3.0, "context": 200})


def energies(examples, name):
    ids = examples.subset(None, 0, None) if name == "train" else examples.split(name)
    return sorted(np.round(examples.arrays["energy"][ids], 6).tolist())


def theirs(frames):
    return sorted(round(frame.get_potential_energy(), 6) for frame in frames)


@pytest.mark.parametrize("text", ["-50:", ":50", "10:90:7", "-90:-10", "95:", ":-95", "::2", "200:"])
@pytest.mark.parametrize("records", [0, 1, 60, 100])
def test_slices_are_pythons(text, records):
    taken = list(Portion.read("valid", f"a.xyz@{text}").places(records))
    assert taken == eval(f"list(range(records))[{text}]", {"records": records})
    marks = Marking(0, ((1, Portion.read("valid", f"@{text}").places(records)),))
    several = np.concatenate([marks.marks(start, min(7, records - start)) for start in range(0, records, 7)] or [[]])
    assert np.flatnonzero(several).tolist() == taken


def test_a_mark_that_is_open_leaves_the_split_to_the_group():
    group = digests(str(i) for i in range(1000))
    assert decided(np.full(1000, BY_GROUP, np.uint8), group).tolist() == split_of_groups(group).tolist()


def test_structures_by_place_and_by_file(home, write):
    frames, others = [molecule(i) for i in range(60)], [molecule(100 + i) for i in range(20)]
    source, other = write(frames), write(others, "b.extxyz")
    manifest, examples = built(source, valid="@-10:", test=f"{other}@5:15")
    assert manifest.counts == {"train": 50, "valid": 10, "test": 10}
    assert energies(examples, "train") == theirs(frames[:-10])
    assert energies(examples, "valid") == theirs(frames[-10:])
    assert energies(examples, "test") == theirs(others[5:15])
    assert manifest.notes["splits"] == "valid = @-10: of the source; test = b.extxyz@5:15; the rest train"
    plain, _ = built(source)
    assert plain.content != manifest.content != built(source, valid="@-10:", test=other)[0].content
    both, found = built(source, valid=f"{other}@:10", test=f"{other}@10:")
    assert both.counts == {"train": 60, "valid": 10, "test": 10}
    assert energies(found, "test") == theirs(others[10:])


def test_one_split_given_leaves_the_other_to_groups_in_their_shares(home, write):
    frames = [molecule(i) for i in range(220)]
    manifest, examples = built(write(frames), valid="@:20")
    assert energies(examples, "valid") == theirs(frames[:20])
    # binomial about 200 / 9 = 22.2 with a spread of 4.4: four of them
    assert manifest.counts["valid"] == 20 and 5 <= manifest.counts["test"] <= 40
    assert manifest.notes["splits"] == "valid = @:20 of the source; the rest train and test by group"


def test_a_copy_in_a_later_split_is_left_out_and_told_unless_kept(home, write):
    frames = [molecule(i) for i in range(40)]
    test = [molecule(3), molecule(200), molecule(38), molecule(201)]  # of training, new, of validation, new
    source, other = write(frames), write(test, "b.extxyz")
    manifest, examples = built(source, valid="@-5:", test=other)
    assert manifest.counts == {"train": 35, "valid": 5, "test": 2}
    assert manifest.rejected == {"at coordinates of another split": 2}
    assert manifest.notes["duplicates"]["across_splits"] == {"test in train": 1, "test in valid": 1}
    assert energies(examples, "test") == theirs([test[1], test[3]])
    folder = data.report(source, reading=Reading(valid="@-5:", test=other), progress=False)
    lines = Path(folder["rejected_file"]).read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["40", "42"]  # the second file's records follow the first's
    kept, _ = built(source, valid="@-5:", test=other, duplicates="kept")
    assert kept.counts == {"train": 35, "valid": 5, "test": 4}


def test_structures_by_a_label_of_each_record(home, write):
    names = ["train"] * 20 + ["val"] * 5 + ["Test"] * 5 + ["dev set"]
    frames = [molecule(i, fold=name) for i, name in enumerate(names)] + [molecule(99)]
    manifest, examples = built(write(frames), splits="fold")
    assert manifest.counts == {"train": 20, "valid": 5, "test": 5}
    assert energies(examples, "test") == theirs(frames[25:30])
    assert manifest.rejected == {"unknown split": 1, "missing split": 1}
    with pytest.raises(ValueError, match="record 0: missing split: no 'set'"):
        built(write(frames), splits="set")


def test_a_structure_that_cannot_be_used_is_told_of_once(home, write):
    """One that holds an element of its own, and lies in two held-out splits."""
    strange = molecule(300)
    strange.numbers[0] = 35
    test = [molecule(200), strange]
    frames = [*(molecule(i) for i in range(30)), strange]
    manifest, _ = built(write(frames), valid="@-5:", test=write(test, "b.extxyz"))
    assert manifest.counts == {"train": 26, "valid": 4, "test": 1}
    assert manifest.rejected == {"held-out structure with an element that no training structure has": 2}


SMILES = ["C" * n + "O" for n in range(1, 31)]


def test_strings_by_file_place_and_column(home, tmp_path):
    source, other = tmp_path / "a.smi", tmp_path / "b.smi"
    source.write_text("\n".join(SMILES[:25]))
    other.write_text("\n".join([SMILES[0], *SMILES[25:]]))  # the first is in training, too
    manifest, examples = built(str(source), valid="@-5:", test=str(other))
    assert manifest.counts == {"train": 20, "valid": 5, "test": 5}
    assert sorted(examples.text(examples.split("test"))) == sorted(SMILES[25:])
    assert sum(manifest.rejected.values()) == 1
    assert manifest.notes["splits"] == "valid = @-5: of the source; test = b.smi; the rest train"
    # where groups decide about the rest, a copy in training comes first all the same
    more = [*SMILES, *(smiles[:-1] + end for smiles in SMILES for end in "NF")]
    both = tmp_path / "c.smi"
    both.write_text("\n".join([*more, *more[:60]]))
    _, examples = built(str(both), valid="@-60:")
    splits = split_of_groups(digests(map(group_key_of_smiles, more)), (8 / 9, 0.0, 1 / 9))
    trained = {smiles for smiles, split in zip(more, splits, strict=True) if split == 0}
    assert set(examples.text(examples.subset(None, 0, None))) == trained
    assert set(examples.text(examples.split("valid"))) == set(more[:60]) - trained != set()
    table = tmp_path / "a.csv"
    labels = ["train"] * 20 + ["valid"] * 5 + ["test"] * 4 + [""]
    rows = [f"{smiles},{label}" for smiles, label in zip(SMILES, labels, strict=True)]
    table.write_text("\n".join(["SMILES,SPLIT", *rows]))
    manifest, examples = built(str(table), splits="SPLIT")
    assert manifest.counts == {"train": 20, "valid": 5, "test": 4}
    assert sorted(examples.text(examples.split("valid"))) == sorted(SMILES[20:25])
    assert manifest.rejected == {"missing split": 1}


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"valid": "@-5"}, r"Reading.valid='@-5' is not allowed: it must be a file"),
        ({"test": ""}, "Reading.test='' is not allowed"),
        ({"valid": "@::0"}, "a step above 0"),
        ({"valid": "@-5:", "splits": "fold"}, "both divide the source"),
        ({"valid": "@:10", "test": "@5:15"}, "both take records of a.extxyz"),
        ({"valid": "@500:"}, r"Reading.valid='@500:' takes no record of a.extxyz, which has 60"),
        ({"test": "nowhere.xyz"}, "Reading.test='nowhere.xyz' is not a file on this machine"),
        ({"test": "{folder}/b.smi"}, "holds text where structures are needed"),
        ({"valid": "@:30", "test": "@30:"}, "leaves a split empty: 0 train, 30 valid, 30 test structures, with valid"),
    ],
)
def test_what_cannot_be_given_is_one_sentence(home, write, tmp_path, reading, words):
    source = write([molecule(i) for i in range(60)])
    (tmp_path / "b.smi").write_text("CO\n")
    with pytest.raises(ValueError, match=words):
        built(source, **{name: text.format(folder=tmp_path) for name, text in reading.items()})


def test_a_source_with_splits_of_its_own_keeps_them(home):
    with pytest.raises(ValueError, match="'moses' comes with its splits"):
        data.build("moses", reading=Reading(valid="@:10"), progress=False)


def test_the_command_line_builds_and_tells_how_to(home, write, capsys):
    from chemscale.cli import main

    source = write([molecule(i) for i in range(60)])
    reading = Reading(valid="@-10:", test="@:10")
    with pytest.raises(ValueError, match=r"run `chemscale data build '.*of mine.extxyz' --test"):
        data.manifest(Data(write([molecule(1)], "of mine.extxyz"), reading=Reading(test="@:1")))
    with pytest.raises(ValueError, match=r"run `chemscale data build .*a.extxyz --valid @-10: --test @:10`"):
        data.manifest(Data(source, reading=reading))
    assert main(["data", "build", source, "--valid", "@-10:", "--test", "@:10", "--processes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"train": 40, "valid": 10, "test": 10}
    assert data.manifest(Data(source, reading=reading)).counts["valid"] == 10


@pytest.mark.skipif(not SHARED.is_dir(), reason="3BPA is not here; CHEMSCALE_SHARED names the folder that holds it")
def test_the_published_protocol_of_3bpa(home):
    names = [str(SHARED / f"3bpa_train_{name}.xyz") for name in ("300K", "mixedT")]
    manifest, examples = built(names[0], valid="@-50:", test=f"{names[1]}@:167")
    frames, mixed = (ase.io.read(name, ":") for name in names)
    known = {tuple(np.round(frame.positions, 4).ravel()) for frame in frames}
    apart = [frame for frame in mixed[:167] if tuple(np.round(frame.positions, 4).ravel()) not in known]
    assert manifest.counts == {"train": 450, "valid": 50, "test": len(apart)} and len(apart) == 136
    assert energies(examples, "test") == theirs(apart)
    assert energies(examples, "valid") == theirs(frames[-50:])
    assert sum(manifest.notes["duplicates"]["across_splits"].values()) == 31
