"""Runs that wait and go on, and members of a population that copy each other's state."""

import json
from dataclasses import replace

import pytest
import torch

from chemscale.laws import fit
from chemscale.records.attempt import forget
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.train.session import Descent, train_in_store
from tests.train.runs import text_run, train


class Paused(BaseException):
    """What Tune raises inside a report to end a trial's thread."""


def until(points):
    """A report that ends the run at its n-th measurement."""
    seen = []

    def report(row):
        if "valid_loss" in row:
            seen.append(row)
        if len(seen) >= points:
            raise Paused

    return report


def go(run, store, descent=None, *, stop_at=None):
    report = until(stop_at) if stop_at else lambda row: None
    try:
        train_in_store(run, store.path, resources=Resources(), report=report, descent=descent, saved="measured")
    except Paused:
        return store.attempts(run.id)[-1]
    return store.attempts(run.id)[-1]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def test_a_run_that_waited_goes_on_where_it_was_to_the_same_numbers(molecules, store, tmp_path):
    run = text_run(molecules)
    calm = train(run, tmp_path / "calm")
    go(run, store, stop_at=1)
    before = store.attempts(run.id)[0].points()
    go(run, store, stop_at=1)
    second = store.attempts(run.id)[1].points()
    assert [p["step"] for p in before] == [5]
    assert [p["step"] for p in second] == [10]  # not from zero: its first measurement is the next one
    go(run, store)
    assert equal(store.points(), calm.points(), POINTS)
    assert equal(store.runs(), calm.runs(), RUNS)


def members(molecules, rates=(1e-2, 1e-4)):
    run = text_run(molecules)
    return [replace(run, member=f"p-{k}", optim=replace(run.optim, lr=lr)) for k, lr in enumerate(rates)]


def test_a_member_goes_on_from_the_state_that_it_copied_with_changed_hyperparameters(molecules, store):
    good, bad = members(molecules)
    for member in (good, bad):
        store.enlist("pbt", [member])
        go(member, store, Descent(), stop_at=1)
    changed = replace(bad, optim=replace(good.optim, lr=8e-3, beta2=0.9, weight_decay=0.1, clip=0.5))
    assert changed.id == bad.id
    go(changed, store, Descent(good.id, before=1), stop_at=1)
    go(changed, store, Descent(good.id, before=1))  # the same copy, after a wait: from its own state
    assert [[p["step"] for p in a.points()] for a in store.attempts(bad.id)] == [[5], [10], [15]]
    rows = {row["run_id"]: row for row in store.runs().to_pylist()}
    assert rows[bad.id]["status"] == "finished"
    assert rows[bad.id]["lineage"] == good.id
    assert rows[bad.id]["lr"] == 8e-3
    points = store.points(bad.id).to_pylist()
    assert [p["step"] for p in points] == [5, 10, 15]
    assert [p["changed"] is None for p in points] == [True, False, False]
    assert json.loads(points[-1]["changed"]) == {
        "optim.beta2": 0.9, "optim.clip": 0.5, "optim.lr": 8e-3, "optim.weight_decay": 0.1,
    }  # fmt: skip
    copied = store.points(good.id).to_pylist()[0]["valid_loss"]
    assert points[0]["valid_loss"] > copied > points[1]["valid_loss"] > points[2]["valid_loss"]
    optimiser = torch.load(store.attempts(good.id)[0].open("state.pt"), weights_only=True)["optimiser"]
    assert optimiser["param_groups"][0]["betas"][1] == good.optim.beta2


def test_changed_hyperparameters_reach_the_optimiser_and_not_only_the_record(molecules, store, tmp_path):
    first, second = members(molecules, (1e-3, 1e-3))
    for member in (first, second):
        store.enlist("pbt", [member])
    go(first, store, Descent(), stop_at=1)
    same, decayed = (replace(second, optim=replace(second.optim, weight_decay=d)) for d in (0.0, 30.0))
    plain = Store(tmp_path / "plain", create=True)
    plain.enlist("pbt", [first, second])
    go(first, plain, Descent(), stop_at=1)
    go(decayed, store, Descent(first.id, before=0))
    go(same, plain, Descent(first.id, before=0))
    assert store.points(second.id)["valid_loss"].to_pylist() != plain.points(second.id)["valid_loss"].to_pylist()


def test_a_member_that_copied_nobody_continues_itself_and_no_fit_takes_it(molecules, store):
    good, bad = members(molecules)
    for member in (good, bad):
        store.enlist("pbt", [member])
        go(member, store, Descent())
    rows = store.runs().to_pylist()
    assert {row["lineage"] for row in rows} == {good.id, bad.id}
    assert all(row["lineage"] == row["run_id"] for row in rows)
    with pytest.raises(ValueError, match="only members of populations"):
        fit(store.runs(), form="power", params="params", loss="law_loss")
    assert store.attempts(good.id)[0].holds("state.pt")  # another member may still copy it
    forget(store.place, good.id)
    assert not store.attempts(good.id)[0].holds("state.pt")
