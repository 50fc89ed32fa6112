"""The study that chaos disturbs: small cells of both families, some on two workers, one that diverges, one that raises.

Every cell trains for seconds, so that faults find it at work.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

import chemscale as cs
from chemscale.models import ChemGPT, PaiNN, SchNet
from tests.chaos.names import RAISING, SHARED


@dataclass(frozen=True)
class Raising:
    """A bigram that raises on its way."""

    architecture: ClassVar[str] = RAISING
    family: ClassVar[str] = "text"
    objective: ClassVar[str] = "next_token"
    width: int = 4
    depth: int = 1

    @property
    def view(self):
        return {"context": 128}

    def build(self, manifest):
        return Raises(len(manifest.vocabulary), self.width)


class Raises(torch.nn.Module):
    def __init__(self, vocabulary, width):
        super().__init__()
        self.last = torch.nn.Embedding(vocabulary, width)
        self.next = torch.nn.Linear(width, vocabulary)
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        if self.calls > 40:
            raise RuntimeError("this model raises at its 41st batch")
        return self.next(self.last(batch.tokens[:, :-1]))


cs.register_model(Raising)

DIVERGING_LR = 1e30


def recipe(
    molecules: str,
    structures: str,
    updates: int = 160,
    widths=(16, 24, 32, SHARED[1]),
    sizes=(32, 64, 128),
    seeds=(0, 1),
) -> cs.Study:
    """24 cells that end well, one that diverges, one that raises.

    Args:
        molecules, structures: files of the two families.
        widths: of the text models; sizes: of both families' data, halved for structures; seeds: of the structures.
    """
    text = cs.RunSpec(
        model=ChemGPT.sized(width=16),
        data=cs.Data(molecules, size=64),
        optim=cs.Optim(lr=3e-3, batch=16),
        budget=cs.Budget(updates=2 * updates),
        evaluation=cs.Evaluation(points=6, valid=16, test=16),
    )
    atoms = replace(
        text,
        model=PaiNN.sized(width=8),
        data=cs.Data(structures, size=64),
        optim=cs.Optim(lr=3e-3, batch=8),
        budget=cs.Budget(updates=updates),
    )
    diverging = replace(text, optim=replace(text.optim, lr=DIVERGING_LR, clip=None))
    raising = replace(text, model=Raising())
    halves = tuple(size // 2 for size in sizes)
    return cs.Study(
        "chaos",
        (
            cs.Grid(text, models=[ChemGPT.sized(width=w) for w in widths], sizes=sizes),
            cs.Grid(atoms, models=[PaiNN.sized(width=8), SchNet.sized(width=16)], sizes=halves, seeds=seeds),
            cs.Grid(diverging),
            cs.Grid(raising),
        ),
    )


def resources(run: cs.RunSpec) -> cs.Resources:
    """The widest text cells share two workers; checkpoints come twice a second, as a fault would find them at scale."""
    two = (run.model.architecture, run.model.width) == SHARED
    return cs.Resources(workers=2 if two else 1, checkpoint_seconds=0.5)
