"""Does the loss of a ChemGPT foretell what it writes? Every run is sampled when it has finished.

chemscale sweep tune_jobs/chemgpt_quality.py --store runs/quality --sample 3000 --reference embedded
chemscale report runs/quality

With `chemscale data fetch moses` done once, leave `--reference` out: FCD and the rest are then those of MOSES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Grid


def recipe(
    widths: Sequence[int] = (8, 16, 32, 64),
    sizes: Sequence[int] = (1_000, 4_000, 16_000),
    seeds: Sequence[int] = (0,),
    source: str = "moses",
) -> Grid:
    """Examples seen grow as D^0.6 up to one epoch of the largest set; the batch as D^0.383, as in the quickstart."""
    base = RunSpec(
        model=ChemGPT.sized(width=widths[0]),
        data=Data(source, size=sizes[0]),
        evaluation=Evaluation(points=4, valid=512, test=2_000),
    )

    def schedule(run: RunSpec) -> RunSpec:
        size = run.data.size or 0
        batch = max(2, round(8 * (size / 1_000) ** 0.383))
        return replace(
            run, optim=Optim(batch=batch), budget=Budget(examples=round(sizes[-1] * (size / sizes[-1]) ** 0.6))
        )

    return Grid(
        base, models=[ChemGPT.sized(width=w) for w in widths], sizes=tuple(sizes), seeds=tuple(seeds), derive=schedule
    )
