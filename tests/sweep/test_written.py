"""A space is written into a store as plain JSON and reads back the same."""

import json
from typing import cast

import numpy as np
import pytest

from chemscale.records.store import Store
from chemscale.sweep import choice, integers, logintegers, loguniform, uniform
from chemscale.sweep.space import Choice
from chemscale.sweep.written import read_space, written
from tests.sweep.test_space import CONDITIONAL

PLAIN = {
    "optim.lr": loguniform(1e-5, 1e-1), "optim.cooldown": uniform(0, 1), "optim.batch": logintegers(8, 64),
    "budget.updates": integers(10, 20), "optim.name": choice("adamw", "sgd", None, True, 3, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("domains", [PLAIN, CONDITIONAL.domains])
def test_a_written_space_reads_back_the_same(domains):
    rows = json.loads(json.dumps(written(domains), allow_nan=False))
    assert read_space(rows).domains == domains


def test_numbers_of_numpy_are_numbers_and_what_json_does_not_know_is_its_repr():
    space = {"a": uniform(cast(float, np.float32(0.5)), np.float64(2)), "b": choice(np.int64(3), float("inf"), (1, 2))}
    rows = json.loads(json.dumps(written(space), allow_nan=False))
    assert read_space(rows).domains == {"a": uniform(0.5, 2.0), "b": Choice((3, "inf", "(1, 2)"))}


def test_a_newer_space_replaces_the_older_one(tmp_path):
    store = Store(tmp_path / "store", create=True)
    for space in (PLAIN, PLAIN, {"optim.lr": loguniform(1e-4, 1.0)}):
        store.enlist("search", [], space=written(space))
    found = Store(tmp_path / "store").studies()["search"]["space"]
    assert read_space(found).domains == {"optim.lr": loguniform(1e-4, 1.0)}
    assert len(list((tmp_path / "store" / "studies").iterdir())) == 2  # the same space is not written again


def test_a_kind_of_a_later_version_is_refused():
    with pytest.raises(ValueError, match="'lognormal' is no domain of this version"):
        read_space([{"field": "optim.lr", "kind": "lognormal", "low": 1, "high": 2}])
