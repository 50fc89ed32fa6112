import json
import os
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from selfies.compatibility import modernize_symbol

from chemscale import data
from chemscale.data.moses import read_embedded
from chemscale.data.selfies_writer import SelfiesWriter
from chemscale.data.sources import embedded
from chemscale.data.tokens import split_string
from chemscale.data.vocabulary import NAMED, read_vocabulary, version_1, vocabulary_in, vocabulary_of
from chemscale.spec import Data, Reading, RunSpec, from_json

tokenizers = pytest.importorskip("tokenizers")

ODD = [
    "C[C@H](O)F", "F/C=C/Br", "[Na+].[Cl-]", "[13CH3]C", "[2H]OC", "CC(C)(C)[N+](C)(C)C.[Br-]", "c1cc[se]c1", "[Fe+2]",
    "O=[N+]([O-])c1ccccc1", "C#CC#N", "[C-]#[N+]C", "C1=CC=C1", "[U+3]", "C[As](C)C", "[Cm]", "C" * 400,
    "[Cu+2].[O-]S(=O)(=O)[O-]",
]  # fmt: skip


def named(name):
    found = vocabulary_of(Reading(vocabulary=name), "selfies")
    assert found is not None
    return found


def vars_of(vocabulary):
    return vocabulary.entries, vocabulary.specials, vocabulary.cut, vocabulary.version


