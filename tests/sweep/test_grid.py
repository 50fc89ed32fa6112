"""Grids, studies and searches are pure values."""

from dataclasses import replace

import pytest

from chemscale.explore import explore
from chemscale.models import ChemGPT, PaiNN
from chemscale.spec import Budget, Data, Optim, RunSpec, with_fields
from chemscale.sweep import ASHA, Grid, HyperBand, Search, Study, choice, loguniform, uniform
from chemscale.sweep.drive import sweep, tuner
from chemscale.sweep.grid import largest
from chemscale.sweep.recipe import load_recipe, parse_options
from tests.test_spec import BASE, POTENTIAL

MODELS = [ChemGPT.sized(width=w) for w in (8, 16, 32)]
GRID = Grid(BASE, models=MODELS, sizes=(100, 1000, 10000), seeds=(0, 1))


def test_a_grid_is_every_model_on_every_size_with_every_seed():
    runs = GRID.runs()
    assert len(runs) == 18
    assert len({run.id for run in runs}) == 18
    assert {(r.model.width, r.data.size, r.seed) for r in runs} == {
        (w, d, s) for w in (8, 16, 32) for d in (100, 1000, 10000) for s in (0, 1)
    }


def test_a_seed_changes_the_parameters_and_the_subset():
    keys = {(run.seed, run.data.key) for run in GRID.runs()}
    assert keys == {(0, 0), (1, 1)}


def test_corners_get_their_replicates():
    runs = replace(GRID, seeds=(0,), replicates=2).runs()
    assert len(runs) == 9 + 4 * 2
    replicated = {(r.model.width, r.data.size) for r in runs if r.seed > 0}
    assert replicated == {(8, 100), (8, 10000), (32, 100), (32, 10000)}


def test_a_rule_derives_the_schedule_of_a_cell():
    grid = replace(GRID, derive=lambda run: replace(run, budget=Budget(epochs=1000 / run.data.size)))
    assert {run.examples for run in grid.runs()} == {1000}
    with pytest.raises(ValueError, match=r"Grid\.derive changed"):
        replace(GRID, derive=lambda run: replace(run, seed=5)).runs()


def test_the_largest_cell_of_every_architecture_is_found_with_its_replicates():
    runs = [*replace(GRID, seeds=(0,), replicates=1).runs(), POTENTIAL]
    top = largest(runs, {run.id: run.model.width for run in runs})
    assert {(r.model.architecture, r.model.width, r.data.size, r.seed) for r in top} == {
        ("chemgpt", 32, 10000, 0),
        ("chemgpt", 32, 10000, 1),
        ("painn", 16, 800, 0),
    }


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: replace(GRID, seeds=()), r"Grid\.seeds is empty"),
        (lambda: replace(GRID, sizes=(10, 10)), r"Grid\.sizes names a value twice"),
        (lambda: replace(GRID, replicates=-1), r"Grid\.replicates=-1"),
        (lambda: Study("a b", (GRID,)), r"Study\.name='a b'"),
        (lambda: Study("a", (GRID,), forecast="all"), "largest, none"),
        (lambda: loguniform(0, 1), "0 < low < high"),
        (lambda: uniform(2, 1), "low < high"),
        (lambda: choice(), "at least one value"),
        (lambda: ASHA(grace=0), r"ASHA\.grace=0"),
        (lambda: Search(BASE, {}), r"Search\.space is empty"),
        (lambda: Search(BASE, {"optim.rate": uniform(0, 1)}), r"optim\.rate is not a field"),
        (lambda: Search(BASE, {"data.size": choice(1, 2)}), "use a Grid for that"),
        (lambda: Search(BASE, {"optim.lr": uniform(0.1, 1)}, sampler="grid"), r"Search\.sampler='grid'"),
    ],
)
def test_mistakes_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", [{"workers": 2}, {"concurrent": 1}])
def test_runs_that_wait_for_each_other_are_refused_where_they_cannot_before_anything_is_written(tmp_path, where):
    from chemscale.spec import Resources
    from chemscale.sweep.searching import search

    plan = Search(BASE, {"optim.lr": loguniform(1e-4, 1e-1)}, stop=HyperBand())
    with pytest.raises(ValueError, match="use concurrent=None and workers=1"):
        search(plan, store=tmp_path / "store", on=Resources(**where))
    assert not (tmp_path / "store").exists()


