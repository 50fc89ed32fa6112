"""All that resuming needs: model, optimiser, random state, the step, and what was accumulated on the way."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import torch
from torch import nn

from chemscale.records.attempt import Attempt


@dataclass
class Progress:
    """What a training has accumulated; plain numbers, so that they survive a kill with the weights.

    Attributes:
        step: updates made. examples: examples seen.
        loss_sum, loss_steps: training loss since the last point.
        best: headline metric of the best validation so far; best_step: where.
        seconds: wall time in the loop. step_seconds: time in measured steps; step_examples: examples in them.
        joules: energy of earlier attempts, None where it could not be read.
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
    step_seconds: float = 0.0
    step_examples: int = 0
    joules: float | None = 0.0
    best_weights: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def rule(self) -> str:
        """Which weights a law's loss is measured with: "best" where data repeated and the validation loss has risen
        above its best by more than its standard error, else "final"."""
        if self.best_weights is None or self.valid is None or self.best is None:
            return "final"
        return "best" if self.valid > self.best + (self.valid_se or 0.0) else "final"


def save(attempt: Attempt, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write the state into the attempt's folder, replacing the one before in one step."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "progress": asdict(progress),
        "random": torch.get_rng_state(),
    }
    attempt.save("state.pt", lambda file: torch.save(state, file))


def load(
    attempts: list[Attempt], model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> Progress | None:
    """Put the furthest saved state of these attempts into model and optimiser; None where none was saved."""
    states = [state for a in attempts if (state := _read(a, device)) is not None]
    if not states:
        return None
    state = max(states, key=lambda s: s["progress"]["step"])
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"].cpu())
    return Progress(**state["progress"])


def _read(attempt: Attempt, device: torch.device) -> dict[str, Any] | None:
    content = attempt.place.read("state.pt")
    return None if content is None else torch.load(io.BytesIO(content), map_location=device, weights_only=True)


def save_weights(attempt: Attempt, name: str, weights: dict[str, Any]) -> None:
    """Weights alone, for use after the training."""

    def write(file: BinaryIO) -> None:
        torch.save(weights, file)

    attempt.save(name, write)
