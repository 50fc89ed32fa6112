"""Training curves as values: losses against examples seen, the schedule they ran under, and what set them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

REACHED = 0.999  # share of the whole training at which a curve counts as finished
NODES = 2_001  # of the numeric integral of a schedule


@dataclass(frozen=True)
class Schedule:
    """Warm-up, constant rate, cooldown to zero: shares of all updates, as in `chemscale.spec.Optim`."""

    warmup: float = 0.0
    cooldown: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        if not (0 <= self.warmup <= 1 and 0 <= self.cooldown <= 1 and self.warmup + self.cooldown <= 1 + 1e-9):
            raise ValueError(
                f"Schedule.warmup={self.warmup}, cooldown={self.cooldown} are not allowed: shares that add up to at "
                "most 1."
            )
        if self.shape not in ("linear", "sqrt"):
            raise ValueError(f"Schedule.shape={self.shape!r} is not allowed: it must be one of linear, sqrt.")

    def share(self, progress: np.ndarray) -> np.ndarray:
        """The learning rate as a share of its highest value, at these shares of the training."""
        progress = np.asarray(progress, dtype=float)
        warm = progress / self.warmup if self.warmup else np.ones_like(progress)
        return np.minimum(np.minimum(warm, 1.0), 1.0 - self.annealed(progress))

    def annealed(self, progress: np.ndarray) -> np.ndarray:
        """How much of the highest rate the cooldown has taken away: 0 before it, 1 at its end."""
        progress = np.asarray(progress, dtype=float)
        if not self.cooldown:
            return np.zeros_like(progress)
        done = np.clip(1 - (1 - progress) / self.cooldown, 0.0, 1.0)
        return np.sqrt(done) if self.shape == "sqrt" else done

    def area(self, progress: np.ndarray) -> np.ndarray:
        """Sum of the shares up to here, in units of the whole training: 1 at the end of a constant schedule."""
        return np.interp(progress, *self._integral)

    @cached_property
    def _integral(self) -> tuple[np.ndarray, np.ndarray]:
        nodes = np.linspace(0.0, 1.0, NODES)
        middle = self.share((nodes[1:] + nodes[:-1]) / 2)
        return nodes, np.concatenate([[0.0], np.cumsum(middle) / (NODES - 1)])


@dataclass(frozen=True)
class Curve:
    """Validation losses of one run, up to where it stands.

    Args:
        examples: examples seen at each point, increasing.
        loss: the loss at each point; positive. The first value that is not finite ends the curve: the run diverged.
        total: examples of the whole training.
        schedule: of the learning rate.
        traits: what sets this run apart from others of its search, as numbers on a scale on which effects are smooth,
            e.g. {"log lr": -6.2}.

    Raises:
        ValueError: lengths differ, a loss is not positive, or points do not increase.
    """

    examples: Sequence[float]
    loss: Sequence[float]
    total: float
    schedule: Schedule = field(default_factory=Schedule)
    traits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.examples) != len(self.loss):
            raise ValueError(f"Curve has {len(self.examples)} examples and {len(self.loss)} losses; give one of each.")
        if not (math.isfinite(self.total) and self.total > 0):
            raise ValueError(f"Curve.total={self.total} is not allowed: examples of the whole training, above 0.")
        if any(b <= a for a, b in zip(self.examples, self.examples[1:], strict=False)):
            raise ValueError("Curve.examples must increase from point to point; sort them and keep one of each.")
        bad = [v for v in self.loss if math.isfinite(v) and v <= 0]
        if bad:
            raise ValueError(f"Curve.loss has {bad[0]}; losses are forecast on a log scale and must be above 0.")

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite."""
        return not all(math.isfinite(v) for v in self.loss)

    @property
    def finished(self) -> bool:
        """Whether it was measured at its end and never diverged."""
        return len(self.loss) > 0 and not self.diverged and self.examples[-1] >= REACHED * self.total

    @property
    def final(self) -> float | None:
        """The loss at the end; None for an unfinished curve."""
        return self.loss[-1] if self.finished else None

    @property
    def progress(self) -> float:
        """Share of the training that it covers."""
        return min(1.0, self.examples[-1] / self.total) if len(self.examples) else 0.0

    def until(self, progress: float) -> Curve:
        """Its part up to a share of the training."""
        keep = sum(e <= progress * self.total * (1 + 1e-9) for e in self.examples)
        return Curve(self.examples[:keep], self.loss[:keep], self.total, self.schedule, self.traits)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(progress, log loss) of its usable points: after the start, up to the first loss that is not finite."""
        progress, loss = np.asarray(self.examples, dtype=float) / self.total, np.asarray(self.loss, dtype=float)
        end = int(np.argmax(~np.isfinite(loss))) if self.diverged else len(loss)
        keep = progress[:end] > 0
        return np.minimum(progress[:end][keep], 1.0), np.log(loss[:end][keep])
