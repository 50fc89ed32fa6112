"""Room for a run on clusters that may grow: asked for, waited for, and refused when none comes."""

import pytest

from chemscale.spec import Resources
from chemscale.sweep import growth
from chemscale.sweep.growth import wait_for_room
from chemscale.train.room import Need


class Group:
    """A placement group that never has room."""

    def __init__(self, bundles):
        self.bundles = bundles

    def wait(self, seconds):
        return False


@pytest.fixture
def asked(monkeypatch):
    """The bundles of placement groups that wait for the cluster to grow."""
    import ray.util

    found = []

    def placement_group(bundles):
        found.append(Group(bundles))
        return found[-1]

    monkeypatch.setattr(ray.util, "placement_group", placement_group)
    monkeypatch.setattr(ray.util, "remove_placement_group", found.remove)
    monkeypatch.setattr(growth, "LOOK_SECONDS", 0.01)
    return found


def cluster_of(monkeypatch, *sizes):
    """A cluster whose processors are each of these numbers in turn, then the last."""
    left = list(sizes)

    def require_room(*wanted):
        (on,) = wanted
        there = left.pop(0) if len(left) > 1 else left[0]
        if on.cpus * on.workers > there:
            raise ValueError(f"asks for {on.cpus * on.workers:g} CPUs, the cluster has {there}")

    monkeypatch.setattr(growth, "require_room", require_room)


def test_room_that_comes_is_waited_for_and_the_request_is_taken_back(monkeypatch, asked):
    cluster_of(monkeypatch, 0, 0, 0, 4)
    wait_for_room(Resources(cpus=2, gpus=0, workers=2, concurrent=3), patience=10)
    assert asked == []


def test_room_that_never_comes_is_refused_and_the_request_is_taken_back(monkeypatch, asked):
    cluster_of(monkeypatch, 1)
    with pytest.raises(ValueError, match="asks for 2 CPUs, the cluster has 1"):
        wait_for_room(Resources(cpus=2, gpus=0.5, concurrent=3), patience=0.1)
    assert asked == []


def test_a_bounded_number_of_cells_asks_at_a_time(asked):
    wanting = growth.Growth()
    needs = [Need.of(Resources(workers=2, cpus=2)), *[Need.of(Resources(gpus=0.5))] * 20]
    wanting.want(needs)
    wanting.want(needs)
    assert len(asked) == growth.AT_ONCE
    assert asked[0].bundles == [{"CPU": 2}, {"CPU": 2}]
    assert asked[1].bundles == [{"CPU": 1, "GPU": 0.5}]
    asked[0].wait = lambda seconds: True  # it has come: the room is given back, for a cell to take
    wanting.want([])
    assert [group.bundles for group in asked] == [[{"CPU": 1, "GPU": 0.5}]] * (growth.AT_ONCE - 1)
    wanting.end()
    assert asked == []


def test_nothing_is_asked_where_there_is_room_or_where_the_cluster_is_to_stay_as_it_is(monkeypatch, asked, capsys):
    cluster_of(monkeypatch, 2)
    wait_for_room(Resources(cpus=2, concurrent=3))
    with pytest.raises(ValueError, match="the cluster has 2"):
        wait_for_room(Resources(cpus=4))
    assert asked == []
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_cluster_without_an_autoscaler_refuses_after_the_wait(ray_cluster, capsys):
    with pytest.raises(ValueError, match="asks for 5 CPUs, the cluster has 2"):
        wait_for_room(Resources(cpus=5, concurrent=1), patience=2)
    assert "for the cluster to grow" in capsys.readouterr().err
