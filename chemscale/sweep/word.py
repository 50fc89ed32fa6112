"""The driver's word on its trials, written to the store: what was stopped early, what failed and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle, tune

from chemscale.records.compact import Upkeep
from chemscale.records.schema import DIVERGED, FAILED, FINISHED, STOPPED
from chemscale.records.store import Store
from chemscale.records.unsaid import Unsaid
from chemscale.sweep.endings import Endings, as_record
from chemscale.sweep.trial import Plan

LONGEST_REASON = 500  # characters


class DriverWord(tune.Callback):
    """Writes what only the driver knows: that a scheduler stopped a run, or that it failed and why."""

    def __init__(self, plan: Plan, study: str):
        self._plan, self._study = plan, study
        self._store = Store(plan.store)
        self._endings = Endings(self._store, study)
        self._unsaid = Unsaid(self._store.url, plan.patience)
        self._upkeep = Upkeep(self._store)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._plan.search is not None:
            run = self._plan.run(trial.config)
            self._unsaid.say(lambda: self._store.enlist(self._study, [run]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._mark(trial, STOPPED, "stopped early by the scheduler")
        self._upkeep.count()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._unsaid.retry()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._unsaid.settle()
        self._upkeep.finish()

    def _failed(self, trial: Any) -> None:
        self._mark(trial, FAILED, reason_of(trial))

    def _mark(self, trial: Any, status: str, reason: str) -> None:
        run_id = self._plan.run(trial.config).id

        def mark() -> None:
            if self._store.state(run_id).status not in (FINISHED, DIVERGED):
                forecast = as_record(self._endings.ending_of(run_id)) if status == STOPPED else None
                self._store.mark(run_id, status, reason, forecast=forecast)

        self._unsaid.say(mark)


def reason_of(trial: Any) -> str:
    """The last word of what a trial raised, on one line."""
    error = _error_of(trial)
    while (cause := getattr(error, "cause", None)) is not None and cause is not error:
        error = cause
    if error is None:
        return "the trial's process died"
    if isinstance(error, str):  # all that Tune kept is the printed traceback, whose last line is the error
        return error.strip().splitlines()[-1][:LONGEST_REASON]
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]


def _error_of(trial: Any) -> Any:
    """What a trial raised last, or its printed traceback; read where Tune writes it, not where it is copied later."""
    if trial.pickled_error_file and Path(trial.pickled_error_file).exists():
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    if trial.error_file and Path(trial.error_file).exists():
        return Path(trial.error_file).read_text()
    return None
