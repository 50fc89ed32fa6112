"""A worker that dies, one that hangs, a node that is lost: the run goes on from its checkpoint to the same numbers."""

import contextlib
import signal
import threading
import time

import psutil
import pytest

from chemscale.records.store import Store
from chemscale.spec import Budget, Evaluation, Optim, Resources
from chemscale.train import worker
from chemscale.train.worker import train_on_workers
from tests.ray_clusters import one_node, several_nodes
from tests.train.runs import text_run, train

pytestmark = pytest.mark.slow

ROUNDING = 1e-8  # the same sums in another order in float64, grown over 150 updates


def long_run(molecules):
    """Some seconds of training, with a batch that does not divide by two."""
    return text_run(
        molecules, optim=Optim(batch=7), budget=Budget(updates=150), evaluation=Evaluation(6, 24, 24),
        precision="float64",
    )  # fmt: skip


def workers():
    """Ray Train's worker processes of this test's own cluster."""
    ours = psutil.Process().children(recursive=True)
    return [p for p in ours if p.is_running() and "RayTrainWorker" in " ".join(cmdline(p))]


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def once_measured(store, run, act):
    """In the background: `act` when an attempt has a checkpoint and two points of its own."""

    def watch():
        deadline = time.time() + 200
        while not under_way(store.attempts(run.id)) and time.time() < deadline:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def under_way(attempts):
    return attempts and attempts[-1].holds("state.pt") and len(attempts[-1].points()) > 1


def assert_undisturbed(store, calm, *, devices):
    """Finished once, no point lost or doubled, every number that of the undisturbed run within rounding."""
    row, expected = store.runs().to_pylist()[0], calm.runs().to_pylist()[0]
    assert row["status"] == "finished"
    assert row["devices"] == devices
    assert sum(a.ended for a in store.attempts(row["run_id"])) == 1
    assert row["law_loss"] == pytest.approx(expected["law_loss"], rel=ROUNDING)
    points, calm_points = store.points().to_pylist(), calm.points().to_pylist()
    assert [p["step"] for p in points] == [p["step"] for p in calm_points]
    for a, b in zip(points, calm_points, strict=True):
        assert (a["examples"], a["flops"], a["lr"]) == (b["examples"], b["flops"], b["lr"])
        for name in ("valid_loss", "train_loss"):
            assert a[name] == pytest.approx(b[name], rel=ROUNDING), (name, a["step"])


def assert_went_on(store, run):
    """Every attempt started from the checkpoint of the one before, which had measured twice: none started over."""
    starts = [attempt.points()[0]["step"] for attempt in store.attempts(run.id)]
    assert starts == sorted(set(starts))


@pytest.fixture(scope="module")
def calm(molecules, tmp_path_factory):
    """The same run with one worker and nothing in its way."""
    return train(long_run(molecules), tmp_path_factory.mktemp("calm") / "store")


def test_a_worker_that_is_killed_costs_no_number(ray_cluster, calm, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    watch = once_measured(store, run, lambda: workers()[-1].kill())
    train_on_workers(run, store.url, resources=Resources(workers=2, sharding="fsdp", checkpoint_seconds=0.3))
    watch.join()
    assert len(store.attempts(run.id)) >= 2
    assert_undisturbed(store, calm, devices=2)
    assert_went_on(store, run)


@pytest.mark.chaos
def test_a_worker_that_hangs_costs_no_number(ray_cluster, calm, molecules, tmp_path, monkeypatch):
    """The other waits for it for `EXCHANGE_SECONDS`, here 15: an exchange on a busy machine may take seconds, and where
    it takes longer the group starts once more."""
    monkeypatch.setattr(worker, "EXCHANGE_SECONDS", 15)
    monkeypatch.setattr(worker, "MAX_FAILURES", 5)
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    hung = []

    def hang():
        hung.append((workers()[-1], time.time()))
        hung[0][0].send_signal(signal.SIGSTOP)

    watch = once_measured(store, run, hang)
    try:
        train_on_workers(run, store.url, resources=Resources(workers=2, sharding="fsdp", checkpoint_seconds=0.3))
    finally:
        for process, _ in hung:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    watch.join()
    starts = [attempt.opening()["claimed"] for attempt in store.attempts(run.id)]
    assert len(starts) >= 2
    assert 15 <= min(start for start in starts if start > hung[0][1]) - hung[0][1] < 300
    assert_undisturbed(store, calm, devices=2)
    assert store.attempts(run.id)[-1].points()[0]["step"] > 25  # it went on, it did not start over


@pytest.fixture
def ray_cluster(short_folder, home):
    """A cluster of each test's own: no two of them share processors with `two_nodes`."""
    with one_node(short_folder) as ray:
        yield ray


@pytest.fixture
def two_nodes(short_folder, home):
    """A cluster of two nodes with a processor each; the second can be taken away."""
    with several_nodes(short_folder, 1, 1) as cluster:
        lost = cluster.list_all_nodes()[1]
        yield lambda: cluster.remove_node(lost, allow_graceful=False)


def test_where_a_node_is_lost_two_workers_become_one(two_nodes, calm, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    watch = once_measured(store, run, two_nodes)
    on = Resources(workers=2, min_workers=1, checkpoint_seconds=0.3)
    train_on_workers(run, store.url, resources=on)
    watch.join()
    assert len(store.attempts(run.id)) == 2
    assert store.attempts(run.id)[0].opening()["row"]["devices"] == 2
    assert_undisturbed(store, calm, devices=1)
    assert_went_on(store, run)


def test_a_group_that_can_never_be_as_large_as_its_least_is_refused(ray_cluster, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    with pytest.raises(ValueError, match=r"Resources\(min_workers=3, cpus=1\) asks for 3 CPUs, the cluster has 2"):
        train_on_workers(run, store.url, resources=Resources(workers=8, min_workers=3))
    assert store.state(run.id).status == "pending"
