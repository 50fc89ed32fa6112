"""Sampling against closed forms and its own forward pass; what is sampled decodes and can be drawn."""

from xml.etree import ElementTree

import pytest
import selfies
import torch
from rdkit import Chem

from chemscale.batch import TokenBatch
from chemscale.use.draw import draw
from chemscale.use.generate import Request, canonical_smiles, generate
from chemscale.use.sampling import sample_tables
from tests.use.toys import SELFIES, Dice, manifest, transformer

SVG = "{http://www.w3.org/2000/svg}"


def test_a_seed_is_one_sample_and_another_seed_another():
    model = transformer()
    assert generate(model, manifest(), 40, seed=3) == generate(model, manifest(), 40, seed=3)
    assert generate(model, manifest(), 40, seed=3) != generate(model, manifest(), 40, seed=4)


def test_a_string_depends_neither_on_the_batch_nor_on_how_many_are_asked_for():
    model = transformer()
    whole = generate(model, manifest(), 50, batch=50)
    for other in (generate(model, manifest(), 50, batch=7), generate(model, manifest(), 90, batch=64)):
        assert [g.tokens for g in other[:50]] == [g.tokens for g in whole]


@pytest.mark.parametrize("top_k", [None, 3])
def test_log_likelihoods_are_those_of_the_forward_pass(top_k):
    model, data = transformer(), manifest()
    made = [g for g in generate(model, data, 60, temperature=0.8, top_k=top_k) if g.ended]
    assert made
    for one in made:
        ids = torch.tensor([[data.start, *one.tokens, data.end]])
        with torch.no_grad():
            chosen = model(TokenBatch(ids, torch.tensor([ids.shape[1]]))).log_softmax(-1)[0]
        expected = chosen.gather(1, ids[0, 1:, None]).sum().item()
        assert one.log_likelihood == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3)])
def test_frequencies_are_the_softmax_of_the_allowed_logits(temperature, top_k):
    logits, n = [9.0, 9.0, 0.3, 9.0, 1.0, 0.0, -0.5, 0.7], 20_000  # pad, start and unknown would win if they could
    words = SELFIES[:4]
    made = generate(Dice(logits), manifest(words), n, temperature=temperature, top_k=top_k, batch=5000)
    drawn = torch.tensor([manifest(words).end if g.ended else g.tokens[0] for g in made])
    allowed = torch.tensor(logits, dtype=torch.float64)
    allowed[[0, 1, 3]] = float("-inf")
    if top_k:
        allowed[allowed < allowed.topk(top_k).values[-1]] = float("-inf")
    expected = (allowed / temperature).softmax(0)
    error = torch.bincount(drawn, minlength=8) / n - expected
    deviation = (expected * (1 - expected) / n).sqrt()
    assert (error.abs() <= 4.5 * deviation).all()  # five independent counts at 4.5 sigma: false alarm in 1e5 runs


def test_a_model_of_proteins_writes_its_letters():
    letters = "ACDEFGHIKLMNPQRSTVWY"
    data = manifest(tuple(letters), "protein")
    made = generate(transformer(tuple(letters)), data, 30, seed=1)
    assert any(one.ended and one.tokens for one in made)
    (table,) = sample_tables(transformer(tuple(letters)), data, Request(30, seed=1))
    assert table["sequence"].to_pylist() == [one.smiles for one in made]
    for one in made:
        spelled = "".join(data.vocabulary[i] for i in one.tokens)
        assert one.smiles == (spelled if one.ended and spelled else None)


def test_every_finished_string_decodes_to_its_canonical_smiles():
    model, data = transformer(), manifest()
    made = generate(model, data, 200, seed=1)
    ended = [g for g in made if g.ended]
    assert len(ended) > 100
    for one in ended:
        text = "".join(data.vocabulary[i] for i in one.tokens)
        assert one.smiles == canonical_smiles(one.tokens, data)
        if selfies.decoder(text):
            assert one.smiles == Chem.CanonSmiles(selfies.decoder(text))


def test_what_never_ends_is_no_molecule():
    made = generate(transformer(), manifest(), 100, max_tokens=5)
    assert {len(g.tokens) for g in made if not g.ended} == {5}
    assert all(g.smiles is None for g in made if not g.ended)
    assert all(len(g.tokens) <= 4 for g in made if g.ended)


def test_smiles_models_write_smiles():
    data = manifest(("C", "O", "1", "("), "smiles")
    assert canonical_smiles([4, 4, 5], data) == "CCO"
    assert canonical_smiles([4, 6, 4], data) is None
    assert canonical_smiles([], data) is None
    assert {g.smiles is None for g in generate(transformer(("C", "O", "1", "(")), data, 100)} == {True, False}


def test_it_leaves_the_model_as_it_was():
    model = transformer().train()
    generate(model, manifest(), 2)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"n": 0}, r"generate\(n=0\) is not allowed: it must be an integer above 0\."),
        ({"temperature": 0}, "temperature=0.*a number from 1e-06, which draws the likeliest"),
        ({"top_k": -1}, "top_k=-1.*an integer above 0 or None"),
        ({"max_tokens": 41}, "context=40 is too short for 41 tokens"),
    ],
)
def test_a_bad_request_is_one_clear_sentence(request_, says):
    with pytest.raises(ValueError, match=says):
        generate(transformer(), manifest(), **{"n": 2, **request_})


def test_a_foreign_manifest_is_refused():
    with pytest.raises(ValueError, match="the manifest names 8 tokens, but the model writes 16"):
        generate(transformer(), manifest(SELFIES[:4]), 2)


def test_drawings_are_one_svg_element_that_counts():
    svg = draw(["CCO", "c1ccccc1", None, "C(", "CC(=O)N", "C1CC1"], columns=3)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert (root.get("data-drawn"), root.get("data-skipped")) == ("4", "2")
    assert root.get("viewBox") == "0 0 600 300"
    assert root.find(f"{SVG}title").text == "4 molecules; 2 could not be drawn"
    assert len(root.findall(f".//{SVG}path")) > 20
    assert root.find(f"{SVG}rect") is None  # no ground


def test_nothing_to_draw_is_still_an_svg():
    root = ElementTree.fromstring(draw([None, "C("]))
    assert (root.get("data-drawn"), root.get("data-skipped")) == ("0", "2")
