"""The paper's study: what it asks for, what it would cost, and that it runs, small."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from chemscale.cli import main
from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Data, Optim, Resources
from chemscale.sweep import estimate
from chemscale.sweep.estimate import costs
from chemscale.sweep.gpus import Assumed
from chemscale.sweep.likeness import costs_like
from chemscale.sweep.recipe import load_recipe
from chemscale.train.complete import complete
from chemscale.train.optim import lr_share
from chemscale.train.session import train_in_store
from tests.models.test_chemgpt import TABLE
from tests.sweep.test_estimate import runs  # noqa: F401  # a fixture

RECIPE = "tune_jobs/frey2023_chemgpt.py"
SMALL = {"widths": (16, 32), "sizes": (100, 200), "valid": 16, "test": 16}


@pytest.fixture
def pubchem(molecules, tmp_path):
    """A small file of the shape of pubchem_10m.txt.zip: one text file of one SMILES a line, zipped."""
    path = tmp_path / "pubchem_10m.txt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pubchem_10m.txt", Path(molecules).read_text())
    return str(path)


def test_the_grid_is_the_papers():
    cells = load_recipe(RECIPE).runs()
    assert len(cells) == 48
    assert {run.model for run in cells} == {ChemGPT.sized(width=w, shape="chemgpt") for w, *_ in TABLE}
    assert list(dict.fromkeys(run.data.size for run in cells)) == [100, 1_000, 10_000, 100_000, 1_000_000, None]


def test_as_released_is_the_released_code():
    released = load_recipe(RECIPE, {"settings": "as_released"}).runs()
    assert list(dict.fromkeys(run.data.size for run in released)) == [6, 62, 625, 6_250, 62_500, None]
    assert {(run.optim.lr, run.optim.batch, run.budget.epochs) for run in released} == {(2e-5, 16, 2)}
    optim = released[0].optim
    rates = [optim.lr * lr_share(step, 8, optim, epoch=step // 4) for step in range(8)]
    assert rates == pytest.approx([0.0] * 4 + [2e-7] * 4)


def test_a_warm_up_that_is_stepped_by_epochs_ends():
    """As torch's LambdaLR does with transformers' get_constant_schedule_with_warmup, stepped once an epoch."""
    optim = Optim(lr=1.0, cooldown=0.0, epoch_warmup=4)
    assert [lr_share(k, 12, optim, epoch=k // 2) for k in range(12)] == [
        0,
        0,
        0.25,
        0.25,
        0.5,
        0.5,
        0.75,
        0.75,
        *[1] * 4,
    ]
    assert optim.warmup == 0.0 and Optim(lr=1.0).epoch_warmup is None
    with pytest.raises(ValueError, match="exclude each other"):
        Optim(epoch_warmup=4, warmup_updates=2)


def test_a_mistake_is_one_sentence(capsys):
    for given, says in ((["--set", "settings=best"], "use sane or as_released"), (["--utilisation", "3"], "at most 1")):
        assert main(["show", RECIPE, *given, "--set", "widths=(16,)", "--set", "sizes=(100,)"]) == 2
        assert says in capsys.readouterr().err


def test_a_stand_in_costs_what_the_data_themselves_do(runs):  # noqa: F811
    """The same molecules, reckoned with as a stand-in: FLOPs differ only by which of them are in the subset."""
    likely, truth = costs_like(runs, runs[0].data.source), costs(runs)
    for cell, known in zip(likely, truth, strict=True):
        assert (cell.params, cell.params_all, cell.updates) == (known.params, known.params_all, known.updates)
        assert cell.flops == pytest.approx(known.flops, rel=0.05)
        assert cell.memory == pytest.approx(known.memory, rel=0.05)
        assert known.seconds / 4 < cell.seconds < known.seconds * 4  # timed on whatever else this machine does


def test_time_grows_with_work_past_what_is_timed(runs, monkeypatch):  # noqa: F811
    """A small step is slow for its FLOPs, and a bare matrix product fast: no model may fall from one to the other."""
    monkeypatch.setattr(estimate, "_seconds", lambda *_: (1.0, 0.0, 0.3))
    monkeypatch.setattr(estimate, "_matrix_rate", lambda: 1e15)
    models = [ChemGPT(depth=2, heads=4, width=width) for width in (16, 32, 64)]
    made = [complete(replace(runs[0], model=model, optim=Optim(lr=1e-3, batch=8))) for model in models]
    each = [cell.flops / cell.run.examples for cell in costs_like(made, runs[0].data.source)]
    monkeypatch.setattr(estimate, "TIMED_FLOPS", each[2] / 1.5)  # the largest is not timed, not even one example
    seconds = [cell.seconds for cell in costs_like(made, runs[0].data.source)]
    assert seconds == sorted(seconds) and seconds[2] > 1.2 * seconds[0]


def test_hours_and_money_are_arithmetic(runs):  # noqa: F811
    """1.4e18 FLOPs at 19.5e12 x 0.5 a second: 39.9 hours."""
    assert Assumed("a100", 0.5).hours(runs[0], 1.4e18) == pytest.approx(39.886, rel=1e-4)
    with pytest.raises(ValueError, match="gpu='v100' has no bfloat16"):
        Assumed("v100").peak("bfloat16")


@pytest.mark.slow
def test_show_prints_cells_memory_hours_and_cost_before_the_data_are_here(capsys):
    given = ["show", RECIPE, "--set", "widths=(16, 512, 1024, 2048)"]
    assert main([*given, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == 24
    table = {width: count for width, count, _ in TABLE}
    assert all(cell["params"] == table[cell["width"]] for cell in cells)
    largest = cells[-1]
    assert largest["size"] == 10**7
    ends = [cell for cell in cells if cell["size"] == 10**7]
    assert [cell["seconds"] for cell in ends] == sorted(cell["seconds"] for cell in ends)
    floor = 6 * table[2048] * 10**7 * 30  # six FLOPs for each parameter and token, of which MOSES has 34.5 a molecule
    assert floor < largest["flops"] < 2 * floor
    assert largest["gpu_hours"] == pytest.approx(largest["flops"] / (19.5e12 * 0.3) / 3600)
    assert largest["money"] == pytest.approx(2 * largest["gpu_hours"])
    state = 16 * table[2048] / 4  # weights, gradients and two moments, four bytes each, over the recipe's four workers
    activations = 16 * 24 * 40 * 2048 * 20 * 4  # 16 rows of over 40 tokens, 24 blocks that keep twenty vectors at least
    assert largest["memory_bytes"] > state + activations
    assert main([*given, "--gpu", "h100", "--utilisation", "0.4", "--price", "3"]) == 0
    out = capsys.readouterr().out
    assert "GPU-hours" in out and "40% of a h100's 67 TFLOP/s in float32" in out
    assert "pubchem_10m.txt.zip stands behind moses" in out


@pytest.mark.slow
def test_it_trains_small_on_a_zipped_file_and_is_read_slice_by_slice(pubchem, tmp_path, capsys):
    runs_ = [run for settings in ("sane", "as_released") for run in _small(pubchem, settings)]
    store = Store(tmp_path / "s", create=True)
    for run in runs_:
        train_in_store(run, store.path, resources=Resources())
    rows = {row["run_id"]: row for row in store.runs().to_pylist()}
    still = [rows[run.id]["law_loss"] for run in runs_ if run.optim.lr == 2e-5]
    moved = [rows[run.id]["law_loss"] for run in runs_ if run.optim.lr != 2e-5]
    assert min(still) > max(moved)  # at these rates nothing is learnt
    where = "lr > 1e-4"
    assert (
        main(["fit", str(store.path), "--loss", "nats_per_token", "--form", "sliced", "--where", where, "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert [part["data"] for part in said["slices"]] == [100, 200]
    assert said["columns"] == {"params": "params", "data": "molecules", "loss": "nats_per_token"}


def _small(source, settings):
    from chemscale import data
    from chemscale.spec import Budget, Evaluation

    data.build(source, progress=False, processes=1)
    small = load_recipe(RECIPE, {**SMALL, "source": source, "settings": settings}).runs()
    lighter = ChemGPT(depth=2, heads=16, width=16, window=256, attention_scale=1.0, activation="gelu_new", init=0.02)
    budget = Budget(updates=30) if settings == "sane" else Budget(epochs=2)
    return [
        complete(
            replace(
                run, model=replace(lighter, width=run.model.width), budget=budget,
                evaluation=Evaluation(points=2, valid=16, test=16), data=replace(run.data, source=source),
            )
        )
        for run in small
    ]  # fmt: skip


def test_the_recipe_reads_the_zipped_file(pubchem):
    from chemscale import data

    data.build(pubchem, progress=False, processes=1)
    for settings, sizes in (("sane", [100, 200]), ("as_released", [6, 12])):
        made = [complete(r) for r in load_recipe(RECIPE, {**SMALL, "source": pubchem, "settings": settings}).runs()]
        assert sorted({run.data.size for run in made}) == sizes
        assert len({run.id for run in made}) == 4
    assert Data(pubchem).source.endswith(".txt.zip")
