"""Members of a population: each keeps its own run while it copies the state and the hyperparameters of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial

from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.search import MEMBER
from chemscale.train.session import Descent

SOURCE = "source"  # key of a trial's configuration: the run id that it copied last
BEFORE = "before"  # its own attempts up to this number came before that copy


@dataclass(frozen=True)
class Copied:
    """Where the state of a member lies, in place of a checkpoint of Tune's."""

    run_id: str


class Population:
    """Says which run a trial is after Ray's population based training has given it another's configuration.

    Args:
        run_of: configuration of a trial -> its run.
    """

    def __init__(self, run_of: Callable[[Mapping[str, Any]], RunSpec], records: Store):
        self._run_of, self._records = run_of, records
        self._members: dict[str, int] = {}

    def add(self, trial: Trial) -> None:
        """A new trial, or one that starts again after an error."""
        if MEMBER in trial.config:
            self._members.setdefault(trial.trial_id, trial.config[MEMBER])

    def state_of(self, trial: Trial) -> Copied:
        """What another member would copy."""
        return Copied(self._run_of(trial.config).id)

    def separate(self, trials: Iterable[Trial]) -> None:
        """Give every trial that has just taken over another's configuration its own name again."""
        for trial in trials:
            own = self._members.get(trial.trial_id)
            if own is None or trial.config[MEMBER] == own:
                continue
            source = self._run_of(trial.config).id
            config = {k: v for k, v in trial.config.items() if k not in (SOURCE, BEFORE)} | {MEMBER: own}
            history = self._records.attempts(self._run_of(config).id)
            before = history[-1].number if history else 0
            trial.set_config({**config, SOURCE: source, BEFORE: before})
            # The state lies in the store; Tune has no checkpoint that it could restore.
            kept: Any = trial.run_metadata.checkpoint_manager
            kept._latest_checkpoint_result = None


def descent_of(config: Mapping[str, Any]) -> Descent | None:
    """Where a trial's member goes on: from its own newest state, or from the one that it copied."""
    return Descent(config.get(SOURCE), config.get(BEFORE, 0)) if MEMBER in config else None
