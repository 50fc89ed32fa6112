"""Embeddings against the model's own states, molecule by molecule; files of every kind, bad records, resuming."""

import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
import selfies
import torch
from rdkit import Chem

from chemscale.batch import TokenBatch
from chemscale.use import embed
from chemscale.use.embed import embed_tables
from chemscale.use.parts import Parts, write_parquet
from tests.use.toys import SELFIES, manifest, transformer

MOLECULES = ("CCO", "CC(=O)N", "CCCCCC", "NCCO", "C")


@pytest.fixture
def smiles(tmp_path):
    path = tmp_path / "molecules.smi"
    path.write_text("\n".join(MOLECULES) + "\n")
    return path


def states(model, data, ids):
    """What the last layer norm gives, by feeding one token after the other."""
    held = []
    hook = model.ln_f.register_forward_hook(lambda module, given, out: held.append(out[0]))
    with torch.no_grad():
        cache = model.start_cache(1, len(ids) + 1)
        for token in [data.start, *ids]:
            _, cache = model.step(torch.tensor([token]), cache)
    hook.remove()
    return torch.stack(held)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_embeddings_are_the_states_of_the_model(smiles, pool, monkeypatch):
    monkeypatch.setattr(embed, "TOKENS", 20)  # several batches of different lengths
    model, data = transformer(), manifest()
    (table,) = embed_tables(model, data, smiles, pool=pool, processes=1)
    place = {token: i for i, token in enumerate(data.vocabulary)}
    for text, vector in zip(MOLECULES, table["embedding"].to_pylist(), strict=True):
        tokens = selfies.split_selfies(selfies.encoder(Chem.CanonSmiles(text)))
        held = states(model, data, [place[token] for token in tokens])
        expected = held[1:].mean(0) if pool == "mean" else held[-1]
        assert vector == pytest.approx(expected.tolist(), abs=1e-5)  # float32, summed in another order


