"""The recipe of the equivariance dial: equal budgets, equal everything else, and a run at a tiny size."""

import dataclasses

import pytest

from chemscale.models import cost
from chemscale.sweep.recipe import load_recipe, parse_options
from tests.models.batches import MANIFEST
from tests.train.runs import ONE_BY_ONE

RECIPE = "tune_jobs/equivariance_dial.py"


def test_degrees_differ_in_width_alone_and_share_their_budget():
    study = load_recipe(RECIPE, {"budgets": (20_000,), "sizes": (200,), "others": ("painn",)})
    models = [run.model for run in study.runs()]
    counts = [cost.parameters(model.build(MANIFEST))["non_embedding"] for model in models]
    assert [getattr(model, "degree", None) for model in models] == [0, 1, 2, 3, None]
    assert all(count == pytest.approx(20_000, rel=0.2) for count in counts)  # widths are even
    free = ("width", "degree", "types")
    shared = [{k: v for k, v in dataclasses.asdict(m).items() if k not in free} for m in models[:-1]]
    assert all(fields == shared[0] for fields in shared)


def test_one_value_stands_for_a_sequence_of_it():
    options = parse_options(["budgets=20000", "sizes=200", "others=painn"])
    study = load_recipe(RECIPE, options)
    assert study.runs() == load_recipe(RECIPE, {"budgets": (20_000,), "sizes": (200,), "others": ("painn",)}).runs()
    assert load_recipe(RECIPE, parse_options(["budgets=2e4,3e4", "epochs=2"])).runs()


@pytest.mark.parametrize("words", ["painn,schnet", "(painn, schnet)", "('painn','schnet')"])
def test_commas_make_several_words(words):
    few = {"budgets": (20_000,), "sizes": (200,)}
    study = load_recipe(RECIPE, {**few, **parse_options([f"others={words}"])})
    assert study.runs() == load_recipe(RECIPE, {**few, "others": ("painn", "schnet")}).runs()
    assert load_recipe(RECIPE, {**few, **parse_options(["others="])}).runs()


def test_a_default_that_is_a_sequence_says_so_as_well(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text("def recipe(sizes=(1, 2), name='a,b'):\n    raise ValueError(f'{sizes} {name}')\n")
    with pytest.raises(ValueError, match=r"^\(5,\) c,d$"):
        load_recipe(str(recipe), parse_options(["sizes=5", "name=c,d"]))


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"others='painnn' is unknown; choose one of allegro, cartesian, dimenet"):
        load_recipe(RECIPE, {"others": ("painnn",)})
    with pytest.raises(ValueError, match=r"match='time' is unknown; use params or flops"):
        load_recipe(RECIPE, {"match": "time"})


@pytest.mark.slow
def test_the_dial_at_a_tiny_size(ray_cluster, structures, tmp_path):
    from chemscale.sweep.study import run_study

    options = {
        "match": "flops", "budgets": (1e7,), "degrees": (0, 1, 2), "sizes": (40,), "source": structures, "epochs": 2,
        "others": ("schnet",),
    }  # fmt: skip
    rows = run_study(load_recipe(RECIPE, options), store=tmp_path / "store", on=ONE_BY_ONE).runs().to_pylist()
    assert {row["status"] for row in rows} == {"finished"}
    assert sorted(row["architecture"] for row in rows) == ["nequip_l0", "nequip_l1", "nequip_l2", "schnet"]
    assert all(row["force_mae"] > 0 for row in rows)
