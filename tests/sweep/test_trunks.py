"""A grid whose sizes share a trunk trains them one after another, and cleans up."""

from dataclasses import replace

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Optim
from chemscale.sweep.drive import sweep
from chemscale.sweep.grid import Grid
from chemscale.train.complete import complete
from chemscale.train.trunk import lines_of, trunk_of
from tests.train.runs import text_run

OPTIM = Optim(batch=8, lr=0.01, warmup_updates=3, cooldown=0.3)


def grid_of(molecules):
    base = text_run(molecules, optim=OPTIM, budget=Budget(epochs=1))
    base = replace(base, data=replace(base.data, order="nested"))
    return Grid(base, models=[ChemGPT.sized(width=w) for w in (8, 16)], sizes=(40, 80, 120))


def test_lines_are_the_trunks_by_length_and_every_other_run(molecules):
    runs = {run.id: run for run in map(complete, reversed(grid_of(molecules).runs()))}
    lone = complete(text_run(molecules))
    lines = lines_of({**runs, lone.id: lone})
    assert sorted(map(len, lines)) == [1, 3, 3]
    for line in lines[:2]:
        assert [runs[run_id].data.size for run_id in line] == [40, 80, 120]
        assert len({trunk_of(runs[run_id]).name for run_id in line}) == 1


def test_a_grid_inherits_and_leaves_no_state(ray_cluster, molecules, tmp_path):
    store = sweep(grid_of(molecules), store=tmp_path / "store")
    rows = store.runs().to_pylist()
    assert [r["status"] for r in rows] == ["finished"] * 6
    assert sorted(r["inherited"] for r in rows) == [0, 0, 3, 3, 7, 7]
    assert len({r["cluster"] for r in rows}) == 2
    assert store.place.names("trunks") == []


def test_a_cost_leaves_out_what_is_inherited(molecules):
    cells = {cell.run.data.size: cell for cell in grid_of(molecules).cost() if cell.run.model.width == 8}
    assert [cells[n].inherited for n in (40, 80, 120)] == [0, 3, 7]
    assert cells[120].flops > 2.5 * cells[40].flops  # what it costs alone: the compute that a law is about
    alone = Grid(replace(cells[120].run, data=replace(cells[120].run.data, order="shuffled"))).cost()[0]
    assert cells[120].flops == alone.flops
    assert cells[120].after(7).seconds < cells[120].seconds
