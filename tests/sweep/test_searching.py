"""Searches on a real Ray: cells side by side, runs that wait and copy, a killed driver, a rate carried along width."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace

import pytest

from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, RunSpec
from chemscale.sweep import ASHA, PBT, Grid, HyperBand, Search, loguniform
from chemscale.sweep.drive import sweep
from chemscale.sweep.found import samples_of
from chemscale.sweep.preparation import prepare
from chemscale.sweep.proposals import Proposals
from chemscale.sweep.searching import search
from chemscale.sweep.transfer import transfer
from chemscale.sweep.written import read_space

pytestmark = pytest.mark.slow

RATES = {"optim.lr": loguniform(1e-5, 1.0)}


def base(path, width=4, updates=16):
    return RunSpec(
        model=ChemGPT.sized(width=width), data=Data(path, size=100), optim=Optim(batch=8),
        budget=Budget(updates=updates), evaluation=Evaluation(8, 16, 16),
    )  # fmt: skip


def cells(path, widths=(4, 8)):
    return Grid(base(path), models=[ChemGPT.sized(width=w) for w in widths])


def files(store):
    return {p: p.stat().st_mtime_ns for p in (store / "runs").rglob("*") if p.is_file()}


def test_a_search_in_every_cell_fills_the_store_once_and_its_rule_trains_a_larger_cell(
    ray_cluster, molecules, tmp_path
):
    space = {"optim.lr": loguniform(1e-3, 3.0)}
    plan = Search(cells(molecules), space, samples=8, sampler="qmc", name="lr")
    found = search(plan, store=tmp_path / "store")
    assert [len(cell.samples) for cell in found.cells] == [8, 8]
    assert {status for _, status, _ in found.trials} <= {"finished", "diverged"}
    assert [cell.base.model.width for cell in found.cells] == [4, 8]
    for cell in found.cells:
        assert cell.loss == min(s.loss for s in cell.samples if s.status == "finished")
        assert {s.run.model.width for s in cell.samples} == {cell.base.model.width}
    assert read_space(Store(tmp_path / "store").studies()["lr"]["space"]).domains == space
    before = files(tmp_path / "store")
    again = search(plan, store=tmp_path / "store")
    assert files(tmp_path / "store") == before
    assert [cell.best for cell in again.cells] == [cell.best for cell in found.cells]
    rule = transfer(Store(tmp_path / "store"), search="lr")
    larger = rule.at(16)
    assert larger.low < larger.value < larger.high
    with pytest.warns(UserWarning, match="by a transfer rule") as told:
        runs = replace(cells(molecules, (16,)), derive=rule).runs()
    assert any("lies beyond the searched 4 to 8" in str(warning.message) for warning in told)
    store = sweep(runs, store=tmp_path / "store")
    row = next(r for r in store.runs().to_pylist() if r["width"] == 16)
    assert (row["status"], row["lr"]) == ("finished", pytest.approx(larger.value))


def test_under_hyperband_runs_wait_and_go_on_where_they_were(ray_cluster, molecules, tmp_path):
    plan = Search(base(molecules), RATES, samples=10, stop=HyperBand(reduction=2, rungs=2), sampler="random", name="hb")
    found = search(plan, store=tmp_path / "store")
    statuses = Counter(status for _, status, _ in found.trials)
    assert set(statuses) <= {"finished", "stopped", "diverged"}
    assert statuses["stopped"] >= 1
    assert statuses["finished"] >= 3
    store, waited = Store(tmp_path / "store"), 0
    for sample in found.cells[0].samples:
        steps = [[p["step"] for p in attempt.points()] for attempt in store.attempts(sample.run.id)]
        flat = [step for attempt in steps for step in attempt]
        assert flat == sorted(set(flat))  # no step was measured twice: no attempt began from zero
        waited += len(steps) > 1
    assert waited >= 2
    assert found.loss == min(loss for _, status, loss in found.trials if status == "finished")


def test_members_copy_each_other_and_a_rerun_does_nothing(ray_cluster, molecules, tmp_path):
    plan = Search(
        base(molecules), {"optim.lr": loguniform(1e-5, 1e-1)}, samples=5, stop=PBT(interval=0.25, share=0.4),
        sampler="random", name="pbt",
    )  # fmt: skip
    found = search(plan, store=tmp_path / "store")
    store = Store(tmp_path / "store")
    rows = store.runs().to_pylist()
    assert Counter(row["status"] for row in rows) == {"finished": 5}
    assert all(row["lineage"] for row in rows)
    copied = [row for row in rows if row["lineage"] != row["run_id"]]
    assert copied
    assert {row["lineage"] for row in rows} <= {row["run_id"] for row in rows}
    for row in copied:
        points = store.points(row["run_id"]).to_pylist()
        changed, first = points[-1]["changed"], store.spec(row["run_id"]).optim.lr  # it may have its first rate again
        assert (json.loads(changed)["optim.lr"] if changed else first) == row["lr"]
        assert points[-1]["examples"] == 16 * 8
        assert 1e-5 <= row["lr"] <= 1e-1
    assert not any(a.holds("state.pt") for row in rows for a in store.attempts(row["run_id"]))
    before = files(tmp_path / "store")
    again = search(plan, store=tmp_path / "store")
    assert files(tmp_path / "store") == before
    assert again.loss == found.loss


def test_two_objectives_have_a_front_of_small_and_good_models(ray_cluster, molecules, tmp_path):
    from chemscale.sweep import choice

    found = search(
        base(molecules), {"model.depth": choice(1, 2, 4), "optim.lr": loguniform(1e-3, 1e-1)}, samples=6,
        sampler="nsga2", objectives=("valid_loss", "flops"), store=tmp_path / "store",
    )  # fmt: skip
    costs = [sample.measured["flops"] for sample in found.front]
    assert costs == sorted(costs, reverse=True)  # by loss: what is better costs more
    assert found.front[0].loss == found.loss
    assert all(set(s.measured) == {"valid_loss", "flops", "params", "seconds"} for s in found.front)


DRIVER = """
import sys
from chemscale.spec import Resources
from chemscale.sweep.searching import search
from tests.sweep.test_searching import killed_plan
search(killed_plan(sys.argv[1]), store=sys.argv[2], on=Resources(checkpoint_seconds=0.1))
"""


def killed_plan(path):
    grid = Grid(base(path, updates=40), models=[ChemGPT.sized(width=w) for w in (4, 8)])
    return Search(grid, {"optim.lr": loguniform(1e-5, 1e-1)}, samples=5, stop=ASHA(), name="killed")


def test_an_interrupted_and_killed_search_loses_no_run_and_its_samplers_learn_of_all(molecules, tmp_path, short_folder):
    path = tmp_path / "store"

    def drive():
        env = {**os.environ, "RAY_TMPDIR": short_folder, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), molecules, str(path)]
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def until(ended):
        driver, deadline = drive(), time.time() + 180
        while driver.poll() is None and time.time() < deadline:
            if len(list(path.glob("runs/*/attempts/*/run.json"))) >= ended:
                return driver
            time.sleep(0.05)
        raise AssertionError(driver.stderr.read().decode())

    driver = until(1)
    driver.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in driver.communicate(timeout=60)[1].decode()
    statuses = [state.status for state in Store(path).states().values()]
    assert set(statuses) <= {"finished", "stopped", "diverged", "interrupted"}
    driver = until(1 + sum(status != "interrupted" for status in statuses))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # workers outlive their driver by seconds
    store = Store(path)
    ended = {i: len(store.attempts(i)) for i in store.run_ids() if store.state(i).status in ("finished", "stopped")}
    made = store.studies()["killed"]["runs"]
    assert ended
    again = drive()
    assert again.wait(300) == 0, again.stderr.read().decode()
    assert {i: len(store.attempts(i)) for i in ended} == ended
    assert store.studies()["killed"]["runs"][: len(made)] == made
    statuses = Counter(row["status"] for row in store.runs().to_pylist())
    assert sum(statuses.values()) == 10
    assert set(statuses) <= {"finished", "stopped", "diverged"}
    plan = killed_plan(molecules)
    plan = replace(plan, base=tuple(prepare(plan.cells, None)))
    proposals = Proposals(plan, store, samples_of(store, plan))
    assert proposals.trials == 0
    assert [len(cell.asked._study.trials) for cell in proposals._cells] == [5, 5]
