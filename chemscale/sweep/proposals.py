"""The searcher of a search: interrupted runs first, then new points, cell by cell in turn; what ended is learned."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from chemscale.records.schema import DIVERGED, FINISHED, STOPPED
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.endings import Endings
from chemscale.sweep.found import KNOWN, Sample
from chemscale.sweep.sampler import Asked
from chemscale.sweep.search import CELL, MEMBER, Search

REPEATS = 3  # points in a row that a sampler may repeat before random ones take its place
RANDOM_TRIES = 1000


@dataclass
class _Cell:
    asked: Asked
    again: list[dict[str, Any]]  # configurations of interrupted runs
    left: int  # new points still to propose
    known: set[str]  # run ids
    proposed: int = 0
    members: set[int] = field(default_factory=set)  # numbers that are taken


@dataclass(frozen=True)
class _Out:
    cell: int
    config: dict[str, Any]
    key: str | None  # of the point in its cell's searcher; None where that did not propose it


class Proposals(Searcher):
    """Hands Tune the runs of a search, and its samplers what the store holds of them.

    Every cell has a sampler of its own, which learns from the runs of its cell only. A run is proposed once.

    Args:
        samples: what the store holds already, by cell.

    Attributes:
        endings: forecasts of the runs that are stopped.
    """

    def __init__(self, search: Search, records: Store, samples: Sequence[Sequence[Sample]]):
        super().__init__(metric="valid_loss", mode="min")
        self._search, self._records = search, records
        self.endings = Endings(records, search.name)
        self._rng = np.random.default_rng([search.seed, sum(map(len, samples))])
        self._cells = [self._cell(index, list(held)) for index, held in enumerate(samples)]
        self._out: dict[str, _Out] = {}

    def _cell(self, index: int, held: list[Sample]) -> _Cell:
        asked = Asked(self._search, len(held))
        for sample in held:
            if sample.status in KNOWN and self._search.choices.holds(sample.values):
                asked.learn(sample.values, sample.losses(self._search.objectives))
        again = [self._config(index, sample) for sample in held if sample.goes_on]
        left = self._search.samples_each - len(held)
        members = {number for sample in held if (number := _number(sample)) is not None}
        return _Cell(asked, again, left, {s.run.id for s in held}, members=members)

    def _config(self, cell: int, sample: Sample) -> dict[str, Any]:
        number = _number(sample)
        member = {} if number is None else {MEMBER: number}
        return {CELL: cell, **member, **sample.values}

    @property
    def trials(self) -> int:
        """Trials still to come."""
        return sum(max(0, cell.left) + len(cell.again) for cell in self._cells)

    # -- what Tune calls ----------------------------------------------------------------------------------------------

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune's contract: the next run, of the cell that has been asked least; FINISHED once none is left."""
        waiting = False
        for index in sorted(range(len(self._cells)), key=lambda i: self._cells[i].proposed):
            cell = self._cells[index]
            out = self._next(index, cell, trial_id)
            if out is not None:
                cell.proposed += 1
                self._out[trial_id] = out
                return dict(out.config)
            waiting |= cell.left > 0
        return None if waiting else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        out = self._out[trial_id]
        if out.key is not None and "valid_loss" in result:
            self._cells[out.cell].asked.result(out.key, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune's contract: what the store says of the run is learned, not what Tune heard last.

        Of a run that was stopped that is the forecast of its end.
        """
        out = self._out[trial_id]
        sample = Sample.read(self._records, self._search, self._search.run(out.config))
        if not error and sample.status not in (FINISHED, DIVERGED):
            # Tune tells the searcher before the driver's word is written
            ending = self.endings.ending_of(sample.run.id)
            sample = replace(sample, status=STOPPED, forecast=ending and ending.value)
        losses = None if error else sample.losses(self._search.objectives)
        asked = self._cells[out.cell].asked
        if out.key is not None:
            asked.end(out.key, losses, failed=error)
        elif not error:
            asked.learn(sample.values, losses)
        del self._out[trial_id]

    def on_pause(self, trial_id: str) -> None:
        """A scheduler lets a run wait."""
        out = self._out[trial_id]
        if out.key is not None:
            self._cells[out.cell].asked.pause(out.key)

    def on_unpause(self, trial_id: str) -> None:
        """A run that waited goes on."""
        out = self._out[trial_id]
        if out.key is not None:
            self._cells[out.cell].asked.unpause(out.key)

    def save(self, checkpoint_path: str) -> None:
        """The store is what a search resumes from; Tune's snapshot of a searcher is not read."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    # -- the next point -----------------------------------------------------------------------------------------------

    def _next(self, index: int, cell: _Cell, trial_id: str) -> _Out | None:
        if cell.again:
            return _Out(index, cell.again.pop(0), None)
        if cell.left <= 0:
            return None
        if self._search.populates:
            return self._new_member(index, cell, trial_id)
        for attempt in range(REPEATS):
            key = f"{trial_id}-{attempt}"
            values = cell.asked.ask(key)
            if values == Searcher.FINISHED:
                cell.left = 0
            if not isinstance(values, Mapping):
                return None
            if (run := self._new(index, cell, values)) is not None:
                return self._taken(index, cell, values, run, key)
            known = Sample.read(self._records, self._search, self._search.run({CELL: index, **values}))
            # A run that is still at it says nothing yet; told without losses it would count as the worst of all.
            cell.asked.end(key, known.losses(self._search.objectives), failed=known.status not in KNOWN)
        return self._drawn(index, cell)

    def _new_member(self, index: int, cell: _Cell, trial_id: str) -> _Out | None:
        values = cell.asked.ask(trial_id)
        if not isinstance(values, Mapping):
            return None
        number = next(n for n in itertools.count() if n not in cell.members)
        config = {CELL: index, MEMBER: number, **values}
        cell.members.add(number)
        cell.left -= 1
        return _Out(index, config, trial_id)

    def _drawn(self, index: int, cell: _Cell) -> _Out | None:
        """A point at random that is new; without one the cell's space is used up."""
        for _ in range(RANDOM_TRIES):
            values = self._search.choices.draw(self._rng)
            if (run := self._new(index, cell, values)) is not None:
                return self._taken(index, cell, values, run, None)
        cell.left = 0
        return None

    def _new(self, index: int, cell: _Cell, values: Mapping[str, Any]) -> RunSpec | None:
        run = self._search.run({CELL: index, **values})
        return None if run.id in cell.known else run

    def _taken(self, index: int, cell: _Cell, values: Mapping[str, Any], run: RunSpec, key: str | None) -> _Out:
        cell.known.add(run.id)
        cell.left -= 1
        return _Out(index, {CELL: index, **values}, key)


def _number(sample: Sample) -> int | None:
    """Of a member of a population; None of any other run."""
    return None if sample.run.member is None else int(sample.run.member.rsplit("-", 1)[1])
