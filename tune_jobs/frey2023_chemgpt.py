"""ChemGPT's scaling study of Frey et al. 2023: widths 16 to 2048 in 24 layers, 10^2 to 10^7 molecules of PubChem.

    chemscale show tune_jobs/frey2023_chemgpt.py
    chemscale sweep tune_jobs/frey2023_chemgpt.py --gpus 1 --store runs/frey2023_chemgpt
    chemscale fit runs/frey2023_chemgpt --loss nats_per_token --form sliced

The first line says what it takes, before the data or a GPU are at hand; the third is the paper's own analysis: a power
law without floor in non-embedding parameters for every amount of data, how its exponent moves with the data, and which
cells are short of data. `--set source=…/pubchem_10m.txt.zip` says where the molecules are.

`--set settings=as_released` trains as the released code does (ncfrey/litmatter, `lit_models/lit_chemgpt.py` and
`lit_data/lm_data.py`). Its warm-up of 100 steps is stepped once an epoch, so that the rate is 0 in the first of its two
epochs and a hundredth of 2e-5 in the second; and a data set of "10^k" is 10^k // 16 rows, but for the whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep import Grid, Study
from chemscale.sweep.gpus import Assumed
from chemscale.sweep.likeness import Planned
from chemscale.train.optim import ladder_lr

WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
WHOLE = 10**7  # what PubChem10M holds: this size is the whole training split, without what is held out
SIZES = (10**2, 10**3, 10**4, 10**5, 10**6, WHOLE)
SOURCE = "pubchem_10m.txt.zip"
PLANNED = Planned(like="moses", whole=WHOLE, on=Assumed("a100", utilisation=0.3, price=2.0))  # of `chemscale show`
RELEASED_BATCH = 16


def recipe(
    widths: Sequence[int] = WIDTHS,
    sizes: Sequence[int] = SIZES,
    settings: str = "sane",
    source: str = SOURCE,
    seeds: Sequence[int] = (0,),
    lr: float | None = None,
    valid: int = 2_000,
    test: int = 10_000,
) -> Study:
    """The grid of the paper.

    Args:
        settings: "sane", or "as_released" for the released code's optimiser, length and amounts of data.
        lr: the rate of every width, in place of the settings'.
    """
    if settings not in SETTINGS:
        raise ValueError(f"settings={settings!r} is unknown; use {' or '.join(SETTINGS)}.")
    amounts = [released_rows(size) for size in sizes] if settings == "as_released" else list(sizes)
    base = RunSpec(
        model=ChemGPT.sized(width=widths[0], shape="chemgpt"),
        data=Data(source),
        evaluation=Evaluation(points=8, valid=valid, test=test),
    )

    def schedule(run: RunSpec) -> RunSpec:
        made = SETTINGS[settings](run)
        return made if lr is None else replace(made, optim=replace(made.optim, lr=lr))

    grid = Grid(
        base,
        models=[ChemGPT.sized(width=width, shape="chemgpt") for width in widths],
        sizes=[None if size >= WHOLE else size for size in amounts],  # type: ignore[misc]
        seeds=seeds,
        derive=schedule,
    )
    return Study(
        f"frey2023_chemgpt_{settings}",
        (grid,),
        question="How does ChemGPT's loss fall with parameters at each amount of data (Frey et al. 2023)?",
    )


def released_rows(size: int) -> int:
    """Rows of a data set that the released code calls so large: it divides by the batch, but for the whole set."""
    return size if size >= WHOLE else max(1, size // RELEASED_BATCH)


def as_released(run: RunSpec) -> RunSpec:
    """Two epochs of AdamW as `transformers` 4 has it (eps 1e-6, no decay), no clipping, a rate that hardly starts."""
    optim = Optim(lr=2e-5, batch=RELEASED_BATCH, beta2=0.999, eps=1e-6, clip=None, cooldown=0.0, epoch_warmup=100)
    return replace(run, optim=optim, budget=Budget(epochs=2))


def sane(run: RunSpec) -> RunSpec:
    """One epoch but at least 500 updates; the batch grows as D^0.383 from 8 at a thousand molecules (DeepSeek-AI 2024).

    The rate is a third of the ladder's rule (`chemscale.train.optim`), which was measured on four layers: one epoch of
    1,500 MOSES molecules in batches of 16, nats per token at the rule, a third and a ninth of it, width 16: 2.038,
    1.994, 2.116; at the rule and a third, width 64: 1.989, 1.838 (one seed). Search for it at two widths
    (`chemgpt_lr.py` shows how) before this grid is paid for, and give `lr`.
    """
    batch = max(4, round(8 * ((run.data.size or WHOLE) / 1_000) ** 0.383))
    optim = Optim(lr=ladder_lr(run.model) / 3, batch=batch)
    return replace(run, optim=optim, budget=Budget(epochs=1, min_updates=500))


SETTINGS: dict[str, Callable[[RunSpec], RunSpec]] = {"sane": sane, "as_released": as_released}


def resources(run: RunSpec) -> Resources | None:
    """GPUs for the two widest: all others train where the command line says."""
    if run.model.width < 1024:
        return None
    workers = 4 if run.model.width >= 2048 else 2
    return Resources(workers=workers, gpus=1, sharding="fsdp", micro_batch=16)
