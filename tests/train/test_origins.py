"""Runs that start from trained weights: whose, in which rows, under which id, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chemscale.batch import AtomicManifest, TextManifest
from chemscale.cli import main
from chemscale.laws.tables.selection import select
from chemscale.models import ChemGPT, PaiNN
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.spec import Budget, InitFrom, Optim, Resources, from_json
from chemscale.train import origins
from chemscale.train.complete import complete
from chemscale.train.origins import Match, match
from chemscale.train.session import train_in_store
from chemscale.train.state import kept_weights
from chemscale.use import hub
from chemscale.use.load import load
from chemscale.use.release import export_potential
from tests.models.test_chemgpt import manifest as text_manifest
from tests.train.group import Job, on_two_workers
from tests.train.runs import atoms_run, text_run, train
from tests.train.test_descent import go

FEW = Budget(updates=3)
STILL = Optim(lr=1e-30, batch=16, clip=None)  # nothing moves: what is kept at the end is what it started from
RELEASED = ChemGPT(width=8, depth=2, heads=2, window=16, attention_scale=1.0, activation="gelu_new", init=0.02)


@pytest.fixture(scope="module")
def base(molecules, tmp_path_factory):
    """A trained run and its store."""
    run = text_run(molecules)
    return run, train(run, tmp_path_factory.mktemp("base") / "s")


@pytest.fixture(scope="module")
def folder(molecules, tmp_path_factory):
    """A run of GPT-Neo's own kind, its store, and the hub folder that it was exported to."""
    run = text_run(molecules, model=RELEASED)
    path = tmp_path_factory.mktemp("released")
    store = train(run, path / "s")
    return run, store, hub.export(load(store, run.id), path / "hub")


def warm(molecules, init, **changes):
    return text_run(molecules, **{"init_from": init, "budget": FEW, **changes})


@pytest.fixture(scope="module")
def others(tmp_path_factory, molecules):
    """Other molecules, with elements that the first ones lack and without some that they have."""
    path = tmp_path_factory.mktemp("others") / "others.smi"
    kept = [line for line in Path(molecules).read_text().split() if "F" not in line and "S" not in line]
    path.write_text("\n".join([*kept[:150], *(f"{'C' * n}[Si](C)(C)Br" for n in range(1, 40))]) + "\n")
    return str(path)


def test_it_starts_where_the_other_run_ended(molecules, base, tmp_path):
    run, store = base
    again = warm(molecules, InitFrom(str(store.path), run.id[:6]), optim=STILL)
    assert (again.init_from.run, again.init_from.fresh) == (run.id, 0)
    done = train(again, tmp_path / "s")
    before, after = kept_weights(store, run.id), kept_weights(done, again.id)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, row = store.runs().to_pylist()[0], done.runs().to_pylist()[0]
    assert row["nats_per_token"] == pytest.approx(first["nats_per_token"], rel=1e-6)
    assert (row["init_content"], row["init_from"]) == (again.init_from.content, again.init_from.label)
    assert (row["init_matched"], row["init_fresh"]) == (len(load(store, run.id).manifest.vocabulary), 0)
    assert row["lineage"] is None and first["init_content"] is None


def test_training_goes_on_to_a_lower_loss(molecules, base, tmp_path):
    run, store = base
    cold, warmed = text_run(molecules, budget=FEW), warm(molecules, InitFrom(str(store.path), run.id))
    losses = [train(one, tmp_path / one.id).runs().to_pylist()[0]["law_loss"] for one in (cold, warmed)]
    assert losses[1] < losses[0] - 0.1


