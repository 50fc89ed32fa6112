"""Explorations on a real Ray: they end by their rule, a rerun does nothing, and a killed one goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from chemscale.explore import explore, foresight
from chemscale.models import ChemGPT, PaiNN
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Optim, RunSpec
from chemscale.sweep import Grid
from tests.train.runs import EVALUATION

TARGET = {"params": 2e4, "data": 1000}


def tiny(path, widths=(2, 4, 8), sizes=(20, 50, 100, 200), updates=6):
    base = RunSpec(
        model=ChemGPT.sized(width=widths[0]), data=Data(path), optim=Optim(batch=8), budget=Budget(updates=updates),
        evaluation=EVALUATION,
    )  # fmt: skip
    return Grid(base, models=[ChemGPT.sized(width=w) for w in widths], sizes=sizes)


@pytest.mark.slow
def test_a_dry_run_trains_nothing_and_names_the_next_runs(ray_cluster, molecules, tmp_path):
    found = foresight(tiny(molecules), target=TARGET, flops=1e15, store=tmp_path / "store")
    assert found.reason == "goes on" and found.law is None and len(found.next_runs) > 3
    assert not len(Store(tmp_path / "store").runs())


@pytest.mark.slow
def test_an_exploration_trains_within_its_budget_and_a_rerun_does_nothing(ray_cluster, molecules, tmp_path):
    grid = tiny(molecules)
    ahead = foresight(grid, target=TARGET, flops=1e15, store=tmp_path / "store")
    budget = 1.01 * sum(sorted(cost for _, _, cost in ahead.next_runs)[:4])
    found = explore(grid, target=TARGET, width=1e-6, flops=budget, store=tmp_path / "store")
    rows = Store(tmp_path / "store").runs().to_pylist()
    assert found.reason == "budget spent" and found.spent <= budget
    assert found.spent == pytest.approx(sum(row["flops"] for row in rows))
    assert {row["status"] for row in rows} == {"finished"}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "runs").rglob("*") if p.is_file()}
    again = explore(grid, target=TARGET, width=1e-6, flops=budget, store=tmp_path / "store")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "runs").rglob("*") if p.is_file()}
    assert (again.reason, again.spent, again.value) == (found.reason, found.spent, found.value)


def test_several_architectures_are_refused(molecules, structures, tmp_path):
    runs = [*tiny(molecules, (2,), (20,)).runs()]
    runs.append(RunSpec(model=PaiNN.sized(width=4), data=Data(structures, size=40), budget=Budget(updates=2)))
    with pytest.raises(ValueError, match=r"2 architectures \(chemgpt, painn\)"):
        explore(runs, target=TARGET, flops=1e15, store=tmp_path / "store")
    with pytest.raises(ValueError, match="give one budget"):
        explore(runs, target=TARGET, store=tmp_path / "store")
    with pytest.raises(ValueError, match=r"give a target, .*, and one budget"):
        explore(runs, store=tmp_path / "store")


@pytest.mark.slow
def test_a_budget_below_the_cheapest_run_is_refused(ray_cluster, molecules, tmp_path):
    with pytest.raises(ValueError, match=r"flops=1e\+03 pays for no run of the grid: the cheapest costs .* FLOPs"):
        foresight(tiny(molecules, (2, 4), (20, 50, 100)), target=TARGET, flops=1e3, store=tmp_path / "store")


DRIVER = """
import sys
from chemscale.explore import explore
from chemscale.spec import Resources
from tests.test_explore import TARGET, tiny
found = explore(tiny(sys.argv[1], widths=(2, 4), updates=30), target=TARGET, width=1e-6, flops=1e15, store=sys.argv[2],
                on=Resources(checkpoint_seconds=0.1))
print(found.reason)
"""


@pytest.mark.slow
def test_a_killed_exploration_goes_on_and_makes_no_run_twice(molecules, tmp_path, short_folder):
    path = tmp_path / "store"

    def drive():
        env = {**os.environ, "RAY_TMPDIR": short_folder, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), molecules, str(path)]
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    driver, deadline = drive(), time.time() + 120
    while len(list(path.glob("runs/*/attempts/*/run.json"))) < 2:
        assert driver.poll() is None and time.time() < deadline, driver.stderr.read().decode()
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # workers outlive their driver by seconds
    store = Store(path)
    ended = {i: len(store.attempts(i)) for i in store.run_ids() if store.state(i).status == "finished"}
    assert len(ended) >= 2
    again = drive()
    said, trouble = again.communicate(timeout=300)
    assert again.returncode == 0, trouble.decode()
    assert said.decode().strip() == "no run left"  # the budget pays for all eight
    assert {i: len(store.attempts(i)) for i in ended} == ended
    assert [row["status"] for row in store.runs().to_pylist()] == ["finished"] * 8
