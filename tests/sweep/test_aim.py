"""The next cell of an exploration, from rows that no training made: a planted law and its end."""

from dataclasses import replace

import numpy as np
import pytest

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep import Grid
from chemscale.sweep.aim import Aim, Cells, standing

WIDTHS, SIZES = (8, 16, 32, 64, 128), (1000, 4000, 16000, 64000)
TARGET = {"params": 5e5, "data": 1e6}


@pytest.fixture(scope="module")
def cells():
    base = RunSpec(
        model=ChemGPT.sized(width=8),
        data=Data("x", size=10, content="0"),
        optim=Optim(lr=1e-3),
        budget=Budget(epochs=1),
    )
    runs = Grid(base, models=[ChemGPT.sized(width=w) for w in WIDTHS], sizes=SIZES).runs()
    points = np.array([[48.0 * run.model.width**2, run.data.size] for run in runs])
    return Cells(runs, points, 6 * points.prod(axis=1))


def loss(n, d):
    return 0.5 + 8 / n**0.3 + 20 / d**0.35


def rows(cells, ids, noise=0.003):
    rng = np.random.default_rng(3)
    made = []
    for run_id in ids:
        n, d = cells.points[cells.index[run_id]]
        made.append(
            {"run_id": run_id, "status": "finished", "law_metric": "nats_per_token", "params": n, "molecules": d,
             "nats_per_token": loss(n, d) * np.exp(rng.normal(0, noise)), "flops": cells.costs[cells.index[run_id]]}
        )  # fmt: skip
    return made


def explored(aim, cells):
    """Run the loop to its end."""
    done = []
    while True:
        now = standing(aim, cells, rows(cells, done), ())
        if now.run is None:
            return done, now
        assert now.run.id not in done
        done.append(now.run.id)


def test_the_loop_ends_when_the_interval_is_narrow_enough_and_covers_the_truth(cells):
    aim = Aim(TARGET, width=0.1, budget=cells.costs.sum())
    done, end = explored(aim, cells)
    assert end.reason == "narrow enough" and end.spent < 0.2 * cells.costs.sum()
    assert (end.high - end.low) / 2 <= 0.1 * end.value
    assert end.low <= loss(*TARGET.values()) <= end.high
    assert len(done) >= 5 + 3


def test_the_loop_ends_when_the_budget_is_spent(cells):
    aim = Aim(TARGET, width=1e-4, budget=0.03 * cells.costs.sum())
    _, end = explored(aim, cells)
    assert end.reason == "budget spent" and end.spent <= aim.budget
    assert end.law is not None


def test_the_loop_ends_when_no_run_is_left(cells):
    few = Cells(cells.runs[:2], cells.points[:2], cells.costs[:2])
    _, end = explored(Aim(TARGET, width=0.1, budget=1e30), few)
    assert end.reason == "no run left" and end.law is None and "needs at least" in end.trouble


def test_what_is_under_way_is_paid_for_and_not_proposed_again(cells):
    aim = Aim(TARGET, width=0.1, budget=cells.costs.sum())
    first = standing(aim, cells, [], ()).run
    second = standing(aim, cells, [], [first.id])
    assert second.run.id != first.id
    assert second.spent == pytest.approx(cells.costs[cells.index[first.id]])
    assert standing(aim, cells, rows(cells, [first.id]), [first.id]).spent == pytest.approx(second.spent)


def test_a_diverged_run_is_paid_for_and_left_out(cells):
    aim = Aim(TARGET, width=0.1, budget=cells.costs.sum())
    first = standing(aim, cells, [], ()).run
    row = {"run_id": first.id, "status": "diverged", "law_metric": None, "flops": 5.0}
    after = standing(aim, cells, [row], ())
    assert after.run.id != first.id and after.spent == 5.0


def test_runs_of_other_grids_do_not_count(cells):
    aim = Aim(TARGET, width=0.1, budget=cells.costs.sum())
    other = rows(cells, [run.id for run in cells.runs])
    half = Cells(cells.runs[:10], cells.points[:10], cells.costs[:10])
    assert standing(aim, half, other[10:], ()).law is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0.0}, "width=0.0 must be"),
        ({"budget": -1.0}, "budget=-1.0 must be"),
        ({"target": {"params": 1e6}}, "needs params=… and data=…"),
        ({"form": "auto"}, "form='auto' is not one of"),
    ],
)
def test_mistakes_are_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(Aim(TARGET, 0.1, 1e10), **changes)


def test_the_target_is_refused_before_a_budget_is_missed():
    with pytest.raises(ValueError, match=r"target='alhpa' is no parameter of chinchilla: E, A, B, alpha, beta; or"):
        Aim.of(target="alhpa")
    with pytest.raises(ValueError, match="give one budget"):
        Aim.of(target="alpha")