def test_the_id_is_made_of_the_weights_not_of_the_path(molecules, base, folder, tmp_path):
    run, store = base
    one = warm(molecules, InitFrom(str(store.path), run.id))
    elsewhere = Store(tmp_path / "copy", create=True)
    train_in_store(run, elsewhere.path, resources=Resources())
    assert warm(molecules, InitFrom(str(elsewhere.path), run.id)).id == one.id
    released, kept, out = folder
    from_run, from_folder = (
        warm(molecules, init, model=RELEASED) for init in (InitFrom(str(kept.path), released.id), InitFrom(str(out)))
    )
    assert from_run.id == from_folder.id  # the same weights through either door
    assert len({one.id, from_run.id, text_run(molecules, budget=FEW).id}) == 3
    assert from_json(one.to_json()) == one


def test_a_changed_checkpoint_is_another_run(molecules, folder, tmp_path):
    from safetensors.torch import load_file, save_file

    _, _, out = folder
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in out.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first = warm(molecules, InitFrom(str(copy)), model=RELEASED)
    weights = load_file(copy / "model.safetensors")
    weights["transformer.ln_f.bias"] = weights["transformer.ln_f.bias"] + 1e-3
    save_file(weights, copy / "model.safetensors")
    assert warm(molecules, InitFrom(str(copy)), model=RELEASED).id != first.id
    with pytest.raises(ValueError, match="is not what"):
        complete(first)
    with pytest.raises(ValueError, match="changed since the run was planned"):
        train(first, tmp_path / "s")


def test_tokens_are_matched_by_what_they_say(molecules, others, base, tmp_path):
    run, store = base
    there = warm(others, InitFrom(str(store.path), run.id), optim=STILL, seed=5)
    cold = text_run(others, budget=FEW, optim=STILL, seed=5)
    weights = [kept_weights(train(one, tmp_path / one.id), one.id) for one in (there, cold)]
    table, drawn, known = weights[0]["wte.weight"], weights[1]["wte.weight"], kept_weights(store, run.id)["wte.weight"]
    old, new = load(store, run.id).manifest.vocabulary, load(Store(tmp_path / there.id), there.id).manifest.vocabulary
    assert old != new and {"[Si]"} <= set(new) - set(old)
    for i, token in enumerate(new):
        expected = known[old.index(token)] if token in old else drawn[i]
        assert torch.equal(table[i], expected), token
    assert there.init_from.fresh == len(set(new) - set(old))
    assert there.init_from.matched == len(set(new) & set(old))


def test_special_tokens_are_matched_by_what_they_do():
    ours = text_manifest(6)
    theirs = TextManifest(
        "t", "text", "", 0, {}, {}, vocabulary=("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[5]", "[MASK]"),
        unknown=0, pad=1, start=2, end=3,
    )  # fmt: skip
    assert match(ours, theirs) == Match({0: 1, 1: 2, 2: 3, 3: 0, 5: 4}, ("[4]",))
    species = [AtomicManifest("a", "structures", "", 0, {}, {}, species=z) for z in ((1, 6, 17), (1, 6, 8))]
    assert match(*species) == Match({0: 0, 1: 1}, ("17",))


def test_tokens_of_selfies_2_find_their_rows_in_a_model_of_selfies_1():
    ours = ("<pad>", "<start>", "<end>", "<unknown>", "[=Branch1]", "[=Ring2]", "[C@@H1]", "[NH1+1]", "[C]")
    theirs = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[C]", "[Branch1_2]", "[Expl=Ring2]", "[NH+expl]", "[Branch1_1]")
    now, before = (
        TextManifest("t", "text", "", 0, {}, {}, vocabulary=ours),
        TextManifest("t", "text", "", 0, {}, {}, vocabulary=theirs, unknown=0, pad=1, start=2, end=3),
    )
    assert match(now, before) == Match({0: 1, 1: 2, 2: 3, 3: 0, 4: 5, 5: 6, 7: 7, 8: 4}, ("[C@@H1]",))
    back = match(before, now)
    assert back.rows == {old: new for new, old in match(now, before).rows.items()}
    assert back.fresh == ("[Branch1_1]",)


