"""Memory of each worker, counted on shapes alone; the choices that a machine is measured by."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chemscale.batch import TextManifest
from chemscale.models import ChemGPT, SchNet
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.sweep.memory import memory_of
from chemscale.sweep.tuning import ROUNDS, WORTH, padding, tune
from chemscale.train.rows import training_cost
from tests.models.batches import MANIFEST as ATOMS
from tests.train.runs import text_run

MANIFEST = TextManifest("m", "text", "c", 1, {}, {}, vocabulary=tuple(map(str, range(684))), longest=512)
PARAMETERS = 1_214_050_304  # ChemGPT-1.2B
LARGE = RunSpec(ChemGPT.sized(width=2048, shape="chemgpt"), Data("m", size=100), Optim(lr=2e-5, batch=16))
SHARDED = {"workers": 8, "sharding": "fsdp", "gpus": 1}


@pytest.fixture(scope="module")
def large():
    """Of the largest released shape, which nothing here could hold: what it costs, counted on the meta device."""
    counted = training_cost(LARGE, MANIFEST)

    def memory(**resources):
        return memory_of(LARGE, Resources(**resources), counted, {"tokens": np.array([35, 511])}, MANIFEST)

    return counted, memory


def test_the_largest_shape_is_counted_without_being_held(large):
    counted, memory = large
    alone, shared = memory(), memory(**SHARDED)
    assert counted.parameters["all"] == PARAMETERS
    assert alone.state == 16 * PARAMETERS
    assert shared.state == 2 * PARAMETERS
    assert alone.gathered == 0
    block = 12 * 2048**2 + 10 * 2048  # query, key, value, output, two of 4 x width; norms and biases
    assert shared.gathered == pytest.approx(8 * block, rel=1e-3)
    assert alone.activations == pytest.approx(8 * shared.activations)  # 16 examples, or 2 on each of 8


def test_recomputation_keeps_one_block_and_the_inputs_of_all(large):
    memory = large[1]
    kept, recomputed = memory(**SHARDED), memory(**SHARDED, activations="recomputed")
    inputs = 2 * 24 * 511 * 2048 * 4
    assert kept.state == recomputed.state
    assert inputs + kept.activations / 24 < recomputed.activations < inputs + kept.activations / 6


def test_averages_and_best_weights_are_copies_more(large):
    counted, memory = large
    units = {"tokens": np.array([35, 511])}

    def snapshots(optim=LARGE.optim, **changes):
        run = replace(LARGE, optim=optim, **changes)
        return memory_of(run, Resources(**SHARDED), counted, units, MANIFEST).snapshots

    assert memory(**SHARDED).snapshots == 0
    assert snapshots(replace(LARGE.optim, ema=0.999)) == PARAMETERS * 4 / 8
    assert snapshots(replace(LARGE.optim, ema=0.999), budget=Budget(epochs=2)) == PARAMETERS * 2 * 4 / 8


def test_the_tables_of_schnet_are_held_once():
    """As many values in float64 as each filter network has at its knots, and more that its gradient needs."""
    run = RunSpec(SchNet.sized(width=32), Data("m", size=100), Optim(lr=1e-3, batch=2))
    counted = training_cost(run, ATOMS)
    units = {"atoms": np.array([9, 20]), "pairs": np.array([30, 150])}
    memory = memory_of(run, Resources(), counted, units, ATOMS)
    module = run.model.build(ATOMS)
    least = len(module.table.sites()) * run.model.width * 8 * run.model.depth
    assert least < memory.tables < 10 * least
    assert memory.activations == 2 * counted.bytes({name: n[1:] for name, n in units.items()})[0]


def test_padding_has_a_closed_form():
    assert padding(np.array([4, 1, 3, 2]), 2) == pytest.approx(1 - 10 / (2 * 2 + 2 * 4))
    assert padding(np.array([5, 5, 5]), 2) == 0


@pytest.fixture
def unfused(monkeypatch):
    """Blocks that pass for compiled ones: what a compiler makes is measured elsewhere, and takes a minute."""
    monkeypatch.setattr(torch, "compile", lambda run, **how: run)


def test_choices_are_measured_beside_the_run_as_it_is(molecules, unfused):
    run = text_run(molecules)
    told = []
    (tuned,) = tune([run, text_run(molecules, seed=1)], told=lambda done, total: told.append((done, total)))
    assert told == [(done, len(told) - 1) for done in range(len(told))]
    fields = [choice.field for choice in tuned.choices]
    assert fields[0] == "as asked"
    assert {"precision", "micro_batch", "layout", "compile"} <= set(fields)
    assert tuned.choices[0].ratio == 1
    assert all(choice.rate > 0 for choice in tuned.choices)
    spilt = {choice.value: choice.padding for choice in tuned.choices if choice.field in ("as asked", "layout")}
    assert spilt[None] == 0 < spilt["padded"] < 0.6
    for field, value in tuned.recommended.items():
        assert next(c for c in tuned.choices if (c.field, c.value) == (field, value)).ratio >= WORTH
    assert ROUNDS >= 3


def test_the_command_line_shows_what_was_measured(molecules, tmp_path, capsys, unfused):
    from chemscale.cli import main

    text_run(molecules)  # builds the data
    recipe = tmp_path / "one.py"
    recipe.write_text(
        "import chemscale as cs\n\n\ndef recipe(source):\n"
        "    run = cs.RunSpec(cs.ChemGPT.sized(width=8), cs.Data(source, size=60), cs.Optim(lr=0.01, batch=16))\n"
        "    return cs.Grid(run, models=[run.model], sizes=(60,), seeds=(0, 1))\n"
    )
    assert main(["show", str(recipe), "--set", f"source={molecules}", "--tune"]) in (None, 0)
    printed = capsys.readouterr().out
    assert printed.count("chemgpt, width 8, depth 4, batch 16:") == 1  # two seeds are one kind of cell
    assert "bfloat16_linears" in printed and "recommended: " in printed
