"""A search: samples of a space around every cell of a grid. Pure; Ray Tune and Optuna carry it out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chemscale.spec import CHANGING, RunSpec, with_fields
from chemscale.sweep.grid import Grid, require_name
from chemscale.sweep.space import Domain, Space, When, leaves
from chemscale.sweep.stop import PBT, Stop

SAMPLERS = ("tpe", "gp", "qmc", "nsga2", "random")
OBJECTIVES = ("valid_loss", "flops", "params", "seconds")
COMPARED = ("data", "budget", "evaluation", "seed", "precision", "member", "init_from")  # what runs are compared on

CELL, MEMBER = "cell", "member"  # keys of a trial's configuration beside the fields of the space


@dataclass(frozen=True)
class Search:
    """Samples of a space around each cell; nothing compares runs of different cells.

    Args:
        base: the run whose fields the space replaces, or a grid (or runs): a search in each of its cells, all with this
            space and number of samples.
        space: dotted field of a run -> domain, e.g. {"optim.lr": loguniform(1e-4, 1e-1)}; `when` for a field that hangs
            on another.
        samples: how many runs in each cell.
        stop: an early stop (`ASHA`, `HyperBand`, `Median`, `PBT`, `Forecast`, `Halving`), a scheduler of Ray's with
            time_attr="examples", or None to train every sample to its end.
        sampler: "tpe" (multivariate, constant liar), "gp", "qmc", "nsga2", "random", a sampler of Optuna's, or a
            searcher of Ray's.
        seed: of the sampler.
        name: of the search in the store.
        objectives: what is made small: "valid_loss", and with it "flops", "params" or "seconds" for a Pareto front.
    """

    base: RunSpec | Grid | Sequence[RunSpec]
    space: Mapping[str, Domain | When]
    samples: int = 16
    stop: Stop | Any = None
    sampler: Any = "tpe"
    seed: int = 0
    name: str = "search"
    objectives: Sequence[str] = ("valid_loss",)

    def __post_init__(self) -> None:
        require_name("Search.name", self.name)
        if self.samples < 1:
            raise ValueError(f"Search.samples={self.samples} is not allowed: it must be at least 1.")
        if not self.space:
            raise ValueError(
                'Search.space is empty: give at least one field, e.g. {"optim.lr": loguniform(1e-4, 1e-1)}.'
            )
        if self.sampler not in SAMPLERS if isinstance(self.sampler, str) else not _is_sampler(self.sampler):
            raise ValueError(
                f"Search.sampler={self.sampler!r} is not allowed: {', '.join(SAMPLERS)}, an Optuna sampler or a Ray "
                "searcher."
            )
        for field in self.space:
            if field.startswith(COMPARED):
                raise ValueError(
                    f"Search.space has {field!r}, which changes what runs are compared on; use a Grid for that."
                )
        self._require_objectives()
        self._require_fields()
        self._require_one_length()
        if self.populates:
            self._require_changing()

    def _require_objectives(self) -> None:
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ValueError(f"Search.objectives has {name!r}, which is not one of {', '.join(OBJECTIVES)}.")
        if not self.objectives or self.objectives[0] != "valid_loss" or len({*self.objectives}) < len(self.objectives):
            raise ValueError(
                f"Search.objectives={tuple(self.objectives)} is not allowed: 'valid_loss' first, then others once each."
            )
        several = len(self.objectives) > 1
        if several and self.stop is not None:
            raise ValueError(
                f"Search.stop={self.stop} with objectives={tuple(self.objectives)} is not allowed: a stop compares one "
                "loss on the way; use stop=None."
            )
        if self.sampler == "nsga2" and not several:
            raise ValueError(
                'Search.sampler=\'nsga2\' is for several objectives; give e.g. objectives=("valid_loss", "flops").'
            )

    def _require_fields(self) -> None:
        for cell in self.cells:
            for field, domain in self.space.items():
                for leaf in leaves(domain):
                    value = leaf.draw(np.random.default_rng(0))
                    try:
                        with_fields(cell, {field: value})
                    except ValueError as error:
                        where = f" of the cell {cell.model.architecture!r}" if len(self.cells) > 1 else ""
                        raise ValueError(f"Search.space{where}: {error}") from None

    def _require_one_length(self) -> None:
        """A stop counts examples up to those of the cell: a sample with more of them would never come to its end."""
        in_updates = any(cell.budget.updates is not None for cell in self.cells)
        if self.stop is not None and in_updates and "optim.batch" in self.space:
            raise ValueError(
                "Search.space has 'optim.batch' while Budget.updates sets the length, so that samples differ in the "
                "examples that Search.stop counts; give Budget(examples=…) or Budget(epochs=…), or stop=None."
            )

    def _require_changing(self) -> None:
        allowed = [f"optim.{name}" for name in CHANGING]
        for field, domain in self.space.items():
            if field not in allowed or isinstance(domain, When):
                raise ValueError(
                    f"Search.space has {field!r}, which cannot change while a run trains; PBT takes unconditional "
                    f"domains of {', '.join(allowed)}."
                )
        for field in getattr(self.stop, "_hyperparam_mutations", ()):
            if field not in self.space:
                raise ValueError(f"Search.stop mutates {field!r}, which the space lacks; add {field!r} to the space.")

    @functools.cached_property
    def populates(self) -> bool:
        """Whether the samples are members of a population, which copy each other."""
        if self.stop is None or type(self.stop).__module__ == PBT.__module__:
            return isinstance(self.stop, PBT)
        from ray.tune.schedulers import PopulationBasedTraining  # whoever made a scheduler of Ray's has imported it

        return isinstance(self.stop, PopulationBasedTraining)

    @functools.cached_property
    def choices(self) -> Space:
        """The space, its fields in an order in which each follows what it hangs on."""
        return Space(self.space)

    @functools.cached_property
    def cells(self) -> tuple[RunSpec, ...]:
        """The run of every cell, before the space replaces anything."""
        base = self.base.runs() if isinstance(self.base, Grid) else self.base
        runs = [base] if isinstance(base, RunSpec) else base
        return tuple(_with_objective(run, self.space) for run in runs)

    @property
    def samples_each(self) -> int:
        """Samples of a cell: a finite space may have fewer points than were asked for."""
        size = None if self.populates else self.choices.size
        return self.samples if size is None else min(self.samples, size)

    def run(self, config: Mapping[str, Any]) -> RunSpec:
        """The run of a trial: values of the space, and which cell (the first where it is not said) and member it is."""
        cell = self.cells[config.get(CELL, 0)]
        run = with_fields(cell, {field: config[field] for field in self.choices.order if field in config})
        return run if MEMBER not in config else replace(run, member=f"{self.name}-{self.seed}-{config[MEMBER]}")

    def cell_of(self, run: RunSpec) -> int | None:
        """The cell that a run is a sample of; None for a run of another search."""
        lone = replace(run, member=None)
        for index, cell in enumerate(self.cells):
            alike = type(run.model) is type(cell.model) and type(run.objective) is type(cell.objective)
            # Forward, as `run` makes it: fields that exclude each other do not come back when one is taken away.
            if alike and with_fields(cell, {field: read_field(run, field) for field in self.choices.order}) == lone:
                return index
        return None

    def values(self, run: RunSpec) -> dict[str, Any]:
        """The point of the space that a run is."""
        return self.choices.choose(lambda field, name, domain: read_field(run, field))

    def edges(self, run: RunSpec) -> Sequence[str]:
        """Fields in which a run lies at the edge of the space."""
        return self.choices.edges(self.values(run))

    def unsampled(self) -> list[RunSpec]:
        """Every cell once for each sample, at its own values: what an estimate of the cost goes by."""
        return [run for run in self.cells for _ in range(self.samples_each)]


def _is_sampler(sampler: Any) -> bool:
    """Whether an object comes from Optuna or Ray; whoever made it has imported them."""
    from optuna.samplers import BaseSampler
    from ray.tune.search import Searcher

    return isinstance(sampler, BaseSampler | Searcher)


def _with_objective(run: RunSpec, space: Mapping[str, Any]) -> RunSpec:
    """A run whose objective is written out where the space changes one of its fields."""
    if run.objective is not None or not any(field.startswith("objective.") for field in space):
        return run
    from chemscale.train.objectives import objective_of

    return replace(run, objective=objective_of(run))


def read_field(run: RunSpec, path: str) -> Any:
    """The value of a dotted field."""
    node: Any = run
    for name in path.split("."):
        node = getattr(node, name)
    return node