def test_a_search_reads_and_writes_dotted_fields():
    search = Search(BASE, {"optim.lr": loguniform(1e-4, 1e-1), "model.width": choice(8, 16, 32)})
    run = search.run({"optim.lr": 1e-2, "model.width": 16})
    assert (run.optim.lr, run.model.width) == (1e-2, 16)
    assert search.values(run) == {"optim.lr": 1e-2, "model.width": 16}
    assert run.id == with_fields(BASE, {"optim.lr": 1e-2, "model.width": 16}).id


def test_a_best_value_at_the_edge_is_flagged():
    search = Search(BASE, {"optim.lr": loguniform(1e-4, 1e-1), "optim.batch": choice(8, 16, 32)})
    assert search.edges(search.run({"optim.lr": 1.2e-4, "optim.batch": 16})) == ["optim.lr"]
    assert search.edges(search.run({"optim.lr": 1e-3, "optim.batch": 32})) == ["optim.batch"]
    assert search.edges(search.run({"optim.lr": 1e-3, "optim.batch": 16})) == []


def test_recipes_load_and_take_options(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.test_spec import BASE\nfrom chemscale.sweep import Grid\n"
        "def recipe(sizes=(10, 20)):\n    return Grid(BASE, sizes=sizes)\n"
    )
    study = load_recipe(str(file))
    assert (study.name, [r.data.size for r in study.runs()]) == ("mine", [10, 20])
    assert len(load_recipe(str(file), parse_options(["sizes=(1,2,3)"])).runs()) == 3


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (None, [], "is not a file"),
        ("x = 1\n", [], "has no function named recipe"),
        ("def recipe():\n    return 3\n", [], "returned int"),
        ("def recipe(a=1):\n    return 3\n", ["b=2"], "names no argument"),
        ("def recipe(a=1):\n    return 3\n", ["b"], "has no '='"),
    ],
)
def test_bad_recipes_are_one_sentence(tmp_path, text, options, sentence):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_recipe(str(file), parse_options(options))


def test_a_mixed_study_names_every_run_once():
    study = Study("both", (GRID, Grid(POTENTIAL, models=[PaiNN.sized(width=w) for w in (4, 8)])))
    ids = [run.id for run in study.runs()]
    assert len(ids) == len(set(ids)) == 20


def test_a_base_without_models_or_sizes_is_one_cell():
    run = RunSpec(model=MODELS[0], data=Data("moses", size=5, content="0"), optim=Optim(lr=1.0))
    assert [r.id for r in Grid(run).runs()] == [run.id]


@pytest.mark.parametrize("what", [Study("s", (GRID,)), BASE, [GRID]], ids=["study", "run", "list"])
def test_what_a_sweep_does_not_train_is_told_where_to_go(what, tmp_path):
    with pytest.raises(ValueError, match=r"grid is a .* a Study goes to chemscale\.run_study"):
        sweep(what, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_name_that_is_no_file_is_refused_by_every_driver(tmp_path):
    for begin in (sweep, tuner, lambda grid, **more: explore(grid, target="alpha", flops=1.0, **more)):
        with pytest.raises(ValueError, match="name='a/b' is not allowed"):
            begin(GRID, store=tmp_path / "store", name="a/b")


def test_a_word_that_an_exploration_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"widht=… is nothing .* it takes target, width"):
        explore(GRID, store=tmp_path / "store", target="alpha", flops=1.0, widht=0.1)


def test_a_stop_refuses_samples_of_different_lengths():
    base, space = replace(BASE, budget=Budget(updates=50)), {"optim.batch": choice(8, 64)}
    with pytest.raises(ValueError, match=r"'optim\.batch' while Budget\.updates sets the length"):
        Search(base, space, stop=ASHA())
    for run, stop in ((base, None), (replace(base, budget=Budget(examples=800)), ASHA())):
        assert {Search(run, space, stop=stop).run({"optim.batch": b}).optim.batch for b in (8, 64)} == {8, 64}
