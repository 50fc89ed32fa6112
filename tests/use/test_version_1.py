"""Models of the released vocabulary, which is written in SELFIES 1, read and write molecules of today."""

from pathlib import Path

import pytest
import torch
from rdkit import Chem

from chemscale.batch import TextManifest
from chemscale.data.sources import embedded
from chemscale.data.vocabulary import vocabulary_of
from chemscale.models import ChemGPT
from chemscale.spec import Reading
from chemscale.use.encode import Task, encode_task, model_of
from chemscale.use.generate import Request, canonical_smiles
from chemscale.use.grow import grow_blocks
from chemscale.use.prompt import read_prompt
from chemscale.use.scaffold import Scaffold

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "C#CC1CC1=NN=C1CC1", "C[N+](C)(C)CC(=O)[O-]", "O=S(=O)(c1ccc(Br)cc1)N1CCOCC1"]


@pytest.fixture(scope="module", params=["chemgpt-selfies1", "chemgpt-selfies2"])
def manifest(request):
    found = vocabulary_of(Reading(vocabulary=request.param), "selfies")
    assert found is not None
    return TextManifest("released", "text", "0", 1, {}, {}, vocabulary=found.entries, **found.special_ids)


def test_molecules_come_back_as_they_went(manifest):
    ids = encode_task(Task(tuple(SMILES), "smiles", model_of(manifest, 128)))
    assert all(isinstance(row, tuple) for row in ids), ids
    assert [canonical_smiles(row, manifest) for row in ids] == [Chem.CanonSmiles(s) for s in SMILES]


def test_the_two_versions_write_different_tokens():
    assert Path(str(embedded("chemgpt-selfies1.txt"))).exists()
    branch = [vocabulary_of(Reading(vocabulary=f"chemgpt-selfies{v}"), "selfies").spelled("[=Branch1]") for v in (1, 2)]
    assert branch == [("[Branch1_2]",), ("[=Branch1]",)]


def toy(manifest):
    torch.manual_seed(0)
    return ChemGPT.sized(width=16, context=60).build(manifest).eval()


@pytest.mark.parametrize("scaffold", ["*c1ccccc1", "[*:1]N1CCN([*:2])CC1", "*C(=O)N1CCOCC1"])
def test_a_scaffold_grows_in_either_version(manifest, scaffold):
    """Few tokens may be drawn, so that even an untrained model ends."""
    may = ("[C]", "[O]", "[N]", manifest.vocabulary[manifest.end])
    never = tuple(i for i, text in enumerate(manifest.vocabulary) if text not in may)
    (block,) = grow_blocks(toy(manifest), manifest, Request(24, never=never), Scaffold(scaffold))
    made = [one for one in block if one.smiles]
    pattern = Chem.MolFromSmarts(scaffold.replace("*:1", "*").replace("*:2", "*").replace("[*]", "*"))
    grown = [one for one in made if one.as_marked]
    assert all(one.within for one in grown)
    assert all(Chem.MolFromSmiles(one.smiles).HasSubstructMatch(pattern) for one in grown)
    assert grown


def test_a_beginning_in_tokens_of_today_is_spelled_as_the_model_does(manifest):
    ids = read_prompt("[C][=Branch1][C][=O][C]", manifest)
    assert isinstance(ids, tuple)
    assert canonical_smiles(ids, manifest) == "CC=O"
    assert read_prompt("c1ccccc1", manifest).smiles == "c1ccccc1"
