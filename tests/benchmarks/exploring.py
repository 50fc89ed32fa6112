"""Designs of experiments replayed on finished grids: what a tenth of the compute says of the largest run.

    python -m tests.benchmarks.exploring [TABLE...] [--store STORE] [--share 0.1] [--seeds 4]

A grid is a pool: a policy picks the next row, pays its FLOPs, sees its loss, fits again, until a tenth of the whole
grid's compute is spent. The largest run (all its replicates) is held out and is the target. Printed, over seeds: runs
used, error of the prediction, whether its interval covers what was measured, and whether the intervals of the exponents
cover those of the law of the whole grid. Every policy ends in the same fit; only the choice of runs differs.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from chemscale.laws import FitError, fit
from chemscale.laws.belief import Belief
from chemscale.laws.design import Pool, design

POLICIES = ("v", "d", "random", "cheapest")
REFITS = 200


@dataclass
class Grid:
    """Columns params, data, loss and cost, one row per run, and which of them is held out."""

    name: str
    columns: dict
    form: str = "chinchilla"

    def __post_init__(self):
        self.columns = {k: np.asarray(v, float) for k, v in self.columns.items()}
        self.points = np.stack([self.columns["params"], self.columns["data"]], axis=1)
        self.costs = self.columns["cost"]
        top = self.points[np.argmax(self.costs)]
        self.held = (self.points == top).all(1)
        self.target = top

    def law(self, rows, seed=0, bootstrap=REFITS):
        table = {k: v[rows] for k, v in self.columns.items()} | {"flops": self.costs[rows]}
        return fit(
            {k: v.tolist() for k, v in table.items() if k != "cost"}, form=self.form, params="params", data="data",
            loss="loss", bootstrap=bootstrap, seed=seed,
        )  # fmt: skip


def replay(grid, policy, share, seed):
    """The rows that a policy takes for a share of the whole grid's compute, in order."""
    rng = np.random.default_rng(seed)
    left, taken = share * grid.costs.sum(), []
    order = rng.permutation(len(grid.costs)) if policy == "random" else np.argsort(grid.costs)
    while True:
        open_ = ~grid.held & (grid.costs <= left)
        open_[taken] = False
        if not open_.any():
            return taken
        fixed = policy in ("random", "cheapest")
        rows = order[open_[order]][:1] if fixed else chosen(grid, taken, open_, left, policy, seed)
        if not len(rows):
            return taken
        taken += [int(row) for row in rows]
        left -= grid.costs[rows].sum()


