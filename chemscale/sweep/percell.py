"""One of Ray's schedulers for each cell of a search, which sees Tune as if there were no other cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from chemscale.records.schema import DIVERGED
from chemscale.sweep.halving import ForecastHalving
from chemscale.sweep.population import Copied, Population
from chemscale.sweep.search import CELL

Curve = Sequence[tuple[int, float]]  # (examples, validation loss) of one run, in order

ENDED = "status"  # what the last report of a run has and no other
RUNG = "rung_units"  # examples seen, in units of a HyperBand's first rung


class PerCell(TrialScheduler):
    """Gives every trial to the scheduler of its cell.

    A scheduler is told of measurements only: reports between them carry no loss, and Ray's schedulers ask for one.

    Args:
        schedulers: by cell.
        rungs: examples of the first rung by cell, for schedulers that count in it.
        population: keeps a member its own run when it copies another's state.
        past: by cell, the (examples, loss) of every run that an earlier driver trained.
    """

    _supports_buffered_results = False  # a decision concerns the measurement that it was made on

    def __init__(
        self,
        schedulers: list[TrialScheduler],
        rungs: list[float],
        population: Population,
        past: Sequence[Sequence[Curve]] = (),
    ):
        super().__init__()
        self._schedulers, self._rungs, self._population, self._past = schedulers, rungs, population, past
        self._measured: dict[str, dict[str, Any]] = {}  # by trial: the newest result with a loss
        self._turn = 0

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tune's contract: every cell's scheduler is told what it compares, and of the runs before its time."""
        self._metric = metric
        for scheduler in self._schedulers:
            missing = {"metric": metric} if scheduler.metric is None else {"metric": None}
            missing |= {"mode": None if getattr(scheduler, "_mode", None) else mode}
            if not scheduler.set_search_properties(**missing, **spec):
                return False
        for scheduler, curves in zip(self._schedulers, self._past, strict=False):
            _recall(scheduler, curves)
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._population.add(trial)
        self._of(trial).on_trial_add(self._view(tune_controller, trial), trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Tune's contract: the decision of the cell's scheduler, on measurements only."""
        if self.metric not in result:
            scheduler = self._of(trial)
            halves = isinstance(scheduler, ForecastHalving)
            return scheduler.on_sign_of_life(trial) if halves else TrialScheduler.CONTINUE
        if result.get(ENDED) == DIVERGED:  # the last that was measured is known; the end has no loss
            return TrialScheduler.CONTINUE
        self._measured[trial.trial_id] = self._scaled(trial, result)
        if ENDED in result:  # nothing is left to stop or to copy into; `on_trial_complete` follows
            return TrialScheduler.CONTINUE
        view = self._view(tune_controller, trial)
        decision = self._of(trial).on_trial_result(view, trial, self._measured[trial.trial_id])
        self._population.separate(view.get_trials())
        self._release(trial)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        view, scheduler = self._view(tune_controller, trial), self._of(trial)
        if trial.trial_id in self._measured:
            scheduler.on_trial_complete(view, trial, self._measured[trial.trial_id])
        else:
            scheduler.on_trial_remove(view, trial)
        self._release(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_remove(self._view(tune_controller, trial), trial)
        self._release(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_error(self._view(tune_controller, trial), trial)
        self._release(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """What the cells' schedulers want to run, each cell first in its turn."""
        count = len(self._schedulers)
        for k in range(count):
            cell = (self._turn + k) % count
            view: Any = _View(tune_controller, cell, self._schedulers[cell], self._population)
            chosen = self._schedulers[cell].choose_trial_to_run(view)
            if chosen is not None:
                self._turn = cell + 1
                return chosen
        return None

    def debug_string(self) -> str:
        return "\n".join(scheduler.debug_string() for scheduler in self._schedulers)

    def _of(self, trial: Trial) -> TrialScheduler:
        return self._schedulers[trial.config[CELL]]

    def _view(self, controller: Any, trial: Trial) -> Any:
        return _View(controller, trial.config[CELL], self._of(trial), self._population)

    def _scaled(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any]:
        return {**result, RUNG: result["examples"] / self._rungs[trial.config[CELL]]}

    def _release(self, trial: Trial) -> None:
        """Ray's HyperBand marks a bracket for as long as it halves it and never takes the mark away (2.60), so that
        runs which wait for one that ends by itself would wait for ever."""
        scheduler = self._of(trial)
        if isinstance(scheduler, HyperBandScheduler):
            for bracket in filter(None, (b for band in scheduler._hyperbands for b in band)):
                bracket.is_being_processed = False


class _Past:
    """A run that an earlier driver trained, as a trial."""

    def __init__(self, number: int):
        self.trial_id = f"past-{number}"


def _recall(scheduler: TrialScheduler, curves: Sequence[Curve]) -> None:
    """Tell a scheduler of runs before its time, if it compares with all before; others compare living ones only."""
    if type(scheduler) not in (ASHAScheduler, MedianStoppingRule):
        return
    nobody: Any = None
    for number, curve in enumerate(curves):
        trial: Any = _Past(number)
        scheduler.on_trial_add(nobody, trial)
        for examples, loss in curve:
            scheduler.on_trial_result(nobody, trial, {"examples": examples, "valid_loss": loss})


class _View:
    """Tune's controller as the scheduler of one cell sees it."""

    def __init__(self, controller: Any, cell: int, scheduler: TrialScheduler, population: Population):
        self._controller, self._cell, self._population = controller, cell, population
        self._copies = isinstance(scheduler, PopulationBasedTraining)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)

    @property
    def search_alg(self) -> Any:
        """The searcher, without the type that Ray's population based training refuses: ours knows of populations."""
        return SimpleNamespace(searcher=getattr(self._controller.search_alg, "searcher", None))

    def nobody_comes(self) -> bool:
        """Whether no sample is still to come, of any cell, or the searcher waits for runs that wait themselves."""
        finished = getattr(self._controller.search_alg, "is_finished", None)
        if finished is not None and finished():
            return True
        return all(trial.status == Trial.PAUSED for trial in self._controller.get_live_trials())

    def get_trials(self) -> list[Trial]:
        return self._mine(self._controller.get_trials())

    def get_live_trials(self) -> list[Trial]:
        return self._mine(self._controller.get_live_trials())

    def _mine(self, trials: Iterable[Trial]) -> list[Trial]:
        return [trial for trial in trials if trial.config[CELL] == self._cell]

    def _schedule_trial_save(self, trial: Trial, result: dict[str, Any] | None = None) -> Copied | Any:
        """A member's state is in the store at every measurement: to "save" it is to say where."""
        if self._copies:
            return self._population.state_of(trial)
        return self._controller._schedule_trial_save(trial, result=result)
