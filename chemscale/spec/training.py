"""How a run trains: its optimiser, how long, and when and on what it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from chemscale.spec.plain import added_since
from chemscale.values import counted, is_number, one_of, own_numbers, positive, require

COOLDOWNS = ("linear", "sqrt")
OPTIMISERS = ("adamw", "muon")
CHANGING = ("lr", "beta1", "beta2", "eps", "weight_decay", "clip")  # of Optim: what may change on a member's way


@own_numbers
@dataclass(frozen=True)
class Optim:
    """How parameters move: optimiser, global batch, warm-up, constant rate, cooldown.

    `lr` None means the stated rule of the model's family (`chemscale.train.optim`); `batch` counts examples of one
    update over all workers; `name` "muon" moves the matrices within a model by Muon, all else by AdamW; `warmup` and
    `cooldown` are shares of all updates, `warmup_updates` a number instead; `clip` bounds the global gradient norm.
    `epoch_warmup` takes the place of both warm-ups: the rate stands still within an epoch and grows by one part in so
    many from one to the next, from zero in the first, as a schedule does that is stepped once an epoch.
    `ema` is the decay of a moving average of the weights, which then are those measured and kept; None: no average.
    """

    lr: float | None = None
    batch: int = 32
    name: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = 1.0
    warmup: float = 0.05
    cooldown: float = 0.3
    shape: str = "linear"
    epoch_warmup: int | None = added_since(1, None)
    warmup_updates: int | None = added_since(1, None)
    ema: float | None = added_since(1, None)

    def __post_init__(self) -> None:
        counted("Optim.warmup_updates", self.warmup_updates, optional=True)
        counted("Optim.epoch_warmup", self.epoch_warmup, optional=True)
        if None not in (self.warmup_updates, self.epoch_warmup):
            raise ValueError("Optim.warmup_updates and epoch_warmup exclude each other; give one of them.")
        if self.warmup_updates is not None or self.epoch_warmup is not None:
            object.__setattr__(self, "warmup", 0.0)  # it says nothing then: equal trainings have equal ids
        positive("Optim.lr", self.lr, optional=True)
        counted("Optim.batch", self.batch)
        positive("Optim.eps", self.eps)
        positive("Optim.clip", self.clip, optional=True)
        averages = self.ema is None or (is_number(self.ema) and 0 < self.ema < 1)
        require(averages, "Optim.ema", self.ema, "between 0 and 1, or None", "papers use 0.99 to 0.999")
        one_of("Optim.name", self.name, OPTIMISERS)
        one_of("Optim.shape", self.shape, COOLDOWNS)
        for name in ("beta1", "beta2", "weight_decay", "warmup", "cooldown"):
            value = getattr(self, name)
            low_high = "at least 0" if name == "weight_decay" else "between 0 and 1"
            good = is_number(value) and value >= 0 and (name == "weight_decay" or value <= 1)
            require(good, f"Optim.{name}", value, low_high)
        require(self.warmup + self.cooldown <= 1, "Optim.warmup + cooldown", self.warmup + self.cooldown, "at most 1")


@own_numbers
@dataclass(frozen=True)
class Budget:
    """How long a run trains: exactly one of epochs, updates or examples seen, and never fewer than `min_updates`."""

    epochs: float | None = None
    updates: int | None = None
    examples: int | None = None
    min_updates: int = 0

    def __post_init__(self) -> None:
        given = [f"{n}={v}" for n in ("epochs", "updates", "examples") if (v := getattr(self, n)) is not None]
        require(len(given) == 1, "Budget", ", ".join(given) or "empty", "exactly one of epochs, updates, examples")
        positive("Budget.epochs", self.epochs, optional=True)
        for name in ("updates", "examples"):
            counted(f"Budget.{name}", getattr(self, name), optional=True)
        least = isinstance(self.min_updates, int) and self.min_updates >= 0
        require(least, "Budget.min_updates", self.min_updates, "a whole number of at least 0")

    def total_examples(self, size: int, batch: int) -> int:
        """Examples seen in all, for `size` unique ones and a global batch of `batch`."""
        if self.examples is not None:
            asked = self.examples
        elif self.updates is not None:
            asked = self.updates * batch
        else:
            asked = max(1, round((self.epochs or 0) * size))
        return max(asked, self.min_updates * batch)


@own_numbers
@dataclass(frozen=True)
class Evaluation:
    """When and on what a run is measured: `points` evenly spaced evaluations on `valid` examples, `test` at the end.

    The validation examples serve search, stopping and the choice of a best checkpoint; the test examples serve laws and
    are touched once, at the end. Both are "at most"; None takes the whole split.
    """

    points: int = 8
    valid: int | None = 512
    test: int | None = None

    def __post_init__(self) -> None:
        counted("Evaluation.points", self.points)
        counted("Evaluation.valid", self.valid, optional=True)
        counted("Evaluation.test", self.test, optional=True)
