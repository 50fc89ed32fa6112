"""What trains a recipe's cells fastest here (precision, micro-batch, layout, compiling, kernels, threads), measured.

Each choice is tried alone against the run as it is asked for, all of them taking turns, so that a busy machine slows
them alike; the fastest step of each counts.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from chemscale.spec import FULL_PRECISIONS, Resources, RunSpec
from chemscale.sweep.placement import On, resources_for
from chemscale.train.compiled import compiles
from chemscale.train.complete import complete
from chemscale.train.kernels import why_not
from chemscale.train.objectives import objective_of
from chemscale.train.optim import build_optimiser
from chemscale.train.order import step_positions
from chemscale.train.parallel import spread
from chemscale.train.precision import keep_freed_memory, parameter_type
from chemscale.train.ranks import MICRO_BATCH, Ranks, visible_device
from chemscale.train.session import opened
from chemscale.train.step import Stepper

ROUNDS = 3  # turns of every choice, after one to warm up
WORTH = 1.05  # a choice is recommended where it is so much faster: below, a busy machine decides
MICRO_BATCHES = (8, 32, 128, 512)

Way = tuple[str, Any, RunSpec, Resources]  # field, value, and the run and resources with it


@dataclass(frozen=True)
class Choice:
    """One way to take a run's steps.

    Attributes:
        field: "as asked", or the field that differs: "precision" of the run, else of Resources.
        value: of that field.
        rate: tokens (atoms) of real examples a second. ratio: to the rate as asked.
        padding: share of the tokens or atoms in memory that belong to no example.
        pays_from: of compiling, the updates of a run from which it saves more seconds than it takes; 0 of the others.
    """

    field: str
    value: Any
    rate: float
    ratio: float
    padding: float
    pays_from: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """What was measured for one cell."""

    run: RunSpec
    on: Resources
    choices: tuple[Choice, ...]

    @property
    def recommended(self) -> dict[str, Any]:
        """The fastest value of every field that is worth a change."""
        best: dict[str, Choice] = {}
        for choice in self.choices:
            pays = choice.ratio >= WORTH and choice.pays_from <= self.run.updates
            if pays and choice.ratio > getattr(best.get(choice.field), "ratio", 0.0):
                best[choice.field] = choice
        return {field: choice.value for field, choice in best.items()}


def tune(
    runs: Sequence[RunSpec], on: On | None = None, told: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Tuned]:
    """Measure the choices for every kind of cell: runs that differ in seed, size or budget alone are one kind.

    Args:
        told: hears how many of how many steps were taken; the first of a compiled way takes a minute.

    Yields:
        Each kind as soon as it is measured.
    """
    kinds: dict[Any, RunSpec] = {}
    for run in map(complete, runs):
        source = (run.data.source, run.data.representation)
        kinds.setdefault((run.model, run.optim.batch, run.optim.name, source, run.objective, run.precision), run)
    pairs = [(run, resources_for(on, run)) for run in kinds.values()]
    ways = [_ways(*pair) for pair in pairs]
    total, taken = (ROUNDS + 1) * sum(map(len, ways)), itertools.count(1)
    told(0, total)
    for pair, its_ways in zip(pairs, ways, strict=True):
        yield _tuned(*pair, its_ways, lambda: told(next(taken), total))


def _tuned(run: RunSpec, on: Resources, ways: Sequence[Way], told: Callable[[], None]) -> Tuned:
    keep_freed_memory()
    torch.compiler.reset()  # else a kind pays less for compiling than its run will: what it shares with one before it
    steps, modules = zip(*(_steps(changed, where) for _, _, changed, where in ways), strict=True)
    seconds = np.full(len(ways), math.inf)
    for turn in range(ROUNDS + 1):
        for k, step in enumerate(steps):
            took = step()
            seconds[k] = min(seconds[k], took if turn else math.inf)
            told()
    torch.set_num_threads(max(1, int(on.cpus)))
    units = _units(run)
    rates = units / seconds
    found = [
        Choice(
            field,
            value,
            float(rate),
            float(rate / rates[0]),
            _padding(changed, where),
            _pays_from(module, seconds[0] - took),
        )
        for (field, value, changed, where), rate, module, took in zip(ways, rates, modules, seconds, strict=True)
    ]
    return Tuned(run, on, tuple(found))


def _ways(run: RunSpec, on: Resources) -> list[Way]:
    """Those as asked first."""
    made: list[Way] = [("as asked", None, run, on)]
    able = [p for p in getattr(run.model, "precisions", FULL_PRECISIONS) if p not in ("float64", run.precision)]
    made += [("precision", p, replace(run, precision=p), on) for p in able]
    micro = on.micro_batch or MICRO_BATCH["cuda" if on.gpus else "cpu"]
    sizes = [size for size in MICRO_BATCHES if size < run.optim.batch and size != micro]
    made += [("micro_batch", size, run, replace(on, micro_batch=size)) for size in sizes]
    if getattr(run.model, "packs", False):
        other = "padded" if on.layout == "packed" else "packed"
        made.append(("layout", other, run, replace(on, layout=other)))
    if on.kernels == "plain" and _compiles(run):
        made.append(("compile", *_other_compile(run, on)))
    made += [("kernels", name, run, replace(on, kernels=name)) for name in _other_kernels(run, on)]
    if not on.gpus:
        threads = [n for n in (1, 2, 4, 8) if n <= torch.multiprocessing.cpu_count() and n != int(on.cpus)]
        made += [("cpus", n, run, replace(on, cpus=n)) for n in threads]
    return made


def _compiles(run: RunSpec) -> bool:
    manifest = opened(run.data, tuple(sorted(run.model.view.items()))).manifest
    with torch.device("meta"):
        return compiles(run.model.build(manifest))


def _other_compile(run: RunSpec, on: Resources) -> tuple[str, RunSpec, Resources]:
    other = "step" if on.compile == "none" else "none"
    return other, run, replace(on, compile=other)


def _other_kernels(run: RunSpec, on: Resources) -> list[str]:
    """What the model could multiply by instead, on the GPU that is here."""
    if not on.gpus or on.compile != "none" or why_not(visible_device(on.gpus)):
        return []
    able = getattr(run.model, "kernels", ())
    return [name for name in ("plain", *able) if able and name != on.kernels]


def _pays_from(module: nn.Module, saved: float) -> float:
    """Updates from which a compiled module has saved what its compilation took, at `saved` seconds for each."""
    took = getattr(module.forward, "seconds", None)
    if took is None:
        return 0.0
    return took / saved if saved > 0 else math.inf


def _steps(run: RunSpec, on: Resources) -> tuple[Callable[[], float], nn.Module]:
    """What makes the first step of a run again, and returns its seconds; and the module that it trains."""
    examples = opened(run.data, tuple(sorted(run.model.view.items())))
    ids = examples.subset(run.data.size, run.data.key, run.data.per_group)
    model = run.model.build(examples.manifest).to(parameter_type(run.precision))
    layout = spread(model, Ranks(device=visible_device(on.gpus)), on)
    optimiser = build_optimiser(layout.module, run.optim)
    stepper = Stepper(run, examples, ids, objective_of(run), layout, optimiser, on.micro_batch, on.layout)

    def step() -> float:
        torch.set_num_threads(max(1, int(on.cpus)))
        begin = time.perf_counter()
        stepper.step(0, save_due=False)  # the same examples in every turn; the norm that it returns waits for a GPU
        return time.perf_counter() - begin

    return step, layout.module


def _first(run: RunSpec) -> tuple[Any, np.ndarray]:
    examples = opened(run.data, tuple(sorted(run.model.view.items())))
    ids = examples.subset(run.data.size, run.data.key, run.data.per_group)
    positions = step_positions(
        0, batch=run.optim.batch, size=len(ids), seed=run.seed, total=run.examples,
        order=run.data.order,
    )  # fmt: skip
    return examples, ids[positions]


def _units(run: RunSpec) -> float:
    examples, ids = _first(run)
    return float(next(iter(examples.units(ids).values())).sum())


def _padding(run: RunSpec, on: Resources) -> float:
    """Of the tokens of one step, those that are padding."""
    examples, ids = _first(run)
    if run.model.family != "text" or (on.layout == "packed" and getattr(run.model, "packs", False)):
        return 0.0
    return padding(examples.lengths(ids) - 1, on.micro_batch or MICRO_BATCH["cuda" if on.gpus else "cpu"])


def padding(lengths: np.ndarray, size: int) -> float:
    """Share of padding where strings of these lengths, sorted, are padded to the longest of each `size` of them."""
    ordered = np.sort(lengths)
    parts = [ordered[k : k + size] for k in range(0, len(ordered), size)]
    return 1 - float(ordered.sum()) / sum(len(part) * int(part[-1]) for part in parts)
