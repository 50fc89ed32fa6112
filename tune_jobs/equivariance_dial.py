"""The equivariance dial: NequIP of degree 0 to 3 at equal parameters or at equal cost, all else held equal.

    chemscale show tune_jobs/equivariance_dial.py
    chemscale sweep tune_jobs/equivariance_dial.py --store runs/dial
    chemscale sweep tune_jobs/equivariance_dial.py --set match=flops --set budgets=3e7,1e8,3e8 --store runs/dial

Cutoff, blocks, radial basis, radial network and readout are the same in every cell; the width is what each degree can
afford. Degree 0 loses the angles together with equivariance: `--set others=…` adds architectures at the same budgets,
such as an invariant model that sees angles, or one that is not constrained at all.

Rates are the measured rules of each family (`LR_RULES` of `chemscale.train.optim`): NequIP's best one is the same to a
factor of two for degree 0, 1 and 2.

Measured small (one thread, 15 minutes: 20,000 parameters, two seeds, 200 updates of eight structures and 400 for the
largest, so limited by steps), by

    chemscale sweep tune_jobs/equivariance_dial.py --set budgets=2e4 --set degrees=0,1,2 --set sizes=100,400,1600 \
        --set "others=('dimenet','cartesian')" --set epochs=2 --set min_updates=200 --set seeds=0,1 --store runs/dial
    chemscale compare runs/dial --data structures --loss force_mae --form power --by architecture

| force MAE, meV/angstrom, at | 100 | 400 | 1,600 structures | exponent less that of NequIP l=2 (95 %) |
|---|---|---|---|---|
| NequIP l=2 | 316 | 268 | 204 | (.16, .11 to .21) |
| DimeNet++, invariant with angles | 348 | 299 | 218 | +.01 (-.05 to .07) |
| NequIP l=1 | 333 | 309 | 245 | -.05 (-.11 to .01) |
| Cartesian, unconstrained | 464 | 393 | 313 | -.02 (-.07 to .04) |
| NequIP l=0, no angles | 383 | 382 | 322 | -.10 (-.15 to -.04) |

In one sentence: on this scale angles buy the slope and equivariance a factor, since the invariant model that sees
angles falls as fast as degree 2 and errs 1.08 times as much at 1,600 structures (.97 to 1.20), the unconstrained one
1.49 times (1.46 to 1.52, in pairs over all sizes) at an exponent that is no different, and only degree 0, which has no
angles, falls more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chemscale.models import NequIP
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.spec.registry import model_named
from chemscale.sweep.grid import Grid, Study
from chemscale.train.optim import family_lr

CUTOFF, DEPTH = 5.0, 3
MATCHED = {"params": "trainable parameters without embeddings", "flops": "FLOPs of a training step"}


def recipe(
    match: str = "params",
    budgets: Sequence[float] = (2e4, 8e4, 3.2e5),
    degrees: Sequence[int] = (0, 1, 2, 3),
    others: Sequence[str] = (),
    sizes: Sequence[int] = (200, 1_132, 6_400),
    source: str = "fragments-gfn2",
    epochs: float = 4,
    min_updates: int = 0,
    lr: float | None = None,
    seeds: Sequence[int] = (0,),
) -> Study:
    """Every degree, and every other architecture, at every budget and amount of data.

    Args:
        match: "params", or "flops" of energies, forces and double backward for one molecule of 27 atoms.
        budgets: of each rung, in that unit.
        others: registered architectures of potentials, sized to the same budgets.
        min_updates: of every cell, so that small sizes are not limited by steps.
        lr: the rate of NequIP; None takes its rule's.
    """
    if match not in MATCHED:
        raise ValueError(f"match={match!r} is unknown; use {' or '.join(MATCHED)}.")
    rivals = [model_named(name, family="structures", field="others") for name in others]
    models = [_sized(NequIP, match, budget, degree=degree) for budget in budgets for degree in degrees]
    models += [_sized(family, match, budget) for budget in budgets for family in rivals]
    base = RunSpec(
        model=models[0],
        data=Data(source, size=sizes[0]),
        optim=Optim(batch=8),
        budget=Budget(epochs=epochs, min_updates=min_updates),
        evaluation=Evaluation(points=6, valid=256, test=800),
    )

    def rated(run: RunSpec) -> RunSpec:
        given = lr if run.model.architecture == "nequip" else None
        return replace(run, optim=replace(run.optim, lr=family_lr(run.model) if given is None else given))

    return Study(
        f"equivariance_dial_{match}",
        (Grid(base, models=models, sizes=sizes, seeds=seeds, derive=rated),),
        question=f"What does the degree of features buy at equal {MATCHED[match]}?",
        limits=("Degree 0 has neither equivariant features nor angles; a model with angles alone separates the two.",),
    )


def _sized(family: Any, match: str, budget: float, **dials: int) -> Any:
    return family.sized(depth=DEPTH, cutoff=CUTOFF, **{match: budget}, **dials)