def test_bad_molecules_are_null_rows_with_the_reason(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("name,smiles\na,CCO\nb,C(\nc,\nd,[C][C][O]\ne,C[Si](C)C\nf," + "C" * 60 + "\n")
    (table,) = embed_tables(transformer(), manifest(), path, processes=1)
    assert table["embedding"].is_null().to_pylist() == [False, True, True, True, True, True]
    assert table["reason"].to_pylist() == [
        None,
        "not a SMILES string of a molecule",
        "empty line",
        "looks like SELFIES",
        "unknown to the model: [Si]",
        "60 tokens, more than the 39 that the model reads",
    ]
    assert table["line"].to_pylist() == [2, 3, 4, 5, 6, 7]


def test_what_rdkit_would_trim_without_a_word_is_a_bad_molecule(tmp_path):
    path = tmp_path / "some.smi"
    path.write_bytes(b"CCO\n\x00\x00CCO\nCCO\xff\n")
    (table,) = embed_tables(transformer(), manifest(), path, processes=1)
    strange = "a character that is not printable ASCII: "
    assert table["reason"].to_pylist() == [None, f"{strange}'\\x00'", f"{strange}'\\ufffd'"]


def test_selfies_files_are_told_and_give_the_same_states(smiles, tmp_path):
    """A featurizer that takes SMILES for SELFIES gives every molecule the same vector; here both notations agree."""
    path = tmp_path / "molecules.txt"
    longer = [text for text in MOLECULES if len(text) > 2]
    path.write_text("\n".join(selfies.encoder(text) for text in longer) + "\nCCO\n")
    model, data = transformer(), manifest()
    (ours,) = embed_tables(model, data, smiles, processes=1)
    (table,) = embed_tables(model, data, path, processes=1)
    assert table["reason"].to_pylist()[-1] == "not a SELFIES string"
    assert table["embedding"].to_pylist()[: len(longer)] == ours["embedding"].to_pylist()[: len(longer)]
    assert len({tuple(v) for v in table["embedding"].to_pylist()[: len(longer)]}) == len(longer)


def test_proteins_are_embedded_as_their_letters(tmp_path):
    letters = tuple("ACDEFGHIKLMNPQRSTVWY")
    (tmp_path / "a.fasta").write_text(">a x\nMKV\nLAA\n>b\nmkw*\n>c\nMK1\n>d\nMXK\n")
    (tmp_path / "b.csv").write_text("id,sequence\na,MKVLAA\nb,MKW\n")
    model, data = transformer(letters), manifest(letters, "protein")
    (table,) = embed_tables(model, data, tmp_path / "a.fasta", processes=1)
    assert table["reason"].to_pylist() == [
        None, None, "not an amino acid: '1' at position 3", "unknown to the model: X",
    ]  # fmt: skip
    place = {token: i for i, token in enumerate(data.vocabulary)}
    held = states(model, data, [place[letter] for letter in "MKVLAA"])
    assert table["embedding"].to_pylist()[0] == pytest.approx(held[1:].mean(0).tolist(), abs=1e-5)
    (other,) = embed_tables(model, data, tmp_path / "b.csv", processes=1)
    assert other["embedding"].to_pylist() == table["embedding"].to_pylist()[:2]
    with pytest.raises(
        ValueError, match=r"embed\(notation='smiles'\) is not allowed: it must be protein for this model"
    ):
        next(embed_tables(model, data, tmp_path / "a.fasta", notation="smiles"))


def test_a_killed_embedding_goes_on_and_ends_alike(smiles, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART", 2)
    model, data, out = transformer(), manifest(), tmp_path / "out.parquet"
    whole = list(embed_tables(model, data, smiles, processes=1))
    assert [len(table) for table in whole] == [2, 2, 1]
    first = Parts(out, {"run": "a"})
    for table in itertools.islice(embed_tables(model, data, smiles, processes=1), 2):
        first.add(table)
    with pytest.raises(ValueError, match=r"out.parquet' is being written by another process; wait for it"):
        Parts(out, {"run": "a"})
    with pytest.raises(ValueError, match="is being written by another process"):
        Parts(out, {"run": "another, which would throw them away"})
    del first  # as a process that is killed lets go of it
    again = Parts(out, {"run": "a"})
    assert again.done == 2
    for table in embed_tables(model, data, smiles, first=again.done, processes=1):
        again.add(table)
    again.finish(write_parquet)
    found = pq.read_table(out)
    assert found["string"].to_pylist() == list(MOLECULES)
    vectors = [v for table in whole for v in table["embedding"].to_pylist()]
    assert np.array(found["embedding"].to_pylist()) == pytest.approx(np.array(vectors), abs=1e-6)
    assert not list(tmp_path.glob("out.parquet?*"))
    assert Parts(out, {"run": "b"}).done == 0


def test_parts_of_another_request_are_thrown_away(tmp_path, smiles):
    (table,) = embed_tables(transformer(), manifest(), smiles, processes=1)
    Parts(tmp_path / "x.parquet", {"run": "a"}).add(table)
    assert Parts(tmp_path / "x.parquet", {"run": "b"}).done == 0


def test_a_bad_request_is_one_sentence(smiles):
    with pytest.raises(ValueError, match=r"embed\(pool='max'\) is not allowed: it must be mean or last for this model"):
        next(embed_tables(transformer(), manifest(), smiles, pool="max"))
    with pytest.raises(ValueError, match="notation='inchi'"):
        next(embed_tables(transformer(), manifest(), smiles, notation="inchi"))


def test_the_model_is_as_it_was(smiles):
    model = transformer().train()
    list(embed_tables(model, manifest(SELFIES), smiles, processes=1))
    assert model.training
    assert not model.ln_f._forward_hooks
    model(TokenBatch(torch.tensor([[1, 4, 2]]), torch.tensor([3])))
