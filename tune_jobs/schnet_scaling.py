"""SchNet on GFN2-xTB labels: how its force error falls with width and with structures.

    chemscale sweep tune_jobs/schnet_scaling.py --store runs/schnet
    chemscale fit runs/schnet --params params --data structures --loss force_rmse --form chinchilla --hold-out largest

Three layers and a cutoff of 5 angstrom in every cell. Labels are semi-empirical, not DFT: quote the exponent with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chemscale.models import SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Grid, Study

WIDTHS = (4, 8, 16, 32, 64, 128)
SIZES = (200, 400, 800, 1_600, 3_200, 6_400)
EPOCHS_OF_LARGEST = 4


def recipe(
    widths: Sequence[int] = WIDTHS,
    sizes: Sequence[int] = SIZES,
    source: str = "fragments-gfn2",
    seeds: Sequence[int] = (0,),
    replicates: int = 2,
    valid: int = 256,
    test: int = 800,
) -> Study:
    """Widths x sizes; corners are trained three times, with other subsets and other seeds."""
    base = RunSpec(
        model=SchNet.sized(width=widths[0]), data=Data(source), evaluation=Evaluation(points=6, valid=valid, test=test)
    )
    models = [SchNet.sized(width=width) for width in widths]
    largest = max(sizes)

    def scheduled(run: RunSpec) -> RunSpec:
        """Examples seen grow as D^0.5 up to four epochs of the largest set, in batches of eight."""
        examples = round(EPOCHS_OF_LARGEST * largest * ((run.data.size or largest) / largest) ** 0.5)
        return replace(run, optim=Optim(batch=8), budget=Budget(examples=examples))

    grid = Grid(base, models=models, sizes=sizes, seeds=seeds, replicates=replicates, derive=scheduled)
    return Study(
        "schnet_scaling",
        (grid,),
        forecast="largest",
        question="What do ten times more parameters or structures buy for SchNet?",
        limits=("Labels are GFN2-xTB's, on fragments of drug-like molecules: no law of DFT follows.",),
    )
