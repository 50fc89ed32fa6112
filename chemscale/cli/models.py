"""Single models: train, export."""

from __future__ import annotations

import argparse
from typing import Any

from chemscale.cli.output import print_json, print_record, readable, resources_of


def train(given: argparse.Namespace) -> int:
    """One run, with one worker in this process or with several on Ray Train."""
    from chemscale.records.store import Store
    from chemscale.sweep.preparation import prepare
    from chemscale.sweep.recipe import parse_options
    from chemscale.train.worker import require_room

    on = resources_of(given)
    require_room(on)
    run = prepare([_run_from(given, parse_options(given.set))], on)[0]
    store = Store(given.store, create=True)
    if run.init_from is not None and not given.json:
        init = run.init_from
        print(f"starts from {init.label}: {init.matched} rows of its tables taken over, {init.fresh} new ones drawn")
    store.enlist("train", [run])
    row = _train_one(run, store, on)
    print_record(readable(row), given.json)
    return 0 if row["status"] == "finished" else 1


def _run_from(given: argparse.Namespace, changes: dict[str, Any]) -> Any:
    from chemscale.data import representation_of
    from chemscale.spec import Budget, Data, InitFrom, Optim, RunSpec, with_fields
    from chemscale.spec.registry import model_named

    if given.init_run and not given.init_from:
        raise ValueError(f"--init-run {given.init_run!r} needs --init-from STORE, the store of that run.")
    family = model_named(given.architecture)
    source = given.data or ("moses" if family.family == "text" else "fragments-gfn2")
    epochs = 1 if given.epochs is None and given.updates is None else given.epochs
    budget = Budget(epochs=epochs, updates=given.updates)
    init = InitFrom(given.init_from, _origin_run(given, family)) if given.init_from else None
    run = RunSpec(
        model=_model(given, family, init),
        data=Data(source, size=given.size, representation=representation_of(changes.get("data.source", source))),
        optim=Optim(lr=given.lr, batch=given.batch),
        budget=budget,
        seed=given.seed,
        init_from=init,
    )
    return with_fields(run, changes)


def _origin_run(given: argparse.Namespace, family: Any) -> str | None:
    """The run to start from: of a store the one with the lowest test loss where none is named; a folder has none."""
    from chemscale.records.store import Store
    from chemscale.use.find import best_run, is_store

    if given.init_run or not is_store(given.init_from):
        return given.init_run
    return best_run(Store(given.init_from), family.family)


def _model(given: argparse.Namespace, family: Any, init: Any) -> Any:
    """Of the width that was asked for, or else that of the weights to start from."""
    from chemscale.train.origins import model_of

    if given.width is not None:
        return family.sized(width=given.width)
    if init is None:
        raise ValueError("--width says how wide the model is; give one, or weights to start from by --init-from.")
    model = model_of(init)
    if type(model) is not family:
        raise ValueError(f"--init-from {given.init_from!r} is a {model.architecture}, not a {given.architecture}.")
    return model


def _train_one(run: Any, store: Any, on: Any) -> dict[str, Any]:
    from chemscale.records.schema import DIVERGED, FAILED, FINISHED
    from chemscale.sweep.display import Display
    from chemscale.sweep.progress import cells_of
    from chemscale.train.session import train_here

    if store.state(run.id).status not in (FINISHED, DIVERGED):
        with Display(store, [c for c in cells_of(store, ["train"]) if c.run_id == run.id]):
            if on.workers == 1:
                train_here(run, store, on)
            else:
                from chemscale.sweep.cluster import cluster
                from chemscale.train.worker import train_on_workers

                with cluster():
                    try:
                        train_on_workers(run, store.url, resources=on)
                    except Exception as error:
                        store.mark(run.id, FAILED, f"{type(error).__name__}: {error}")
                        raise
    return store.runs(run_id=run.id).to_pylist()[0]


def export(given: argparse.Namespace) -> None:
    """A trained model as a folder that stands alone: a ChemGPT as the Hugging Face hub has them, or a potential.

    A ChemGPT becomes weights, tokenizer, configuration and model card, for `transformers`. A potential becomes weights,
    configuration with reference energies, model card, and a program that torch alone runs, forces and virial inside.
    """
    from chemscale.records.store import Store
    from chemscale.use.find import best_run
    from chemscale.use.hub import export as export_text
    from chemscale.use.load import load
    from chemscale.use.release import export_potential

    store = Store(given.store)
    family = "text" if len(store.runs(columns=["run_id"], family="text", status="finished")) else "structures"
    trained = load(store, best_run(store, family) if given.run is None else given.run)
    row = store.runs(run_id=trained.run.id).to_pylist()[0]
    if trained.run.model.family == "structures":
        out = export_potential(trained, given.out, row=row, licence=given.licence, program=given.program)
    else:
        out = export_text(trained, given.out, row=row, licence=given.licence)
    files = sorted(path.name for path in out.iterdir())
    if given.json:
        return print_json({"path": str(out), "files": files, "run_id": trained.run.id})
    return print(f"{out}: run {trained.run.id} as {', '.join(files)}")
