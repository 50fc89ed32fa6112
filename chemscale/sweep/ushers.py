"""What follows a trial around: its room is given back when it pauses, its workers are ended when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray import tune

from chemscale.spec import RunSpec
from chemscale.sweep.admission import SWEEP_SECONDS, Admission
from chemscale.sweep.groups import end_group, remove_orphans
from chemscale.sweep.trial import Plan

LEFT_SECONDS = 10.0  # between two looks for what an ended job left
LAST_SECONDS = 10.0  # the groups of stopped trials are gone after so long at most


class Ushers(tune.Callback):
    """Tells the ledger what Tune tells no searcher, and ends the workers of trials that were stopped or paused.

    Args:
        admission: whose ledger it is.
    """

    def __init__(self, admission: Admission, plan: Plan):
        self._admission, self._plan = admission, plan
        self._live: dict[str, tuple[Any, RunSpec]] = {}
        self._actors: dict[str, Any] = {}  # of trials with workers of their own; a handle keeps an actor alive
        self._paused: set[str] = set()
        self._swept = 0.0

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        run = self._plan.run(trial.config)
        self._live[trial.trial_id] = (trial, run)
        if self._plan.resources_of(run).workers > 1:
            self._actors[trial.trial_id] = trial.temporary_state.ray_actor

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._live.pop(trial.trial_id, None)
        self._end_workers(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Tune's contract: tells of pauses, and looks for groups that nobody holds any more."""
        for trial_id, (trial, run) in self._live.items():
            if trial.status == "PAUSED" and trial_id not in self._paused:
                self._paused.add(trial_id)
                self._admission.on_pause(trial_id)
                self._end_workers(trial_id)
            elif trial.status != "PAUSED" and trial_id in self._paused:
                self._paused.discard(trial_id)
                self._admission.on_unpause(trial_id, run)
        if time.monotonic() - self._swept >= (SWEEP_SECONDS if self._admission.nested else LEFT_SECONDS):
            self._swept = time.monotonic()
            remove_orphans()

    def on_experiment_end(self, trials: Sequence[Any], **info: Any) -> None:
        self._admission.growth.end()
        deadline = time.monotonic() + LAST_SECONDS
        while self._admission.nested and remove_orphans().alive and time.monotonic() < deadline:
            time.sleep(0.2)

    def _end_workers(self, trial_id: str) -> None:
        actor = self._actors.pop(trial_id, None)
        if actor is not None:
            actor.execute.remote(end_group)