def test_a_folder_of_the_hub_suits_the_shape_that_it_was_exported_from(molecules, base, tmp_path):
    """A balanced model is exported with its attention scale in the queries; starting from the folder takes it out."""
    run, store = base
    out = hub.export(load(store, run.id), tmp_path / "hub")
    again = warm(molecules, InitFrom(str(out)), optim=STILL)
    before, after = kept_weights(store, run.id), kept_weights(train(again, tmp_path / "s"), again.id)
    for name, value in before.items():  # heads 8 wide: 1 / sqrt(8) is rounded twice
        torch.testing.assert_close(after[name], value, rtol=1e-6, atol=0)


def test_a_shorter_context_takes_the_first_positions(molecules, folder, tmp_path):
    run, store, out = folder
    short = warm(molecules, InitFrom(str(out)), model=replace(RELEASED, context=64), optim=STILL)
    positions = kept_weights(train(short, tmp_path / "s"), short.id)["wpe.weight"]
    assert torch.equal(positions, kept_weights(store, run.id)["wpe.weight"][:64])


def test_a_potential_starts_from_one_with_other_elements(structures, tmp_path):
    run = atoms_run(structures)
    store = train(run, tmp_path / "a")
    again = atoms_run(structures, init_from=InitFrom(str(store.path), run.id), optim=Optim(lr=1e-30, clip=None))
    after = kept_weights(train(again, tmp_path / "b"), again.id)
    assert all(torch.equal(after[name], value) for name, value in kept_weights(store, run.id).items())


def test_an_exported_potential_is_the_origin_that_its_run_is(structures, tmp_path):
    run = atoms_run(structures)
    store = train(run, tmp_path / "a")
    out = export_potential(load(store, run.id), tmp_path / "out", program="none")
    again, known = (atoms_run(structures, init_from=i) for i in (InitFrom(str(out)), InitFrom(str(store.path), run.id)))
    assert again.id == known.id
    (tmp_path / "out" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"does not hold the weights of config.json: .*; export it again"):
        atoms_run(structures, init_from=InitFrom(str(out)))


def test_it_survives_a_kill_and_does_not_need_the_origin_again(molecules, base, tmp_path):
    run, _ = base
    origin = Store(tmp_path / "origin", create=True)
    train_in_store(run, origin.path, resources=Resources())
    again = warm(molecules, InitFrom(str(origin.path), run.id), budget=Budget(updates=12))
    calm = train(again, tmp_path / "calm")
    killed = Store(tmp_path / "killed", create=True)
    go(again, killed, stop_at=1)
    (origin.path / "store.json").unlink()
    go(again, killed)
    assert equal(killed.points(), calm.points(), POINTS)
    assert equal(killed.runs(), calm.runs(), RUNS)


@pytest.mark.slow
def test_every_layout_starts_from_the_same_weights(molecules, base, tmp_path):
    run, store = base
    again = warm(molecules, InitFrom(str(store.path), run.id), optim=STILL)
    jobs = [
        Job(again, str(tmp_path / sharding), Resources(workers=2, sharding=sharding)) for sharding in ("ddp", "fsdp")
    ]
    on_two_workers(jobs, tmp_path)
    before = kept_weights(store, run.id)
    for job in jobs:
        after = kept_weights(Store(job.store), again.id)
        assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (ChemGPT.sized(width=16), r"has ChemGPT.width=8, this run's model ChemGPT.width=16; give the run the model"),
        (replace(ChemGPT.sized(width=8), depth=5), "has ChemGPT.depth=4, this run's model ChemGPT.depth=5"),
        (ChemGPT.sized(width=8, context=256), "has ChemGPT.context=128, this run's model ChemGPT.context=256"),
        (replace(ChemGPT.sized(width=8), tied=False), "has ChemGPT.tied=True"),
    ],
)
def test_weights_of_another_model_are_one_sentence(model, says, molecules, base):
    run, store = base
    with pytest.raises(ValueError, match=says) as caught:
        warm(molecules, InitFrom(str(store.path), run.id), model=model)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_one_sentence(molecules, structures, base, tmp_path):
    run, store = base
    path = str(store.path)
    mistakes = {
        "is a chemgpt, this run's model a painn": lambda: atoms_run(structures, init_from=InitFrom(path, run.id)),
        "holds no config.json; give a folder of the hub": lambda: warm(molecules, InitFrom(path)),
        "is not a chemscale store": lambda: warm(molecules, InitFrom(str(tmp_path), "abc")),
        "an InitFrom or None": lambda: warm(molecules, path),
        "InitFrom.source=''": lambda: InitFrom(""),
        "no id while init_from.content is open": lambda: replace(run, init_from=InitFrom(path, run.id)).id,
    }
    for says, make in mistakes.items():
        with pytest.raises(ValueError, match=says) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_weights_that_were_not_kept_are_one_sentence(molecules, tmp_path):
    run = text_run(molecules, budget=FEW)
    store = train(run, tmp_path / "s", keep="none")
    with pytest.raises(ValueError, match="has no weights"):
        warm(molecules, InitFrom(str(store.path), run.id))


