"""Several workers: the same curve as one, a record written once, refusals with both numbers."""

import pytest

from chemscale.records.store import Store
from chemscale.spec import Optim, Resources
from chemscale.train.worker import process_group_of, train_on_workers
from tests.train.runs import run_of, train

pytestmark = pytest.mark.slow


def test_two_workers_give_the_curve_of_one(ray_cluster, molecules, structures, tmp_path):
    """A batch of 7 does not divide by two, and the last one holds fewer examples than workers.

    Tolerance: the same sums in another order in float32, grown over 10 updates; measured below 1e-5.
    """
    run = run_of("painn", molecules, structures, optim=Optim(batch=7))
    one = train(run, tmp_path / "one").points().to_pylist()
    store = Store(tmp_path / "two", create=True)
    row = train_on_workers(run, store.path, resources=Resources(workers=2))
    two = store.points(run.id).to_pylist()
    assert row["status"] == "finished"
    assert row["devices"] == 2
    assert len(store.attempts(run.id)) == 1
    assert [p["step"] for p in one] == [p["step"] for p in two]
    for a, b in zip(one, two, strict=True):
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], rel=1e-4)
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
        assert (a["examples"], a["flops"]) == (b["examples"], b["flops"])


def test_what_the_cluster_can_never_hold_is_refused(ray_cluster, molecules, structures, tmp_path):
    run = run_of("chemgpt", molecules, structures)
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(ValueError, match="asks for 8 CPUs, the cluster has 2"):
        train_on_workers(run, store.path, resources=Resources(workers=8))
    assert store.state(run.id).status == "pending"


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (0.5, "gloo"), (1, "nccl")])
def test_workers_that_share_a_gpu_do_not_talk_over_nccl(gpus, backend):
    """NCCL refuses two workers on one GPU."""
    assert process_group_of(Resources(workers=2, gpus=gpus)).backend == backend
