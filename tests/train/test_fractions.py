"""Fractions of a GPU: who shares one, which one they see. Ray places by declared GPUs, so a processor will do."""

import pytest

from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.sweep import Grid
from chemscale.sweep.preparation import prepare
from tests.ray_clusters import one_node
from tests.train.runs import EVALUATION

pytestmark = pytest.mark.slow

QUARTER = Resources(cpus=0.5, gpus=0.25)


@pytest.fixture
def declared_gpu(short_folder, home):
    """A Ray cluster of this test's own with two processors and one GPU that is only declared."""
    with one_node(short_folder, gpus=1):
        yield


def quarters(molecules):
    base = RunSpec(
        model=ChemGPT.sized(width=4), data=Data(molecules, size=40), optim=Optim(batch=8), budget=Budget(updates=2),
        evaluation=EVALUATION,
    )  # fmt: skip
    return prepare(Grid(base, seeds=range(4)).runs(), QUARTER)


def test_four_cells_share_one_gpu_at_the_same_time(declared_gpu, molecules, tmp_path, monkeypatch):
    """Each waits until four are there, which none of them would see if they ran in turn."""
    from ray.tune import report

    from chemscale.sweep import tune

    folder = str(tmp_path)

    def meet(config, plan):
        import os
        import time
        from pathlib import Path

        run = plan.plan().run(config)
        (Path(folder) / run.id).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
        deadline = time.time() + 60
        while len(list(Path(folder).glob("?" * 16))) < 4 and time.time() < deadline:
            time.sleep(0.05)
        report({"examples": 1, "valid_loss": float(len(list(Path(folder).glob("?" * 16))))})

    monkeypatch.setattr(tune, "trial", meet)
    runs = quarters(molecules)
    store = Store(tmp_path / "store", create=True)
    store.enlist("s", runs)
    results = tune.grid_tuner(runs, store, on=QUARTER, study="s", scratch=str(tmp_path / "scratch")).fit()
    assert [r.metrics["valid_loss"] for r in results] == [4.0] * 4
    assert [(tmp_path / run.id).read_text() for run in runs] == ["0"] * 4


def test_a_cell_that_should_have_a_gpu_does_not_train_on_the_processor(declared_gpu, molecules, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a real GPU is here")
    from chemscale.sweep.drive import sweep

    store = sweep(quarters(molecules)[:1], store=tmp_path / "store", on=QUARTER)
    row = store.runs().to_pylist()[0]
    assert row["status"] == "failed"
    assert "Resources.gpus=0.25 but torch sees no GPU (CUDA_VISIBLE_DEVICES 0)" in row["stop_reason"]
