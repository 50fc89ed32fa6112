"""Designs of experiments replayed on finished grids: what a tenth of the compute says of the largest runs.

    python -m tests.benchmarks.exploring [TABLE...] [--store STORE]... [--share 0.1]... [--rule v]... [--levels 3]

A grid is a pool: a rule picks the next rows, pays their FLOPs, sees their losses, fits again, until a share of the
whole grid's compute is spent. The largest runs (at least half the compute of the largest) are held out, and the largest
is the target. Every rule ends in the same fit; only the choice of runs differs. A replay is repeated on the grid
without its largest runs, and again without the largest of those (`--levels`), so that the target changes, and with
other fifths of the cells left out (`--seeds`), the same for every rule.

`grids.csv` beside this file holds three grids that were trained with this package, one seed per cell: ChemGPT (widths 8
to 48 on 500 to 16,000 molecules of `moses`, examples seen as D^0.6 up to 16,000), PaiNN (4 to 32) and SchNet (4 to 64),
both on 100 to 6,400 structures of `fragments-gfn2`, examples seen as D^0.5 (3,200 at 3,200) in batches of eight; the
loss is that of the test set in the store's unit, flops are those of training. The other tables are public.

Printed, means over all of these: runs used, error of the predictions, half width of their intervals, how many of them
cover what was measured, how many intervals of an exponent cover that of the law of the whole grid (nan where the whole
grid does not identify it), and in how many replays the error was smaller than that of rule v.
"""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chemscale.laws import FitError, fit
from chemscale.laws.designs.belief import Belief, plausible
from chemscale.laws.designs.design import RULES, choose_runs
from chemscale.laws.designs.search import Candidates

BLIND = ("cheapest", "random")
MISSING = 0.2
REFITS = 400
AXES = ("params", "data")


@dataclass
class Grid:
    """Columns params, data, loss and cost, one row per run, and which of them are held out."""

    name: str
    columns: dict
    form: str = "chinchilla"

    def __post_init__(self):
        self.columns = {k: np.asarray(v, float) for k, v in self.columns.items()}
        self.points = np.stack([self.columns[axis] for axis in AXES], axis=1)
        self.costs = self.columns["cost"]
        self.held = self.costs >= self.costs.max() / 2
        self.target = self.points[np.argmax(self.costs)]

    def law(self, rows, seed=0, bootstrap=REFITS, **options):
        table = {k: self.columns[k][rows].tolist() for k in (*AXES, "loss")} | {"flops": self.costs[rows].tolist()}
        options |= {"form": self.form, "bootstrap": bootstrap, "seed": seed}
        return fit(table, params="params", data="data", loss="loss", **options)


