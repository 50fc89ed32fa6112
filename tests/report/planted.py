"""A store of three architectures whose losses follow known Chinchilla laws, with forecasts of the largest cells."""

import json
import random
from dataclasses import dataclass, replace

from chemscale.models.chemgpt import ChemGPT
from chemscale.models.painn import PaiNN
from chemscale.models.schnet import SchNet
from chemscale.records import Store
from chemscale.spec import Budget, Data, Optim, RunSpec

VERSIONS = json.dumps({"python": "3.11.7", "chemscale": "0.1.0", "torch": "2.13.0", "commit": "0123abcd"})


@dataclass(frozen=True)
class Planted:
    """L = E + A N^-alpha + B D^-beta, in the store's unit; `error` is the standard error of one run, relative."""

    model: type
    metric: str
    widths: tuple
    params: tuple
    sizes: tuple
    E: float
    A: float
    alpha: float
    B: float
    beta: float
    error: float = 0.004

    def loss(self, params, size):
        return self.E + self.A * params**-self.alpha + self.B * size**-self.beta


CHEMGPT = Planted(
    ChemGPT, "nats_per_token", (8, 16, 32, 64), (3_400, 13_000, 50_000, 199_000), (1_000, 4_600, 21_500, 100_000),
    E=0.05, A=2.2, alpha=0.2, B=3.4, beta=0.25,
)  # fmt: skip
SCHNET = Planted(
    SchNet, "force_mae", (4, 16, 64), (1_500, 12_400, 158_000), (200, 800, 3_200),
    E=0.28, A=0.35, alpha=0.4, B=0.9, beta=0.28, error=0.015,
)  # fmt: skip
PAINN = Planted(
    PaiNN, "force_mae", (8, 16, 32), (7_400, 25_000, 92_000), (200, 800, 3_200),
    E=0.02, A=0.8, alpha=0.22, B=1.9, beta=0.3, error=0.015,
)  # fmt: skip
ALL = (CHEMGPT, SCHNET, PAINN)
MISSES = {"chemgpt": 0.02, "schnet": -0.08, "painn": 0.01}  # predicted over the law's own loss, minus one
INTERVAL = 0.05  # half width of a forecast's interval, relative


def spec(law, width, size, seed=0):
    """The run of a cell; replicates change the seed and the subset."""
    model = law.model.sized(width=width)
    source = "moses" if model.family == "text" else "fragments-gfn2"
    data = Data(source, size=size, key=seed, content=("ab" if model.family == "text" else "cd") * 32)
    batch = 32 if model.family == "text" else 8
    return RunSpec(model, data, Optim(lr=3e-3, batch=batch), Budget(epochs=1, min_updates=250), seed=seed)


def row_of(law, run, params, loss, relative):
    """The terminal RUNS row of a finished run."""
    text = run.model.family == "text"
    size, seen = run.data.size, run.examples
    unit = "molecules" if text else "structures"
    flops = 6.0 * params * seen * (35 if text else 14) * (1 if text else 4)
    metrics = {law.metric: loss, f"{law.metric}_se": loss * law.error, "law_loss": loss, "law_metric": law.metric}
    if text:
        metrics |= {"nats_per_molecule": 34.5 * loss, "nats_per_molecule_se": 34.5 * loss * law.error}
    else:
        metrics |= {"force_rmse": 1.5 * loss, "energy_mae": 0.15 * loss, "energy_mae_se": 0.15 * loss * 0.03}
    return {
        "run_id": run.id, "family": run.model.family, "architecture": run.model.architecture, "spec": run.to_json(),
        "cluster": f"{size}-{run.data.key}", "params": params, "params_all": params + 26 * run.model.width,
        "depth": run.model.depth, "width": run.model.width, "examples": size, unit: size, f"{unit}_seen": seen,
        "examples_seen": seen, "epochs": seen / size, "updates": run.updates, "batch": run.optim.batch,
        "seed": run.seed, "subset_key": run.data.key, "precision": run.precision, "optimiser": "adamw",
        "lr": run.optim.lr, "warmup": run.optim.warmup, "cooldown": run.optim.cooldown, "data_source": run.data.source,
        "data_content": run.data.content, "test_examples": 1200, "status": "finished", "law_rule": "final",
        "valid_loss": loss * 1.002, "best_valid_loss": loss * 1.002, **metrics, "flops": flops,
        "seconds": flops / 2e10 + 1.0, "device_seconds": flops / 2e10, "device": "a processor", "devices": 1,
        "versions": VERSIONS,
    }  # fmt: skip


