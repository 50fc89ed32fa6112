"""Models of the released vocabulary, which is written in SELFIES 1, read and write molecules of today."""

from pathlib import Path

import pytest
from rdkit import Chem

from chemscale.batch import TextManifest
from chemscale.data.sources import embedded
from chemscale.data.vocabulary import vocabulary_of
from chemscale.spec import Reading
from chemscale.use.encode import Task, encode_task, model_of
from chemscale.use.generate import decode

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "C#CC1CC1=NN=C1CC1", "C[N+](C)(C)CC(=O)[O-]", "O=S(=O)(c1ccc(Br)cc1)N1CCOCC1"]


@pytest.fixture(scope="module", params=["chemgpt-selfies1", "chemgpt-selfies2"])
def manifest(request):
    found = vocabulary_of(Reading(vocabulary=request.param), "selfies")
    assert found is not None
    return TextManifest("released", "text", "0", 1, {}, {}, vocabulary=found.entries, **found.special_ids)


def test_molecules_come_back_as_they_went(manifest):
    ids = encode_task(Task(tuple(SMILES), "smiles", model_of(manifest, 128)))
    assert all(isinstance(row, tuple) for row in ids), ids
    assert [decode(row, manifest) for row in ids] == [Chem.CanonSmiles(s) for s in SMILES]


def test_the_two_versions_write_different_tokens():
    assert Path(str(embedded("chemgpt-selfies1.txt"))).exists()
    branch = [vocabulary_of(Reading(vocabulary=f"chemgpt-selfies{v}"), "selfies").spelled("[=Branch1]") for v in (1, 2)]
    assert branch == [("[Branch1_2]",), ("[=Branch1]",)]
