"""Recipes and what they left: show, sweep, search, status of a store, report."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.console import Console

from chemscale.cli.options import refuse_unused
from chemscale.cli.output import bytes_text, cell_text, print_json, print_rows, readable, resources_of, told_on_terminal
from chemscale.spec.registry import kind_of


def show(given: argparse.Namespace) -> None:
    """What a recipe would run and cost; starts nothing."""
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search

    recipe = load_recipe(given.recipe, parse_options(given.set))
    runs = recipe.unsampled() if isinstance(recipe, Search) else recipe.runs()
    if given.tune:
        return _show_tuned(runs, recipe_resources(given.recipe, resources_of(given)), given.json)
    assumed = _assumed(given)
    cells, notes = _cells(runs, given)
    gpu = [None if assumed is None else assumed.hours(cell.run, cell.flops) for cell in cells]
    if given.json:
        return print_json([_cell_json(cell, hours, assumed) for cell, hours in zip(cells, gpu, strict=True)])
    print_rows([_cell_row(cell, hours, assumed) for cell, hours in zip(cells, gpu, strict=True)], False)
    hours, disk = sum(cell.seconds for cell in cells) / 3600, bytes_text(sum(cell.disk for cell in cells))
    flops = sum(cell.flops for cell in cells)
    print(f"{len(cells)} runs, {flops:.2e} FLOPs, {disk} of disk, about {hours:.2f} hours of one slot.")
    if saved := sum(cell.flops * cell.inherited / cell.updates for cell in cells):
        print(f"Runs that go on from a shorter one's trunk spare {saved:.2e} of these FLOPs.")
    if assumed is not None:
        total = sum(hours or 0 for hours in gpu)
        print(f"{total:,.1f} GPU-hours, {total * assumed.price:,.0f} of money.")
        notes.append(assumed.sentence({cell.run.precision for cell in cells}))
    for note in notes:
        print(f"note: {note}")
    return None


def _show_tuned(runs: Any, on: Any, as_json: bool) -> None:
    """Every choice measured, and what is worth changing."""
    from chemscale.sweep.tuning import WORTH, tune

    with told_on_terminal("steps") as told:
        found = tune(runs, on, told)
        if as_json:
            return print_json([_tuned_json(tuned) for tuned in found])
        for tuned in found:
            _print_tuned(tuned)
    print(
        f"Recommended is what is at least {WORTH:g} times as fast. A precision changes numbers and ids: take one for a"
    )
    print("whole study. The rest changes rounding alone.")
    return None


def _print_tuned(tuned: Any) -> None:
    from rich.table import Table

    run = tuned.run
    unit = "tokens/s" if run.model.family == "text" else "atoms/s"
    print(f"{run.model.architecture}, width {run.model.width}, depth {run.model.depth}, batch {run.optim.batch}:")
    table = Table("choice", "value", unit, "ratio", "padding", box=None)
    for choice in tuned.choices:
        value = "" if choice.value is None else str(choice.value)
        table.add_row(choice.field, value, f"{choice.rate:,.0f}", f"{choice.ratio:.2f}", f"{choice.padding:.1%}")
    Console().print(table)
    best = ", ".join(f"{field}={value}" for field, value in tuned.recommended.items())
    for choice in tuned.choices:
        if choice.field == "compile" and choice.pays_from:
            print(f"compiling pays from {choice.pays_from:,.0f} updates; the run makes {run.updates:,}")
    print(f"recommended: {best or 'as asked'}\n", flush=True)


def _tuned_json(tuned: Any) -> dict[str, Any]:
    from dataclasses import asdict

    model = tuned.run.model
    cell = {"architecture": kind_of(model), "width": model.width, "depth": model.depth}
    choices = [asdict(choice) for choice in tuned.choices]
    return {**cell, "batch": tuned.run.optim.batch, "choices": choices, "recommended": tuned.recommended}


def _cells(runs: list[Any], given: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """What every run costs, and what stood in for data that are not here."""
    from chemscale.sweep.estimate import costs
    from chemscale.sweep.likeness import absent, costs_like
    from chemscale.sweep.recipe import recipe_plan, recipe_resources
    from chemscale.train.complete import complete

    on, planned = recipe_resources(given.recipe, resources_of(given)), recipe_plan(given.recipe)
    missing = absent(runs)
    like = given.like or (planned.like if planned is not None and missing else None)
    if like is None:
        return costs([complete(run) for run in runs], on), []
    note = (
        f"{missing or runs[0].data.source} stands behind {like}, whose alphabet and lengths are reckoned with; "
        "non-embedding parameters and updates are exact."
    )
    return costs_like(runs, like, on, planned.whole if planned is not None else None), [note]


def _assumed(given: argparse.Namespace) -> Any:
    """The GPU that hours and money are told of: the command line's over the recipe's; None where neither names one."""
    from dataclasses import replace

    from chemscale.sweep.gpus import Assumed
    from chemscale.sweep.recipe import recipe_plan

    asked = {name: getattr(given, name) for name in ("gpu", "utilisation", "price")}
    asked = {name: value for name, value in asked.items() if value is not None}
    planned = recipe_plan(given.recipe)
    if planned is None:
        return Assumed(**asked) if asked else None
    return replace(planned.on, **asked)


def _cell_row(cell: Any, hours: float | None, assumed: Any) -> dict[str, Any]:
    run = cell.run
    row = {
        "model": kind_of(run.model), "width": str(run.model.width), "data": f"{run.data.size:,}",
        "seed": str(run.seed), "parameters": f"{cell.params:,}", "updates": f"{cell.updates:,}",
        "FLOPs": f"{cell.flops:.1e}", "memory each": bytes_text(cell.memory), "time": f"{cell.seconds:.1f} s",
    }  # fmt: skip
    if hours is not None:
        row |= {"GPU-hours": f"{hours:.3g}", "cost": f"{hours * assumed.price:.3g}"}
    return row


def _cell_json(cell: Any, hours: float | None, assumed: Any) -> dict[str, Any]:
    run = cell.run
    return {
        "run_id": None if run.missing else run.id, "architecture": run.model.architecture, "width": run.model.width,
        "size": run.data.size, "seed": run.seed, "params": cell.params, "params_all": cell.params_all,
        "updates": cell.updates, "flops": cell.flops, "memory_bytes": cell.memory, "disk_bytes": cell.disk,
        "seconds": cell.seconds, "inherited_updates": cell.inherited, "gpu_hours": hours,
        "money": None if hours is None else hours * assumed.price,
    }  # fmt: skip


def sweep(given: argparse.Namespace) -> int:
    """Every run of a recipe that the store does not hold yet, then the table of results.

    With --sample every finished text run writes so many strings, whose metrics are kept beside its loss; the report of
    the store then shows whether loss predicts quality. A killed sweep goes on, in this too.
    """
    from chemscale.report.board import show_laws
    from chemscale.report.table import table
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search
    from chemscale.sweep.study import run_study

    recipe = load_recipe(given.recipe, parse_options(given.set))
    if isinstance(recipe, Search):
        raise ValueError(f"{given.recipe} returns a Search; run it with `chemscale search {given.recipe}`.")
    told = _trackers(given, recipe.name)
    on = recipe_resources(given.recipe, resources_of(given))
    store = run_study(recipe, store=given.store, on=on, callbacks=told, beside=_sampling(given))
    show_laws(store)
    if given.json:
        print_json([readable(row) for row in store.runs().to_pylist()])
    else:
        Console().print(table(store))
        print(f"store: {store.url} · `chemscale report {given.store}` writes the page")
    return 1 if _troubled(store, recipe.name) else 0


def _sampling(given: argparse.Namespace) -> Any:
    if given.sample is None:
        refuse_unused(given, ("reference",), "says what samples are held against; give --sample N with it")
        return None
    from chemscale.use.quality.cells import Sampling

    return Sampling(given.sample, reference=given.reference)


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
