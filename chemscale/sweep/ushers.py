"""What follows trials around: ushers tell the ledger of pauses, cleaners end what a trial leaves, memory too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from chemscale.spec import RunSpec
from chemscale.sweep.admission import Admission
from chemscale.sweep.groups import end_group, remove_orphans
from chemscale.sweep.trial import Plan

SWEEP_SECONDS = 1.0  # between two looks for groups that nobody holds, where trials have workers of their own
LEFT_SECONDS = 10.0  # and where only an ended job can have left one
LAST_SECONDS = 10.0  # the groups of stopped trials are gone after so long at most


class Ushers(tune.Callback):
    """Tells the ledger what Tune tells no searcher: that a trial was paused, or goes on.

    Args:
        admission: whose ledger it is.
    """

    def __init__(self, admission: Admission, plan: Plan):
        self._admission, self._plan = admission, plan
        self._live: dict[str, tuple[Any, RunSpec]] = {}
        self._paused: set[str] = set()

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._live[trial.trial_id] = (trial, self._plan.run(trial.config))

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._live.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Tune's contract, which has no word for a pause."""
        for trial_id, (trial, run) in self._live.items():
            if trial.status == "PAUSED" and trial_id not in self._paused:
                self._paused.add(trial_id)
                self._admission.on_pause(trial_id)
            elif trial.status != "PAUSED" and trial_id in self._paused:
                self._paused.discard(trial_id)
                self._admission.on_unpause(trial_id, run)

    def on_experiment_end(self, trials: Sequence[Any], **info: Any) -> None:
        self._admission.growth.end()


class Cleaners(tune.Callback):
    """Ends the workers of trials that were stopped or paused, and removes groups that nobody holds any more.

    Args:
        plan: knows which trials have workers of their own.

    Attributes:
        crowded: whether workers had no room at the last look.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._held: dict[str, tuple[Any, Any]] = {}  # trials with workers, and their actor: a handle keeps it alive
        self.crowded = False
        self._nested = False  # whether any trial so far had workers of Ray Train
        self._swept = 0.0

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        if self.plan.resources_of(self.plan.run(trial.config)).workers > 1:
            self._nested = True
            self._held[trial.trial_id] = (trial, trial.temporary_state.ray_actor)

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._end_workers(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._end_workers(trial.trial_id)

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        for trial_id in [trial_id for trial_id, (trial, _) in self._held.items() if trial.status == "PAUSED"]:
            self._end_workers(trial_id)
        if time.monotonic() - self._swept >= (SWEEP_SECONDS if self._nested else LEFT_SECONDS):
            self._swept = time.monotonic()
            self.crowded = remove_orphans().waiting > 0

    def on_experiment_end(self, trials: Sequence[Any], **info: Any) -> None:
        deadline = time.monotonic() + LAST_SECONDS
        while self._nested and remove_orphans().alive and time.monotonic() < deadline:
            time.sleep(0.2)

    def _end_workers(self, trial_id: str) -> None:
        _, actor = self._held.pop(trial_id, (None, None))
        if actor is not None:
            actor.execute.remote(end_group)


class Forgetting(tune.Callback):
    """Lets go what Tune keeps of an ended trial's metrics: 50 kB each, of a thousand trials and more.

    For Tuners whose results nobody reads: the store has them all.
    """

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)


def yielding(scheduler: TrialScheduler, cleaners: Cleaners) -> TrialScheduler:
    """The scheduler; while workers have no room, Tune gives back the process that it keeps for the next trial.

    Such a process holds its room, of which the ledger knows nothing, and the workers would wait for ever.
    """
    choose = scheduler.choose_trial_to_run

    def choose_trial_to_run(tune_controller: Any) -> Any:
        if cleaners.crowded:
            tune_controller._cleanup_cached_actors(force_all=True)
        return choose(tune_controller)

    vars(scheduler)["choose_trial_to_run"] = choose_trial_to_run
    return scheduler
