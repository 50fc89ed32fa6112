"""Ray's population based training, comparing members at an equal number of examples."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining


class Members(PopulationBasedTraining):
    """Ranks members by their losses at the progress that all of them have reached, and lets them train in turn.

    Ray's own ranks newest losses, whenever measured: where members take turns in few slots, the one that has just
    trained is always ahead. Ray's own also prefers who has the least progress, to which a member falls back when it
    copies another: two bad ones could copy for ever while the others wait. Its synchronous mode waits for all members,
    and for ever for one that diverges.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self._course: dict[Trial, list[tuple[float, float]]] = {}  # (examples, score) of every member so far
        self._turns: dict[Trial, int] = {}  # the number of the newest result when a member last trained
        self._results = 0

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Ray's contract."""
        self._results += 1
        self._turns[trial] = self._results
        return super().on_trial_result(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Who has waited longest."""
        waiting = [trial for trial in tune_controller.get_trials() if trial.status in (Trial.PENDING, Trial.PAUSED)]
        return min(waiting, key=lambda trial: self._turns.get(trial, 0), default=None)

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Trial) -> Any:
        score = super()._save_trial_state(state, time, result, trial)
        self._course.setdefault(trial, []).append((time, state.last_score))
        return score

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        living = [trial for trial in self._trial_state if not trial.is_finished()]
        if any(trial not in self._course for trial in living):
            return [], []
        common = min((self._course[trial][-1][0] for trial in living), default=0.0)
        newest = {trial: self._trial_state[trial].last_score for trial in living}
        for trial in living:
            self._trial_state[trial].last_score = _score_at(self._course[trial], common)
        try:
            return super()._quantiles()
        finally:
            for trial, score in newest.items():
                self._trial_state[trial].last_score = score

    def _checkpoint_or_exploit(self, trial: Trial, tune_controller: Any, upper: Any, lower: Any) -> None:
        for best in upper:  # every member has a state to copy, also one that has not just reported
            self._trial_state[best].last_checkpoint = tune_controller._schedule_trial_save(best)
        super()._checkpoint_or_exploit(trial, tune_controller, upper, lower)

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        super()._exploit(tune_controller, trial, trial_to_clone)
        self._course[trial] = list(self._course[trial_to_clone])  # what it was no longer counts


def _score_at(course: list[tuple[float, float]], common: float) -> float:
    """The newest score at most as far as `common`; the first where all lie beyond."""
    reached = [score for time, score in course if time <= common]
    return reached[-1] if reached else course[0][1]
