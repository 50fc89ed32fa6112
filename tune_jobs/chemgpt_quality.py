"""Does the loss of a ChemGPT foretell what it writes? Every run is sampled when it has finished.

chemscale sweep tune_jobs/chemgpt_quality.py --store runs/quality --sample 3000 --reference embedded
chemscale report runs/quality

Measured with these settings, 12 runs of 3.4 to 199 thousand parameters on 1,000 to 16,000 molecules, losses 1.67 to
1.01: FCD against 5,000 test molecules falls with the loss from 31.3 to 18.8 (rank correlation .99, 95 % interval .93 to
1.00), so do the distances in QED (.99), logP (.96) and weight (.92); similarity to the nearest test molecule,
uniqueness, fragments and scaffolds rise (-.98, -.99, -.94, -.76); synthetic accessibility is open (.61, 0 to .89).
Validity and novelty are one in all. So far from the end of training loss foretells quality; of runs whose losses are
close it tells nothing.

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
