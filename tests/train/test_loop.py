"""The loop: exact resume, layouts in memory that change only rounding, divergence, exhaustion of memory."""

import sys
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import psutil
import pytest
import torch

from chemscale.models.cost import count_flops
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.spec import Budget, Evaluation, Optim, Resources, from_json
from chemscale.train.objectives import objective_of
from chemscale.train.order import step_positions
from chemscale.train.session import opened, train_here, train_in_store
from tests.train.runs import run_of, text_run, train

FAMILIES = ("chemgpt", "schnet", "painn")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_leaves_a_whole_row_and_its_points(family, molecules, structures, tmp_path):
    run = run_of(family, molecules, structures)
    store = train(run, tmp_path / "store")
    row = store.runs().to_pylist()[0]
    assert (row["status"], row["run_id"], row["updates"]) == ("finished", run.id, run.updates)
    assert row["examples_seen"] == run.examples
    assert row["law_loss"] > 0
    assert row[f"{row['law_metric']}_se"] > 0
    assert row["params_all"] == sum(dict(row["params_by_group"]).values())
    assert row["flops"] > 6 * row["params"]
    points = store.points(run.id).to_pylist()
    assert [p["step"] for p in points] == [5, 10, 15] if family == "chemgpt" else [4, 7, 10]
    assert points[-1]["valid_loss"] == row["valid_loss"]
    assert points[-1]["flops"] == row["flops"]
    weights = list((store.path / "checkpoints" / run.id).rglob("*.pt"))
    assert [w.name for w in weights] == ["weights.pt"]
    assert list((store.path / "tensorboard").rglob("events*"))


def test_the_work_of_a_run_is_that_of_its_batches(structures, tmp_path):
    """Counted step by step: SchNet's filters are evaluated once for a batch, whatever it holds."""
    run = run_of("schnet", None, structures, optim=Optim(batch=8), budget=Budget(updates=3))
    (row,) = train(run, tmp_path / "store").runs().to_pylist()
    examples, objective = opened(run.data, tuple(sorted(run.model.view.items()))), objective_of(run)
    ids = examples.subset(run.data.size, run.data.key, run.data.per_group)
    model = run.model.build(examples.manifest)

    def work(number):
        places = step_positions(number, batch=8, size=len(ids), seed=run.seed, total=run.examples)
        batch = examples.batch(ids[places])
        model.zero_grad(set_to_none=True)
        return count_flops(lambda: objective.loss(model, batch, objective.denominators(batch)).backward()).matrix

    assert row["flops"] == pytest.approx(sum(map(work, range(3))), rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss(family, molecules, structures, tmp_path):
    run = run_of(family, molecules, structures, budget=Budget(updates=60))
    points = train(run, tmp_path / "store").points()["valid_loss"].to_pylist()
    assert points[-1] < 0.97 * points[0]


def test_the_same_spec_gives_the_same_numbers(molecules, structures, tmp_path):
    for family in FAMILIES:
        run = run_of(family, molecules, structures)
        one, two = train(run, tmp_path / f"{family}1"), train(run, tmp_path / f"{family}2")
        assert equal(one.runs(), two.runs(), RUNS)
        assert equal(one.points(), two.points(), POINTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_micro_batches_change_only_rounding(family, molecules, structures, tmp_path):
    """Sums over parts in another order: float32 rounding grows over 15 updates to about 1e-5, never to 1e-3."""
    run = run_of(family, molecules, structures)
    whole, cut = (train(run, tmp_path / str(m), micro_batch=m).points().to_pylist() for m in (64, 3))
    for a, b in zip(whole, cut, strict=True):
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], rel=1e-3)
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-3)
        assert a["flops"] == b["flops"]


def forked(work):
    """A process that does this work; a new interpreter would load torch for seconds each time."""
    process = get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("family", ["chemgpt", "painn"])
@pytest.mark.slow
def test_resume_after_sigkill_is_bitwise_exact(family, molecules, structures, tmp_path):
    updates = 250 if family == "chemgpt" else 80
    run = run_of(family, molecules, structures, budget=Budget(updates=updates), evaluation=Evaluation(4, 24, 24))
    undisturbed = train(run, tmp_path / "whole")
    target = tmp_path / "killed"
    Store(target, create=True).enlist("s", [run])
    rng, kills = np.random.default_rng(0), 0
    folder = target / "checkpoints" / run.id
    for _ in range(12):
        process = forked(lambda: train_in_store(run, str(target), resources=Resources(checkpoint_seconds=0.05)))
        before = set(folder.glob("*/state.pt")) if folder.exists() else set()
        deadline = time.time() + 60
        while process.is_alive() and time.time() < deadline:
            if set(folder.glob("*/state.pt")) - before:  # this attempt has a checkpoint of its own
                time.sleep(float(rng.uniform(0, 0.25)))
                break
            time.sleep(0.01)
        if process.is_alive() and kills < 4:
            process.kill()
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    resumed = Store(target)
    assert kills >= 2
    assert len(resumed.attempts(run.id)) >= 3
    assert equal(undisturbed.points(), resumed.points(), POINTS)
    assert equal(undisturbed.runs(), resumed.runs().drop_columns("studies").append_column(
        "studies", undisturbed.runs()["studies"]).select(undisturbed.runs().column_names), RUNS)  # fmt: skip
    weights = [next(s.path.rglob("weights.pt")) for s in (undisturbed, resumed)]
    one, two = (torch.load(w, weights_only=True) for w in weights)
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_run_that_turns_non_finite_ends_as_diverged(molecules, tmp_path):
    run = text_run(molecules, optim=Optim(lr=1e30, batch=16, clip=None, warmup=0.0), budget=Budget(updates=30))
    store = train(run, tmp_path / "store")
    row = store.runs().to_pylist()[0]
    assert row["status"] == "diverged"
    assert "not finite" in row["stop_reason"]
    assert row["law_loss"] is None
    assert all(np.isfinite(p["valid_loss"]) for p in store.points().to_pylist())


