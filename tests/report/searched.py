"""A search of one cell with known ends: the learning rate alone decides, half of the runs were stopped on their way."""

import math
import random
from dataclasses import replace

from chemscale.records import Store
from chemscale.records.schema import STOPPED
from chemscale.spec import Budget, Data, Optim, RunSpec
from tests.report.planted import CHEMGPT, row_of

BEST_LR = 1e-2
EXAMPLES, POINTS, STOPPED_AT = 4_000, 10, 3  # points of a whole run, and after how many bad ones were stopped


def end_of(lr):
    """The final validation loss: a parabola in log lr."""
    return 1.2 * (1 + 0.5 * math.log10(lr / BEST_LR) ** 2)


def runs(count=24, seed=0):
    """Runs of one cell with random settings."""
    chance = random.Random(seed)
    base = RunSpec(CHEMGPT.model.sized(width=8), Data("moses", size=1_000, content="ab" * 32), Optim(lr=1e-2, batch=8),
                   Budget(examples=EXAMPLES), seed=0)  # fmt: skip
    return [
        replace(base, optim=Optim(lr=10 ** chance.uniform(-4, 0), batch=8, warmup=chance.uniform(0.0, 0.2)))
        for _ in range(count)
    ]


def search_store(path):
    """A store of this search; the forecast of a stopped run is its true end, with a tenth to either side."""
    store, made = Store(path, create=True), runs()
    ranked = sorted(made, key=lambda run: end_of(run.optim.lr))
    for run in made:
        stopped = run in ranked[len(ranked) // 2 :]
        end = end_of(run.optim.lr)
        attempt = store.claim(run, {"run_id": run.id})
        for i in range(1, (STOPPED_AT if stopped else POINTS) + 1):
            value = end * (1 + 0.6 * (1 / i - 1 / POINTS))
            attempt.point({"run_id": run.id, "step": 50 * i, "examples": 400 * i, "valid_loss": value,
                           "valid_loss_se": 0.01, "valid_nats_per_token": value, "lr": run.optim.lr})  # fmt: skip
        if stopped:
            attempt.flush()
            store.mark(run.id, STOPPED, "stopped early", {"loss": end, "low": 0.9 * end, "high": 1.1 * end})
        else:
            attempt.end(row_of(CHEMGPT, run, 3_400, end, 0.004) | {"valid_loss": end})
    store.enlist("rates", made)
    return store
