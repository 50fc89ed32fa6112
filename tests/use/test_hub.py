"""Folders of the hub: written so that `transformers` loads them, read back whatever wrote them, and never trusted."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from chemscale.batch import TextManifest, TokenBatch
from chemscale.cli import main
from chemscale.data.moses import read_embedded
from chemscale.data.sources import embedded
from chemscale.data.tokens import SPECIALS, split_string
from chemscale.models import ChemGPT
from chemscale.models.gptneo import released_config, released_weights
from chemscale.train.released import read_released
from chemscale.use import hub
from chemscale.use.load import load
from chemscale.use.tokenizer import tokenizer, tokenizer_config
from tests.models.test_chemgpt import built, tokens
from tests.train.runs import atoms_run, text_run, train

transformers = pytest.importorskip("transformers")

MOLECULES = 5_000
SHARED = Path(os.environ.get("CHEMSCALE_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "chemgpt"
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]  # the released tokenizers' first ids
LEFT_OVER = ["C", "##C", "##]", "[=Br", "[C]", "[=C]", "[O]", "[Ring1]", "[Branch1_1]", "[Expl=Ring1]"]


@pytest.fixture(scope="module")
def trained(molecules, tmp_path_factory):
    """A trained run, its store, and the folder that it was exported to."""
    run = text_run(molecules)
    store = train(run, tmp_path_factory.mktemp("store") / "s")
    found = load(store, run.id)
    row = store.runs(run_id=run.id).to_pylist()[0]
    return found, store, hub.export(found, tmp_path_factory.mktemp("hub") / "out", row=row, licence="mit")


@pytest.fixture
def released(tmp_path):
    """A folder in the layout of ncfrey/ChemGPT-*: ids outside the vocabulary, no pad token, old mask buffers."""
    model = ChemGPT.sized(width=16, shape="chemgpt")
    vocabulary = [*SPECIAL, *LEFT_OVER]
    module = built(model, len(vocabulary))
    weights = released_weights(model, module.state_dict())
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    for layer in range(model.depth):
        weights[f"transformer.h.{layer}.attn.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        weights[f"transformer.h.{layer}.attn.attention.masked_bias"] = torch.tensor(-1e9)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    config = released_config(model, len(vocabulary)) | {"bos_token_id": 50256, "eos_token_id": 50256}
    config |= {"attention_layers": ["global", "local"] * 12, "intermediate_size": None, "gradient_checkpointing": False}
    write(tmp_path / "config.json", config)
    added = [{"id": i, "special": True, "content": text} for i, text in enumerate(SPECIAL)]
    ids = {text: i for i, text in enumerate(vocabulary)}
    pieces = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": ids}
    write(tmp_path / "tokenizer.json", {"version": "1.0", "added_tokens": added, "model": pieces})
    return tmp_path, module


def write(path, tree):
    path.write_text(json.dumps(tree))


def manifest_of(strings, representation):
    found = sorted({token for string in strings for token in split_string(string, representation)})
    return TextManifest("m", "text", "", 1, {}, {}, vocabulary=(*SPECIALS, *found), representation=representation)


def as_transformers_does(manifest, folder):
    folder.mkdir(exist_ok=True)
    write(folder / "tokenizer.json", tokenizer(manifest))
    write(folder / "tokenizer_config.json", tokenizer_config(manifest, 128))
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def embedded_strings(representation):
    smiles, alphabet, ids, lengths = read_embedded(embedded("moses-test.parquet"))
    if representation == "smiles":
        return smiles[:MOLECULES]
    ends = lengths.cumsum()[:MOLECULES]
    rows = zip(ends - lengths[:MOLECULES], ends, strict=True)
    return ["".join(alphabet[i] for i in ids[start:end]) for start, end in rows]


@pytest.mark.parametrize("representation", ["selfies", "smiles"])
def test_thousands_of_molecules_are_cut_into_our_ids(representation, tmp_path):
    strings = embedded_strings(representation)
    assert len(strings) == MOLECULES
    manifest = manifest_of(strings, representation)
    theirs = as_transformers_does(manifest, tmp_path)
    place = {token: i for i, token in enumerate(manifest.vocabulary)}
    ours = [[1, *(place[token] for token in split_string(string, representation)), 2] for string in strings]
    assert theirs(strings)["input_ids"] == ours
    assert theirs.batch_decode(ours, skip_special_tokens=True) == strings


@pytest.mark.skipif(not SHARED.is_dir(), reason="the released tokenizers are not at hand")
@pytest.mark.parametrize("version", [1, 2])
def test_the_released_vocabularies_are_read_and_written_as_they_are(version, released, tmp_path):
    """Also tokens that are no entry of theirs, which WordPiece cuts into pieces or calls unknown."""
    folder, _ = released
    text = (SHARED / f"tokenizer_selfies{version}.json").read_text()
    (folder / "tokenizer.json").write_text(text)
    rows = len(json.loads(text)["model"]["vocab"])
    model = ChemGPT.sized(width=16, shape="chemgpt")
    torch.save(released_weights(model, built(model, rows).state_dict()), folder / "pytorch_model.bin")
    write(folder / "config.json", released_config(model, rows))
    manifest = read_released(folder).manifest
    assert len(manifest.vocabulary) == rows and (manifest.pad, manifest.start, manifest.end) == (1, 2, 3)
    ours = as_transformers_does(manifest, tmp_path / "ours")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(SHARED / f"tokenizer_selfies{version}.json"))
    strings = [*embedded_strings("selfies"), "[C][Si][13CH1][=N+1][Oexpl][Unheard][Br]"]
    assert ours(strings)["input_ids"] == theirs(strings)["input_ids"]


@pytest.mark.parametrize(
    ("representation", "known", "asked"),
    [
        ("selfies", "[C][=C][O].[N]", "[C][Br].[C][13CH1][=C].[N]"),
        ("smiles", "CCO.c1ccccc1%10", "C[13CH3].[Na+]Br.Cl/C=C\\F%10%11[nH]"),
        ("protein", "MKVL", "MKXXVLB"),
    ],
)
def test_salts_charges_and_strangers_are_cut_alike(representation, known, asked, tmp_path):
    cut = (lambda s, r: list(s)) if representation == "protein" else split_string
    vocabulary = (*SPECIALS, *sorted(set(cut(known, representation))))
    manifest = TextManifest("m", "text", "", 1, {}, {}, vocabulary=vocabulary, representation=representation)
    theirs = as_transformers_does(manifest, tmp_path)
    place = {token: i for i, token in enumerate(vocabulary)}
    ours = [place.get(token, manifest.unknown) for token in cut(asked, representation)]
    assert theirs(asked)["input_ids"] == [1, *ours, 2]


def test_transformers_loads_what_was_exported(trained):
    found, _, folder = trained
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    text = transformers.AutoTokenizer.from_pretrained(folder)
    special = (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id)
    assert special == (0, 1, 2) == (text.pad_token_id, text.bos_token_id, text.eos_token_id)
    assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) == (0, 2)
    examples = found.examples()
    batch = examples.batch(examples.split("test", 16))
    with torch.no_grad():
        logits = model(input_ids=batch.tokens[:, :-1]).logits
        torch.testing.assert_close(logits, found.module(batch), rtol=0, atol=1e-5)
    torch.manual_seed(0)
    start = torch.full((8, 1), model.config.bos_token_id)
    drawn = model.generate(start, attention_mask=torch.ones_like(start), max_length=40)
    assert not set(drawn[:, 1:].flatten().tolist()) & {1, 3}  # start and unknown; the pad follows the end
    strings = text.batch_decode(drawn, skip_special_tokens=True)
    assert all(set(split_string(s, "selfies")) <= set(found.manifest.vocabulary) for s in strings if s)


def test_what_was_exported_comes_back(trained):
    found, _, folder = trained
    back = hub.load_folder(folder)
    assert back.manifest.vocabulary == found.manifest.vocabulary
    assert back.manifest.representation == "selfies"
    assert back.model.attention_scale == 1.0
    batch = tokens(2, 30, len(found.manifest.vocabulary))
    with torch.no_grad():
        torch.testing.assert_close(back.module(batch), found.module(batch), rtol=0, atol=1e-5)


def test_the_card_says_what_it_is(trained):
    found, store, folder = trained
    card = (folder / "README.md").read_text()
    loss = store.runs(run_id=found.run.id).to_pylist()[0]["law_loss"]
    assert card.startswith("---\nlicense: mit\nlibrary_name: transformers\n")
    for said in (f"{loss:.5g} nats/token", "24 test molecules", "100 molecules", "The weights: mit", found.run.id):
        assert said in card, said
    code = card[card.index("```python\n") + 10 :]
    code = code[: code.index("```")].replace("FOLDER", repr(str(folder)))
    exec(compile(code, "card", "exec"), {})  # the example of the card runs as it stands


def test_the_command_exports_and_says_what(trained, tmp_path, capsys):
    found, store, _ = trained
    assert main(["export", str(store.path), "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run_id"] == found.run.id and "model.safetensors" in said["files"]
    assert main(["export", str(store.path), "--out", str(tmp_path / "out")]) == 2
    assert "is there and not empty" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_a_folder_writes_and_reads_as_its_run_does(trained, tmp_path, capsys):
    """The export multiplies factors into its weights: logits within rounding, the same strings, vectors to 1e-4."""
    import pyarrow.parquet as pq

    _, store, folder = trained
    molecules = tmp_path / "some.smi"
    molecules.write_text("CCO\nC(\nCCN\n")
    strings, vectors = [], []
    for place, name in ((str(store.path), "run"), (str(folder), "folder")):
        made, out = tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet"
        assert main(["generate", place, "--n", "30", "--processes", "1", "--out", str(made)]) == 0
        assert f"of {name} " in capsys.readouterr().out
        strings.append([line.split(",")[0] for line in made.read_text().splitlines()])
        assert main(["embed", place, str(molecules), "--processes", "1", "--out", str(out)]) == 0
        vectors.append(torch.tensor([row for row in pq.read_table(out)["embedding"].to_pylist() if row is not None]))
    assert strings[0] == strings[1]
    torch.testing.assert_close(*vectors, rtol=1e-4, atol=1e-4)
    assert main(["generate", str(folder), "--run", "abc"]) == 2
    assert "holds one model; leave out --run abc" in capsys.readouterr().err


def test_a_released_folder_writes_whole_tokens_alone(released, capsys):
    folder, _ = released
    found = hub.load_folder(folder)
    assert [found.manifest.vocabulary[i] for i in found.never] == ["[MASK]", "C", "##C", "##]", "[=Br"]
    assert main(["generate", str(folder), "--n", "4", "--max-tokens", "20", "--processes", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_a_potential_is_not_exported(structures, tmp_path):
    run = atoms_run(structures)
    store = train(run, tmp_path / "s")
    with pytest.raises(ValueError, match="is a painn; only chemgpt has a place on the hub"):
        hub.export(load(store, run.id), tmp_path / "out")


def test_the_released_layout_is_read_to_the_last_bit(released):
    folder, module = released
    found = hub.load_folder(folder)
    assert found.model == ChemGPT.sized(width=16, shape="chemgpt")
    for name, value in module.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], value), name
    roles = found.manifest
    assert (roles.unknown, roles.pad, roles.start, roles.end) == (0, 1, 2, 3)
    assert roles.vocabulary[5:] == tuple(LEFT_OVER)
    assert roles.representation == "selfies"


@pytest.mark.parametrize("kind", ["safetensors", "half", "base", "sharded"])
def test_other_spellings_of_the_layout_are_read_too(kind, released):
    from safetensors.torch import save_file

    folder, module = released
    weights = {k: v for k, v in torch.load(folder / "pytorch_model.bin").items() if not k.startswith("lm_head")}
    (folder / "pytorch_model.bin").unlink()
    within = 0.0
    if kind == "safetensors":
        save_file(weights, folder / "model.safetensors")
    elif kind == "half":
        torch.save(
            {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, folder / "pytorch_model.bin"
        )
        within = 1e-3
    elif kind == "base":  # a GPTNeoModel without its head has no prefix
        torch.save({k.removeprefix("transformer."): v for k, v in weights.items()}, folder / "pytorch_model.bin")
    else:
        names = sorted(weights)
        files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, held in files.items():
            save_file({name: weights[name] for name in held}, folder / file)
        places = {name: file for file, held in files.items() for name in held}
        write(folder / "model.safetensors.index.json", {"weight_map": places})
    found = hub.load_folder(folder)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(found.module.state_dict()[name], value, rtol=within, atol=within)


class Trap:
    """What runs a command when it is unpickled by a careless reader."""

    def __reduce__(self):
        return (open, ("/nonexistent-folder/trap", "w"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: torch.save({"a": Trap()}, f / "pytorch_model.bin"), "pytorch_model.bin holds more than tensors"),
        (lambda f: torch.save([1, 2], f / "pytorch_model.bin"), "no mapping from names to tensors"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut"), "pytorch_model.bin is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"xx"), "is no whole safetensors file"),
        (lambda f: (f / "pytorch_model.bin").unlink(), "has no model.safetensors and no pytorch_model.bin"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is not there"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "has no model.vocab of tokens and ids"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").unlink(), "config.json is not there"),
    ],
)
def test_a_damaged_folder_is_one_sentence(damage, says, released):
    folder, _ = released
    damage(folder)
    with pytest.raises(ValueError, match=says) as caught:
        read_released(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_one_sentence(released):
    folder, _ = released
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["model"]["vocab"] |= {f"[X{i}]": 15 + i for i in range(9)}
    write(folder / "tokenizer.json", tree)
    with pytest.raises(ValueError, match="numbers 24 tokens up to 23, the weights have 15 rows"):
        read_released(folder)
    del tree["added_tokens"][1], tree["model"]["vocab"]["[PAD]"]
    tree["model"]["vocab"] = {text: i for i, text in enumerate(list(tree["model"]["vocab"])[:14])}
    tree["added_tokens"] = []
    write(folder / "tokenizer.json", tree)
    with pytest.raises(ValueError, match=r"tokenizer.json has no pad token \(<pad> or \[PAD\]\)"):
        read_released(folder)


def test_without_the_extra_the_next_step_is_named(trained, tmp_path, monkeypatch):
    found, _, folder = trained
    for name in [name for name in sys.modules if name.split(".")[0] == "safetensors"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install 'chemscale\[hub\]'"):
        hub.export(found, tmp_path / "out")
    with pytest.raises(ValueError, match=r"pip install 'chemscale\[hub\]'"):
        hub.load_folder(folder)
    assert not list(tmp_path.iterdir())


def test_the_released_layout_is_what_transformers_says(released):
    """Hugging Face reads the same folder to the same logits."""
    folder, module = released
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    batch = TokenBatch(torch.randint(0, 15, (2, 30)), torch.tensor([30, 30]))
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=batch.tokens[:, :-1]).logits, module(batch), rtol=0, atol=1e-5)
