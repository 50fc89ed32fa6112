import numpy as np
import pytest
import selfies
from rdkit import Chem

from chemscale.data.moses import read_embedded
from chemscale.data.selfies_writer import SelfiesWriter
from chemscale.data.sources import embedded

ODD = [
    "C[C@H](O)F", "F/C=C/Br", "[Na+].[Cl-]", "[13CH3]C", "[2H]OC", "C1CC1.c1ccccc1", "O=[N+]([O-])c1ccccc1",
    "C=1CCCCC=1", "c1ccc2[nH]ccc2c1", "c1ccc2c(c1)c1ccccc1n2C", "c1cc[se]c1", "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "[O-][n+]1ccccc1", "C#N", "c1ccc(-c2ccccc2)cc1", "c1ccc2cc3ccccc3cc2c1", "C%12CCCCC%12", "[Fe+2]",
    "CC(C)(C)c1c[nH]c(=O)[nH]c1=O", "B(O)O", "c1ccsc1", "c1cnoc1", "C[Si](C)(C)C", "[H][H]", "[C]", "CP(=O)(O)O",
    "CS(=O)(=O)N", "c1cc[pH]c1", "N", "O=c1cccc[nH]1", "C" * 300, "C(" + "C" * 20 + ")" + "C" * 20,
    "C1" + "C" * 300 + "C1", "C12C3C4C1C5C2C3C45", "C(C)", "C(C)1CC1", "C1(CC1)(C)", "C..C",
]  # fmt: skip
REFUSED = ["", "C(", "C)", "c1cccc1", "CI(C)(C)C", "C1CC", "C=1CC-1", "*C", "C$C", "CC=", "(C)C", "C((C)C)C", "[Xx]"]


@pytest.fixture(scope="module")
def smiles():
    return read_embedded(embedded("moses-test.parquet"))[0]


def test_real_molecules_are_written_as_selfies_writes_them(smiles):
    write = SelfiesWriter()
    assert [write(s) for s in smiles[::5]] == [selfies.encoder(s) for s in smiles[::5]]


def test_any_order_of_atoms_is_written_as_selfies_writes_it(smiles):
    """Random SMILES begin and close rings and branches everywhere, and place aromatic atoms in any order."""
    write = SelfiesWriter()
    for s in smiles[::25]:
        for text in Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(s), 3, randomSeed=1):
            assert write(text) == selfies.encoder(text)


@pytest.mark.parametrize("text", ODD)
def test_odd_shapes_are_written_as_selfies_writes_them(text):
    assert SelfiesWriter()(text) == selfies.encoder(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_selfies_refuses_is_refused(text):
    with pytest.raises(selfies.EncoderError):
        selfies.encoder(text)
    with pytest.raises(ValueError, match="SELFIES cannot express it"):
        SelfiesWriter()(text)


def test_constraints_of_selfies_are_those_of_the_moment():
    text = "CS(C)(C)(C)(C)C"
    assert SelfiesWriter()(text) == selfies.encoder(text)
    selfies.set_semantic_constraints("octet_rule")
    try:
        with pytest.raises(ValueError, match="SELFIES cannot express it"):
            SelfiesWriter()(text)
    finally:
        selfies.set_semantic_constraints("default")


def test_real_molecules_seldom_need_the_slow_way(smiles, monkeypatch):
    calls = []
    monkeypatch.setattr(selfies, "encoder", calls.append)
    write = SelfiesWriter()
    for s in np.array(smiles)[::5]:
        write(str(s))
    assert calls == []
