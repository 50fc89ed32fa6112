"""One training, whole, and its id: the hash of all that can change a number."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chemscale.spec.examples import Data, InitFrom
from chemscale.spec.plain import plain
from chemscale.spec.registry import MODELS
from chemscale.spec.training import CHANGING, Budget, Evaluation, Optim
from chemscale.values import canonical_json, one_of, own_numbers, require

SPEC_VERSION = 1  # rises when code changes the numbers that an unchanged spec produces
ID_LENGTH = 16  # hexadecimal digits: 64 bits, a chance of 3e-10 of one collision among 10^5 runs

PRECISIONS = ("float32", "float64", "bfloat16_linears", "bfloat16")  # `train.precision` says what each means
FULL_PRECISIONS = PRECISIONS[:2]  # of a model that does not name its own in `precisions`


@own_numbers
@dataclass(frozen=True)
class RunSpec:
    """One training, whole: the same value gives the same numbers, and `id` is its name everywhere.

    `objective` None means the objective that the model asks for, with its defaults. `seed` draws the initial parameters
    and the order of examples. `member` names a member of a population: the optimiser's fields in `CHANGING` may change
    on its way and are no part of its id. `init_from` starts it from trained weights.
    """

    model: Any
    data: Data
    optim: Optim = field(default_factory=Optim)
    budget: Budget = field(default_factory=lambda: Budget(epochs=1))
    evaluation: Evaluation = field(default_factory=Evaluation)
    objective: Any = None
    seed: int = 0
    precision: str = "float32"
    member: str | None = None
    init_from: InitFrom | None = None

    def __post_init__(self) -> None:
        kind = type(self.model)
        require(
            MODELS.get(getattr(kind, "architecture", "")) is kind,
            "RunSpec.model",
            kind.__name__,
            "a registered model configuration such as ChemGPT.sized(width=64)",
            "register a class of your own with chemscale.register_model",
        )
        one_of("RunSpec.precision", self.precision, PRECISIONS)
        able = getattr(self.model, "precisions", FULL_PRECISIONS)
        what = f"one of {', '.join(able)} for {self.model.architecture}"
        require(self.precision in able, "RunSpec.precision", self.precision, what)
        require(isinstance(self.seed, int) and self.seed >= 0, "RunSpec.seed", self.seed, "an integer of at least 0")
        require(
            self.init_from is None or isinstance(self.init_from, InitFrom),
            "RunSpec.init_from",
            self.init_from,
            "an InitFrom or None",
            "e.g. InitFrom('runs/base', run='1a2b…') or InitFrom('folder/of/the/hub')",
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Fields that `chemscale.complete` still has to fill in before the run has an id."""
        open_fields: dict[str, Any] = {
            "data.content": self.data.content, "data.size": self.data.size, "optim.lr": self.optim.lr
        }  # fmt: skip
        if self.init_from is not None:
            open_fields["init_from.content"] = self.init_from.content
        return tuple(name for name, value in open_fields.items() if value is None)

    @cached_property
    def id(self) -> str:
        """The first 64 bits of the SHA-256 of the canonical JSON, as 16 hexadecimal digits.

        Raises:
            ValueError: a field is still open; `chemscale.complete(run)` fills it in from the data.
        """
        if self.missing:
            raise ValueError(
                f"RunSpec has no id while {', '.join(self.missing)} is open; call chemscale.complete(run) first."
            )
        return id_of(self._tree())

    @property
    def examples(self) -> int:
        """Examples seen in all."""
        if self.data.size is None:
            raise ValueError("RunSpec.data.size is open; call chemscale.complete(run) first.")
        return self.budget.total_examples(self.data.size, self.optim.batch)

    @property
    def updates(self) -> int:
        """Optimiser steps in all; the last one may hold fewer examples than a batch."""
        return math.ceil(self.examples / self.optim.batch)

    @property
    def warmup(self) -> float:
        """Share of the updates spent warming up, however the optimiser counts it."""
        optim = self.optim
        if optim.warmup_updates is not None:
            return min(1.0, optim.warmup_updates / self.updates)
        if optim.epoch_warmup is not None and self.data.size is not None:
            return min(1.0, optim.epoch_warmup * self.data.size / self.examples)
        return optim.warmup

    def identity(self) -> dict[str, Any]:
        """All that can change a number, as plain values: what the id hashes."""
        return identified(self._tree())

    def to_json(self) -> str:
        """Canonical JSON of the whole spec, the source's name included; `from_json` reads it back."""
        return canonical_json(self._tree())

    def _tree(self) -> dict[str, Any]:
        objective = None if self.objective is None else {"name": self.objective.name, **plain(self.objective)}
        return {
            "model": {"architecture": self.model.architecture, **plain(self.model)},
            "data": plain(self.data),
            "optim": plain(self.optim),
            "budget": plain(self.budget),
            "evaluation": plain(self.evaluation),
            "objective": objective,
            "seed": self.seed,
            "precision": self.precision,
            "spec_version": SPEC_VERSION,
            **({} if self.member is None else {"member": self.member}),
            **({} if self.init_from is None else {"init_from": plain(self.init_from)}),
        }


def identified(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Of a whole spec as plain values (`RunSpec.to_json`), all that can change a number."""
    kept = {**tree, "data": {k: v for k, v in tree["data"].items() if k not in ("source", "reading")}}
    if tree.get("member") is not None:
        kept["optim"] = {k: v for k, v in tree["optim"].items() if k not in CHANGING}
    if tree.get("init_from") is not None:
        kept["init_from"] = {"content": tree["init_from"]["content"]}
    return kept


def id_of(tree: Mapping[str, Any]) -> str:
    """The id of a whole spec as plain values: the first 64 bits of the SHA-256 of what identifies it."""
    return hashlib.sha256(canonical_json(identified(tree)).encode()).hexdigest()[:ID_LENGTH]