def chosen(grid, taken, open_, left, policy, seed):
    """The first rows of the best design for what is left: one, and an eighth of what is known, until the next fit."""
    belief = believed(grid, taken, seed)
    pool = Pool(grid.points, grid.costs, open_.astype(int))
    picks = design(belief, pool, target=grid.target, budget=left, criterion=policy).picks
    return np.array(picks[: 1 + len(taken) // 8], int)


def believed(grid, taken, seed):
    try:
        return Belief.of(grid.law(taken, seed, bootstrap=100))
    except (ValueError, FitError):
        before = Belief.before(("params", "data"), grid.points, seed=seed)
        return before.with_runs(grid.points[taken])


def score(grid, taken, truth, seed):
    """Errors and coverage of the law of these rows."""
    measured = np.exp(np.log(grid.columns["loss"][grid.held]).mean())
    try:
        law = grid.law(taken, seed)
    except (ValueError, FitError) as error:
        return {"runs": len(taken), "failed": str(error)[:60]}
    seen = law.predict(params=grid.target[0], data=grid.target[1])
    out = {"runs": len(taken), "error": abs(np.log(seen.value / measured)), "width": np.log(seen.high / seen.low) / 2}
    out["covered"] = seen.low <= measured <= seen.high
    for name in ("alpha", "beta"):
        low, high = law.intervals[name]
        if truth.parameters.get(name) is not None:
            out[name] = low <= truth.parameters[name] <= high
    return out


def gadre(source):
    from tests.laws.test_public import table

    rows = [r for r in table("gadre_overtraining.csv") if r["dataset"] == source]
    n, d = (np.array([r[k] for r in rows], float) for k in ("params", "tokens"))
    return Grid(
        f"gadre {source}", {"params": n, "data": d, "loss": [r["loss__c4_val"] for r in rows], "cost": 6 * n * d}
    )


def takano():
    from tests.laws.test_public import table

    rows = table("takano_toy_llm.csv")
    return Grid(
        "takano",
        {k: [r[c] for r in rows] for k, c in (("params", "N"), ("data", "D"), ("loss", "loss"), ("cost", "C"))},
    )


def datablations():
    from tests.laws.test_public import table

    rows = [
        r
        for r in table("datablations_contour_losses.csv")
        if r["epochs"] == 1.0 and r["data"] == "c4" and r["openLM_loss"]
    ]
    n, d = (np.array([r[k] for r in rows], float) for k in ("num_params", "token_num"))
    return Grid(
        "datablations, one epoch", {"params": n, "data": d, "loss": [r["openLM_loss"] for r in rows], "cost": 6 * n * d}
    )


PUBLIC = {
    "gadre-c4": lambda: gadre("c4_original"), "gadre-rpj": lambda: gadre("rpj"), "gadre-rw": lambda: gadre("rw_original"),
    "takano": takano, "datablations": datablations,
}  # fmt: skip


def stored(path):
    """A grid for each architecture of a store."""
    from chemscale.laws.table import data_of
    from chemscale.records.store import Store

    runs = Store(path).runs(status="finished").to_pylist()
    for architecture in dict.fromkeys(r["architecture"] for r in runs):
        rows = [r for r in runs if r["architecture"] == architecture]
        metric = rows[0]["law_metric"]
        data = data_of({k: [r[k] for r in rows] for k in rows[0]}, metric)
        columns = {"params": "params", "data": data, "loss": metric, "cost": "flops"}
        yield Grid(architecture, {k: [r[c] for r in rows] for k, c in columns.items()})


def report(grid, share, seeds):
    everything = np.flatnonzero(~grid.held)
    whole = grid.law(np.arange(len(grid.costs)))
    rest = score(grid, everything, whole, 0)
    print(
        f"\n{grid.name}: {len(grid.costs)} runs; the largest is {grid.costs[grid.held].sum() / grid.costs.sum():.0%} of their compute"
    )
    exponents = ", ".join(
        f"{k} {whole.parameters.get(k)!s:.5} [{whole.intervals[k][0]:.3f}, {whole.intervals[k][1]:.3f}]"
        for k in ("alpha", "beta")
    )
    print(
        f"  law of all: {exponents}; all but the largest: error {rest.get('error', np.nan):.2%}, covered {rest.get('covered')}"
    )
    print(f"  {'policy':<9} {'runs':>5} {'error':>7} {'width':>7} {'covered':>8} {'alpha':>6} {'beta':>6}  failed")
    for policy in POLICIES:
        found = [
            score(grid, replay(grid, policy, share, s), whole, s) for s in range(seeds if policy != "cheapest" else 1)
        ]
        good = [f for f in found if "failed" not in f]

        def mean(name, good=good):
            values = [f[name] for f in good if name in f]
            return np.mean(values) if values else np.nan

        print(
            f"  {policy:<9} {mean('runs'):5.1f} {mean('error'):7.2%} {mean('width'):7.2%} {mean('covered'):8.2f} "
            f"{mean('alpha'):6.2f} {mean('beta'):6.2f}  {len(found) - len(good)}/{len(found)}"
            + (f" {found[0].get('failed')}" if not good else ""), flush=True
        )  # fmt: skip


def main():
    options = argparse.ArgumentParser()
    options.add_argument("tables", nargs="*", default=None)
    options.add_argument("--store", action="append", default=[])
    options.add_argument("--share", type=float, default=0.1)
    options.add_argument("--seeds", type=int, default=4)
    given = options.parse_args()
    names = given.tables or ([] if given.store else list(PUBLIC))
    for grid in [*(PUBLIC[name]() for name in names), *(g for path in given.store for g in stored(path))]:
        report(grid, given.share, given.seeds)


if __name__ == "__main__":
    main()
