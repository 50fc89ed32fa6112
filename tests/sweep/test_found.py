"""What a search that is over says: on the command line, by cell, with edges and the front."""

import json
import textwrap
from dataclasses import replace

import pytest

from chemscale.cli import main
from chemscale.records.store import Store
from chemscale.sweep.preparation import prepare
from chemscale.sweep.recipe import load_recipe
from tests.sweep.records import record

RECIPE = """
from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep import Grid, Search, choice, loguniform, when

def recipe(source=None, objectives=("valid_loss",), widths=(4, 8)):
    base = RunSpec(model=ChemGPT.sized(width=4), data=Data(source, size=100), optim=Optim(batch=8),
                   budget=Budget(updates=16))
    space = {"optim.shape": choice("linear", "sqrt"), "optim.lr": loguniform(1e-4, 1e-1),
             "optim.cooldown": when("optim.shape", {"sqrt": choice(0.1, 0.2, 0.4)})}
    return Search(Grid(base, models=[ChemGPT.sized(width=w) for w in widths]), space, samples=3,
                  objectives=objectives, sampler="random", name="mine")
"""

POINTS = (
    {"optim.shape": "linear", "optim.lr": 1.1e-4},
    {"optim.shape": "sqrt", "optim.lr": 1e-3, "optim.cooldown": 0.2},
    {"optim.shape": "sqrt", "optim.lr": 1e-2, "optim.cooldown": 0.4},
)
LOSSES = ((1.0, 2.0, 3.0), (3.0, 1.0, 2.0))  # by cell


@pytest.fixture
def over(molecules, tmp_path):
    """A recipe and a store that holds every run of its search; nothing is left to train."""
    recipe, path = tmp_path / "recipe.py", tmp_path / "store"
    recipe.write_text(textwrap.dedent(RECIPE))
    search = load_recipe(str(recipe), {"source": molecules})
    search = replace(search, base=tuple(prepare(search.cells, None)))
    store = Store(path, create=True)
    for cell, losses in enumerate(LOSSES):
        for k, (values, loss) in enumerate(zip(POINTS, losses, strict=True)):
            run = search.run({"cell": cell, **values})
            record(store, run, [4.0, loss], study="mine", flops=[1.0, 5.0, 2.0][k])
    return [str(recipe), "--set", f"source={molecules}", "--store", str(path)]


def told(capsys, *arguments):
    status = main(["search", *arguments])
    return status, capsys.readouterr().out


def test_every_cell_has_its_verdict_and_its_edges(over, capsys):
    status, out = told(capsys, *over)
    assert status == 0
    verdicts = out.strip().splitlines()[-2:]
    assert verdicts[0] == (
        "chemgpt w4 n100: best optim.shape linear, optim.lr 0.00011, valid_loss 1; at the edge of optim.lr: "
        "widen the space."
    )
    assert verdicts[1] == "chemgpt w8 n100: best optim.shape sqrt, optim.lr 0.001, optim.cooldown 0.2, valid_loss 1."
    rows = json.loads(told(capsys, *over, "--json")[1])
    assert [row["cell"] for row in rows] == ["chemgpt w4 n100"] * 3 + ["chemgpt w8 n100"] * 3
    assert [row["valid_loss"] for row in rows] == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    assert [row["optim.cooldown"] for row in rows] == [None, 0.2, 0.4, 0.2, 0.4, None]


def test_one_cell_needs_no_column_that_names_it(over, capsys):
    rows = json.loads(told(capsys, *over, "--set", "widths=(8,)", "--json")[1])
    assert [row["valid_loss"] for row in rows] == [1.0, 2.0, 3.0]
    assert "cell" not in rows[0]


def test_two_objectives_mark_their_front(over, capsys):
    arguments = [*over, "--set", "objectives=('valid_loss','flops')"]
    rows = json.loads(told(capsys, *arguments, "--json")[1])
    assert [(row["valid_loss"], row["flops"], row["front"]) for row in rows[3:]] == [
        (1.0, 5.0, True), (2.0, 2.0, True), (3.0, 1.0, True),
    ]  # fmt: skip
    assert [row["front"] for row in rows[:3]] == [True, False, False]
    assert "3 runs on the front of valid_loss, flops" in told(capsys, *arguments)[1]


def test_show_counts_the_runs_of_every_cell(over, capsys):
    main(["show", *over[:3]])
    assert "6 runs" in capsys.readouterr().out
