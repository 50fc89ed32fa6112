"""A run as a function that Ray Tune calls, for a user's own `tune.Tuner` with a scheduler and a search of their own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain, Function

from chemscale.records.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Resources, RunSpec, with_fields
from chemscale.sweep.grid import require_name
from chemscale.sweep.preparation import prepare
from chemscale.sweep.trackers import informed
from chemscale.sweep.trial import Plan, trial
from chemscale.sweep.tune import reserved
from chemscale.sweep.ushers import Cleaners
from chemscale.sweep.word import error_of, reason_of
from chemscale.train.room import slots

Maker = Callable[[Mapping[str, Any]], RunSpec]
FIXED = ("data.source", "data.content", "data.representation")


@dataclass(frozen=True)
class OpenPlan(Plan):
    """What a trial of a user's own Tuner needs to know: how a configuration becomes a run, and the driver's folder."""

    stoppable: bool = True
    make: Maker | None = None
    folder: str = "."

    def run(self, config: Mapping[str, Any]) -> RunSpec:
        assert self.make is not None
        run = self.make(config)
        if not isinstance(run, RunSpec):
            raise ValueError(f"the function given to cs.trainable returned {type(run).__name__}; return a RunSpec.")
        return prepare([run], self.on)[0]


@dataclass(frozen=True)
class Fields:
    """A base run with the dotted fields of a configuration set; groups may be nested, as Tune allows."""

    base: RunSpec

    def __call__(self, config: Mapping[str, Any]) -> RunSpec:
        changes = flattened(config)
        for field in FIXED:
            if field in changes:
                raise ValueError(f"{field}={changes[field]!r} cannot be searched: runs on other data do not compare.")
        return with_fields(self.base, changes)


def flattened(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} as {"optim.lr": 1}."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flattened(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def trainable(
    base: RunSpec | Maker, *, store: str | Path | Store, on: Resources | None = None, name: str = "tune"
) -> Any:
    """A function trainable, with its resources, that trains the run of a Tune configuration in a store.

    It reports `examples`, `step` and `valid_loss` (lower is better; infinite for a run that diverged), and with its
    last report `law_loss` and `status`; give schedulers `time_attr="examples"`. A run that the store already holds is
    reported, not trained again. Give the Tuner the callback `word` of what this returns,
    `tune.RunConfig(callbacks=[trainable.word])`: only it can tell a run that was stopped from one that was paused or
    left. Without it such a run is recorded as interrupted. `tune.TuneConfig(reuse_actors=True)` spares each trial the
    start of a process.

    Args:
        base: the run whose dotted fields a configuration sets, e.g. {"optim.lr": 1e-3}; or a function from a
            configuration to a RunSpec.
        store: folder of the records, on a disk that all nodes share.
        on: where each run trains. Runs with several workers reserve these beside Tune's own accounts: set
            `max_concurrent_trials` to what the cluster holds.
        name: of the study in the store.

    Raises:
        ValueError: bad data or a bad name; in a trial, a configuration that names no field or a value that is refused.
    """
    require_name("name", name)
    if isinstance(base, RunSpec):
        prepare([base], on)  # bad data is refused here, not in every trial
    elif not callable(base):
        raise ValueError(f"base={base!r} is neither a RunSpec nor a function from a configuration to one.")
    records = store if isinstance(store, Store) else Store(store, create=True)
    records.enlist(name, [])
    make = Fields(base) if isinstance(base, RunSpec) else base
    on = on or Resources()
    plan = OpenPlan(records.url, on, make=make, folder=os.getcwd())
    made = tune.with_resources(tune.with_parameters(train_open, plan=plan), reserved(on))
    made.word = TunersWord(plan, name)
    return made


def train_open(config: Mapping[str, Any], plan: OpenPlan) -> None:
    """What Tune calls: one run to its end, and in the store what became of it where it did not get there.

    The trial's own process answers for the run: a Tuner says nothing of a process that it kills, and lives on itself.
    """
    plan = replace(plan, driver=process_identity())
    at_home = contextlib.chdir(plan.folder) if Path(plan.folder).is_dir() else contextlib.nullcontext()
    with at_home:  # Tune moves to a folder of its own, where a relative path names nothing
        run = plan.run(config)
        on = plan.resources_of(run)
        store = Store(patient(plan.store, on))
        try:
            trial(config, plan)
        except SystemExit:  # how Tune ends a function that it stops, pauses or leaves
            if store.state(run.id).status == RUNNING:  # else the driver has said what it was
                store.mark(run.id, INTERRUPTED, "left by Tune: stopped, paused, or its driver ended")
            raise
        except Exception as error:
            if store.state(run.id).status not in (FINISHED, DIVERGED, FAILED):
                store.mark(run.id, FAILED, f"{type(error).__name__}: {error}")
            raise


class TunersWord(Cleaners):
    """Writes into the store what only the driver of a Tuner knows: which runs it asked for, stopped or lost.

    And frees what a stopped run of several workers holds, which Tune does not see.
    """

    plan: OpenPlan

    def __init__(self, plan: OpenPlan, study: str):
        super().__init__(plan)
        self._study = study
        self._store = Store(plan.store)

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        if (run := self._run(trial)) is not None:
            super().on_trial_start(iteration, trials, trial)
            self._store.enlist(self._study, [run])

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        super().on_trial_complete(iteration, trials, trial)
        self._say(trial, STOPPED, "stopped early by the scheduler")

    def on_trial_recover(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._say(trial, FAILED, reason_of(error_of(trial)))

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        super().on_trial_error(iteration, trials, trial)
        self._say(trial, FAILED, reason_of(error_of(trial)))

    def _say(self, trial: Any, status: str, reason: str) -> None:
        if (run := self._run(trial)) is not None and self._store.state(run.id).status not in (
            FINISHED, DIVERGED, FAILED, status,
        ):  # fmt: skip
            self._store.mark(run.id, status, reason)

    def _run(self, trial: Any) -> RunSpec | None:
        """The trial's run; None where its configuration names none, which the trial itself says."""
        try:
            return self.plan.run(trial.config)
        except Exception:
            return None


