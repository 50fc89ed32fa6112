"""When a study says how long it will take, and what it says."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chemscale.sweep import progress
from chemscale.sweep.progress import Cell, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def study(monkeypatch):
    """Ten equal runs of 100 examples, and a way to let time pass: (seconds, examples seen of the first run)."""
    clock, seen = Clock(), {"examples": 0}

    def states(asked):
        return {i: SimpleNamespace(status="running", examples=seen["examples"] if i == "0" else 0) for i in asked}

    monkeypatch.setattr(progress, "time", clock)
    watch = Watch(cast(Any, SimpleNamespace(states=states)), tuple(Cell(str(i), str(i), 1.0, 100) for i in range(10)))

    def after(seconds: float, examples: int) -> float | None:
        clock.now += seconds
        seen["examples"] = examples
        return watch.look().eta

    return after


def test_starting_workers_counts_for_no_pace(study):
    """A minute of starting, then 40 of 1,000 examples in ten seconds: four minutes are left, not half an hour."""
    assert study(0, 0) is None and study(30, 0) is None and study(30, 0) is None
    assert study(10, 40) == pytest.approx(960 / 4)


def test_few_steps_tell_no_end_until_they_took_long(study):
    study(0, 0)
    assert study(20, 1) is None
    assert study(110, 2) == pytest.approx(998 * 130 / 2)
