"""Recipes and what they left: show, sweep, search, status of a store, report."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.console import Console

from chemscale.cli.output import bytes_text, cell_text, print_json, print_rows, readable, resources_of


def show(given: argparse.Namespace) -> None:
    """What a recipe would run and cost; starts nothing."""
    from chemscale.sweep.estimate import costs
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search
    from chemscale.train.complete import complete

    recipe = load_recipe(given.recipe, parse_options(given.set))
    runs = recipe.unsampled() if isinstance(recipe, Search) else recipe.runs()
    cells = costs([complete(run) for run in runs], recipe_resources(given.recipe, resources_of(given)))
    if given.json:
        return print_json([_cell_json(cell) for cell in cells])
    from rich.table import Table

    table = Table("model", "width", "data", "seed", "parameters", "updates", "FLOPs", "memory", "time", box=None)
    for cell in cells:
        run = cell.run
        table.add_row(
            run.model.architecture, str(run.model.width), f"{run.data.size:,}", str(run.seed), f"{cell.params:,}",
            f"{cell.updates:,}", f"{cell.flops:.1e}", bytes_text(cell.memory), f"{cell.seconds:.1f} s",
        )  # fmt: skip
    Console().print(table)
    hours, disk = sum(cell.seconds for cell in cells) / 3600, bytes_text(sum(cell.disk for cell in cells))
    flops = sum(cell.flops for cell in cells)
    print(f"{len(cells)} runs, {flops:.2e} FLOPs, {disk} of disk, about {hours:.2f} hours of one slot.")
    if saved := sum(cell.flops * cell.inherited / cell.updates for cell in cells):
        print(f"Runs that go on from a shorter one's trunk spare {saved:.2e} of these FLOPs.")
    return None


def _cell_json(cell: Any) -> dict[str, Any]:
    run = cell.run
    return {
        "run_id": run.id, "architecture": run.model.architecture, "width": run.model.width, "size": run.data.size,
        "seed": run.seed, "params": cell.params, "params_all": cell.params_all, "updates": cell.updates,
        "flops": cell.flops, "memory_bytes": cell.memory, "disk_bytes": cell.disk, "seconds": cell.seconds,
        "inherited_updates": cell.inherited,
    }  # fmt: skip


def sweep(given: argparse.Namespace) -> int:
    """Every run of a recipe that the store does not hold yet, then the table of results."""
    from chemscale.report.board import show_laws
    from chemscale.report.table import table
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search
    from chemscale.sweep.study import run_study

    recipe = load_recipe(given.recipe, parse_options(given.set))
    if isinstance(recipe, Search):
        raise ValueError(f"{given.recipe} returns a Search; run it with `chemscale search {given.recipe}`.")
    told = _trackers(given, recipe.name)
    store = run_study(recipe, store=given.store, on=recipe_resources(given.recipe, resources_of(given)), callbacks=told)
    show_laws(store)
    if given.json:
        print_json([readable(row) for row in store.runs().to_pylist()])
    else:
        Console().print(table(store))
        print(f"store: {store.url} · `chemscale report {given.store}` writes the page")
    return 1 if _troubled(store, recipe.name) else 0


def _trackers(given: argparse.Namespace, study: str) -> list[Any]:
    from chemscale.sweep.trackers import mlflow, wandb

    asked = ((mlflow, given.mlflow), (wandb, given.wandb))
    return [tracker(where, study) for tracker, where in asked if where is not None]


def _troubled(store: Any, study: str) -> bool:
    states = store.states(store.asked()[study].runs)
    return any(state.status not in ("finished", "diverged") for state in states.values())


def search(given: argparse.Namespace) -> int:
    """A search for hyperparameters in every cell of a recipe."""
    from chemscale.sweep.found import by_loss
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search
    from chemscale.sweep.searching import search as run_search

    recipe = load_recipe(given.recipe, parse_options(given.set))
    if not isinstance(recipe, Search):
        raise ValueError(f"{given.recipe} returns a grid; run it with `chemscale sweep {given.recipe}`.")
    told, on = _trackers(given, recipe.name), recipe_resources(given.recipe, resources_of(given))
    found = run_search(recipe, store=given.store, on=on, callbacks=told)
    rows = [_sample_row(cell, sample, recipe) for cell in found.cells for sample in by_loss(cell.samples)]
    several = len(found.cells) > 1
    names = dict.fromkeys(name for row in rows for name in row if several or name != "cell")
    print_rows([{name: row.get(name) for name in names} for row in rows], given.json)
    if not given.json:
        for cell in found.cells:
            print(_verdict(cell, recipe))
    return 0 if all(cell.best is not None for cell in found.cells) else 1


def _sample_row(cell: Any, sample: Any, search: Any) -> dict[str, Any]:
    row = {"cell": cell.label, "run_id": sample.run.id, **dict.fromkeys(search.space), **sample.values}
    row |= {"status": sample.status, **{name: sample.measured.get(name) for name in search.objectives}}
    if len(search.objectives) > 1:
        row["front"] = sample in cell.front
    return row


def _verdict(cell: Any, search: Any) -> str:
    """One line on what a cell's search found."""
    if cell.best is None:
        return f"{cell.label}: no run finished."
    best = ", ".join(f"{field} {cell_text(value)}" for field, value in cell.best.values.items())
    line = f"{cell.label}: best {best}, valid_loss {cell.loss:.5g}"
    if len(search.objectives) > 1:
        line += f"; {len(cell.front)} runs on the front of {', '.join(search.objectives)}"
    if cell.edges:
        line += f"; at the edge of {', '.join(cell.edges)}: widen the space"
    return line + "."


def report(given: argparse.Namespace) -> None:
    """The HTML page of a store."""
    from chemscale.records.store import Store
    from chemscale.report.page import report as write

    page = write(Store(given.store), out=given.out)
    print_json({"path": page}) if given.json else print(page)


def status_of_store(given: argparse.Namespace) -> None:
    """How far a store's studies are, read from the store alone."""
    from chemscale.records.store import Store
    from chemscale.sweep.progress import Watch, cells_of

    store = Store(given.what)
    watch = Watch(store, cells_of(store))
    while True:
        now = watch.look()
        if given.json:
            print_json({"counts": dict(now.counts), "share": now.share, "running": dict(now.running), "eta": now.eta})
        else:
            print(now.line())
            for label, reason in now.trouble:
                print(f"  {label}: {reason}")
        if not given.follow or now.ended == now.total:
            return
        time.sleep(5)