def open_tuner(
    base: RunSpec | Maker,
    space: Mapping[str, Any] | None = None,
    *,
    store: str | Path | Store,
    on: Resources | None = None,
    name: str = "tune",
    scheduler: Any = None,
    search_alg: Any = None,
    samples: int = 1,
    callbacks: Sequence[Any] = (),
) -> tune.Tuner:
    """A plain Tuner around `trainable`, with its word given; `cs.tuner` says the rest."""
    on, made = on or Resources(), trainable(base, store=store, on=on, name=name)
    if isinstance(base, RunSpec):
        Fields(base)(_examples(space or {}))
    config = tune.TuneConfig(
        metric="valid_loss", mode="min", scheduler=scheduler, search_alg=search_alg, num_samples=samples,
        reuse_actors=True,
        max_concurrent_trials=slots(on) if on.workers > 1 or on.concurrent else None,
    )  # fmt: skip
    scratch = tempfile.mkdtemp(prefix="chemscale-tune-")  # the store is the record
    run_config = tune.RunConfig(
        name=name, storage_path=scratch, callbacks=[made.word, *informed(callbacks, made.word.plan)]
    )
    return tune.Tuner(made, param_space=dict(space or {}), tune_config=config, run_config=run_config)


def _examples(space: Mapping[str, Any]) -> dict[str, Any]:
    """A value of every domain of a Tune space, to see whether a run takes it; what depends on others is left out."""
    found: dict[str, Any] = {}
    for name, domain in space.items():
        if isinstance(domain, Mapping):
            found[name] = domain["grid_search"][0] if "grid_search" in domain else _examples(domain)
        elif not isinstance(domain, Function):
            found[name] = domain.sample() if isinstance(domain, Domain) else domain
    return found
