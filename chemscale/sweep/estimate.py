"""What a grid will cost before it runs: parameters, FLOPs, memory, disk, hours. Trains nothing; times a few steps."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from chemscale.models import cost
from chemscale.spec import Evaluation, Optim, Resources, RunSpec
from chemscale.sweep.memory import memory_of
from chemscale.sweep.placement import On, resources_for
from chemscale.train.objectives import objective_of
from chemscale.train.optim import build_optimiser
from chemscale.train.precision import arithmetic, parameter_type
from chemscale.train.rows import Ledger, training_cost
from chemscale.train.session import opened
from chemscale.train.trunk import lines_of, trunk_of

TIMED_FLOPS = 2e10  # a step larger than this is not timed but scaled from the largest timed one
TIMED_EXAMPLES = 64  # of a step, or of a pass of measuring, at most; one of more is scaled from these
MATRIX = 1024  # rows of the matrices by which a machine is timed where every step is too large
# What measuring takes of what a training step takes for one example, where a cell is too large to be timed: a forward
# pass of a forward and a backward one. Timed cells have their own, .12 (SchNet) to .74 (Cartesian) at width 16.
MEASURED_SHARE = 1 / 3
SECONDS_PER_RUN = 0.5  # claim, records, evaluation set-up


@dataclass(frozen=True)
class CellCost:
    """One run before it runs.

    Attributes:
        params, params_all: non-embedding and all trainable parameters.
        flops: matrix FLOPs of its training. memory: bytes at the peak of a step on each worker (`sweep.memory`).
        disk: bytes of its weights and records. seconds: estimated on this machine; `measuring` of them are spent on
            validation and test examples.
        inherited: first updates, of `updates`, that a shorter run of the same trunk makes; not in `seconds`.
    """

    run: RunSpec
    params: int
    params_all: int
    updates: int
    flops: float
    memory: float
    disk: float
    seconds: float
    measuring: float
    inherited: int = 0

    def after(self, updates: int) -> CellCost:
        """The same run where so many updates have been made for it."""
        return replace(self, inherited=updates, seconds=self.seconds * (1 - updates / self.updates))


def costs(runs: Sequence[RunSpec], on: On | None = None) -> list[CellCost]:
    """The cost of every one of these complete runs, in their order.

    Raises:
        RuntimeError: a model cannot be built or take a step; the message is its own.
    """
    found, broken = try_costs(runs, on)
    if broken:
        raise RuntimeError(next(iter(broken.values()))) from next(iter(broken.values()))
    return [found[run.id] for run in runs]


def try_costs(runs: Sequence[RunSpec], on: On | None = None) -> tuple[dict[str, CellCost], dict[str, Exception]]:
    """Costs by run id, and what was raised for the runs that cannot be counted; those will fail in their own trial.

    Replicates, which differ in seed and subset only, share the estimate of the first.
    """
    largest_rate = 0.0
    found: dict[str, CellCost] = {}
    broken: dict[str, Exception] = {}
    first: dict[tuple[RunSpec, Resources], CellCost | Exception] = {}
    for run in sorted(runs, key=lambda r: r.model.width * r.model.depth):  # small steps are timed before large ones
        alike = (replace(run, seed=0, data=replace(run.data, key=0)), resources_for(on, run))
        if alike not in first:
            try:
                first[alike], rate = _cell(run, alike[1], largest_rate)
                largest_rate = max(largest_rate, rate)
            except Exception as error:
                first[alike] = error
        cost_or_error = first[alike]
        if isinstance(cost_or_error, CellCost):
            found[run.id] = replace(cost_or_error, run=run)
        else:
            broken[run.id] = cost_or_error
    for line in lines_of({run_id: cell.run for run_id, cell in found.items()}):
        for before, run_id in itertools.pairwise(line):
            trunk = trunk_of(found[before].run)
            assert trunk is not None  # only such runs stand in line
            found[run_id] = found[run_id].after(trunk.updates)
    return found, broken


def work_of(runs: Sequence[RunSpec], on: On | None = None) -> dict[str, float]:
    """Run id -> estimated seconds, what a progress display weighs runs by."""
    return {run_id: cell.seconds for run_id, cell in try_costs(runs, on)[0].items()}


def _cell(run: RunSpec, on: Resources, known_rate: float) -> tuple[CellCost, float]:
    examples = opened(run.data, tuple(sorted(run.model.view.items())))
    ids = examples.subset(run.data.size, run.data.key, run.data.per_group)
    counted = training_cost(run, examples.manifest)
    ledger = Ledger(run, examples, ids, counted)
    per_example = max(1.0, float(ledger.flops_each.mean()))  # a model without a matrix product has none
    step_flops = per_example * run.optim.batch
    source = replace(run.data, key=0)  # whichever subset it is: replicates share one timing
    some = min(run.optim.batch, TIMED_EXAMPLES, int(TIMED_FLOPS / per_example))
    several = max(some, min(TIMED_EXAMPLES, int(TIMED_FLOPS / (per_example * MEASURED_SHARE))))
    if step_flops <= TIMED_FLOPS or (known_rate == 0 and some > 0):
        each, moved, looked_at = _seconds(run.model, objective_of(run), source, some, several, run.precision)
    else:
        each, moved = per_example / (known_rate or _matrix_rate()), 0.0
        looked_at = each * MEASURED_SHARE
    step = each * run.optim.batch + moved
    measuring = looked_at * measured_examples(run.evaluation, examples.manifest.counts["test"])
    seconds = step * run.updates + measuring + SECONDS_PER_RUN
    sizes = _sizes(run, examples.manifest)
    width = 8 if run.precision == "float64" else 4
    memory = memory_of(run, on, counted, ledger.units, examples.manifest).total
    cell = CellCost(
        run, sizes["non_embedding"], sizes["all"], run.updates, ledger.flops(run.examples), memory,
        sizes["all"] * width + 60_000, seconds / on.workers, measuring / on.workers,
    )  # fmt: skip
    return cell, step_flops / step


def measured_examples(asked: Evaluation, test: int) -> int:
    """Validation and test examples that a run measures in all; `test`: how many there are."""
    return (asked.valid or 0) * asked.points + (asked.test or test)


def _sizes(run: RunSpec, manifest: Any) -> dict[str, int]:
    with torch.device("meta"):
        return cost.parameters(run.model.build(manifest))


@functools.lru_cache(maxsize=256)
def _seconds(
    model: Any, objective: Any, source: Any, count: int, measured: int, precision: str
) -> tuple[float, float, float]:
    """Seconds in one thread: by example, of the gradients of `count` real ones; of one update of the weights, whatever
    its batch; by example, of measuring `measured`.

    The median of three after one to warm up, in measuring of one.
    """
    examples = opened(source, tuple(sorted(model.view.items())))
    module = model.build(examples.manifest).to(parameter_type(precision))
    ids = examples.subset(source.size, source.key, source.per_group)
    optimiser = build_optimiser(module, Optim(lr=1e-9))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def inputs(many: int) -> Any:
        made = examples.batch(np.resize(ids, many))
        return made.astype(parameter_type(precision)) if hasattr(made, "astype") else made

    def gradients() -> None:
        made = inputs(count)
        made = made.packed() if getattr(model, "packs", False) else made
        with arithmetic(precision, torch.device("cpu")):
            loss = objective.loss(module, made, objective.denominators(made))
        loss.backward()

    def update() -> None:
        optimiser.step()
        optimiser.zero_grad()

    def look() -> None:
        module.eval()
        with torch.no_grad(), arithmetic(precision, torch.device("cpu")):
            objective.measure(module, inputs(measured))

    (learnt, moved), (looked,) = _median_seconds(3, gradients, update), _median_seconds(1, look)
    torch.set_num_threads(threads)
    return learnt / count, moved, looked / measured


def _median_seconds(times: int, *works: Callable[[], None]) -> list[float]:
    """Of each of these, one after another, after once to warm up; of this thread: other work here does not count."""
    seconds = np.empty((times + 1, len(works)))
    for took in seconds:
        for number, work in enumerate(works):
            begin = time.thread_time()
            work()
            took[number] = time.thread_time() - begin
    return np.median(seconds[1:], axis=0).tolist()


@functools.lru_cache(maxsize=1)
def _matrix_rate() -> float:
    """FLOPs a second of a large matrix product in one thread, which is what the largest models come near to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    left = torch.ones(MATRIX, MATRIX)
    seconds = []
    for _ in range(4):
        begin = time.thread_time()
        torch.mm(left, left)
        seconds.append(time.thread_time() - begin)
    torch.set_num_threads(threads)
    return 2 * MATRIX**3 / float(np.median(seconds[1:]))
