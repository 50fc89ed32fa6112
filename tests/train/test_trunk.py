"""Runs that share a trunk give the numbers that they give alone, to the last bit, and train less."""

from dataclasses import replace

import numpy as np
import pytest

from chemscale.models import SchNet
from chemscale.records.store import Store
from chemscale.spec import Budget, Optim, Resources
from chemscale.train.order import seen_counts, step_positions
from chemscale.train.session import train_in_store
from chemscale.train.trunk import trunk_of
from tests.train.runs import atoms_run, text_run

OPTIM = Optim(batch=8, lr=0.01, warmup_updates=3, cooldown=0.3, shape="sqrt")
ALIKE = ("law_loss", "valid_loss", "best_valid_loss", "flops", "tokens_seen", "examples_seen", "updates", "cluster")


@pytest.fixture
def sizes(molecules):
    """Runs on 40, 80 and 120 molecules of one trunk."""
    first = text_run(molecules, optim=OPTIM, budget=Budget(epochs=1))
    first = replace(first, data=replace(first.data, order="nested"))
    return [replace(first, data=replace(first.data, size=n)) for n in (40, 80, 120)]


def go(store, *runs, report=lambda row: None):
    for run in runs:
        train_in_store(run, store.path, resources=Resources(), report=report, saved="measured")
    return store


def row(store, run):
    return next(r for r in store.runs().to_pylist() if r["run_id"] == run.id)


def curve(store, run, after=0):
    points = [p for p in store.points().to_pylist() if p["run_id"] == run.id and p["step"] > after]
    return [(p["step"], p["valid_loss"], p["gradient_norm"], p["lr"]) for p in points]


def test_a_longer_run_goes_on_from_where_a_shorter_one_cooled_down_to_the_same_bits(sizes, tmp_path):
    shared = go(Store(tmp_path / "shared", create=True), *sizes)
    inherited = [row(shared, run)["inherited"] for run in sizes]
    assert inherited == [0, *(trunk_of(run).updates for run in sizes[:2])] == [0, 3, 7]
    for run in sizes:
        alone = go(Store(tmp_path / run.id, create=True), run)
        assert {k: row(shared, run)[k] for k in ALIKE} == {k: row(alone, run)[k] for k in ALIKE}
        assert curve(shared, run) == curve(alone, run, row(shared, run)["inherited"])


def test_they_share_a_cluster_and_only_the_last_state_stays(sizes, tmp_path):
    store = go(Store(tmp_path / "store", create=True), *sizes)
    assert {r["cluster"] for r in store.runs().to_pylist()} == {trunk_of(sizes[0]).name}
    assert store.place.names(f"trunks/{trunk_of(sizes[0]).name}") == ["000000010.pt"]


def test_the_longest_first_costs_more_and_changes_nothing(sizes, tmp_path):
    up, down = go(Store(tmp_path / "up", create=True), *sizes), go(Store(tmp_path / "down", create=True), *sizes[::-1])
    assert [row(down, run)["inherited"] for run in sizes] == [0, 0, 0]
    assert [row(down, run)["law_loss"] for run in sizes] == [row(up, run)["law_loss"] for run in sizes]


def test_a_branch_that_was_killed_goes_on_from_its_own_state(sizes, tmp_path):
    class Killed(BaseException):
        pass

    def kill(told):
        if "valid_loss" in told:
            raise Killed

    calm = go(Store(tmp_path / "calm", create=True), *sizes)
    store = go(Store(tmp_path / "store", create=True), *sizes[:2])
    with pytest.raises(Killed):
        go(store, sizes[2], report=kill)
    go(store, sizes[2])
    assert {k: row(store, sizes[2])[k] for k in (*ALIKE, "inherited")} == {
        k: row(calm, sizes[2])[k] for k in (*ALIKE, "inherited")
    }


def test_structures_share_one_too(structures, tmp_path):
    run = atoms_run(structures, SchNet.sized(width=8), optim=OPTIM, budget=Budget(epochs=1))
    small, large = (replace(run, data=replace(run.data, order="nested", size=n)) for n in (40, 80))
    shared, alone = go(Store(tmp_path / "a", create=True), small, large), go(Store(tmp_path / "b", create=True), large)
    assert row(shared, large)["inherited"] == 3
    assert row(shared, large)["law_loss"] == row(alone, large)["law_loss"]


@pytest.mark.parametrize(
    "change",
    [
        lambda run: replace(run, data=replace(run.data, order="shuffled")),
        lambda run: replace(run, optim=Optim(batch=8, lr=0.01)),
        lambda run: replace(run, budget=Budget(epochs=2)),
        lambda run: replace(run, member="population/1"),
    ],
)
def test_what_depends_on_the_length_has_no_trunk(sizes, change):
    assert trunk_of(change(sizes[0])) is None


@pytest.mark.parametrize("change", [{"seed": 1}, {"precision": "float64"}, {"optim": replace(OPTIM, lr=0.02)}])
def test_what_changes_the_trunk_changes_its_name(sizes, change):
    assert trunk_of(sizes[0]).name == trunk_of(sizes[1]).name != trunk_of(replace(sizes[0], **change)).name


def test_the_nested_order_is_one_of_the_first_epoch_only():
    first = step_positions(1, batch=4, size=10, seed=0, total=30, order="nested")
    assert first.tolist() == [4, 5, 6, 7]
    assert seen_counts(10, 0, 7, "nested").tolist() == [1] * 7 + [0] * 3
    later = [
        step_positions(k, batch=10, size=10, seed=0, total=30, order=o) for k in (1, 2) for o in ("nested", "shuffled")
    ]
    assert np.array_equal(later[0], later[1]) and np.array_equal(later[2], later[3])


def test_equal_trainings_have_equal_ids(sizes):
    run = sizes[0]
    assert replace(run, optim=replace(OPTIM, warmup=0.3)).id == run.id


def test_a_warm_up_that_is_longer_than_its_run_is_refused(molecules):
    with pytest.raises(ValueError, match=r"Optim\.warmup_updates=16 is more than the 15 updates of a run on 100"):
        text_run(molecules, optim=Optim(batch=16, warmup_updates=16))
