"""Runs that start from trained weights, by every harness on a real Ray."""

import pytest
import torch

from chemscale.records.store import Store
from chemscale.spec import InitFrom, Resources
from chemscale.sweep import PBT, Grid, Search, loguniform
from chemscale.sweep.drive import sweep
from chemscale.sweep.searching import search
from chemscale.train.state import kept_weights
from tests.train.runs import text_run, train
from tests.train.test_origins import STILL

pytestmark = pytest.mark.slow


def test_sweeps_searches_and_populations_start_from_trained_weights(ray_cluster, molecules, tmp_path):
    origin = text_run(molecules)
    trained = kept_weights(train(origin, tmp_path / "base"), origin.id)
    init = InitFrom(str(tmp_path / "base"), origin.id)
    one = text_run(molecules, init_from=init, optim=STILL)
    store = sweep(Grid(one), store=tmp_path / "swept", name="warm")
    rows = store.runs().to_pylist()
    assert [row["status"] for row in rows] == ["finished"]
    assert {row["init_content"] for row in rows} == {one.init_from.content}
    assert all(torch.equal(kept_weights(store, row["run_id"])["wte.weight"], trained["wte.weight"]) for row in rows)
    for name, samples, stop in (("plain", 1, None), ("population", 2, PBT(interval=0.5))):
        plan = Search(
            text_run(molecules, init_from=init),
            {"optim.lr": loguniform(1e-4, 1e-2)},
            samples=samples,
            name=name,
            stop=stop,
        )
        found = search(plan, store=tmp_path / name, on=Resources())
        rows = Store(tmp_path / name).runs().to_pylist()
        assert {row["init_content"] for row in rows} == {one.init_from.content}
        assert all(row["status"] in ("finished", "diverged") for row in rows)
        assert found.cells[0].best is not None and found.cells[0].best.run.init_from == one.init_from