def test_a_grid_looks_at_an_origin_once(molecules, base, monkeypatch):
    run, store = base
    origins._of_run.cache_clear()
    reads = []
    original = origins.read
    monkeypatch.setattr(origins, "read", lambda init: reads.append(init) or original(init))
    for seed in range(3):
        warm(molecules, InitFrom(str(store.path), run.id), seed=seed)
    assert len(reads) == 1


def test_laws_keep_them_apart():
    table = {"params": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "init_content": [None, "a", "a"]}
    alone, notes = select(table)
    assert alone["params"] == [1] and "2 runs that started from trained weights" in notes[0]
    warmed, notes = select(table, "init_content != None")
    assert warmed["params"] == [2, 3] and not notes


def test_the_command_starts_from_a_run(molecules, base, tmp_path, capsys):
    run, store = base
    given = ["train", "chemgpt", "--width", "8", "--data", molecules, "--size", "100", "--updates", "2"]
    given += ["--set", "evaluation.points=1", "--set", "evaluation.valid=8", "--set", "evaluation.test=8"]
    status = main([*given, "--init-from", str(store.path), "--init-run", run.id, "--store", str(tmp_path / "s")])
    assert status == 0
    assert f"starts from run {run.id}" in capsys.readouterr().out
    assert main([*given, "--init-run", run.id, "--store", str(tmp_path / "t")]) == 2
    assert "needs --init-from STORE" in capsys.readouterr().err


def test_the_command_takes_the_model_of_the_weights(molecules, folder, tmp_path, capsys):
    """Of a folder, or of the best run of a store, which are the same weights here and so the same run."""
    _, store, path = folder
    given = ["train", "chemgpt", "--data", molecules, "--size", "100", "--updates", "2", "--json"]
    given += ["--set", "evaluation.points=1", "--set", "evaluation.valid=8", "--set", "evaluation.test=8"]
    for source in (path, store.path):
        assert main([*given, "--init-from", str(source), "--store", str(tmp_path / "s")]) == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["width"], row["depth"], row["init_fresh"]) == (RELEASED.width, RELEASED.depth, 0)
        assert Store(tmp_path / "s").spec(row["run_id"]).model == RELEASED


def test_an_origin_is_known_where_its_data_are_gone(molecules, base, tmp_path):
    run, _ = base
    moved = replace(run, data=replace(run.data, source="nowhere.smi"))
    assert origins._manifest(moved) == origins._manifest(run)


def test_a_potential_of_another_kind_is_refused(structures, tmp_path):
    run = atoms_run(structures)
    store = train(run, tmp_path / "a")
    with pytest.raises(ValueError, match=r"has PaiNN.width=8, this run's model PaiNN.width=16"):
        atoms_run(structures, PaiNN.sized(width=16), init_from=InitFrom(str(store.path), run.id))
