"""The best learning rate of one rung of a potential's ladder, for the rule in `chemscale.train.optim`.

chemscale search tune_jobs/potentials_lr.py --set architecture=painn --set width=16 --store runs/potentials_lr
chemscale search tune_jobs/potentials_lr.py --set architecture=nequip --set degree=1 --store runs/potentials_lr
"""

from __future__ import annotations

from typing import Any

from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.spec.registry import model_named
from chemscale.sweep import Search, loguniform
from chemscale.train.optim import family_lr


def recipe(
    architecture: str = "painn",
    width: int = 16,
    depth: int | None = None,
    degree: int | None = None,
    centre: float | None = None,
    size: int = 1_132,
    samples: int = 8,
    source: str = "fragments-gfn2",
    epochs: float = 4,
) -> Search:
    """Rates from a quarter of the centre to four times it, every run to its end.

    Args:
        depth, degree: of the model, where not its family's own.
        centre: None takes the family's rule.
    """
    dials: dict[str, Any] = {"depth": depth, "degree": degree}
    model = model_named(architecture, family="structures").sized(
        width=width, **{name: value for name, value in dials.items() if value is not None}
    )
    middle = family_lr(model) if centre is None else centre
    base = RunSpec(
        model=model,
        data=Data(source, size=size),
        optim=Optim(lr=middle, batch=8),
        budget=Budget(epochs=epochs),
        evaluation=Evaluation(points=2, valid=400, test=200),
    )
    name = "_".join(filter(None, (architecture, getattr(model, "variant", ""), f"lr_w{width}")))
    return Search(base, {"optim.lr": loguniform(middle / 4, middle * 4)}, samples=samples, name=name)
