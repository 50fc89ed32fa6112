"""A model of your own in every recipe: a frozen dataclass above its module, registered under its name.

    chemscale sweep tune_jobs/own_model.py --store runs/own

The module takes a batch (`chemscale.batch.TokenBatch` for text, `AtomicBatch` for structures) and gives logits for
`tokens[:, :-1]`, or an object with `energy` and `forces`. The objective is a registered one, here next-token loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from chemscale.batch import TextManifest, TokenBatch
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec, register_model
from chemscale.sweep import Grid


@register_model
@dataclass(frozen=True)
class Bigram:
    """The next token from the last one, through `width` channels: a floor that every language model should beat."""

    architecture: ClassVar[str] = "bigram"
    family: ClassVar[str] = "text"
    objective: ClassVar[str] = "next_token"

    width: int = 8
    depth: int = 1

    @property
    def view(self) -> Mapping[str, Any]:
        """What it asks of its batches: molecules of at most so many tokens."""
        return {"context": 128}

    def build(self, manifest: TextManifest) -> nn.Module:
        """The module, freshly initialised."""
        return BigramModule(len(manifest.vocabulary), self.width)


class BigramModule(nn.Module):
    """Two tables and nothing between them."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.last = nn.Embedding(vocabulary, width)
        self.next = nn.Linear(width, vocabulary)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits for every token but the first: (batch, length - 1, vocabulary)."""
        return self.next(self.last(batch.tokens[:, :-1]))


def recipe(
    widths: Sequence[int] = (2, 4, 8), sizes: Sequence[int] = (1_000, 10_000), source: str = "moses", updates: int = 300
) -> Grid:
    """Three widths on two sizes."""
    base = RunSpec(
        model=Bigram(),
        data=Data(source),
        optim=Optim(lr=0.02, batch=32),
        budget=Budget(updates=updates),
        evaluation=Evaluation(points=3, valid=500, test=1_000),
    )
    return Grid(base, models=[Bigram(width=width) for width in widths], sizes=sizes)