def hub_tokenizer(name):
    """The released file where it lies on this machine, else one made up of the same entries by the same rules."""
    shared = os.environ.get("CHEMSCALE_SHARED", "nowhere")
    file = Path(shared, "data", "chemgpt", f"tokenizer_{name.split('-')[1]}.json")
    if file.is_file():
        return tokenizers.Tokenizer.from_file(str(file))
    words = tokenizers.models.WordPiece(vocab=named(name).ids, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\[(.*?)\]"), "isolated")
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def ids(vocabulary, string):
    entries = [e for t in split_string(string, "selfies") for e in vocabulary.spelled(t) or ("[UNK]",)]
    return [2, *(vocabulary.ids[e] for e in entries), 3]


@pytest.mark.parametrize("name", NAMED)
def test_ids_are_those_of_the_hugging_face_tokenizer(name):
    """5,000 real molecules and odd ones, of which tokens are unknown or cut into pieces."""
    vocabulary, peer = named(name), hub_tokenizer(name)
    write = SelfiesWriter()
    strings = [write(s) for s in [*read_embedded(embedded("moses-valid.parquet"))[0], *ODD]]
    said = strings
    if vocabulary.version == 1:
        said = ["".join(map(version_1, split_string(s, "selfies"))) for s in strings]
    theirs = [e.ids for e in peer.encode_batch(said)]
    assert [ids(vocabulary, s) for s in strings] == theirs
    assert any(0 in row for row in theirs)


def test_the_released_files_hold_these_entries():
    shared = os.environ.get("CHEMSCALE_SHARED")
    if not shared or not Path(shared, "data", "chemgpt").is_dir():
        pytest.skip("CHEMSCALE_SHARED names no folder with the released tokenizers")
    for name in NAMED:
        released = read_vocabulary(Path(shared, "data", "chemgpt", f"tokenizer_{name.split('-')[1]}.json"))
        assert (released.entries, released.version) == (named(name).entries, named(name).version)
        assert released.special_ids == named(name).special_ids == {"unknown": 0, "pad": 1, "start": 2, "end": 3}


def test_every_token_of_version_2_has_one_of_version_1_that_selfies_reads_back():
    first, second = named("chemgpt-selfies1"), named("chemgpt-selfies2")
    tokens = [e for e in second.entries[5:] if e.startswith("[") and e.endswith("]") and len(e) > 2]
    assert len(tokens) == 378
    assert all(version_1(token) in first.ids for token in tokens)
    assert [modernize_symbol(version_1(token)) for token in tokens] == tokens
    for token in ("[C@@H1]", "[13CH3]", "[=15N]", "[/C]", "[CH0]", "[//Ring1]", "[Na+1]", "[18O-1]", "[#Branch3]"):
        assert modernize_symbol(version_1(token)) == token


@pytest.mark.parametrize("name", NAMED)
def test_built_with_a_released_vocabulary_molecules_come_back(home, tmp_path, name):
    rows = read_embedded(embedded("moses-test.parquet"))[0][:600]
    (tmp_path / "a.smi").write_text("\n".join(rows))
    reading = Reading(vocabulary=name)
    manifest = data.build(str(tmp_path / "a.smi"), reading=reading, processes=1, progress=False)
    assert manifest.vocabulary == named(name).entries
    assert (manifest.pad, manifest.start, manifest.end, manifest.unknown) == (1, 2, 3, 0)
    examples = data.open_data(Data(str(tmp_path / "a.smi"), reading=reading), {"context": 64})
    train = examples.subset(None, 0, None)
    assert {Chem.CanonSmiles(s) for s in examples.text(train)} <= {Chem.CanonSmiles(s) for s in rows}
    batch = examples.batch(train[:8])
    assert batch.tokens[:, 0].tolist() == [2] * 8
    assert [int(row[n - 1]) for row, n in zip(batch.tokens, batch.lengths, strict=True)] == [3] * 8
    own = vocabulary_in(manifest)
    assert (own.entries, own.specials, own.cut, own.version) == vars_of(named(name))
    counts = np.array(manifest.notes["train_counts"])
    assert counts.sum() + manifest.counts["train"] == manifest.totals["tokens"]
    assert (counts > 0).sum() < 40  # the other entries are never trained


def test_the_embedded_molecules_take_a_released_vocabulary_too(home):
    manifest = data.build("moses", reading=Reading(vocabulary="chemgpt-selfies1"), progress=False)
    assert manifest.notes["unknown_tokens"] == 0
    assert manifest.counts["train"] == 100_000


def test_unknown_tokens_are_counted_by_name_and_never_silent(home, tmp_path):
    rows = [*read_embedded(embedded("moses-test.parquet"))[0][:200], "C[C@H](O)F", "C[C@@H](N)Cl", "[Na+].[Cl-]"]
    (tmp_path / "a.smi").write_text("\n".join(rows))
    manifest = data.build(str(tmp_path / "a.smi"), reading=Reading(vocabulary="chemgpt-selfies2"), processes=1)
    assert manifest.notes["unknown"] == {".": 1, "[C@@H1]": 1, "[C@H1]": 1}
    plain = Reading(vocabulary="chemgpt-selfies2", form="parent")
    manifest = data.build(str(tmp_path / "a.smi"), reading=plain, processes=1)
    assert manifest.notes["unknown_tokens"] == 0
    assert manifest.notes["removed"] == {"other fragments": 1, "stereochemistry": 2}


def test_a_vocabulary_of_built_data_is_used_again(home, tmp_path):
    rows = read_embedded(embedded("moses-test.parquet"))[0]
    (tmp_path / "a.smi").write_text("\n".join(rows[:400]))
    (tmp_path / "b.smi").write_text("\n".join(rows[400:800]))
    first = data.build(str(tmp_path / "a.smi"), processes=1, progress=False)
    (tmp_path / "manifest.json").write_text(json.dumps({"manifest": first.to_dict()}))
    reading = Reading(vocabulary=str(tmp_path / "manifest.json"))
    second = data.build(str(tmp_path / "b.smi"), reading=reading, processes=1, progress=False)
    assert second.vocabulary == first.vocabulary
    assert second.start == 1


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ({"vocabulary": "nowhere.json"}, "is neither chemgpt-selfies1 nor chemgpt-selfies2 nor a file"),
        ({"vocabulary": "text.json"}, "is no JSON file"),
        ({"vocabulary": "bpe.json"}, "holds no vocabulary of the kinds WordPiece or WordLevel"),
        ({"vocabulary": "empty.json"}, "holds no vocabulary of the kinds WordPiece or WordLevel"),
        ({"vocabulary": "structures.json"}, "or a manifest.json of built strings"),
        ({"vocabulary": "plain.json"}, "has no special tokens"),
    ],
)
def test_a_vocabulary_that_is_none_is_one_sentence(tmp_path, monkeypatch, reading, says):
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("[C]\n[N]\n")
    Path("bpe.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    Path("empty.json").write_text(json.dumps({"model": {"type": "WordLevel"}}))
    Path("structures.json").write_text(json.dumps({"manifest": {"family": "structures"}}))
    Path("plain.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {"[C]": 0}}}))
    with pytest.raises(ValueError, match=says):
        vocabulary_of(Reading(**reading), "selfies")


def test_a_vocabulary_of_selfies_is_refused_for_smiles():
    with pytest.raises(ValueError, match=r"is of SELFIES and Data.representation='smiles'"):
        vocabulary_of(Reading(vocabulary=NAMED[0]), "smiles")


def test_how_a_file_is_read_stays_out_of_the_id_and_comes_back_with_the_spec():
    import chemscale as cs

    run = RunSpec(
        model=cs.ChemGPT.sized(width=16),
        data=Data("a.smi", size=10, content="0" * 64, reading=Reading(vocabulary="chemgpt-selfies2", longest=64)),
        optim=cs.Optim(lr=1e-3),
    )
    plain = RunSpec(model=run.model, data=Data("b.smi", size=10, content="0" * 64), optim=run.optim)
    assert run.id == plain.id  # `content` answers for both
    assert from_json(run.to_json()) == run
    assert "reading" not in plain.to_json()


def test_every_embedded_file_has_its_origin_and_licence_beside_it():
    folder = embedded("NOTICE.md").parent
    notice = (folder / "NOTICE.md").read_text()
    assert "MIT" in notice and "Permission is hereby granted" in notice
    assert [file.name for file in folder.iterdir() if f"`{file.name}`" not in notice] == ["NOTICE.md"]