def replay(grid, rule, share, seed):
    """The rows that a rule takes for a share of the whole grid's compute, in order."""
    left, taken = share * grid.costs.sum(), []
    while (may := open_to(grid, taken, left, seed)).any():
        candidates = Candidates(grid.points, grid.costs, may.astype(int))
        found = choose_runs(
            believed(grid, taken, rule), candidates, target=grid.target, budget=left, rule=rule.rstrip("0"), seed=seed
        )
        if not found.picks:
            break
        rows = [found.picks[0], *found.picks[1 : 1 + len(taken) // 8]]  # and so many, until the next fit
        taken += rows
        left -= grid.costs[rows].sum()
    return taken


def open_to(grid, taken, left, seed):
    """Runs that may still be made; a seed leaves out a fifth of the grid, another one each, for every rule the same."""
    may = ~grid.held & (grid.costs <= left)
    may &= np.random.default_rng(seed).random(len(may)) >= MISSING
    may[taken] = False
    return may


def believed(grid, taken, rule):
    """As `explore` believes: every plausible form once there is a law; one is enough for rules that do not look."""
    if rule in BLIND:
        return Belief.before(AXES, grid.points)
    try:
        found = plausible(grid.law(taken, bootstrap=0))
    except (ValueError, FitError):
        found = [Belief.before(AXES, grid.points).with_runs(grid.points[taken])]
    return [replace(one, drift=0.0) for one in found] if rule == "v0" else found


def score(grid, taken, truth, seed):
    """Errors and coverage of the law of these rows."""
    try:
        law = grid.law(taken, seed)
    except (ValueError, FitError) as error:
        return {"runs": len(taken), "failed": str(error)[:90]}
    measured = grid.columns["loss"][grid.held]
    seen = [law.predict(params=n, data=d) for n, d in grid.points[grid.held]]
    out = {
        "runs": len(taken),
        "spent": grid.costs[taken].sum() / grid.costs.sum(),
        "error": np.mean([abs(s.value / m - 1) for s, m in zip(seen, measured, strict=True)]),
        "width": np.mean([(s.high - s.low) / 2 / s.value for s in seen]),
        "covered": np.mean([s.low <= m <= s.high for s, m in zip(seen, measured, strict=True)]),
    }
    for name in ("alpha", "beta"):
        if truth.parameters.get(name) is not None:
            low, high = law.intervals[name]
            out[name] = low <= truth.parameters[name] <= high
    return out


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


TABLES = {
    "painn": lambda: trained("painn"), "schnet": lambda: trained("schnet"), "chemgpt": lambda: trained("chemgpt"),
    "gadre-c4": lambda: gadre("c4_original"), "gadre-rpj": lambda: gadre("rpj"),
    "gadre-rw": lambda: gadre("rw_original"), "takano": takano, "datablations": datablations,
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


def levels(grid, count):
    """The grid, and the grid without what is held out, and so on."""
    for _ in range(count):
        yield grid
        grid = Grid(f"{grid.name}, smaller", {k: v[~grid.held] for k, v in grid.columns.items()}, grid.form)


def replays(grid, share, seeds, rules):
    """What each rule found on a grid, rule -> one result per seed."""
    whole = grid.law(np.arange(len(grid.costs)))
    rest = score(grid, np.flatnonzero(~grid.held), whole, 0)
    part = grid.costs[grid.held].sum() / grid.costs.sum()
    print(
        f"{grid.name}: {len(grid.costs)} runs; the {grid.held.sum()} held out have {part:.0%} of the compute; ", end=""
    )
    print(f"all others err by {rest.get('error', np.nan):.2%} and cover {rest.get('covered', np.nan):.2f}")
    return {r: [score(grid, replay(grid, r, share, s), whole, s) for s in range(seeds)] for r in rules}


def show(title, found):
    """A line for each rule."""
    names = ("runs", "spent", "error", "width", "covered", "alpha", "beta")
    print(f"  {title:<12}" + " ".join(f"{name:>8}" for name in names) + "   beat v  failed")
    for rule, results in found.items():
        good = [r for r in results if "failed" not in r]
        means = " ".join(f"{np.mean([r[n] for r in good if n in r] or [np.nan]):8.4f}" for n in names)
        pairs = [(r["error"], v["error"]) for r, v in zip(results, found.get("v", []), strict=False)
                 if "failed" not in r and "failed" not in v]  # fmt: skip
        won = f"{sum(r < v for r, v in pairs)}/{len(pairs)}"
        print(f"  {rule:<12}{means} {won:>8}  {len(results) - len(good)}/{len(results)}", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("tables", nargs="*", default=None)
    options.add_argument("--store", action="append", default=[])
    options.add_argument("--share", action="append", type=float, default=[])
    options.add_argument("--rule", action="append", default=[], help=f"of {', '.join(RULES)}, or v0: v without drift")
    options.add_argument("--levels", type=int, default=3)
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    names = given.tables or ([] if given.store else list(TABLES))
    grids = [*(TABLES[name]() for name in names), *(g for path in given.store for g in stored(path))]
    rules = given.rule or RULES
    for share in given.share or [0.1]:
        everything = {rule: [] for rule in rules}
        for grid in grids:
            found = {rule: [] for rule in rules}
            for smaller in levels(grid, given.levels):
                for rule, results in replays(smaller, share, given.seeds, rules).items():
                    found[rule] += results
            show(f"share {share:g}", found)
            everything = {rule: everything[rule] + found[rule] for rule in rules}
        print(f"\nall of {len(grids)} grids")
        show(f"share {share:g}", everything)


if __name__ == "__main__":
    main()
