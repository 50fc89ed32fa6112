"""Recipes of potentials: what they ask for, what they would cost, and that they run, small."""

import json
import math

import ase.io
import pytest
import torch

from chemscale import data
from chemscale.cli import main
from chemscale.laws.tables.selection import select
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep.recipe import load_recipe
from chemscale.train.complete import complete
from chemscale.train.session import train_in_store
from tests.models.batches import MANIFEST, joined, loss, molecule

FREY = "tune_jobs/frey2023_potentials.py"
TINY = {"valid": 8, "test": 8, "source": "fragments-gfn2"}


def test_every_architecture_is_trained_at_every_depth_width_and_size():
    cells = load_recipe(FREY).runs()
    assert len(cells) == 4 * 2 * 3 * 5
    assert {run.model.architecture for run in cells} == {"schnet", "painn", "allegro", "spookynet"}
    assert {(run.model.depth, run.model.width) for run in cells} == {(d, w) for d in (2, 4) for w in (16, 64, 256)}
    assert [run.data.size for run in cells[:5]] == [100, 1_000, 10_000, 100_000, None]


@pytest.mark.parametrize(("architecture", "widths"), [("schnet", 6), ("painn", 5)])
def test_ladders_have_three_trainings_at_each_corner(architecture, widths):
    cells = load_recipe("tune_jobs/schnet_scaling.py", {"architecture": architecture}).runs()
    assert len(cells) == widths * 6 + 4 * 2
    assert len({run.data.key for run in cells}) == 3


@pytest.mark.parametrize(("options", "centre"), [({}, 8e-3), ({"architecture": "nequip", "degree": 0}, 0.05)])
def test_rates_are_searched_about_the_rule(options, centre):
    search = load_recipe("tune_jobs/potentials_lr.py", options)
    assert search.base.optim.lr == centre
    rates = search.space["optim.lr"]
    assert (rates.low, rates.high) == pytest.approx((centre / 4, centre * 4))


def test_capacity_is_depth_times_width():
    table = {"depth": [2, 3, None], "width": [16, 8, 8], "force_mae": [0.3, 0.2, 0.1]}
    assert select(table)[0]["capacity"] == [32, 24, None]
    assert select({**table, "capacity": [1, 2, 3]})[0]["capacity"] == [1, 2, 3]


@pytest.mark.slow
def test_show_prints_cells_memory_and_hours_before_the_data_are_here(capsys):
    assert main(["show", FREY, "--json", "--set", "widths=(16,)", "--set", "depths=(2,)", "--set", "sizes=(100,)"]) == 0
    cells = json.loads(capsys.readouterr().out)
    kinds = [cell["architecture"].split("_")[0] for cell in cells]
    assert kinds == ["schnet", "painn", "allegro", "spookynet"]
    for cell in cells:
        assert cell["params"] > 1_000 and cell["memory_bytes"] > 16 * cell["params_all"]
        assert cell["gpu_hours"] == pytest.approx(cell["flops"] / (19.5e12 * 0.1) / 3600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("frey2023_potentials", {"depths": (1,), "min_updates": 3}),
        ("schnet_scaling", {"replicates": 0}),
        ("schnet_scaling", {"replicates": 0, "architecture": "painn"}),
    ],
)
def test_recipes_train_small(recipe, more, tmp_path):
    given = {**TINY, "widths": (4,), "sizes": (40,), **more}
    store = Store(tmp_path / "s", create=True)
    runs = [complete(run) for run in load_recipe(f"tune_jobs/{recipe}.py", given).runs()]
    for run in runs:
        train_in_store(run, store.path, resources=Resources())
    rows = store.runs().to_pylist()
    assert len(rows) == len(runs)
    assert all(row["status"] == "finished" and math.isfinite(row["law_loss"]) for row in rows)


@pytest.mark.slow
def test_accuracy_on_3bpa_is_measured_on_the_test_set_that_is_named(tmp_path, monkeypatch):
    from tests.data.test_structures import molecule as frame

    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "home"))
    train, test = tmp_path / "train.extxyz", tmp_path / "test.extxyz"
    ase.io.write(train, [frame(i, atoms=6) for i in range(70)])
    ase.io.write(test, [frame(100 + i, atoms=6) for i in range(9)])
    given = {"files": (str(train), f"{test}@:7"), "shapes": "small", "epochs": 1, "points": 1}
    runs = load_recipe("tune_jobs/accuracy_3bpa.py", {**given, "architectures": ("schnet", "nequip_l2")}).runs()
    data.build(str(train), reading=runs[0].data.reading, processes=1, progress=False)
    store = Store(tmp_path / "s", create=True)
    for run in runs:
        train_in_store(complete(run), store.path, resources=Resources())
    rows = store.runs().to_pylist()
    assert [row["status"] for row in rows] == ["finished"] * 2
    assert [(row["structures"], row["test_examples"]) for row in rows] == [(20, 7)] * 2
    with pytest.raises(ValueError, match="architectures='mace' is none of the small shapes"):
        load_recipe("tune_jobs/accuracy_3bpa.py", {**given, "architectures": ("mace",)})


PUBLISHED = {run.model.architecture + getattr(run.model, "variant", ""): run.model
             for run in load_recipe("tune_jobs/accuracy_3bpa.py").runs()}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_build_and_take_a_step(name):
    """At their full width and depth, on one structure: every parameter moves, by a gradient that is finite."""
    potential = PUBLISHED[name].build(MANIFEST)
    batch = joined([molecule(6)], torch.float32)
    before = [p.detach().clone() for p in potential.parameters()]
    optimiser = torch.optim.Adam(potential.parameters(), lr=1e-3)
    loss(potential, batch).backward()
    optimiser.step()
    for (named, now), then in zip(potential.named_parameters(), before, strict=True):
        assert now.isfinite().all() and not torch.equal(now, then), named


@pytest.mark.slow
def test_the_control_trains_with_turned_copies_and_records_its_equivariance_error(tmp_path):
    """Twice, the second in passes of three structures: rotations are of structures and steps, not of passes."""
    from dataclasses import replace

    from chemscale.train.symmetry import EnergyForceTurned

    run = load_recipe(FREY, {**TINY, "architectures": ("cartesian",), "widths": (4,), "depths": (1,), "sizes": (40,)})
    first = replace(run.runs()[0], objective=EnergyForceTurned(copies="turned", symmetry=0.1))
    first = complete(replace(first, budget=replace(first.budget, min_updates=5)))
    found = []
    for name, micro in (("a", None), ("b", 3)):
        store = Store(tmp_path / name, create=True)
        train_in_store(first, store.path, resources=Resources(micro_batch=micro))
        found += store.runs().to_pylist()
    errors = [dict(row["other_metrics"])["equivariance_mae"] for row in found]
    assert errors[0] > 1e-4
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    assert found[1]["law_loss"] == pytest.approx(found[0]["law_loss"], rel=1e-4)
