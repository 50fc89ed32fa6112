import csv
import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import selfies
from rdkit import Chem

from chemscale import data
from chemscale.data.groups import group_key_of_smiles
from chemscale.data.moses import FILES, fetch_moses, read_embedded
from chemscale.data.sources import embedded
from chemscale.data.store import REJECTED_FILE
from chemscale.data.tokens import decode, split_string
from chemscale.spec import Data

GOOD = ["CCO", "c1ccccc1", "CC(=O)Nc1ccc(O)cc1", "CN1CCC[C@H]1c1cccnc1", "C#N", "CCCl", "CCBr", "O=C(O)c1ccccc1"]


def many(count=120):
    return ["C" * (1 + i % 30) + "N" * (1 + i // 30) for i in range(count)]


def build(path, **options):
    return data.build(str(path), processes=1, progress=False, **options)


def opened(path, **options):
    build(path, **options)
    return data.open_data(Data(str(path), **options), {"context": 512})


def nothing_left(home):
    """Neither examples nor parts of them; the locks of builds may lie there."""
    return not [path for room in ("built", "building") for path in home.glob(f"{room}/*") if path.suffix != ".lock"]


def rejected(path):
    with open(data.report(str(path), progress=False)["built"]["rejected_file"]) as handle:
        return [(int(row["line"]), row["reason"]) for row in csv.DictReader(handle)]


def test_embedded_molecules_have_the_promised_sizes_and_no_group_twice(moses):
    assert moses.manifest.counts == {"train": 100_000, "valid": 5_000, "test": 5_000}
    assert moses.manifest.rejected == {}
    everything = np.concatenate([moses.subset(None, 0, None), moses.split("valid"), moses.split("test")])
    assert len(np.unique(moses.groups(everything))) == 110_000
    assert "MIT" in moses.manifest.licence
    assert "Polykovskiy" in moses.manifest.citation


def test_embedded_molecules_share_no_tautomer_or_stereoisomer_on_a_sample(moses):
    ids = np.concatenate([moses.subset(700, 1, None), moses.split("valid", 400), moses.split("test", 400)])
    assert len({group_key_of_smiles(s) for s in moses.text(ids)}) == len(ids)


def test_golden_content_and_first_ids(moses):
    assert moses.manifest.content == GOLDEN_CONTENT
    assert moses.subset(5, 0, None).tolist() == GOLDEN_IDS
    assert moses.split("valid", 3).tolist() == GOLDEN_VALID


def test_embedded_tokens_are_what_selfies_writes(moses):
    smiles, alphabet, tokens, lengths = read_embedded(embedded("moses-test.parquet"))
    ends = np.cumsum(lengths)
    for i in range(0, 5000, 25):
        string = "".join(alphabet[t] for t in tokens[ends[i] - lengths[i] : ends[i]])
        assert string == selfies.encoder(smiles[i])
        assert smiles[i] == Chem.CanonSmiles(smiles[i])


def test_round_trip_of_500_molecules(moses):
    smiles = read_embedded(embedded("moses-train.parquet"))[0]
    ids = moses.subset(500, 3, None)
    back = moses.text(ids)
    for i, text in zip(ids, back, strict=True):
        assert Chem.CanonSmiles(text) == smiles[i]  # training molecules are stored first, in the order of the file


@pytest.mark.parametrize("representation", ["selfies", "smiles"])
def test_a_users_file_round_trips(home, tmp_path, representation):
    path = tmp_path / "a.smi"
    path.write_text("\n".join([*GOOD, *many()]))
    examples = opened(path, representation=representation)
    found = {Chem.CanonSmiles(s) for s in examples.text(examples.subset(None, 0, None))}
    assert found <= {Chem.CanonSmiles(s) for s in [*GOOD, *many()]}
    assert len(found) == examples.manifest.counts["train"]
    assert sum(examples.manifest.counts.values()) == len({*GOOD, *many()})


def write_smi(path, rows):
    path.write_text("".join(f"{s} name {i}\n" for i, s in enumerate(rows)))


def write_csv(path, rows):
    path.write_text("id,smiles,x\n" + "".join(f"{i},{s},1.0\n" for i, s in enumerate(rows)))


def write_only_column(path, rows):
    path.write_text("SMILES\n" + "\n".join(rows))


def write_csv_gz(path, rows):
    path.write_bytes(gzip.compress(("SMILES\n" + "\n".join(rows)).encode()))


def write_parquet(path, rows):
    pq.write_table(pa.table({"y": list(range(len(rows))), "smiles": rows}), path)


def write_zip(path, rows):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.txt", "\n".join(rows))


WRITERS = {
    "a.smi": write_smi,
    "a.txt": write_smi,
    "a.csv": write_csv,
    "b.csv": write_only_column,
    "a.csv.gz": write_csv_gz,
    "a.parquet": write_parquet,
    "a.txt.zip": write_zip,
}


def test_every_kind_of_file_gives_the_same_content(home, tmp_path):
    contents = set()
    for name, write in WRITERS.items():
        write(tmp_path / name, many(60))
        contents.add(build(tmp_path / name).content)
    assert len(contents) == 1


def test_building_twice_does_nothing_and_the_process_count_changes_nothing(home, tmp_path, monkeypatch):
    write_smi(tmp_path / "a.smi", many(60))
    first = build(tmp_path / "a.smi")
    monkeypatch.setattr("chemscale.data.molecules.build_molecules", None)  # calling it would fail
    assert build(tmp_path / "a.smi") == first
    monkeypatch.undo()
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr("chemscale.data.molecules._CHUNK", 20)
    assert data.build(str(tmp_path / "a.smi"), processes=2, progress=False).content == first.content


def test_bad_lines_are_listed_with_number_and_reason(home, tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("\n".join(["CCO", "C1CC", "", "CC(C)(C)(C)C", "OCC", "CI(C)(C)(C)C", *many(60), "not a molecule"]))
    manifest = build(path)
    found = rejected(path)
    assert [line for line, _ in found] == [2, 3, 4, 6, 67]
    kinds = ["not a SMILES string", "empty line", "impossible chemistry", "SELFIES cannot express it"]
    assert [reason.split(":")[0] for _, reason in found] == [*kinds, kinds[0]]
    assert "valence" in found[2][1]
    assert manifest.rejected == {kinds[0]: 2, kinds[1]: 1, kinds[2]: 1, kinds[3]: 1, "duplicate": 1}
    assert sum(manifest.counts.values()) == 61


@pytest.mark.parametrize(("text", "why"), [("", "the file is empty"), ("xyzzy\n\n", "line 1: not a SMILES string")])
def test_a_file_without_one_molecule_is_an_error_and_leaves_nothing(home, tmp_path, text, why):
    (tmp_path / "a.smi").write_text(text)
    with pytest.raises(ValueError, match=why):
        build(tmp_path / "a.smi")
    assert nothing_left(home)


@pytest.mark.parametrize("rows", [["CCO", "CCN"], ["CCO"], ["C[C@H](O)F", "C[C@@H](O)F"]])
def test_a_file_that_leaves_a_split_empty_is_refused_and_leaves_nothing(home, tmp_path, rows):
    write_smi(tmp_path / "a.smi", rows)
    groups = len({group_key_of_smiles(s) for s in rows})
    message = rf"\d train, \d valid, \d test molecules, from {groups} distinct groups?,.*more different molecules"
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "a.smi")
    assert nothing_left(home)


def cut_zip(path):
    write_zip(path, many(2000))
    path.write_bytes(path.read_bytes()[:-30])


def broken_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", "\n".join(many(2000)))
    whole = bytearray(path.read_bytes())
    whole[60:90] = bytes(30)
    path.write_bytes(whole)


def locked_zip(path):
    write_zip(path, many(60))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # flag bits of the central directory
    path.write_bytes(whole)


def cut_gz(path):
    path.write_bytes(gzip.compress("\n".join(many(2000)).encode())[:-20])


def broken_gz(path):
    whole = bytearray(gzip.compress("\n".join(many(2000)).encode()))
    whole[40:80] = b"\xff" * 40
    path.write_bytes(whole)


def long_cell(path):
    path.write_text("smiles,x\n" + "C" * 200_000 + ",1\n")


def cut_parquet(path):
    write_parquet(path, many(2000))
    start = pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset
    whole = bytearray(path.read_bytes())
    whole[start : start + 400] = b"\xff" * 400
    path.write_bytes(whole)


DAMAGED = [
    ("fake.zip", lambda path: path.write_text("CCO\n"), "as a zip archive: "),
    ("cut.zip", cut_zip, "as a zip archive: "),
    ("broken.zip", broken_zip, "as a zip archive: "),
    ("locked.zip", locked_zip, "locked with a password"),
    ("fake.csv.gz", lambda path: path.write_text("smiles\nCCO\n"), "as a gzip file: "),
    ("cut.smi.gz", cut_gz, "as a gzip file: "),
    ("broken.smi.gz", broken_gz, "as a gzip file: "),
    ("long.csv", long_cell, "as a CSV file: field larger"),
    ("broken.parquet", cut_parquet, "a damaged Parquet file"),
]


@pytest.mark.parametrize(("name", "make", "says"), DAMAGED, ids=[row[0] for row in DAMAGED])
@pytest.mark.parametrize("progress", [None, False])  # the bar counts lines before anything is read
def test_a_file_that_is_not_what_its_name_says_is_one_sentence(home, tmp_path, name, make, says, progress):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=rf"^Data\.source='.*{name}'.*{says}.*; give a") as caught:
        data.build(str(tmp_path / name), processes=1, progress=progress)
    assert "\n" not in str(caught.value)
    assert nothing_left(home)


def test_bytes_that_are_no_text_are_rejected_records(home, tmp_path):
    path = tmp_path / "a.smi"
    path.write_bytes(b"\xff\xfd\x00\n" + "\n".join(many(60)).encode())
    assert build(path).rejected == {"a character that is not printable ASCII": 1}


def test_twins_of_a_users_file_fall_into_one_split(home, tmp_path):
    pairs = [(s + "c1ccc(O)nc1", s + "c1ccc(=O)[nH]c1") for s in many(100)]
    stereo = [(f"C[C@H](O){s}", f"C[C@@H](O){s}") for s in many(60)]
    path = tmp_path / "a.smi"
    path.write_text("\n".join(s for pair in [*pairs, *stereo] for s in pair))
    examples = opened(path)
    seen: dict[str, set[str]] = {}
    for name in ("train", "valid", "test"):
        ids = examples.subset(None, 0, None) if name == "train" else examples.split(name)
        for smiles in examples.text(ids):
            seen.setdefault(group_key_of_smiles(smiles), set()).add(name)
    assert sum(examples.manifest.counts.values()) == 2 * (len(pairs) + len(stereo))
    assert all(len(splits) == 1 for splits in seen.values())
    assert {name for splits in seen.values() for name in splits} == {"train", "valid", "test"}


def test_the_alphabet_is_of_the_training_split_and_strange_tokens_are_counted(home, tmp_path):
    rows = many(100)
    for odd in ("[Se]", "[Si]", "[B]", "[As]", "[Te]", "[Ge]", "[Sn]", "[Pb]"):
        rows += [f"{'C' * n}{odd}" for n in (4,)]
    (tmp_path / "a.smi").write_text("\n".join(rows))
    examples = opened(tmp_path / "a.smi")
    manifest = examples.manifest
    assert manifest.vocabulary[:4] == ("<pad>", "<start>", "<end>", "<unknown>")
    assert list(manifest.vocabulary[4:]) == sorted(manifest.vocabulary[4:])
    train = examples.batch(examples.subset(None, 0, None)).tokens
    assert set(train.unique().tolist()) | {0} == set(range(len(manifest.vocabulary))) - {3} | {0}
    held_out = examples.batch(np.concatenate([examples.split("valid"), examples.split("test")])).tokens
    assert int((held_out == 3).sum()) == manifest.notes["unknown_tokens"]


def test_decoding_of_generated_rows(moses):
    manifest = moses.manifest
    carbon = manifest.vocabulary.index("[C]")
    rows = np.array([[1, carbon, carbon, 2, carbon], [carbon, 2, 0, 0, 0], [1, 2, 0, 0, 0], [1, 3, carbon, 2, 0]])
    assert decode(manifest, rows) == ["CC", "C", None, None]
    assert decode(manifest, np.array([[1, carbon, carbon]])) == ["CC"]


def test_smiles_tokens_join_to_the_string_and_strange_characters_are_refused():
    for smiles in ("C[C@@H](N)C(=O)O", "c1ccc2[nH]ccc2c1", "[Na+].[Cl-]", "C%12CCCCC%12", "F/C=C/Br"):
        assert "".join(split_string(smiles, "smiles")) == smiles
    with pytest.raises(ValueError, match="no SMILES token"):
        split_string("CC!", "smiles")


def test_mistakes_are_one_clear_sentence(home, tmp_path):
    cases = {
        "nope": "neither a known name",
        "moses-full": "run `chemscale data fetch moses` first",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            data.build(name)
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ValueError, match=r"ends in '\.doc'; files end in one of"):
        build(tmp_path / "a.doc")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has the columns a, b; name the one with molecules 'smiles'"):
        build(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="run `chemscale data build moses`"):
        data.manifest(Data("moses"))
    with pytest.raises(ValueError, match="representation='inchi' is not one of"):
        data.build("moses", representation="inchi")


def test_the_full_set_keeps_its_own_test_split_without_twins(home, monkeypatch):
    folder = home / "fetched" / "moses"
    folder.mkdir(parents=True)
    write_csv_gz(folder / "train.csv.gz", [*many(40), "CC(O)=CC(C)=O"])
    write_csv_gz(folder / "test.csv.gz", [*many(100)[40:], many(1)[0], "CC(=O)CC(C)=O"])
    manifest = data.build("moses-full", processes=1, progress=False)
    assert manifest.counts["train"] == 41
    assert manifest.counts["valid"] + manifest.counts["test"] == 60
    assert manifest.rejected == {"duplicate": 1, "twin of a training molecule": 1}


def test_a_wheel_that_is_not_the_known_one_is_refused(home, monkeypatch):
    def download(folder):
        folder.mkdir()
        (folder / "molsets-0.3.1-py3-none-any.whl").write_bytes(b"something else")
        return folder / "molsets-0.3.1-py3-none-any.whl"

    monkeypatch.setattr("chemscale.data.moses._download", download)
    with pytest.raises(RuntimeError, match="not the known"):
        data.fetch("moses")
    assert list((home / "fetched").iterdir()) == []


def test_a_folder_that_holds_half_of_what_is_fetched_is_told(home, tmp_path, monkeypatch):
    whole = tmp_path / "molsets.whl"
    with zipfile.ZipFile(whole, "w") as archive:
        for name in FILES:
            archive.writestr(f"moses/dataset/data/{name}", "SMILES\n")
    monkeypatch.setattr("chemscale.data.moses._download", lambda folder: whole)
    monkeypatch.setattr("chemscale.data.moses._check", lambda wheel: None)
    folder = home / "fetched" / "moses"
    folder.mkdir(parents=True)
    (folder / FILES[0]).write_text("")
    with pytest.raises(RuntimeError, match=r"moses lacks some of its files; delete it and fetch again"):
        fetch_moses(folder)
    (folder / FILES[0]).unlink()
    assert sorted(f.name for f in fetch_moses(folder).iterdir()) == sorted(FILES)


def test_rejected_file_name_is_in_the_report(moses):
    built = data.report("moses")["built"]
    assert built["rejected_file"].endswith(REJECTED_FILE)
    assert built["counts"]["train"] == 100_000


GOLDEN_CONTENT = "34c7343e26e6bbe7926646708e0e2967fd8f8556d5f245be0d26084ba6ea9d7e"
GOLDEN_IDS = [72133, 7398, 86730, 4087, 14080]
GOLDEN_VALID = [100354, 103884, 101269]
