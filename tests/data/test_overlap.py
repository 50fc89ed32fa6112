"""Leaks that were planted between splits are counted, each example once; MOSES as published has none."""

from pathlib import Path

import numpy as np
import pytest

from chemscale.data import overlap, overlaps
from chemscale.spec import Data

TRAIN, VALID, TEST = 0, 1, 2


@pytest.mark.parametrize("at_a_time", [1 << 20, 3])
def test_planted_leaks_are_counted(monkeypatch, at_a_time):
    split = [TRAIN] * 6 + [VALID] * 3 + [TEST] * 4
    digest = [1, 2, 3, 4, 5, 5, 2, 7, 8, 1, 1, 8, 9]  # valid: 2 is trained on; test: 1 twice, and 8 of valid
    group = [0, 1, 2, 3, 4, 4, 5, 6, 7, 0, 8, 9, 10]  # group 0 lies in train and in test
    arrays = {"split": np.array(split, np.uint8), "member_digest": np.array(digest, np.uint64),
              "group": np.array(group, np.int64)}  # fmt: skip
    monkeypatch.setattr(overlaps, "open_arrays", lambda folder: arrays)
    monkeypatch.setattr(overlaps, "_AT_A_TIME", at_a_time)
    found = overlaps.overlap_of(Path("built"))
    assert found.counts == {"train": 6, "valid": 3, "test": 4}
    assert found.shared == {("valid", "train"): 1, ("test", "train"): 2, ("test", "valid"): 1}
    assert found.groups == 1


def test_moses_leaks_nothing(moses):
    found = overlap(Data("moses"))
    assert set(found.shared.values()) == {0} and found.groups == 0
    assert sum(found.counts.values()) == len(moses.arrays["split"])
