"""Scaffolds: what RDKit's substructure search says of them is held against patterns written by hand."""

import pytest
from rdkit import Chem

from chemscale.use.generate import Request
from chemscale.use.grow import grow_blocks
from chemscale.use.prompt import prefix_nats, read_prompt
from chemscale.use.sampler import Prompt
from chemscale.use.scaffold import Scaffold, writings
from tests.use.toys import SELFIES, manifest, transformer

SMILES_WORDS = ("C", "c", "N", "O", "F", "1", "2", "(", ")", "=", "#", "n", "[nH]", "S")


def molecule(smiles):
    return Chem.MolFromSmiles(smiles)


def written(mark, smiles):
    return Chem.CanonSmiles(smiles.replace("*", mark))


@pytest.mark.parametrize(
    ("grown", "within", "as_marked"),
    [
        ("Cc1ccc(N)cc1", True, True),
        ("CC(=O)Nc1ccc(Oc2ccccc2)cc1", True, True),
        ("Cc1ccc(N)c(F)c1", True, False),  # something beside the marks
        ("Cc1ccccc1", True, False),  # nothing at one of them
        ("Cc1cccc(N)c1", True, False),  # meta, not para
        ("CC1CCC(N)CC1", False, False),
    ],
)
def test_a_scaffold_is_found_as_it_is_marked(grown, within, as_marked):
    scaffold = Scaffold("[*:1]c1ccc([*:2])cc1")
    assert (scaffold.within(molecule(grown)), scaffold.grown_in(molecule(grown))) == (within, as_marked)


@pytest.mark.parametrize("smiles", ["*c1ccc(C(=O)NC2CC2)cc1", "*n1cccc1", "*=C1CCNCC1", "[3*]C#CC", "*C(=O)O"])
def test_writings_end_in_the_mark_and_are_the_molecule(smiles):
    (growth,) = Scaffold(smiles).first_growths()
    found = list(writings(growth))
    assert len(found) > 1
    sign = {1: "", 2: "=", 3: "#"}
    bare = Chem.CanonSmiles(smiles.replace("[3*]", "*"))
    assert {Chem.CanonSmiles(f"{w.smiles}{sign[w.bond]}*") for w in found} == {bare}


def test_places_are_grown_in_the_order_of_their_numbers():
    scaffold = Scaffold("[*:2]N1CCC([*:1])CC1")
    (first,) = scaffold.first_growths()
    assert Chem.MolToSmiles(first) == Chem.CanonSmiles("[*:1]C1CCNCC1")
    second = scaffold.next_growth(molecule("CC1CCNCC1"), 1)
    assert Chem.MolToSmiles(second) == Chem.CanonSmiles("CC1CCN(*)CC1")
    assert scaffold.next_growth(molecule("CC1CCNC(F)C1"), 1) is None


def test_the_hydrogen_of_an_aromatic_nitrogen_gives_way():
    scaffold = Scaffold("[*:1]c1cc[n]([*:2])c1")
    second = scaffold.next_growth(molecule("Cc1cc[nH]c1"), 1)
    assert Chem.MolToSmiles(second) == Chem.CanonSmiles("Cc1ccn(*)c1")


def test_without_marks_every_kind_of_atom_with_a_hydrogen_has_a_turn():
    growths = {Chem.MolToSmiles(m) for m in Scaffold("C1CCNCC1").first_growths()}
    assert growths == {Chem.CanonSmiles(s) for s in ("*N1CCCCC1", "*C1CCCCN1", "*C1CCCNC1", "*C1CCNCC1")}


@pytest.mark.parametrize("smiles", ["*", "C.C", "C(", "**", "C*C", ""])
def test_what_is_no_scaffold_is_refused(smiles):
    with pytest.raises(ValueError, match="prompt="):
        Scaffold(smiles)


def grown(smiles, words=SELFIES, representation="selfies", n=60, **request):
    model, data = transformer(words, context=80), manifest(words, representation)
    (block,) = grow_blocks(model, data, Request(n, **request), Scaffold(smiles))
    return block


