"""The searcher of an exploration: interrupted runs first, then what the design says of what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher

from chemscale.records.schema import DIVERGED, FAILED, FINISHED, RUNNING
from chemscale.records.store import Store, outstanding
from chemscale.spec import RunSpec
from chemscale.sweep.aim import Aim, Cells, Standing, standing
from chemscale.sweep.trial import RUN_ID


class Designed(Searcher):
    """Hands Tune the next run of a design, fitted anew to what the store holds whenever a run ends.

    What is under way counts as known when the next one is chosen: what a run teaches depends on where it is, not on
    how it ends. The store is the only state.

    Args:
        name: of the study; runs are enlisted in it when they are proposed.
    """

    def __init__(self, aim: Aim, cells: Cells, records: Store, name: str):
        super().__init__()  # no metric: as `Admission`
        self._aim, self._cells, self._records, self._name = aim, cells, records, name
        asked = set(records.studies().get(name, {}).get("runs", ()))
        mine = [run for run in cells.runs if run.id in asked]
        self._again, _ = outstanding(records, mine, keep_stopped=True)
        self._lost = {
            run_id for run_id, state in records.states([r.id for r in mine]).items() if state.status == FAILED
        }
        self._lost -= {run.id for run in self._again}
        self._out: dict[str, str] = {}  # Tune's id of a trial -> run id
        self._known: Standing | None = None  # until something changes: Tune asks all the time

    @property
    def trials(self) -> int:
        """Trials that may still come, at most."""
        states = self._records.states([run.id for run in self._cells.runs]).values()
        return sum(state.status not in (FINISHED, DIVERGED) for state in states)

    @property
    def waits(self) -> bool:
        """Whether runs that were interrupted go on, whatever the design says."""
        return bool(self._again)

    def standing(self) -> Standing:
        """How far the exploration is now."""
        again = {run.id for run in self._again}
        states = self._records.states([run.id for run in self._cells.runs])
        running = {run_id for run_id, state in states.items() if state.status == RUNNING}  # other drivers' too
        return standing(self._aim, self._cells, self._rows(), {*self._out.values(), *again, *self._lost, *running})

    # -- what Tune calls ----------------------------------------------------------------------------------------------

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune's contract: the next run; None while those under way decide whether one follows; FINISHED at the end."""
        run = self._again.pop(0) if self._again else self._next()
        if run is None:
            return None if self._out else Searcher.FINISHED
        self._out[trial_id], self._known = run.id, None
        self._records.enlist(self._name, [run])
        return {RUN_ID: run.id}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Only ends are learned."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune's contract: the store is read when the next run is chosen; a failed one is left out."""
        run_id, self._known = self._out.pop(trial_id), None
        if error:
            self._lost.add(run_id)

    def save(self, checkpoint_path: str) -> None:
        """The store is what an exploration resumes from; Tune's snapshot of a searcher is not read."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    # -- inside -------------------------------------------------------------------------------------------------------

    def _next(self) -> RunSpec | None:
        self._known = self._known or self.standing()
        return self._known.run

    def _rows(self) -> Sequence[dict[str, Any]]:
        return self._records.runs().to_pylist()
