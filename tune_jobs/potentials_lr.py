"""The best learning rate of one rung of a potential's ladder, to check the rule in `chemscale.train.optim`.

chemscale search tune_jobs/potentials_lr.py --set architecture=painn --set width=16 --store runs/potentials_lr
"""

from __future__ import annotations

from chemscale.models import PaiNN, SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Search, loguniform
from chemscale.train.optim import ladder_lr

FAMILY = {"schnet": SchNet, "painn": PaiNN}


def recipe(
    architecture: str = "painn",
    width: int = 16,
    size: int = 1_132,
    samples: int = 8,
    source: str = "fragments-gfn2",
    epochs: float = 4,
) -> Search:
    """Rates from a quarter of the rule's to four times it, every run to its end."""
    model = FAMILY[architecture].sized(width=width)
    rule = ladder_lr(model)
    base = RunSpec(
        model=model,
        data=Data(source, size=size),
        optim=Optim(lr=rule, batch=8),
        budget=Budget(epochs=epochs),
        evaluation=Evaluation(points=2, valid=400, test=200),
    )
    name = f"{architecture}_lr_w{width}"
    return Search(base, {"optim.lr": loguniform(rule / 4, rule * 4)}, samples=samples, name=name)
