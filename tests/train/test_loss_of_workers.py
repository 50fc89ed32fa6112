"""A worker that dies, one that hangs, a node that is lost: the run goes on from its checkpoint to the same numbers."""

import os
import signal
import threading
import time

import psutil
import pytest

from chemscale.records.store import Store
from chemscale.spec import Budget, Evaluation, Optim, Resources
from chemscale.train import worker
from chemscale.train.worker import train_on_workers
from tests.train.runs import text_run, train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

ROUNDING = 1e-4  # as between one worker and two undisturbed ones
POINTS = 6


def long_run(molecules, updates=360):
    """Some seconds of training, with a batch that does not divide by two."""
    return text_run(
        molecules, optim=Optim(batch=7), budget=Budget(updates=updates), evaluation=Evaluation(POINTS, 24, 24)
    )


def workers():
    """Ray Train's worker processes of this test's own cluster."""
    ours = psutil.Process().children(recursive=True)
    return [p for p in ours if p.is_running() and "RayTrainWorker" in " ".join(cmdline(p))]


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def once_measured(store, run, act, points=1):
    """In the background: `act()` when the first attempt has a checkpoint and so many points."""

    def watch():
        deadline = time.time() + 120
        while time.time() < deadline:
            first = store.attempts(run.id)[:1]
            if first and first[0].place.exists("state.pt") and len(first[0].points()) >= points:
                return act()
            time.sleep(0.02)
        return None

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


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
    """The last attempt started from a checkpoint, after what the first had measured."""
    first, *_, last = store.attempts(run.id)
    assert first.points()
    assert min(p["step"] for p in last.points()) > first.points()[0]["step"]


@pytest.fixture(scope="module")
def calm(molecules, tmp_path_factory):
    """The same run with one worker and nothing in its way."""
    return train(long_run(molecules), tmp_path_factory.mktemp("calm") / "store")


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_worker_killed_in_the_middle_costs_no_number(ray_cluster, sharding, calm, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    killed = []

    def kill():
        victim = workers()[-1]
        killed.append(victim.pid)
        victim.send_signal(signal.SIGKILL)

    watch = once_measured(store, run, kill)
    train_on_workers(run, store.url, resources=Resources(workers=2, sharding=sharding, checkpoint_seconds=0.1))
    watch.join()
    assert killed
    assert len(store.attempts(run.id)) == 2
    assert_undisturbed(store, calm, devices=2)
    assert_went_on(store, run)


def test_a_worker_that_hangs_costs_a_bounded_time(ray_cluster, calm, molecules, tmp_path, monkeypatch):
    """The others wait for it for `EXCHANGE_SECONDS`, 5 here, then the group starts again."""
    monkeypatch.setattr(worker, "EXCHANGE_SECONDS", 5)
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    stopped = []

    def stop():
        stopped.append((workers()[-1], time.time()))
        stopped[0][0].send_signal(signal.SIGSTOP)

    watch = once_measured(store, run, stop)
    try:
        train_on_workers(run, store.url, resources=Resources(workers=2, checkpoint_seconds=0.1))
    finally:
        watch.join()
        for process, _ in stopped:
            if process.is_running():
                process.kill()
    second = store.attempts(run.id)[1]
    assert 5 <= second.opening()["claimed"] - stopped[0][1] < 60
    assert_undisturbed(store, calm, devices=2)
    assert_went_on(store, run)


@pytest.fixture
def two_nodes(short_folder, home):
    """A cluster of two nodes with a processor each; the second can be taken away."""
    import ray
    from ray.cluster_utils import Cluster

    from chemscale.sweep.cluster import QUIET
    from chemscale.train.environment import environment

    with environment({**QUIET, "RAY_TMPDIR": short_folder}):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        lost = cluster.add_node(num_cpus=1)
        env = {"CHEMSCALE_HOME": os.environ["CHEMSCALE_HOME"], "OMP_NUM_THREADS": "1"}
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": env})
        yield lambda: cluster.remove_node(lost, allow_graceful=False)
        ray.shutdown()
        cluster.shutdown()


def test_where_a_node_is_lost_two_workers_become_one(two_nodes, calm, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    watch = once_measured(store, run, two_nodes)
    on = Resources(workers=2, min_workers=1, sharding="fsdp", checkpoint_seconds=0.1)
    train_on_workers(run, store.url, resources=on)
    watch.join()
    assert store.attempts(run.id)[0].opening()["row"]["devices"] == 2
    assert_undisturbed(store, calm, devices=1)
    assert_went_on(store, run)


def test_a_group_that_can_never_be_as_large_as_its_least_is_refused(ray_cluster, molecules, tmp_path):
    run, store = long_run(molecules), Store(tmp_path / "store", create=True)
    with pytest.raises(ValueError, match=r"Resources\(min_workers=3, cpus=1\) asks for 3 CPUs, the cluster has 2"):
        train_on_workers(run, store.url, resources=Resources(workers=8, min_workers=3))
    assert store.state(run.id).status == "pending"
