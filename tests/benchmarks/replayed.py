"""Finished grids that designs are replayed on: trained here, public, and planted ones whose truth is known.

`grids.csv` beside this file holds three that were trained with this package, one seed per cell: ChemGPT (widths 8 to 48
on 500 to 16,000 molecules of `moses`, examples seen as D^0.6 up to 16,000), PaiNN (4 to 32) and SchNet (4 to 64), both
on 100 to 6,400 structures of `fragments-gfn2`, examples seen as D^0.5 (3,200 at 3,200) in batches of eight; the loss is
that of the test set in the store's unit, flops are those of training. The planted ones have the sizes of SchNet's and
fresh noise in every replay; "bent" has a law that no Chinchilla law is, a power of a sum of powers over a floor.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.laws import Law, fit

REFITS = 20  # predictions and intervals are by profile likelihood, which needs none
AXES = ("params", "data")


@dataclass(frozen=True)
class Grid:
    """Columns params, data, loss, cost and expected (the loss without noise, where it is known), one row per run.

    noise: of fresh replays of a planted grid, in log units; known: its true exponents. held: the runs that are
    foretold, at least half the cost of the dearest, which is the target.
    """

    name: str
    columns: Mapping[str, Any]
    noise: float = 0.0
    known: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name: np.asarray(values, float) for name, values in self.columns.items()}
        object.__setattr__(self, "columns", {"expected": columns["loss"], **columns})

    @property
    def points(self) -> np.ndarray:
        return np.stack([self.columns[axis] for axis in AXES], axis=1)

    @property
    def costs(self) -> np.ndarray:
        return self.columns["cost"]

    @property
    def held(self) -> np.ndarray:
        return self.costs >= self.costs.max() / 2

    @property
    def target(self) -> np.ndarray:
        return self.points[np.argmax(self.costs)]

    def law(self, rows: Any, bootstrap: int = REFITS) -> Law:
        """The law of some of the rows."""
        table = {k: self.columns[k][rows].tolist() for k in (*AXES, "loss")} | {"flops": self.costs[rows].tolist()}
        return fit(table, params="params", data="data", loss="loss", form="chinchilla", bootstrap=bootstrap)

    def again(self, seed: int) -> "Grid":
        """With fresh noise where it is planted, itself where it was measured."""
        if not self.noise:
            return self
        errors = np.random.default_rng(1000 + seed).normal(0, self.noise, len(self.costs))
        return replace(self, columns={**self.columns, "loss": self.columns["expected"] * np.exp(errors)})


def levels(grid: Grid, count: int) -> Iterator[Grid]:
    """The grid, and the grid without what is held out, and so on."""
    for _ in range(count):
        yield grid
        grid = replace(grid, name=f"{grid.name}, smaller", columns={k: v[~grid.held] for k, v in grid.columns.items()})


def public(name, columns, keep=lambda row: True, cost=None):
    """A grid of a public table; `columns` names params, data, loss, `cost` that of FLOPs (6 N D without)."""
    from tests.laws.test_public import table

    rows = [row for row in table(name) if keep(row)]
    found = {k: np.array([row[c] for row in rows], float) for k, c in zip((*AXES, "loss"), columns, strict=True)}
    flops = [row[cost] for row in rows] if cost else 6 * found["params"] * found["data"]
    return {**found, "cost": flops}


def gadre(source):
    columns = ("params", "tokens", "loss__c4_val")
    return Grid(f"gadre {source}", public("gadre_overtraining.csv", columns, lambda row: row["dataset"] == source))


def takano():
    return Grid("takano", public("takano_toy_llm.csv", ("N", "D", "loss"), cost="C"))


def datablations():
    """The runs that see no token twice."""
    columns = ("num_params", "token_num", "openLM_loss")
    once = public(
        "datablations_contour_losses.csv", columns,
        lambda row: row["epochs"] == 1.0 and row["data"] == "c4" and row["openLM_loss"],
    )  # fmt: skip
    return Grid("datablations, one epoch", once)


def trained(architecture):
    """A grid of `grids.csv`."""
    with (Path(__file__).parent / "grids.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["architecture"] == architecture]
    names = {"params": "params", "data": "data", "loss": "loss", "cost": "flops"}
    return Grid(architecture, {name: [float(row[column]) for row in rows] for name, column in names.items()})


def planted(name: str, law: Callable, noise: float, **known: float) -> Grid:
    """SchNet's sizes, and losses of a law with log-normal noise."""
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(3e3, 1.6e5, 6), 100 * 2.0 ** np.arange(7), indexing="ij"))
    columns = {"params": n, "data": d, "loss": law(n, d), "cost": n * d**0.6}
    return Grid(name, columns, noise, known)


def additive(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 0.1 + 6.46 * n**-0.5 + 1.2 * d**-0.3


def bent(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 0.1 + 0.4 * (30 * n**-0.5 + 5 * d**-0.3) ** 0.75


TABLES = {
    "painn": lambda: trained("painn"), "schnet": lambda: trained("schnet"), "chemgpt": lambda: trained("chemgpt"),
    "gadre-c4": lambda: gadre("c4_original"), "gadre-rpj": lambda: gadre("rpj"),
    "gadre-rw": lambda: gadre("rw_original"), "takano": takano, "datablations": datablations,
    "planted-0.01": lambda: planted("planted, 1 %", additive, 0.01, alpha=0.5, beta=0.3),
    "planted-0.04": lambda: planted("planted, 4 %", additive, 0.04, alpha=0.5, beta=0.3),
    "bent-0.01": lambda: planted("bent, 1 %", bent, 0.01),
}  # fmt: skip


def stored(path):
    """A grid for each architecture of a store."""
    from chemscale.laws.tables.meaning import DATA_OF
    from chemscale.records.store import Store

    runs = Store(path).runs(status="finished").to_pylist()
    for architecture in dict.fromkeys(r["architecture"] for r in runs):
        rows = [r for r in runs if r["architecture"] == architecture]
        metric = rows[0]["law_metric"]
        columns = {"params": "params", "data": DATA_OF[metric], "loss": metric, "cost": "flops"}
        yield Grid(architecture, {k: [r[c] for r in rows] for k, c in columns.items()})
