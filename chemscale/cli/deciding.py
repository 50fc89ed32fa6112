"""What to train next: plan, explore."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from chemscale.cli.laws import parse_point
from chemscale.cli.output import print_json, writable
from chemscale.cli.reading import is_store, read_table
from chemscale.laws import FitError, Law, PartialFitError
from chemscale.laws import fit as fit_law

FORECAST = ".forecast.json"  # end of the name of a forecast beside a table


def plan(given: argparse.Namespace) -> int:
    """What to train for a budget: architecture, size, data and the loss to expect, with intervals."""
    from chemscale.plan import CANNOT_TELL, Plan, measure_cost, second_opinion
    from chemscale.plan import plan as plan_for

    _refuse(given)
    table, data = _counted(given)
    options: dict[str, Any] = {"form": given.form, "params": given.params, "data": data, "loss": given.loss}
    options |= {"where": given.where, "bootstrap": given.bootstrap, "seed": given.seed}
    without: tuple[str, ...] = ()
    try:
        laws: dict[Any, Law] = fit_law(table, by=given.by, **options) if given.by else {None: fit_law(table, **options)}
    except PartialFitError as error:
        laws, without = error.laws, tuple(f"not compared, for it has no law: {told}" for told in error.errors.values())
    except FitError as error:
        if not given.json:
            raise
        print_json({**dict.fromkeys(field.name for field in fields(Plan)), "error": str(error)})
        return 1
    wheres = {name: _and(given.where, given.by, name) for name in laws}
    costs: dict[Any, Any] = dict.fromkeys(laws)  # without FLOPs, what the law knows of its cost
    if "flops" in table:
        costs = {
            name: measure_cost(table, params=given.params, data=data, where=wheres[name], loss=given.loss)
            for name in laws
        }
    asked: dict[str, Any] = {"price": given.price, "label_price": given.label_price, **_budget(given)}
    made = plan_for(laws if given.by else laws[None], cost=costs if given.by else costs[None], **asked)
    if given.form is None and not given.by and given.bootstrap:
        weighted: dict[str, Any] = {**options, "form": "auto"}
        told = second_opinion(
            lambda: fit_law(table, **weighted),
            lambda law: plan_for(law, cost=costs[None], **asked),
            made,
        )
        made = replace(made, warnings=(*told, *made.warnings))
    made = replace(made, warnings=(*without, *made.warnings))
    chosen = made.architecture if made.architecture in laws else next(iter(laws))
    law, extras = laws[chosen], {}
    if given.next_runs is not None:
        extras["next_runs"] = _following(given, law, costs[chosen], made)
    if given.register is not None:
        extras["registered"] = _register(given, law, made, given.by and chosen)
    if given.json:
        found = {name: value if isinstance(value, dict) else asdict(value) for name, value in extras.items()}
        print_json({**asdict(made), "error": None, **found})
    else:
        _print_plan(made, law, given)
        _print_extras(extras)
    return 1 if made.answer.startswith(CANNOT_TELL) else 0


def _refuse(given: argparse.Namespace) -> None:
    """Refuse what is wrong whatever the table holds, before anything is fitted."""
    from chemscale.plan.choice import one_budget
    from chemscale.plan.cost import require_prices

    if given.next_runs is None and (given.target or given.rule != "v"):
        raise ValueError(
            f"--target={given.target!r} and --rule={given.rule!r} choose next runs, and none are asked for; add "
            "--next-runs BUDGET or leave them out."
        )
    unit, _ = one_budget({unit: value for unit, value in _budget(given).items() if unit != "most_data"})
    require_prices(unit, given.price, given.label_price)
    if given.register is not None and is_store(given.table):
        from chemscale.records.store import require_forecast_name

        require_forecast_name(given.register)
    elif given.register is not None:
        writable(f"{given.register}{FORECAST}", "--register")


def _counted(given: argparse.Namespace) -> tuple[Any, str]:
    """The table, with FLOPs where a column of costs was named, and the column that counts its data."""
    from chemscale.laws.tables.columns import column, read
    from chemscale.laws.tables.meaning import data_of
    from chemscale.laws.tables.selection import select
    from chemscale.plan.cost import UNCOUNTED, UNTIMED

    table = read(read_table(given.table))
    if given.cost:
        table["flops"] = column(table, given.cost, "--cost")
    data = given.data or data_of(select(table, given.where)[0], given.loss)
    if data is None:
        raise ValueError(f"--data is missing and --loss {given.loss!r} names no unit of its own; give --data COL.")
    if "flops" not in table and data in table and data != "tokens":  # of tokens, 6 N each are known
        raise ValueError(UNCOUNTED)
    by_time = next((unit for unit in ("device_hours", "money") if getattr(given, unit) is not None), None)
    if by_time and "device_seconds" not in table:
        raise ValueError(UNTIMED.format(by_time))
    return table, data


def _and(where: str | None, by: str | None, name: Any) -> str | None:
    if by is None:
        return where
    only = f"`{by}` == {name!r}"
    return f"({where}) and {only}" if where else only


def _budget(given: argparse.Namespace) -> dict[str, float | None]:
    found = {name: getattr(given, name) for name in ("flops", "device_hours", "money")}
    if given.labels is not None and any(value is not None for value in found.values()):
        return {**found, "most_data": given.labels}
    return {**found, "labels": given.labels}


def _following(given: argparse.Namespace, law: Law, cost: Any, made: Any) -> Any:
    from chemscale.plan import Spend, following, law_cost

    unit = next((name for name in ("device_hours", "money") if getattr(given, name) is not None), "flops")
    spend = Spend(cost or law_cost(law), unit, given.price, given.label_price, float(law.runs.axes["data"].max()))
    if given.target:
        target: Any = parse_point(given.target, "--target") if "=" in given.target else given.target
    elif made.best is not None:
        target = {"params": made.best.params, "data": made.best.data}
    else:
        raise ValueError(f"there is no planned run to aim at ({made.answer}); give --target params=…,data=….")
    return following(law, spend, budget=given.next_runs, target=target, rule=given.rule)


def _register(given: argparse.Namespace, law: Law, made: Any, architecture: str | None) -> dict[str, Any]:
    """Freeze the forecast of the planned run, or of a run that the store has been asked for; the object written."""
    from chemscale.laws.tables.columns import read
    from chemscale.laws.tables.meaning import metric_of
    from chemscale.laws.tables.selection import select
    from chemscale.plan import freeze

    columns, _ = select(read(read_table(given.table)), given.where, loss=given.loss)
    metric = metric_of(columns, given.loss)
    known = {str(v) for v in columns.get("architecture", []) if v is not None}
    architecture = architecture or (known.pop() if len(known) == 1 else None)
    if not is_store(given.table):
        forecast = _planned(law, made, metric, architecture)
        return _write(Path(f"{given.register}{FORECAST}"), forecast)
    from chemscale.records.store import Store

    store = Store(given.table)
    if given.register in store.run_ids():
        params, data = _size_of(store.spec(given.register))
        forecast = freeze(law, params=params, data=data, metric=metric, architecture=architecture)
    else:
        forecast = _planned(law, made, metric, architecture)
    if not store.register_forecast(given.register, forecast):
        held = store.forecasts()[given.register]
        if held.get("hash") != forecast["hash"]:
            raise ValueError(
                f"--register {given.register!r} is taken by another forecast of {store.url}; name another."
            )
        return held
    return store.forecasts()[given.register]


def _planned(law: Law, made: Any, metric: str, architecture: str | None) -> dict[str, Any]:
    from chemscale.plan import freeze

    if made.best is None:
        raise ValueError(f"there is no planned run to register: {made.answer}.")
    return freeze(law, params=made.best.params, data=made.best.data, metric=metric, architecture=architecture)


def _size_of(run: Any) -> tuple[float, float]:
    """Non-embedding parameters and unique examples of a run that has not started."""
    import torch

    from chemscale import data
    from chemscale.models import cost

    with torch.device("meta"):
        params = cost.parameters(run.model.build(data.manifest(run.data)))["non_embedding"]
    return float(params), float(run.data.size)


def _write(path: Path, forecast: dict[str, Any]) -> dict[str, Any]:
    """A forecast as a file that is never overwritten, whole or not at all."""
    import time

    from chemscale.records.place import LocalPlace, as_json

    place, whole = LocalPlace("."), {**forecast, "registered": time.time()}
    if place.create(str(path), as_json(whole)):
        return whole
    held = place.read_json(str(path)) or {}
    if held.get("hash") != forecast["hash"]:
        raise ValueError(f"{path} holds another forecast, which is never overwritten; give another name.")
    return held


def _print_plan(made: Any, law: Law, given: argparse.Namespace) -> None:
    unit = law.columns["data"]["units"]
    print(made.answer)
    if made.best is not None:
        _print_cost(made.best)
    for choice in made.alternatives:
        size = f"{choice.params:.3g} parameters on {choice.data:.3g}"
        print(f"  or {size}: the same loss for {choice.cost_ratio:.2g} x the budget")
    for rival in made.rivals:
        print(f"  rather than {rival.architecture}: {rival.answer}")
    if made.first is not None:
        first = made.first
        bought = f"data take {first.by_data:.2%} off the loss, parameters {first.by_params:.2%}"
        said = "cannot tell which to buy first" if first.answer == "cannot tell" else f"buy {first.answer} first"
        print(f"  {said}: at twice the cost of the largest run so far, {bought} (data win in {first.probability:.0%})")
    if made.worth is not None:
        _print_worth(made.worth, law.after_loss, unit)
    for run in made.would_decide:
        print(f"  would decide: {run.params:.3g} parameters on {run.data:.3g}, {run.replicates} seeds: {run.why}")
    for warning in made.warnings:
        print(f"  note: {warning}")


def _print_cost(best: Any) -> None:
    parts = [f"{best.flops:.3g} FLOPs"]
    parts += [f"{best.device_hours:.3g} device-hours"] if best.device_hours is not None else []
    parts += [f"{best.money:.4g} of money"] if best.money is not None else []
    print(f"  costs {', '.join(parts)}")


def _print_worth(worth: Any, units: str, unit: str) -> None:
    low, high = worth.tenfold_interval
    print(f"  10x the {unit} would take {worth.tenfold:.4g}{units} off its loss ({low:.4g} to {high:.4g});", end=" ")
    if worth.flops_for_tenfold is None:
        print("no larger model does the same on the same data")
    else:
        money = "" if worth.money_for_tenfold is None else f", {worth.money_for_tenfold:.4g} of money"
        print(f"a larger model does the same for {worth.flops_for_tenfold:.3g} FLOPs more{money}")
    each = "" if worth.flops_per_label is None else f", as {worth.flops_per_label:.3g} FLOPs in a larger model do"
    money = ""
    if worth.money_per_label is not None:
        money = f": worth {worth.money_per_label:.3g} of money, {worth.training_per_label:.3g} of that to train on it"
    print(f"  one more of the {unit} takes {worth.per_label:.3g}{units} off{each}{money}")


def _print_extras(extras: dict[str, Any]) -> None:
    if "next_runs" in extras:
        next_ = extras["next_runs"]
        rivals = ", ".join(f"{name} {value:.3g}" for name, value in next_.rivals.items())
        print(f"next runs by rule {next_.rule}, {next_.spent:.3g} in all: the target known to {next_.before:.3g}, then "
              f"{next_.after:.3g} (log units; by other rules: {rivals})")  # fmt: skip
        if not next_.runs:
            print("  no run that this pays for would make the target's error smaller; larger ones would")
        for run, cost in zip(next_.runs, next_.costs, strict=True):
            print(f"  {run.params:.3g} parameters on {run.data:.3g}, {run.replicates} x: {cost:.3g}")
    if "registered" in extras:
        held = extras["registered"]
        print(f"registered: {held['value']:.5g} ({held['low']:.5g} to {held['high']:.5g}), sha256 {held['hash'][:16]}")


def explore(given: argparse.Namespace) -> int:
    """The cells of a recipe that teach most of a target, until it is known well enough or the budget is spent."""
    from chemscale.cli.output import resources_of
    from chemscale.explore import explore as run
    from chemscale.explore import foresight
    from chemscale.sweep.aim import Aim, Wanted
    from chemscale.sweep.recipe import load_recipe, parse_options, recipe_resources
    from chemscale.sweep.search import Search

    target: Any = parse_point(given.target, "--target") if "=" in given.target else given.target
    wanted: Wanted = {
        "target": target, "width": given.width, "flops": given.flops, "device_hours": given.device_hours,
        "form": given.form, "rule": given.rule,
    }  # fmt: skip
    Aim.of(**wanted)  # refuses what is wrong whatever the recipe says
    recipe = load_recipe(given.recipe, parse_options(given.set))
    if isinstance(recipe, Search):
        raise ValueError(f"{given.recipe} returns a Search; an exploration needs a Grid.")
    on = recipe_resources(given.recipe, resources_of(given))
    found = (foresight if given.dry_run else run)(recipe, store=given.store, on=on, name=recipe.name, **wanted)
    if given.json:
        print_json({**asdict(found), "law": None if found.law is None else found.law.to_json()})
        return 0 if found.low is not None or given.dry_run else 1
    print(found.answer)
    for params, data, cost in found.next_runs:
        print(f"  next: {params:.3g} parameters on {data:.3g}, costs {cost:.3g}")
    return 0 if found.low is not None or given.dry_run else 1
