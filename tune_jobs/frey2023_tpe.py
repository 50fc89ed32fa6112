"""How early can the end of a training be told? Random searches in several models, every run to its end.

chemscale search tune_jobs/frey2023_tpe.py --set architecture=schnet --store runs/frey2023_tpe
"""

from __future__ import annotations

from chemscale.models import ChemGPT, PaiNN, SchNet
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import Search, choice, loguniform, uniform
from chemscale.train.optim import ladder_lr

MODELS = {"chemgpt": ChemGPT, "schnet": SchNet, "painn": PaiNN}
WIDTHS = {"chemgpt": 16, "schnet": 8, "painn": 8}
SOURCES = {"text": "moses", "structures": "fragments-gfn2"}
SIZES = {"text": 4_000, "structures": 1_200}
EXAMPLES = {"chemgpt": 12_000, "schnet": 1_000, "painn": 1_000}
VALID = {"text": 128, "structures": 48}
BATCHES = {"text": (8, 16, 32), "structures": (4, 8, 16)}


def recipe(
    architecture: str = "chemgpt",
    width: int | None = None,
    samples: int = 64,
    source: str | None = None,
    size: int | None = None,
    examples: int | None = None,
    points: int = 40,
    seed: int = 0,
) -> Search:
    """The optimiser's settings over a wide space; the rate from a thirtieth to twelve times the ladder's rule."""
    model = MODELS[architecture].sized(width=width or WIDTHS[architecture])
    rule = ladder_lr(model)
    base = RunSpec(
        model=model,
        data=Data(source or SOURCES[model.family], size=size or SIZES[model.family]),
        optim=Optim(lr=rule, batch=BATCHES[model.family][1]),
        budget=Budget(examples=examples or EXAMPLES[architecture]),
        evaluation=Evaluation(points=points, valid=VALID[model.family], test=500),
    )
    space = {
        "optim.lr": loguniform(rule / 30, rule * 12),
        "optim.batch": choice(*BATCHES[model.family]),
        "optim.beta2": choice(0.9, 0.95, 0.98, 0.99, 0.999),
        "optim.weight_decay": loguniform(1e-4, 1.0),
        "optim.warmup": uniform(0.0, 0.2),
        "optim.cooldown": uniform(0.05, 0.6),
        "optim.clip": loguniform(0.1, 10.0),
    }
    return Search(base, space, samples=samples, sampler="random", seed=seed, name=f"tpe_{architecture}_w{model.width}")
