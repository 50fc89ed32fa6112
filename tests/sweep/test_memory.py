"""Memory of each worker, counted on shapes alone; the choices that a machine is measured by."""

import numpy as np
import pytest

from chemscale.batch import TextManifest
from chemscale.models import ChemGPT
from chemscale.spec import Data, Optim, Resources, RunSpec
from chemscale.sweep.memory import memory_of
from chemscale.sweep.tuning import ROUNDS, WORTH, padding, tune
from chemscale.train.rows import training_cost
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


def test_padding_has_a_closed_form():
    assert padding(np.array([4, 1, 3, 2]), 2) == pytest.approx(1 - 10 / (2 * 2 + 2 * 4))
    assert padding(np.array([5, 5, 5]), 2) == 0


def test_choices_are_measured_beside_the_run_as_it_is(molecules):
    run = text_run(molecules)
    (tuned,) = tune([run, text_run(molecules, seed=1)])
    fields = [choice.field for choice in tuned.choices]
    assert fields[0] == "as asked"
    assert {"precision", "micro_batch", "layout"} <= set(fields)
    assert tuned.choices[0].ratio == 1
    assert all(choice.rate > 0 for choice in tuned.choices)
    spilt = {choice.value: choice.padding for choice in tuned.choices if choice.field in ("as asked", "layout")}
    assert spilt[None] == 0 < spilt["padded"] < 0.6
    for field, value in tuned.recommended.items():
        assert next(c for c in tuned.choices if (c.field, c.value) == (field, value)).ratio >= WORTH
    assert ROUNDS >= 3


def test_the_command_line_shows_what_was_measured(molecules, tmp_path, capsys):
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
