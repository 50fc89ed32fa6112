"""The driver's word on its trials, written to the store: what was stopped early, what failed and why."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import RayActorError

from chemscale.records.attempt import STATE
from chemscale.records.compact import Upkeep
from chemscale.records.schema import DIVERGED, FAILED, FINISHED, INTERRUPTED, STOPPED
from chemscale.records.store import Store
from chemscale.records.unsaid import Unsaid
from chemscale.sweep.endings import Endings, as_record
from chemscale.sweep.trial import Plan

LONGEST_REASON = 500  # characters
DIED = "the trial's process died"
EXCUSED = 3  # deaths in a row that saved nothing and are no failure yet: what kills from outside comes at any moment


class DriverWord(tune.Callback):
    """Writes what only the driver knows: that a scheduler stopped a run, or that it failed and why.

    Args:
        endings: forecasts of the runs that are stopped, where somebody else makes them too.
    """

    def __init__(self, plan: Plan, study: str, endings: Endings | None = None):
        self._plan, self._study = plan, study
        self._store = Store(plan.store)
        self._endings = endings or Endings(self._store, study)
        self._unsaid = Unsaid(self._store.url, plan.patience)
        self._upkeep = Upkeep(self._store)
        self._saved: dict[str, int] = {}  # run id -> the newest attempt that had saved its state when it died
        self._deaths: dict[str, int] = {}  # run id -> deaths since then

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._plan.search is not None:
            run = self._plan.run(trial.config)
            self._unsaid.say(lambda: self._store.enlist(self._study, [run]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        run_id, token = self._plan.run(trial.config).id, secrets.token_hex(8)
        self._unsaid.say(lambda: self._stopped(run_id, token))
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
        run_id, token = self._plan.run(trial.config).id, secrets.token_hex(8)
        error = error_of(trial)
        if not isinstance(error, RayActorError):
            return self._unsaid.say(lambda: self._say(run_id, FAILED, reason_of(error), token))
        found: list[str] = []  # once: what is said again, because the store was away, is the same

        def say() -> None:
            found[:] = found or [self._status_of_lost(trial, run_id)]
            self._say(run_id, found[0], DIED, token)

        return self._unsaid.say(say)

    def _status_of_lost(self, trial: Any, run_id: str) -> str:
        """The process of a trial was killed: no failure of the run where its attempt came as far as saving its state.

        So a run that is killed always at one place fails in the end, and one that is killed again and again goes on.
        """
        history = self._store.attempts(run_id)
        if history and history[-1].holds(STATE) and self._saved.get(run_id) != history[-1].number:
            self._saved[run_id], self._deaths[run_id] = history[-1].number, 0
        else:
            self._deaths[run_id] = self._deaths.get(run_id, 0) + 1
        if self._deaths[run_id] > EXCUSED:
            return FAILED
        trial.max_failures += 1  # Tune has counted this death
        return INTERRUPTED

    def _stopped(self, run_id: str, token: str) -> None:
        if self._open(run_id):
            forecast = as_record(self._endings.ending_of(run_id))
            self._store.mark(run_id, STOPPED, "stopped early by the scheduler", forecast=forecast, token=token)

    def _say(self, run_id: str, status: str, reason: str, token: str) -> None:
        if self._open(run_id):
            self._store.mark(run_id, status, reason, token=token)

    def _open(self, run_id: str) -> bool:
        """Whether no worker has said how the run ended."""
        return self._store.state(run_id).status not in (FINISHED, DIVERGED)


def reason_of(error: Any) -> str:
    """The last word of what a trial raised (`error_of`), on one line."""
    while (cause := getattr(error, "cause", None)) is not None and cause is not error:
        error = cause
    if error is None:
        return DIED
    if isinstance(error, str):  # all that Tune kept is the printed traceback, whose last line is the error
        return error.strip().splitlines()[-1][:LONGEST_REASON]
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]


def error_of(trial: Any) -> Any:
    """What a trial raised last, or its printed traceback; read where Tune writes it, not where it is copied later."""
    if trial.pickled_error_file and Path(trial.pickled_error_file).exists():
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    if trial.error_file and Path(trial.error_file).exists():
        return Path(trial.error_file).read_text()
    return None