@pytest.mark.parametrize(("words", "representation"), [(SELFIES, "selfies"), (SMILES_WORDS, "smiles")])
@pytest.mark.parametrize(
    ("scaffold", "pattern"),
    [
        ("*c1ccccc1", "[!#1]-c1[cH][cH][cH][cH][cH]1"),
        ("[*:1]c1ccc([*:2])cc1", "[!#1]-c1[cH][cH]c(-[!#1])[cH][cH]1"),
        ("O=C(*)N", "[!#1]C(=O)[NH2]"),
    ],
)
def test_what_grew_as_marked_is_what_a_pattern_finds(words, representation, scaffold, pattern):
    """An untrained model writes anything, so the share is low; that it is told rightly is what is tested."""
    made = grown(scaffold, words, representation)
    query = Chem.MolFromSmarts(pattern)
    found = [one.smiles is not None and molecule(one.smiles).HasSubstructMatch(query) for one in made]
    assert [one.as_marked for one in made] == found
    assert any(found)
    assert all(one.within for one in made if one.as_marked)


def test_a_place_behind_a_double_bond_grows_by_a_double_bond():
    made = [one for one in grown("*=C1CCNCC1") if one.as_marked]
    assert made
    assert all(molecule(one.smiles).HasSubstructMatch(Chem.MolFromSmarts("C1(=[!#1])CCNCC1")) for one in made)


def test_a_scaffold_that_the_model_cannot_spell_is_refused():
    with pytest.raises(ValueError, match="cannot be written in the 16 tokens of this model"):
        grown("*[Si](C)(C)C")


def test_growth_is_one_sample_for_a_seed():
    assert grown("*c1ccccc1", n=20, seed=5) == grown("*c1ccccc1", n=20, seed=5)
    first = [one.tokens for one in grown("*c1ccccc1", n=30, seed=5)[:20]]
    assert [one.tokens for one in grown("*c1ccccc1", n=20, seed=5)] == first


def test_prompts_are_told_apart():
    data = manifest()
    assert read_prompt("[C][=C]", data) == (4, 5)
    assert read_prompt("*c1ccccc1", data).places
    assert not read_prompt("CCO", data).places
    smiles = manifest(SMILES_WORDS, "smiles")
    assert read_prompt("CC(=O", smiles) == (4, 4, 11, 13, 7)
    with pytest.raises(
        ValueError, match="is no single molecule that RDKit reads; give one as SMILES, or SELFIES tokens"
    ):
        read_prompt("[C][Xx]", data)
    proteins = manifest(tuple("ACDEFGHIKLMNPQRSTVWY"), "protein")
    assert read_prompt("CCN", proteins) == (5, 5, 15)  # letters of amino acids, and no ethylamine
    with pytest.raises(ValueError, match="prompt='c1ccccc1' holds letters that this model of proteins does not know"):
        read_prompt("c1ccccc1", proteins)


def test_log_likelihoods_of_prefixes_add_up():
    """The likelihood of a prefix is that of its beginning times the rest, by one forward pass each."""
    model, data = transformer(), manifest()
    whole, first, other = prefix_nats(model, data, [[4, 5, 6, 7], [4, 5], [9]])
    assert prefix_nats(model, data, [[4, 5, 6, 7]]) == pytest.approx([whole], abs=1e-5)
    assert whole < first < 0
    assert other < 0


def test_an_opening_bounds_the_first_free_token_alone():
    import torch

    from chemscale.use.decoder import decoder
    from chemscale.use.sampler import Draw, Sampler

    model, data = transformer(), manifest()
    sampler = Sampler(decoder(model), 16, data.start, data.end, Draw(never=(0, 1, 3)), batch=8)
    with torch.inference_mode():
        made = sampler.write(torch.rand(64, 12, dtype=torch.float64), [Prompt((4, 5), (6, 7))] * 64)
    assert (made.tokens[:, :2] == torch.tensor([4, 5])).all()
    assert set(made.tokens[:, 2].tolist()) == {6, 7}
    assert len(set(made.tokens[:, 3].tolist())) > 2
