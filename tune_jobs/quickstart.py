"""Both families on a grid of sizes, in minutes on two cores: what do parameters and data buy?

Measured ladders behind the choices (one thread): at this length ChemGPT's loss falls along both axes from 3 thousand to
200 thousand non-embedding parameters and from a thousand to 32 thousand molecules; PaiNN's force error falls along both
axes, SchNet's along data only. Small sets train for more epochs, so that no cell is starved of updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chemscale.models import ChemGPT, PaiNN, SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep.grid import Grid, Study

MOLECULES = (1_000, 3_200, 10_000, 32_000)
STRUCTURES = (200, 1_132, 6_400)


def recipe(
    widths: Sequence[int] = (8, 16, 32, 64),
    molecules: Sequence[int] = MOLECULES,
    schnet_widths: Sequence[int] = (4, 16, 64),
    painn_widths: Sequence[int] = (8, 16, 32),
    structures: Sequence[int] = STRUCTURES,
    source: str = "moses",
    potential_source: str = "fragments-gfn2",
    name: str = "quickstart",
) -> Study:
    """ChemGPT on SELFIES, SchNet and PaiNN on GFN2-xTB energies and forces."""
    text = RunSpec(
        model=ChemGPT.sized(width=widths[0]),
        data=Data(source, size=molecules[0]),
        evaluation=Evaluation(points=6, valid=512, test=2_000),
    )
    atoms = RunSpec(
        model=SchNet.sized(width=schnet_widths[0]),
        data=Data(potential_source, size=structures[0]),
        evaluation=Evaluation(points=6, valid=256, test=800),
    )
    potentials = [SchNet.sized(width=w) for w in schnet_widths] + [PaiNN.sized(width=w) for w in painn_widths]
    return Study(
        name,
        (
            Grid(text, models=[ChemGPT.sized(width=w) for w in widths], sizes=molecules, derive=text_schedule),
            Grid(atoms, models=potentials, sizes=structures, derive=potential_schedule),
        ),
        forecast="largest",
        question="What do ten times more parameters or data buy for ChemGPT, SchNet and PaiNN at small scale?",
        limits=(
            "Every cell trains for minutes at most: these are the first steps of a law, not its end.",
            "One seed per cell: the scatter between seeds is not in the intervals.",
        ),
    )


def text_schedule(run: RunSpec) -> RunSpec:
    """Batch grows and epochs shrink with the data; the smallest set is seen four times."""
    size = run.data.size or 0
    batch, epochs = (8, 4) if size < 2_000 else (8, 2) if size < 5_000 else (16, 1) if size < 20_000 else (32, 1)
    return replace(run, optim=Optim(batch=batch), budget=Budget(epochs=epochs))


def potential_schedule(run: RunSpec) -> RunSpec:
    """Epochs shrink with the data, so that updates still grow with it."""
    size = run.data.size or 0
    epochs = 8 if size < 500 else 4 if size < 2_000 else 1
    return replace(run, optim=Optim(batch=8), budget=Budget(epochs=epochs))