def test_out_of_memory_is_a_failure_with_the_size(molecules, tmp_path, monkeypatch):
    run = text_run(molecules)
    store = Store(tmp_path / "store", create=True)

    def too_large(*args, **kwargs):
        torch.empty(1 << 62, dtype=torch.int8)

    monkeypatch.setattr("chemscale.train.step.Stepper._gradients", too_large)
    with pytest.raises(MemoryError, match="chemgpt of width 8"):
        train_here(run, store, Resources())
    row = store.runs().to_pylist()[0]
    assert row["status"] == "failed"
    assert "16 examples in a forward pass on cpu" in row["stop_reason"]


def test_repeated_data_uses_the_best_checkpoint_when_validation_turns_up(molecules, tmp_path):
    run = text_run(
        molecules, optim=Optim(lr=0.02, batch=4, cooldown=0.0), budget=Budget(epochs=60), evaluation=Evaluation(30)
    )  # fmt: skip
    run = replace(run, data=replace(run.data, size=8))
    store = train(run, tmp_path / "store", keep="best")
    row = store.runs().to_pylist()[0]
    assert row["best_valid_loss"] < row["valid_loss"]
    assert row["law_rule"] == "best"
    assert row["best_step"] < row["updates"]


def test_float64_runs_and_differs_from_float32_only_by_rounding(molecules, structures, tmp_path):
    for family in ("chemgpt", "painn"):
        rows = []
        for precision in ("float32", "float64"):
            run = run_of(family, molecules, structures, precision=precision)
            rows.append(train(run, tmp_path / f"{family}{precision}").runs().to_pylist()[0])
        assert rows[0]["run_id"] != rows[1]["run_id"]
        assert rows[0]["law_loss"] == pytest.approx(rows[1]["law_loss"], rel=1e-3)


def test_progress_is_reported_in_examples_and_after_it_is_on_disk(molecules, tmp_path):
    run = text_run(molecules)
    store = Store(tmp_path / "store", create=True)
    seen = []

    def report(row):
        seen.append((row, len(store.points(run.id)), store.state(run.id).status))

    train_in_store(run, store.path, resources=Resources(), report=report)
    measured = [(row["examples"], points) for row, points, _ in seen if "valid_loss" in row]
    assert [points for _, points in measured] == [1, 2, 3]
    assert [examples for examples, _ in measured] == sorted(e for e, _ in measured)
    assert seen[-1][2] == "finished"


def test_an_exception_in_the_report_ends_the_run_but_loses_no_point(molecules, tmp_path):
    """Under a scheduler every stopped run ends inside its last report."""
    run = text_run(molecules)
    store = Store(tmp_path / "store", create=True)

    def stop(row):
        if "valid_loss" in row:
            raise SystemExit

    with pytest.raises(SystemExit):
        train_in_store(run, store.path, resources=Resources(), report=stop)
    assert len(store.points(run.id)) == 1


def test_the_energy_meter_reads_only_what_a_run_has_alone(tmp_path):
    from chemscale.records.provenance import energy_meter

    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("1000000")
    (package / "max_energy_range_uj").write_text("10000000")
    meter = energy_meter(psutil.cpu_count() or 1, 0, tmp_path)
    assert meter is not None
    (package / "energy_uj").write_text("3500000")
    assert meter() == pytest.approx(2.5)
    (package / "energy_uj").write_text("500000")  # the counter wraps
    assert meter() == pytest.approx(9.5)
    assert energy_meter(0.5, 0, tmp_path) is None
    assert energy_meter(1, 0.5, tmp_path) is None


def test_the_energy_meter_asks_for_the_gpus_that_the_process_sees(monkeypatch):
    """Of four GPUs the process sees the last two, in another order than NVML's."""
    from chemscale.records.provenance import energy_meter

    used = {"GPU-a": 1000, "GPU-b": 2000, "GPU-c": 3000, "GPU-d": 4000}  # millijoules
    nvml = SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=str, nvmlDeviceGetTotalEnergyConsumption=used.__getitem__
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid="dc"[i]))
    one, both = energy_meter(1, 1), energy_meter(1, 2)
    for name, more in (("GPU-a", 7000), ("GPU-c", 500), ("GPU-d", 1500)):
        used[name] += more
    assert (one(), both()) == (pytest.approx(1.5), pytest.approx(2.0))


def test_a_users_own_objective_goes_to_other_metrics(molecules, tmp_path):
    from chemscale.spec import OBJECTIVES, register_objective
    from chemscale.train.objectives import NextToken

    @register_objective
    @dataclass(frozen=True)
    class Mine(NextToken):
        name: ClassVar[str] = "mine"
        headline: ClassVar[str] = "double_nats"

        def metrics(self, measured, groups):
            found = super().metrics(measured, groups)["nats_per_token"]
            return {"double_nats": replace(found, value=2 * found.value)}

    try:
        run = text_run(molecules, objective=Mine())
        row = train(run, tmp_path / "store").runs().to_pylist()[0]
        assert row["law_metric"] == "double_nats"
        assert dict(row["other_metrics"])["double_nats"] == row["law_loss"]
        assert from_json(run.to_json()) == run
    finally:
        del OBJECTIVES["mine"]
