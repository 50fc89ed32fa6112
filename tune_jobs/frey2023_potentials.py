"""Neural force fields of Frey et al. 2023 on ANI-1x: SchNet, PaiNN, Allegro and SpookyNet, by capacity and by data.

    chemscale show tune_jobs/frey2023_potentials.py
    chemscale sweep tune_jobs/frey2023_potentials.py --gpus 1 --store runs/frey2023_potentials
    chemscale fit runs/frey2023_potentials --params capacity --loss force_rmse --form sliced --by architecture

The paper's axis is "capacity", depth x width; `capacity` is a column of every table of runs that has both, beside
`params`. Here every depth is trained at every width, so that the two can be told apart, which one number cannot do.
The first line says what it takes, before the data or a GPU are at hand: fragments labelled with GFN2-xTB stand in for
ANI-1x while it is not here. `--set source=…/ani1x-release.h5` says where the file is (Smith et al. 2020, Scientific
Data 7:134; wB97X/6-31G*, 5 million structures of H, C, N and O).

ANI-1x holds neutral singlets, so that SpookyNet's charge and spin rest at 0; its nonlocal attention works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.spec.registry import model_named
from chemscale.sweep import Grid, Study
from chemscale.sweep.gpus import Assumed
from chemscale.sweep.likeness import Planned
from chemscale.train.optim import family_lr

ARCHITECTURES = ("schnet", "painn", "allegro", "spookynet")
WIDTHS, DEPTHS = (16, 64, 256), (2, 4)
WHOLE = 3_960_000  # training structures, eight in ten of about 4.96 million
SIZES = (10**2, 10**3, 10**4, 10**5, WHOLE)
SOURCE = "ani1x-release.h5"
PLANNED = Planned(like="fragments-gfn2", whole=WHOLE, on=Assumed("a100", utilisation=0.1, price=2.0))


def recipe(
    architectures: Sequence[str] = ARCHITECTURES,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    sizes: Sequence[int] = SIZES,
    source: str = SOURCE,
    seeds: Sequence[int] = (0,),
    valid: int = 2_000,
    test: int = 10_000,
    min_updates: int = 2_000,
) -> Study:
    """Every architecture at every depth and width, on nested subsets of molecules.

    Args:
        architectures: any registered models of structures.
        min_updates: of small sets, which train for more epochs.
    """
    configs = [model_named(name, family="structures", field="architectures") for name in architectures]
    models = [config.sized(width=w, depth=d) for config in configs for d in depths for w in widths]
    base = RunSpec(
        model=models[0], data=Data(source), evaluation=Evaluation(points=8, valid=valid, test=test),
        budget=Budget(epochs=1, min_updates=min_updates),
    )  # fmt: skip
    grid = Grid(
        base,
        models=models,
        sizes=[None if size >= WHOLE else size for size in sizes],  # type: ignore[misc]
        seeds=seeds,
        derive=scheduled,
    )
    return Study(
        "frey2023_potentials",
        (grid,),
        question="How do errors of neural force fields fall with capacity and data (Frey et al. 2023)?",
        limits=("Rates of allegro and spookynet were searched for at small widths alone, not at these sizes.",),
    )


def scheduled(run: RunSpec) -> RunSpec:
    """The family's rule, found at small widths, to be searched for again before a large grid is paid for.

    The batch grows as D^0.383 from 8 at a thousand, to 512 at most.
    """
    batch = min(512, max(4, round(8 * ((run.data.size or WHOLE) / 1_000) ** 0.383)))
    return replace(run, optim=Optim(lr=family_lr(run.model), batch=batch))
