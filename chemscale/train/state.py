"""All that resuming needs: model, optimiser, random state, the step, and what was accumulated on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import torch

from chemscale.records.attempt import STATE, WEIGHTS, Attempt

if TYPE_CHECKING:
    from chemscale.records.store import Store
    from chemscale.train.optim import Optimisers
    from chemscale.train.parallel import Whole

LAYOUT = 2  # of state.pt; a state of another layout is left alone, and its run starts over to the same numbers

WEIGHTS_HELD = "best_weights", "average"  # of a progress, beside its plain numbers


@dataclass
class Progress:
    """What a training has accumulated; plain numbers, so that they survive a kill with the weights.

    Attributes:
        step: updates made. examples: examples seen.
        loss_sum, loss_steps: training loss since the last point.
        best: headline metric of the best validation so far; best_step: where.
        seconds: wall time in the loop.
        device_seconds: time in measured steps x workers. step_examples: examples in them.
        joules: energy of earlier attempts, None where it could not be read.
        inherited: updates, of `step`, that another run of the same trunk made.
        best_weights: those of `best`, where data repeat. average: moving average of all weights so far, if asked for.
    """

    step: int = 0
    examples: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    best: float | None = None
    best_step: int | None = None
    valid: float | None = None
    valid_se: float | None = None
    seconds: float = 0.0
    device_seconds: float = 0.0
    step_examples: int = 0
    joules: float | None = 0.0
    inherited: int = 0
    best_weights: dict[str, Any] | None = field(default=None, repr=False)
    average: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def rule(self) -> str:
        """Which weights a law's loss is measured with: "best" where data repeated and the validation loss has risen
        above its best by more than its standard error, else "final"."""
        if self.best_weights is None or self.valid is None or self.best is None:
            return "final"
        return "best" if self.valid > self.best + (self.valid_se or 0.0) else "final"


class Keeper(Protocol):
    """Where a state lies: an attempt, or a trunk."""

    def open(self, name: str) -> BinaryIO | None: ...

    def save(self, name: str, write: Callable[[BinaryIO], Any]) -> None: ...


def save(keeper: Keeper | None, layout: Whole, optimiser: Optimisers, progress: Progress) -> None:
    """Write the state into its keeper's folder, replacing the one before in one step.

    Every worker calls it, since each may hold a part; rank 0, who has the keeper, writes.
    """
    held = {name: None if (own := getattr(progress, name)) is None else layout.gather(own) for name in WEIGHTS_HELD}
    state = {
        "layout": LAYOUT,
        **layout.state(optimiser),
        "progress": {**vars(progress), **held},
        "random": torch.get_rng_state(),
    }
    if keeper is not None:
        keeper.save(STATE, lambda file: torch.save(state, file))


def load(earlier: Sequence[Keeper], layout: Whole, optimiser: Optimisers) -> Progress:
    """Put the furthest state that was saved into model and optimiser; a new progress where none was.

    Rank 0 reads and hands it round: an older attempt may still be alive and write while the others would read.
    """
    state = _furthest(earlier) or {}
    plain = dict(state.get("progress", {}))
    held = {name: plain.pop(name, None) for name in WEIGHTS_HELD}
    names = [name for name, weights in held.items() if weights is not None]
    plain, random, names = layout.ranks.from_first((plain, state.get("random"), names))
    if random is None:
        return Progress()
    found = Progress(**plain)
    if not layout.ranks.first:
        found.loss_sum = 0.0  # the saved one is that of all workers
    for name in names:
        layout.load_weights(held[name] or {})
        setattr(found, name, layout.snapshot())
    layout.load(optimiser, state)
    torch.set_rng_state(random)
    return found


def _furthest(keepers: Sequence[Keeper]) -> dict[str, Any] | None:
    read = map(_read, keepers)  # one after another: each may fill the memory
    states = (state for state in read if state is not None and state.get("layout") == LAYOUT)
    return max(states, key=lambda s: s["progress"]["step"], default=None)


def _read(keeper: Keeper) -> dict[str, Any] | None:
    file = keeper.open(STATE)
    if file is None:
        return None
    with file:
        return torch.load(file, map_location="cpu", weights_only=True)


def save_weights(attempt: Attempt, name: str, weights: dict[str, Any]) -> None:
    """Weights alone, for use after the training."""

    def write(file: BinaryIO) -> None:
        torch.save(weights, file)

    attempt.save(name, write)


def kept_weights(store: Store, run_id: str) -> dict[str, Any]:
    """The weights that the newest attempt of a run kept, on the processor.

    Raises:
        ValueError: none were kept.
    """
    for attempt in reversed(store.attempts(run_id)):
        file = attempt.open(WEIGHTS)
        if file is not None:
            with file:
                return torch.load(file, map_location="cpu", weights_only=True)
    raise ValueError(
        f"run {run_id} has no weights (status {store.state(run_id).status}); weights of a finished run are kept under "
        "Resources(keep='final') or 'best'."
    )
