"""Models x sizes x seeds -> runs; and studies: grids whose largest cells are predicted before they train. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chemscale.spec import Resources, RunSpec
from chemscale.spec.registry import kind_of
from chemscale.values import own_number

FORECASTS = ("largest", "none")


@dataclass(frozen=True)
class Grid:
    """Every model on every size with every seed.

    Args:
        base: what the cells have in common.
        models: model configurations; none means the base's.
        sizes: training examples; none means the base's.
        seeds: each changes the parameters, the order of examples and the subset.
        replicates: further seeds for the four corners of models x sizes, which anchor a law.
        derive: a rule from a cell to the run that is trained there, e.g. epochs and batch that follow the size. It sees
            a run whose model, size and seed are set; it must keep them.
    """

    base: RunSpec
    models: Sequence[Any] = ()
    sizes: Sequence[int] = ()
    seeds: Sequence[int] = (0,)
    replicates: int = 0
    derive: Callable[[RunSpec], RunSpec] | None = None

    def __post_init__(self) -> None:
        for name in ("sizes", "seeds"):  # of `np.logspace`, perhaps
            object.__setattr__(self, name, tuple(map(own_number, getattr(self, name))))
        if self.replicates < 0:
            raise ValueError(f"Grid.replicates={self.replicates} is not allowed: it must be at least 0.")
        odd = [seed for seed in self.seeds if type(seed) is not int]
        if odd:
            raise ValueError(f"Grid.seeds={odd[0]!r} is not allowed: seeds are whole numbers, e.g. seeds=(0, 1, 2).")
        if not self.seeds:
            raise ValueError("Grid.seeds is empty: give at least one seed, e.g. seeds=(0,).")
        for name in ("models", "sizes", "seeds"):
            values = list(getattr(self, name))
            if any(values.count(v) > 1 for v in values):
                raise ValueError(f"Grid.{name} names a value twice; every cell is one run, list each value once.")

    def cells(self) -> list[tuple[Any, int | None, int]]:
        """(model, size, seed) of every run, by model, then size, then seed; corners get their replicates."""
        models: list[Any] = list(self.models) or [self.base.model]
        sizes: list[int | None] = list(self.sizes) or [self.base.data.size]
        corners = set(itertools.product({0, len(models) - 1}, {0, len(sizes) - 1}))
        more = [max(self.seeds) + 1 + k for k in range(self.replicates)]
        return [
            (model, size, seed)
            for (i, model), (j, size) in itertools.product(enumerate(models), enumerate(sizes))
            for seed in [*self.seeds, *(more if (i, j) in corners else [])]
        ]

    def runs(self) -> list[RunSpec]:
        """The runs; their data's checksum and the family's learning rate are filled in by `chemscale.complete`.

        Raises:
            ValueError: `derive` changed what a cell is.
        """
        return [self._run(*cell) for cell in self.cells()]

    def cost(self, on: Resources | None = None) -> list[Any]:
        """What every run will cost: a list of `sweep.estimate.CellCost`; trains nothing.

        Raises:
            ValueError: the source is not built yet; the message names the command.
        """
        from chemscale.sweep.estimate import costs
        from chemscale.train.complete import complete

        return costs([complete(run) for run in self.runs()], on)

    def _run(self, model: Any, size: int | None, seed: int) -> RunSpec:
        data = replace(self.base.data, size=size, key=self.base.data.key + seed)
        run = replace(self.base, model=model, data=data, seed=self.base.seed + seed)
        if self.derive is None:
            return run
        derived = self.derive(run)
        if (derived.model, derived.data.size, derived.seed) != (run.model, run.data.size, run.seed):
            raise ValueError(
                "Grid.derive changed the model, the size or the seed of a cell; it may change the rest only."
            )
        return derived


@dataclass(frozen=True)
class Study:
    """Grids that belong together: one question, one report.

    Args:
        name: letters, digits, "-" and "_"; names the study in the store.
        grids: their runs.
        forecast: "largest" predicts the largest cell of every architecture from the others before it trains.
        question: what the study is to answer, in one sentence, for the report.
        limits: sentences about what its numbers do not mean, for the report.
    """

    name: str
    grids: Sequence[Grid]
    forecast: str = "none"
    question: str = ""
    limits: Sequence[str] = ()

    def __post_init__(self) -> None:
        require_name("Study.name", self.name)
        if self.forecast not in FORECASTS:
            raise ValueError(
                f"Study.forecast={self.forecast!r} is not allowed: it must be one of {', '.join(FORECASTS)}."
            )

    def runs(self) -> list[RunSpec]:
        """The runs of all grids."""
        return [run for grid in self.grids for run in grid.runs()]


def require_name(field: str, name: str) -> None:
    """Refuse a name that cannot be a file's."""
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise ValueError(f"{field}={name!r} is not allowed: use letters, digits, '-' and '_'.")


def largest(runs: Iterable[RunSpec], params: Mapping[str, int]) -> list[RunSpec]:
    """The cell with most parameters and data of every architecture, its replicates included.

    Args:
        params: run id -> parameters.
    """
    found: dict[str, list[RunSpec]] = {}
    for run in runs:
        found.setdefault(kind_of(run.model), []).append(run)
    chosen = []
    for cells in found.values():
        top = max((params[r.id], r.data.size or 0) for r in cells)
        chosen += [r for r in cells if (params[r.id], r.data.size or 0) == top]
    return chosen
