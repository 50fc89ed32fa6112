"""Accuracy on 3BPA by the published protocol: 500 structures at 300 K, the last 50 of them for validation.

chemscale data build train_300K.xyz --valid @-50: --test train_mixedT.xyz@:167
chemscale sweep tune_jobs/accuracy_3bpa.py --set "files=('train_300K.xyz','train_mixedT.xyz@:167')" --store runs/3bpa
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chemscale.models import Allegro, NequIP, PaiNN, SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, Reading, RunSpec
from chemscale.sweep import Grid, Study
from chemscale.train.objectives import EnergyForce
from chemscale.train.optim import family_lr

PUBLISHED: dict[str, Any] = {
    "schnet": SchNet.sized(width=128, depth=6),  # Schütt et al. 2018
    "painn": PaiNN.sized(width=128),  # Schütt et al. 2021
    "nequip_l1": NequIP.sized(width=64, depth=5, degree=1, parity=True),  # Batzner et al. 2022
    "nequip_l2": NequIP.sized(width=64, depth=5, degree=2, parity=True),
    "nequip_l3": NequIP.sized(width=64, depth=5, degree=3, parity=True),  # of the published 3BPA errors
    "allegro_l3": Allegro.sized(width=128, degree=3, parity=True),  # Musaelian et al. 2023
}
SMALL: dict[str, Any] = {  # what two processors train in minutes
    "schnet": SchNet.sized(width=64),
    "painn": PaiNN.sized(width=32),
    "nequip_l1": NequIP.sized(width=16, degree=1),
    "nequip_l2": NequIP.sized(width=16, degree=2),
    "allegro_l1": Allegro.sized(width=32, degree=1),
}
SHAPES = {"published": PUBLISHED, "small": SMALL}
BATCH, AVERAGE = 5, 0.99  # Musaelian et al. 2023, 3BPA
VALID = "@-50:"


def recipe(
    files: Sequence[str] = ("train_300K.xyz", "train_mixedT.xyz@:167"),
    shapes: str = "published",
    architectures: Sequence[str] = (),
    epochs: float = 2_000,
    energy: float = 0.5,
    points: int = 20,
    precision: str = "float32",
    seeds: Sequence[int] = (0,),
) -> Study:
    """Every architecture, trained alike.

    Args:
        files: structures to train and validate on, and the test set, as `Reading.test` says it.
        shapes: "published", or "small".
        architectures: some of the shape's; none means all.
        epochs: passes over the training structures.
        energy: weight of the squared error of energies per atom, that of force components being one less it; equal
            weights are the published ones of NequIP and Allegro on 3BPA.
    """
    if shapes not in SHAPES:
        raise ValueError(f"shapes={shapes!r} is unknown; use {' or '.join(SHAPES)}.")
    known = SHAPES[shapes]
    unknown = [name for name in architectures if name not in known]
    if unknown:
        raise ValueError(f"architectures={unknown[0]!r} is none of the {shapes} shapes; use {', '.join(known)}.")
    models = [known[name] for name in architectures or known]
    base = RunSpec(
        model=models[0],
        data=Data(files[0], reading=Reading(valid=VALID, test=files[1])),
        optim=Optim(batch=BATCH, ema=AVERAGE),
        budget=Budget(epochs=epochs),
        evaluation=Evaluation(points=points),
        objective=EnergyForce(energy=energy, force=1 - energy),
        precision=precision,
    )

    def rated(run: RunSpec) -> RunSpec:
        return replace(run, optim=replace(run.optim, lr=family_lr(run.model)))

    return Study(
        f"accuracy_3bpa_{shapes}",
        (Grid(base, models=models, seeds=seeds, derive=rated),),
        question="How accurate is each family on 3BPA at 300 K?",
        limits=("The 300 K test is a block of the mixed-temperature training file, not the published test file.",),
    )
