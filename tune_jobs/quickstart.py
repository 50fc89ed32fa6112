"""Both families on a grid of sizes, in minutes on two cores: what do parameters and data buy?

Measured ladders behind the choices (one thread): at this length ChemGPT's loss falls along both axes from 3 thousand to
200 thousand non-embedding parameters and from a thousand to 32 thousand molecules; PaiNN's force error falls along both
axes. Small sets train for more epochs, so that no cell is starved of updates.
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
    """Examples seen grow as D^0.6 up to one epoch of the largest set, the batch as D^0.383 from 8 at a thousand.

    Powers, so that no kink of the schedule bends the law; the batch's is that of DeepSeek-AI 2024 for growing data.
    """
    size = run.data.size or 0
    batch = max(2, round(8 * (size / 1_000) ** 0.383))
    examples = round(MOLECULES[-1] * (size / MOLECULES[-1]) ** 0.6)
    return replace(run, optim=Optim(batch=batch), budget=Budget(examples=examples))


def potential_schedule(run: RunSpec) -> RunSpec:
    """Examples seen grow as D^0.5 up to one epoch of the largest set, in batches of eight."""
    size = run.data.size or 0
    examples = round(STRUCTURES[-1] * (size / STRUCTURES[-1]) ** 0.5)
    return replace(run, optim=Optim(batch=8), budget=Budget(examples=examples))
