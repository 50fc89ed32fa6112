"""The best learning rate of one rung of the ChemGPT ladder, to check the rule in `chemscale.train.optim`.

chemscale search tune_jobs/chemgpt_lr.py --set width=16 --store runs/chemgpt_lr
"""

from __future__ import annotations

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Search, loguniform
from chemscale.train.optim import ladder_lr


def recipe(width: int = 16, size: int = 10_000, samples: int = 8, source: str = "moses", epochs: float = 1) -> Search:
    """Rates from a quarter of the rule's to four times it, every run to its end."""
    model = ChemGPT.sized(width=width)
    base = RunSpec(
        model=model,
        data=Data(source, size=size),
        optim=Optim(lr=ladder_lr(model), batch=16),
        budget=Budget(epochs=epochs),
        evaluation=Evaluation(points=2, valid=2_000, test=500),
    )
    rule = ladder_lr(model)
    return Search(base, {"optim.lr": loguniform(rule / 4, rule * 4)}, samples=samples, name=f"chemgpt_lr_w{width}")
