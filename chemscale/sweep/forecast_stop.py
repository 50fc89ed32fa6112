"""A scheduler of Ray Tune that stops runs which will hardly end near the best; halving of forecasts is its net."""

from __future__ import annotations

import math
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from chemscale.sweep.forecast import Ending
from chemscale.sweep.known_curves import KnownCurves, foretells
from chemscale.sweep.stop import Forecast


class ForecastStop(ASHAScheduler):
    """Forecasts every run of a cell at each of its measurements, and stops it where its chance is small.

    Args:
        stop: margin, threshold, calibration and safety net.
        known: curves and law of the cell; finished ones count as calibration.
        total: examples of the whole training.
    """

    def __init__(self, stop: Forecast, known: KnownCurves, total: int):
        super().__init__(
            time_attr="examples",  # survives a resume, unlike Tune's own count of reports
            max_t=total,
            grace_period=max(1, math.floor(stop.grace * total)),
            reduction_factor=stop.reduction,
        )
        self._stop, self._known = stop, known
        self._met: set[str] = set()  # trials that have reported a loss
        self._calibrating: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ray's contract: a new run, one that an earlier driver left, or one that starts again after an error."""
        if self._known.of(trial.trial_id) is None:
            self._known.begin(trial)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Ray's contract; halving ranks runs by their forecasts, since curves cross."""
        assert self.metric is not None
        if not foretells(result.get(self.metric)):
            return TrialScheduler.CONTINUE
        first = trial.trial_id not in self._met
        self._met.add(trial.trial_id)
        curve = self._known.note(trial, result["examples"], result[self.metric])
        calibrates = self._calibrates(trial.trial_id, first)
        if curve.diverged or curve.finished or result["examples"] >= self._max_t:
            self._calibrating.discard(trial.trial_id)
            return super().on_trial_result(tune_controller, trial, result)
        ending = self._known.recent_law().predict(curve)
        halving = super().on_trial_result(tune_controller, trial, {**result, self.metric: ending.value})
        if calibrates:
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if self._hopeless(ending) else halving

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Ray's contract; a run that reached its end says so here, since nothing of it is left to stop."""
        if self.metric in result:
            self._known.note_end(trial, result["examples"], result[self.metric])
        self._calibrating.discard(trial.trial_id)
        super().on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Ray's contract."""
        self._calibrating.discard(trial.trial_id)
        super().on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Ray's contract."""
        self._calibrating.discard(trial.trial_id)
        super().on_trial_remove(tune_controller, trial)

    def _calibrates(self, trial_id: str, first: bool) -> bool:
        """Whether this run goes to its end whatever it looks like, so that the law sees whole curves of all kinds."""
        if trial_id in self._calibrating:
            return True
        if first and len(self._known.finals()) + len(self._calibrating) < self._stop.calibrate:
            self._calibrating.add(trial_id)
            return True
        return False

    def _hopeless(self, ending: Ending) -> bool:
        finals = self._known.finals()
        if len(finals) < self._stop.calibrate:
            return False
        return ending.chance_below(min(finals) * (1 + self._stop.margin)) < self._stop.threshold
