"""A scheduler of Ray Tune for one cell: runs wait for each other at rungs, and the best forecasts go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from chemscale.sweep.curves import Curve
from chemscale.sweep.known_curves import KnownCurves, foretells
from chemscale.sweep.stop import Halving

SLACK = 1e-9  # relative, of what is counted in shares
IN_LINE = 16  # runs that Tune is asked to go on with at a time; as many as it prepares of new ones at least


@dataclass(eq=False)
class _Run:
    """Where a living run stands: the rungs that it left behind, and what it does."""

    trial: Trial
    passed: int = 0
    waits: bool = False  # at the rung `passed`
    calibrates: bool = False  # to the end, past every rung


class ForecastHalving(TrialScheduler):
    """Judges the runs of a cell rung by rung, each when all that are to come have come there.

    Nothing is decided while Tune tells of a result: who arrives pauses, and rungs are judged when Tune asks which
    run is next. So runs that end or fail on their way need no care of their own.

    Args:
        stop: rungs and calibration.
        known: curves and law of the cell.
        samples: runs of the cell in all.
        gone: how many of them ended under an earlier driver.
        ended: curves of those that finished or were stopped there; new runs are ranked among them.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        stop: Halving,
        known: KnownCurves,
        samples: int,
        *,
        gone: int = 0,
        ended: Sequence[Curve] = (),
    ):
        super().__init__()
        self._stop, self._known = stop, known
        self._gone, self._to_come, self._ended = gone, samples - gone, list(ended)
        self._runs: dict[str, _Run] = {}  # those alive
        self._fallen: dict[str, _Run] = {}  # died; Tune may start them again
        self._out: set[str] = set()  # trials that diverged, or that calibrated: no rung let them pass
        self._ready: list[Trial] = []  # go on, best first
        self._met = 0

    # -- what Tune tells ----------------------------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ray's contract: a new run, one that starts again after an error, or one that an earlier driver left."""
        again = self._fallen.pop(trial.trial_id, None)
        if again is not None:
            self._runs[trial.trial_id] = _Run(trial, again.passed, calibrates=again.calibrates)
            return
        self._met += 1
        self._to_come -= 1
        run = self._runs[trial.trial_id] = _Run(trial)
        curve = self._known.begin(trial)
        if curve is not None:
            self._resume(run, curve)

    def on_sign_of_life(self, trial: Trial) -> str:
        """What a run does that reports no loss: one that waited under an earlier driver waits again."""
        run = self._runs.get(trial.trial_id)
        return TrialScheduler.PAUSE if run is not None and run.waits else TrialScheduler.CONTINUE

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Ray's contract: a run pauses at a rung, unless it is to calibrate."""
        assert self.metric is not None
        if not foretells(result[self.metric]):
            return TrialScheduler.CONTINUE
        curve = self._known.note(trial, result["examples"], result[self.metric])
        if curve.diverged:
            return TrialScheduler.STOP
        run = self._runs[trial.trial_id]
        if run.calibrates or not self._at(run.passed, curve.progress):
            return TrialScheduler.CONTINUE
        if self._uncalibrated() > 0:
            self._calibrate(run)
            return TrialScheduler.CONTINUE
        run.waits = True
        self._unready(trial)
        return TrialScheduler.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if self.metric in result:
            self._known.note_end(trial, result["examples"], result[self.metric])
        curve = self._known.of(trial.trial_id)
        if curve is None or not curve.finished:
            self._out.add(trial.trial_id)
        self._forget(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        run = self._forget(trial)
        if run is not None:
            self._fallen[trial.trial_id] = run

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._forget(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        for rung in range(len(self._stop.rungs)):
            waiting = [run for run in self._runs.values() if run.waits and run.passed == rung]
            if waiting and self._all_came(tune_controller, rung, waiting):
                self._judge(tune_controller, rung, waiting)
        self._ready = [trial for trial in self._ready if trial.status in (Trial.PAUSED, Trial.PENDING)]
        paused = [trial for trial in self._ready if trial.status == Trial.PAUSED]
        return paused[0] if paused and len(self._ready) - len(paused) < IN_LINE else None

    def debug_string(self) -> str:
        waiting = sum(run.waits for run in self._runs.values())
        return f"Halving of forecasts: {self._met} runs begun, {len(self._runs)} alive, {waiting} waiting."

    # -- when to judge ------------------------------------------------------------------------------------------------

    def _all_came(self, controller: Any, rung: int, waiting: Sequence[_Run]) -> bool:
        """Whether nobody is on the way to a rung any more, nor on the way to an end that the law is to see."""
        living = self._runs.values()
        if any(run.calibrates or run.passed < rung or (run.passed == rung and not run.waits) for run in living):
            return False
        if any(run.trial.status != Trial.PAUSED for run in waiting):  # its state is being saved
            return False
        return self._to_come <= 0 or controller.nobody_comes()

    def _uncalibrated(self) -> int:
        """How many more runs are to train to their ends at once."""
        training = sum(run.calibrates for run in self._runs.values())
        return self._stop.calibrate - len(self._known.finals()) - training

    def _calibrate(self, run: _Run) -> None:
        run.calibrates, run.waits = True, False
        self._out.add(run.trial.trial_id)

    def _at(self, rung: int, progress: float) -> bool:
        """Whether so much of the training lies at a rung or beyond it."""
        return rung < len(self._stop.rungs) and progress >= self._stop.rungs[rung][0] * (1 - SLACK)

    def _resume(self, run: _Run, curve: Curve) -> None:
        """Put a run where an earlier driver left it: it waited at its first point at a rung or beyond."""
        before = curve.examples[-2] / curve.total if len(curve.examples) > 1 else 0.0
        run.passed = sum(self._at(rung, before) for rung in range(len(self._stop.rungs)))
        if run.passed > 0 and self._uncalibrated() > 0:  # no rung was left before calibration ended
            self._calibrate(run)
        else:
            run.waits = self._at(run.passed, curve.progress)

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, controller: Any, rung: int, waiting: list[_Run]) -> None:
        if (missing := self._uncalibrated()) > 0:  # those that calibrated came to nothing
            for run in sorted(waiting, key=self._newest_loss)[:missing]:
                self._calibrate(run)
                self._ready.append(run.trial)
            return
        winners = self._winners(rung, waiting)
        for run in winners:
            run.passed, run.waits = rung + 1, self._at(rung + 1, self._curve(run).progress)
            if not run.waits:
                self._ready.append(run.trial)
        for run in waiting:
            if run not in winners:
                controller.stop_trial(run.trial)

    def _winners(self, rung: int, waiting: Sequence[_Run]) -> list[_Run]:
        """The best of those that wait, if they are among the best of all runs that ever came to the rung."""
        law, mine = self._known.law(), {run.trial.trial_id for run in waiting}
        came = [curve for i, curve in self._known.trials().items() if i not in mine and self._counts(i)]
        others = [
            law.predict(curve).value if curve.final is None else curve.final
            for curve in [*self._ended, *came]
            if self._at(rung, curve.progress)
        ]
        said = {run.trial.trial_id: law.predict(self._curve(run)).value for run in waiting}
        ranked = sorted(waiting, key=lambda run: said[run.trial.trial_id])
        keep = self._kept(rung)
        winners = [
            run
            for place, run in enumerate(ranked)
            if place + sum(other <= said[run.trial.trial_id] for other in others) < keep
        ]
        return winners or ([] if self._someone_passed(rung) else ranked[:1])

    def _kept(self, rung: int) -> int:
        """How many go on, of all runs of the cell."""
        return max(1, math.floor(self._stop.rungs[rung][1] * (self._gone + self._met) * (1 + SLACK)))

    def _counts(self, trial_id: str) -> bool:
        """Whether others are ranked among this run: it finished, was stopped, or trains on."""
        curve = self._known.of(trial_id)
        finished = curve is not None and curve.finished
        return finished or (trial_id not in self._out and trial_id not in self._fallen)

    def _someone_passed(self, rung: int) -> bool:
        """Whether a run that was chosen at this rung trains on or has finished."""
        finished = any(c.finished for i, c in self._known.trials().items() if i not in self._out)
        ahead = any(run.passed > rung and not run.calibrates for run in self._runs.values())
        return finished or ahead or any(curve.finished for curve in self._ended)

    def _newest_loss(self, run: _Run) -> float:
        return self._curve(run).loss[-1]

    def _curve(self, run: _Run) -> Curve:
        curve = self._known.of(run.trial.trial_id)
        assert curve is not None, "a run waits after its first point only"
        return curve

    def _unready(self, trial: Trial) -> None:
        self._ready = [ready for ready in self._ready if ready is not trial]

    def _forget(self, trial: Trial) -> _Run | None:
        self._unready(trial)
        return self._runs.pop(trial.trial_id, None)