def points_of(law, run, loss):
    """Eight points that fall to the loss; larger runs have not stopped falling when the cooldown begins."""
    for i in range(1, 9):
        value = loss * (1 + 0.9 / i**1.5)
        yield {
            "run_id": run.id, "step": max(1, run.updates * i // 8), "examples": run.examples * i // 8,
            "valid_loss": value, "valid_loss_se": value * law.error, f"valid_{law.metric}": value,
            "lr": run.optim.lr, "train_loss": value,
        }  # fmt: skip


def finish(store, law, run, params, loss):
    """Write one finished run."""
    attempt = store.claim(run, {"run_id": run.id})
    for point in points_of(law, run, loss):
        attempt.point(point)
    attempt.end(row_of(law, run, params, loss, law.error))


def plant(store, law, *, noise=0.004, replicates=True, forecast=True, seed=1):
    """Write the whole grid of one architecture, its corners twice, its largest cell foreseen."""
    chance = random.Random(seed)
    runs = []
    for i, (width, params) in enumerate(zip(law.widths, law.params, strict=True)):
        for j, size in enumerate(law.sizes):
            corner = i in (0, len(law.widths) - 1) and j in (0, len(law.sizes) - 1)
            for key in (0, 1) if corner and replicates else (0,):
                run = spec(law, width, size, key)
                runs.append(run)
                top = i == len(law.widths) - 1 and j == len(law.sizes) - 1
                if top and forecast:
                    foresee(store, law, run, params, size)
                finish(store, law, run, params, law.loss(params, size) * (1 + chance.gauss(0, noise)))
    return runs


def foresee(store, law, run, params, size):
    """Register a prediction that misses the law by what `MISSES` says."""
    name = run.model.architecture
    value = law.loss(params, size) * (1 + MISSES[name])
    store.register_forecast(run.id, {
        "architecture": name, "metric": law.metric, "value": value, "low": value * (1 - INTERVAL),
        "high": value * (1 + INTERVAL), "level": 0.95, "form": "power_floor", "n_runs": 8, "trained_on": [],
        "params": params, "data": size, "data_column": "molecules",
    })  # fmt: skip


def break_one(store, law, reason):
    """A run that diverged, and its reason."""
    run = replace(spec(law, law.widths[0], law.sizes[0]), seed=7)
    attempt = store.claim(run, {"run_id": run.id})
    lost = {k: v for k, v in row_of(law, run, law.params[0], 1.0, 0.1).items() if "loss" not in k and k != "force_mae"}
    lost = {k: v for k, v in lost.items() if not k.startswith(("force", "energy", "nats", "law"))}
    attempt.end({**lost, "status": "diverged", "stop_reason": reason})


def rows_of(store):
    """RUNS as the report reads them."""
    return store.runs().to_pylist()


def full_store(path, *, reason="not finite (nan) at update 12 of 250"):
    """All three architectures, one diverged run, one study."""
    store = Store(path, create=True)
    runs = [run for law in ALL for run in plant(store, law)]
    break_one(store, PAINN, reason)
    question = "What do ten times more parameters or molecules buy, on two cores?"
    store.enlist("quickstart", runs, question=question, limits=["Runs last seconds; they say nothing of large models"])
    return store
