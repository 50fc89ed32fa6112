"""Tune starts a trial when the ledger has room for it: searchers that hand out what may start now, and nothing else.

Tune counts the resources of a trial's own process only, which for a run of several workers are none: Ray Train reserves
the workers by itself. `max_concurrent_trials` cannot express cells of different widths. So the searcher, which Tune
asks for the next trial all the time, answers with None until the ledger admits one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

from ray.tune.search import Searcher

from chemscale.spec import Resources, RunSpec
from chemscale.sweep.groups import nested_groups
from chemscale.sweep.growth import Growth
from chemscale.sweep.slots import Ledger
from chemscale.sweep.trial import RUN_ID, Plan
from chemscale.train.room import Need, rooms_of
from chemscale.train.trunk import lines_of

REFRESH_SECONDS = 2.0  # nodes come and go
SWEEP_SECONDS = 1.0  # between two looks for groups that wait
STALL_SECONDS = 15.0  # a group admitted so long ago and still without room: nobody else is admitted until it has some


class Admission(Searcher):
    """What grids and searches share: the ledger, and who holds what under Tune's names for trials.

    Args:
        plan: knows the resources of a run.
    """

    def __init__(self, plan: Plan):
        super().__init__()  # no metric: Tune would ask for it in every report, also in those between measurements
        self._plan = plan
        self._ledger = Ledger({})
        self._refreshed = self._swept = -REFRESH_SECONDS
        self._stalled_since: float | None = None
        self.growth = Growth()
        self._most = math.inf  # the smallest `Resources.concurrent` of all
        self._elastic: dict[Hashable, tuple[Resources, float]] = {}  # cells in line that would start with fewer workers
        self._keys: dict[str, Hashable] = {}  # Tune's id of a trial -> the ledger's key
        self.nested = False  # whether any trial so far had workers of Ray Train

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    # -- for Tune -----------------------------------------------------------------------------------------------------

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._ledger.release(self._keys.pop(trial_id, trial_id))

    def save(self, checkpoint_path: str) -> None:
        """The store is what a sweep resumes from; Tune's snapshot of a searcher is not read."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    # -- for schedulers that pause ------------------------------------------------------------------------------------

    def on_pause(self, trial_id: str) -> None:
        """A scheduler paused a trial: its room is free until it goes on."""
        if trial_id in self._keys:
            self._ledger.release(self._keys[trial_id])

    def on_unpause(self, trial_id: str, run: RunSpec | None = None) -> None:
        """A trial goes on; it holds room again, whatever the line."""
        key = self._keys.get(trial_id)
        if run is not None and key is not None and not self._ledger.holds(key):
            self._ledger.hold(key, Need.of(self._plan.resources_of(run)))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _ask(self, key: Hashable, run: RunSpec, work: float = 0.0) -> None:
        on = self._plan.resources_of(run)
        self._most = min(self._most, on.concurrent or self._most)
        if on.min_workers is not None:
            self._elastic[key] = (on, work)
        self._ledger.ask(key, Need.within(on, self._ledger.rooms), work)

    def _admit(self) -> Hashable | None:
        """The ledger's next, unless a group waits for room that it should have had: its neighbours end first."""
        self._refresh()
        if self._ledger.running >= self._most or self._stalled():
            return None
        key = self._ledger.admit()
        self._elastic.pop(key, None)
        return key

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed >= REFRESH_SECONDS:
            import ray

            self._refreshed = time.monotonic()
            rooms = rooms_of(ray.nodes())
            if rooms != self._ledger.rooms:
                self._ledger.refresh(rooms)
                for key, (on, work) in self._elastic.items():  # a smaller cluster may hold them with fewer workers
                    self._ledger.release(key)
                    self._ledger.ask(key, Need.within(on, rooms), work)
            if math.isfinite(self._most):  # the user said how far the cluster may grow
                self.growth.want(self._ledger.wishes(int(self._most)))

    def _stalled(self) -> bool:
        """Whether a group of workers has had no room for long although the ledger gave it some.

        The ledger counts by node, and Ray chooses the nodes: both fill the fullest, but may differ after some cells.
        """
        if not self.nested:
            return False
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self._swept = time.monotonic()
            waits = nested_groups().waiting > 0 and self._ledger.running > 1
            self._stalled_since = (self._stalled_since or self._swept) if waits else None
        return self._stalled_since is not None and time.monotonic() - self._stalled_since > STALL_SECONDS


