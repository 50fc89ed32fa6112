"""Small runs of both families, and one call that trains them."""

from dataclasses import replace

from chemscale import data
from chemscale.models import ChemGPT, PaiNN, SchNet
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.train.complete import complete
from chemscale.train.session import train_in_store

EVALUATION = Evaluation(points=3, valid=24, test=24)
ONE_BY_ONE = Resources(concurrent=1)  # of sweeps whose runs need not overlap: each process takes seconds to start


def text_run(path, **changes):
    """A ChemGPT on 100 molecules for 15 updates."""
    data.build(path, progress=False, processes=1)
    run = RunSpec(
        model=ChemGPT.sized(width=8), data=Data(path, size=100), optim=Optim(batch=16), budget=Budget(updates=15),
        evaluation=EVALUATION,
    )  # fmt: skip
    return complete(replace(run, **changes))


def atoms_run(path, model=None, **changes):
    """A potential on 80 structures for 10 updates."""
    data.build(path, progress=False, processes=1)
    run = RunSpec(
        model=model or PaiNN.sized(width=8), data=Data(path, size=80), optim=Optim(batch=8), budget=Budget(updates=10),
        evaluation=EVALUATION,
    )  # fmt: skip
    return complete(replace(run, **changes))


def run_of(family, molecules, structures, **changes):
    """The small run of "chemgpt", "schnet" or "painn"."""
    if family == "chemgpt":
        return text_run(molecules, **changes)
    return atoms_run(structures, {"schnet": SchNet, "painn": PaiNN}[family].sized(width=8), **changes)


def train(run, folder, **resources):
    """Train in this process; returns the store."""
    store = Store(folder, create=True)
    train_in_store(run, store.path, resources=Resources(**resources))
    return store
