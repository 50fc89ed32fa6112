"""Room for a run on clusters that may grow: asked for, waited for, and refused when none comes."""

import pytest

from chemscale.spec import Resources
from chemscale.sweep import growth
from chemscale.sweep.growth import wait_for_room


@pytest.fixture
def asked(monkeypatch):
    """What is asked of Ray's autoscaler."""
    import ray.autoscaler.sdk

    found = []
    monkeypatch.setattr(ray.autoscaler.sdk, "request_resources", lambda bundles: found.append(bundles))
    monkeypatch.setattr(growth, "LOOK_SECONDS", 0.01)
    return found


def cluster_of(monkeypatch, *sizes):
    """A cluster whose processors are each of these numbers in turn, then the last."""
    left = list(sizes)

    def require_room(on):
        there = left.pop(0) if len(left) > 1 else left[0]
        if on.cpus * on.workers > there:
            raise ValueError(f"asks for {on.cpus * on.workers:g} CPUs, the cluster has {there}")

    monkeypatch.setattr(growth, "require_room", require_room)


def test_room_that_comes_is_waited_for_and_the_request_is_taken_back(monkeypatch, asked):
    cluster_of(monkeypatch, 0, 0, 0, 4)
    wait_for_room(Resources(cpus=2, gpus=0, workers=2, concurrent=3), patience=10)
    assert asked == [[{"CPU": 2}, {"CPU": 2}], []]


def test_room_that_never_comes_is_refused_and_the_request_is_taken_back(monkeypatch, asked):
    cluster_of(monkeypatch, 1)
    with pytest.raises(ValueError, match="asks for 2 CPUs, the cluster has 1"):
        wait_for_room(Resources(cpus=2, gpus=0.5, concurrent=3), patience=0.1)
    assert asked == [[{"CPU": 2, "GPU": 0.5}], []]


def test_nothing_is_asked_where_there_is_room_or_where_the_cluster_is_to_stay_as_it_is(monkeypatch, asked, capsys):
    cluster_of(monkeypatch, 2)
    wait_for_room(Resources(cpus=2, concurrent=3))
    with pytest.raises(ValueError, match="the cluster has 2"):
        wait_for_room(Resources(cpus=4))
    assert asked == []
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_cluster_without_an_autoscaler_refuses_after_the_wait(ray_cluster, capsys):
    with pytest.raises(ValueError, match="asks for 5 CPUs, the cluster has 2"):
        wait_for_room(Resources(cpus=5, concurrent=1), patience=2)
    assert "for the cluster to grow" in capsys.readouterr().err