class Listed(Admission):
    """The runs of a grid, each once; those of one trunk one after another, the shortest first.

    Args:
        work: run id -> estimated seconds; among cells of one width the longest goes first.
    """

    def __init__(self, plan: Plan, work: Mapping[str, float]):
        super().__init__(plan)
        self._work = work
        self._lines = [deque(line) for line in lines_of(plan.runs)]
        self._next_of = {line[0]: line for line in self._lines}  # by the run of each line that is asked for now
        for line in self._lines:
            self._ask_for(line[0])

    def _ask_for(self, run_id: str) -> None:
        self._ask(run_id, self._plan.runs[run_id], self._work.get(run_id, 0.0))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune's contract: the next run of the list that the ledger admits."""
        if not self._ledger.waiting and not any(len(line) > 1 for line in self._next_of.values()):
            return Searcher.FINISHED
        run_id = self._admit()
        if run_id is None:
            return None
        self._keys[trial_id] = run_id
        self.nested = self.nested or self._plan.resources_of(self._plan.runs[str(run_id)]).workers > 1
        return {RUN_ID: run_id}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        line = self._next_of.pop(str(self._keys.get(trial_id)), None)
        super().on_trial_complete(trial_id, result, error)
        if line is None:
            return
        line.popleft()
        if line:
            self._next_of[line[0]] = line
            self._ask_for(line[0])


class Sampled(Admission):
    """The samples of a search, as another searcher proposes them.

    A sample is drawn when there is room for it, so that the searcher has learnt all that it can; where the need depends
    on the sample, one that was drawn waits for its room.

    Args:
        inner: proposes configurations and learns from results.
    """

    def __init__(self, plan: Plan, inner: Searcher):
        super().__init__(plan)
        self._inner, self._drawn = inner, 0
        self._waiting: tuple[str, dict[str, Any]] | None = None  # (the inner searcher's name of it, configuration)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune's contract: the next sample, drawn when there may be room and handed out when there is."""
        if self._waiting is None:
            if not self._may_draw():
                return None
            self._drawn += 1
            name = f"sample-{self._drawn}"
            config = self._inner.suggest(name)
            if not isinstance(config, dict):
                return config
            self._waiting = (name, config)
            self._ask(name, self._plan.run(config))
        if self._admit() is None:
            return None
        (self._keys[trial_id], config), self._waiting = self._waiting, None
        self.nested = self.nested or self._plan.resources_of(self._plan.run(config)).workers > 1
        return config

    def _may_draw(self) -> bool:
        self._refresh()
        on = self._plan.on
        room = callable(on) or self._ledger.would_admit(Need.within(on, self._ledger.rooms))
        return room and self._ledger.running < self._most

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._inner.on_trial_result(str(self._keys[trial_id]), result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._inner.on_trial_complete(str(self._keys[trial_id]), result, error)
        super().on_trial_complete(trial_id, result, error)

    def on_pause(self, trial_id: str) -> None:
        super().on_pause(trial_id)
        if (told := getattr(self._inner, "on_pause", None)) is not None:
            told(str(self._keys[trial_id]))

    def on_unpause(self, trial_id: str, run: RunSpec | None = None) -> None:
        super().on_unpause(trial_id, run)
        if run is None and (told := getattr(self._inner, "on_unpause", None)) is not None:
            told(str(self._keys[trial_id]))
