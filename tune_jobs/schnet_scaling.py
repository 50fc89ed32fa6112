"""How the force error of SchNet or PaiNN on GFN2-xTB labels falls with width and with structures.

    chemscale sweep tune_jobs/schnet_scaling.py --store runs/schnet
    chemscale sweep tune_jobs/schnet_scaling.py --set architecture=painn --store runs/painn
    chemscale fit runs/schnet --params params --data structures --loss force_rmse --form chinchilla --hold-out largest

Three layers and a cutoff of 5 angstrom in every cell. Labels are semi-empirical, not DFT: quote the exponent with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chemscale.models import PaiNN, SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Grid, Study

FAMILY = {"schnet": SchNet, "painn": PaiNN}
WIDTHS = {"schnet": (4, 8, 16, 32, 64, 128), "painn": (4, 8, 16, 32, 64)}
SIZES = (200, 400, 800, 1_600, 3_200, 6_400)
EPOCHS_OF_LARGEST = 4


def recipe(
    architecture: str = "schnet",
    widths: Sequence[int] = (),
    sizes: Sequence[int] = SIZES,
    source: str = "fragments-gfn2",
    seeds: Sequence[int] = (0,),
    replicates: int = 2,
    valid: int = 256,
    test: int = 800,
) -> Study:
    """Widths x sizes; corners are trained three times, with other subsets and other seeds; no widths means `WIDTHS`."""
    if architecture not in FAMILY:
        raise ValueError(f"architecture={architecture!r} has no ladder here; use {' or '.join(FAMILY)}.")
    models = [FAMILY[architecture].sized(width=width) for width in widths or WIDTHS[architecture]]
    base = RunSpec(model=models[0], data=Data(source), evaluation=Evaluation(points=6, valid=valid, test=test))
    largest = max(sizes)

    def scheduled(run: RunSpec) -> RunSpec:
        """Examples seen grow as D^0.5 up to four epochs of the largest set, in batches of eight."""
        examples = round(EPOCHS_OF_LARGEST * largest * ((run.data.size or largest) / largest) ** 0.5)
        return replace(run, optim=Optim(batch=8), budget=Budget(examples=examples))

    grid = Grid(base, models=models, sizes=sizes, seeds=seeds, replicates=replicates, derive=scheduled)
    return Study(
        f"{architecture}_scaling",
        (grid,),
        forecast="largest",
        question=f"What do ten times more parameters or structures buy for {FAMILY[architecture].__name__}?",
        limits=("Labels are GFN2-xTB's, on fragments of drug-like molecules: no law of DFT follows.",),
    )
