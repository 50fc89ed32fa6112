import pytest
from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from chemscale.data.groups import group_key_of_smiles

TWINS = {
    "lactam and lactim": ("Oc1ccccn1", "O=c1cccc[nH]1"),
    "enol": ("CC(O)=CC(C)=O", "CC(=O)CC(C)=O"),
    "indazoles": ("c1ccc2[nH]ncc2c1", "c1ccc2n[nH]cc2c1"),
    "enantiomers": ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"),
    "cis and trans": ("C/C=C/C", "C/C=C\\C"),
    "zwitterion": ("NCC(=O)O", "[NH3+]CC(=O)[O-]"),
    "salt": ("CC(=O)[O-].[Na+]", "CC(=O)O"),
    "hydrochloride": ("C[NH3+].[Cl-]", "CN"),
    "deuterium": ("[2H]C([2H])([2H])O", "CO"),
    "carbon 13": ("[13CH3]O", "CO"),
    "charge separated nitro": ("C[N+](=O)[O-]", "CN(=O)=O"),
}
STRANGERS = {
    "oxidised": ("OC1CCCCC1", "O=C1CCCCC1"),
    "position": ("Cc1ccccc1C", "Cc1cccc(C)c1"),
    "element": ("CCO", "CCS"),
    "length": ("CCC", "CCCC"),
}


@pytest.mark.parametrize("pair", TWINS.values(), ids=TWINS)
def test_twins_share_a_key(pair):
    assert len({group_key_of_smiles(s) for s in pair}) == 1


@pytest.mark.parametrize("pair", STRANGERS.values(), ids=STRANGERS)
def test_different_molecules_do_not(pair):
    assert len({group_key_of_smiles(s) for s in pair}) == 2


def test_every_tautomer_that_rdkit_enumerates_shares_the_key(moses):
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetMaxTautomers(30)
    with rdBase.BlockLogs():
        for smiles in moses.text(moses.subset(60, 0, None)):
            tautomers = [Chem.MolToSmiles(m) for m in enumerator.Enumerate(Chem.MolFromSmiles(smiles))]
            assert len({group_key_of_smiles(t) for t in tautomers}) == 1, smiles


def test_what_rdkit_cannot_read_is_its_own_key():
    assert group_key_of_smiles("no molecule") == "no molecule"
