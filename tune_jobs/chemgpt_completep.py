r"""Does the best learning rate stay put when ChemGPT grows? Under CompleteP it should, under the standard one it falls.

chemscale search tune_jobs/chemgpt_completep.py --store runs/rates
chemscale search tune_jobs/chemgpt_completep.py --set parametrisation=standard --store runs/rates
chemscale search tune_jobs/chemgpt_completep.py --set name=data_b8 --set batch=8 --set widths=32 \
    --set sizes=1000,3000,9000 --set samples=6 --set lowest=0.001 --set highest=0.032 --store runs/rates

`cs.transfer("runs/rates", search="completep")` then gives the power of the width by which the best rate moves, with its
interval; `search=("data_b4", "data_b8", …), along=("data.size", "optim.batch")` those of the data and the batch, which
no parametrisation carries over. `cs.critical_batch("runs/rates", search=("data_b4", "data_b8", "data_b16"))` gives the
critical batch, beyond which a larger one costs data in proportion. `print` says each in a sentence.

Measured at widths 32, 64 and 128 on 10,000 molecules, seven rates each: under CompleteP the best rate goes as
width^-.18 (95 % interval -.29 to -.08): .0036, .0032, .0028; under the standard parametrisation as width^-1.35
(-1.53 to -1.19): .0085, .0033, .0013.

Measured at width 32, one epoch, with 1,000, 3,000 and 9,000 molecules at batch 4, 8 and 16 (six rates of .0007 to .022,
.001 to .032, .0014 to .045) and the first two sizes at batch 2 (five of .0005 to .006): the best rate goes as data^.06
(95 % interval -.00 to .12) times batch^.32 (.23 to .39), .0032 at 9,000 molecules and batch 8; at 1,000 and batch 16
the lowest rate tried was the best. With the data given the best batch is the smallest: the least losses at batch 2, 4,
8 were 1.491, 1.518, 1.587 from 1,000 molecules, 1.258, 1.278, 1.334 from 3,000; at 4, 8, 16 from 9,000 1.088, 1.107,
1.136.

What a larger one costs, from 33 other runs at width 32, one epoch (2, 8 and 32 of 1,000 and 3,000 molecules, 4, 16 and
64 of 9,000, 16 and 64 of 27,000; each at half, once and twice the rule's rate): the critical batch is 10 at 4,473
molecules (95 % interval 5.8 to 15) and goes as data^.60 (.37 to .89): 30 (21 to 44) at 27,000. Without the two cells of
fewer than 100 updates it is 14 at 5,523 (9.3 to 19), data^.54 (.34 to .78). A batch of 2 at 9,000 molecules so takes an
eighth more data than the least, one of 16 twice as many.
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
