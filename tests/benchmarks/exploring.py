"""Designs of experiments replayed on finished grids: what a tenth of the compute says of the largest runs.

    python -m tests.benchmarks.exploring [TABLE...] [--store STORE] [--share 0.1]... [--seeds 4]

A grid is a pool: a policy picks the next rows, pays their FLOPs, sees their losses, fits again, until a share of the
whole grid's compute is spent. The largest runs (at least half the compute of the largest) are held out, and the largest
is the target. Printed, means over seeds: runs used, error of the predictions, half width of their intervals, how many
of them cover what was measured, how many intervals of an exponent cover that of the law of the whole grid (nan where
the whole grid does not identify it). Every policy ends in the same fit; only the choice of runs differs.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from chemscale.laws import FitError, fit
from chemscale.laws.designs.belief import Belief, plausible
from chemscale.laws.designs.design import Pool, design

POLICIES = ("forms", "v", "d", "random", "cheapest")  # forms: V-optimal over plausible forms, as `explore` does
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


def replay(grid, policy, share, seed):
    """The rows that a policy takes for a share of the whole grid's compute, in order."""
    rng = np.random.default_rng(seed)
    left, taken = share * grid.costs.sum(), []
    order = rng.permutation(len(grid.costs)) if policy == "random" else np.argsort(grid.costs)
    while True:
        may = ~grid.held & (grid.costs <= left)
        may[taken] = False
        if not may.any():
            return taken
        fixed = policy in ("random", "cheapest")
        rows = order[may[order]][:1] if fixed else chosen(grid, taken, may, left, policy, seed)
        if not len(rows):
            return taken
        taken += [int(row) for row in rows]
        left -= grid.costs[rows].sum()


def chosen(grid, taken, may, left, policy, seed):
    """The first rows of the best design for what is left: one, and an eighth of what is known, until the next fit."""
    pool = Pool(grid.points, grid.costs, may.astype(int))
    belief = believed(grid, taken, seed)
    if policy == "forms":
        belief, policy = several(grid, taken, seed) or belief, "v"
    picks = design(belief, pool, target=grid.target, budget=left, criterion=policy).picks
    return np.array(picks[: 1 + len(taken) // 8], int)


def believed(grid, taken, seed):
    try:
        return Belief.of(grid.law(taken, seed, bootstrap=0))
    except (ValueError, FitError):
        return Belief.before(AXES, grid.points, seed=seed).with_runs(grid.points[taken])


def several(grid, taken, seed):
    """Every plausible form; None while there are too few runs for a backtest."""
    try:
        return plausible(grid.law(taken, seed, bootstrap=0, hold_out="largest"))
    except (ValueError, FitError):
        return None


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


PUBLIC = {
    "gadre-c4": lambda: gadre("c4_original"), "gadre-rpj": lambda: gadre("rpj"),
    "gadre-rw": lambda: gadre("rw_original"), "takano": takano, "datablations": datablations,
}  # fmt: skip


def stored(path):
    """A grid for each architecture of a store."""
    from chemscale.laws.tables.table import DATA_OF
    from chemscale.records.store import Store

    runs = Store(path).runs(status="finished").to_pylist()
    for architecture in dict.fromkeys(r["architecture"] for r in runs):
        rows = [r for r in runs if r["architecture"] == architecture]
        metric = rows[0]["law_metric"]
        columns = {"params": "params", "data": DATA_OF[metric], "loss": metric, "cost": "flops"}
        yield Grid(architecture, {k: [r[c] for r in rows] for k, c in columns.items()})


def introduce(grid):
    """What the grid says as a whole; its law."""
    whole = grid.law(np.arange(len(grid.costs)))
    rest = score(grid, np.flatnonzero(~grid.held), whole, 0)
    share = grid.costs[grid.held].sum() / grid.costs.sum()
    print(f"\n{grid.name}: {len(grid.costs)} runs; the {grid.held.sum()} held out have {share:.0%} of the compute")
    for name in ("alpha", "beta"):
        low, high = whole.intervals[name]
        print(f"  {name} of the whole grid: {whole.parameters[name]} ({low:.3f} to {high:.3f})")
    print(f"  all that is not held out: error {rest['error']:.2%}, covered {rest['covered']:.2f}")
    return whole


def report(grid, shares, seeds, policies):
    whole = introduce(grid)
    names = ("runs", "spent", "error", "width", "covered", "alpha", "beta")
    print("  share  policy    " + " ".join(f"{name:>8}" for name in names) + "  failed")
    for share in shares:
        for policy in policies:
            found = [
                score(grid, replay(grid, policy, share, seed), whole, seed)
                for seed in range(1 if policy == "cheapest" else seeds)
            ]
            good = [f for f in found if "failed" not in f]
            means = [np.mean([f[n] for f in good if n in f] or [np.nan]) for n in names]
            why = found[0]["failed"] if not good else ""
            cells = " ".join(f"{value:8.4f}" for value in means)
            print(f"  {share:<6g} {policy:<9} {cells}  {len(found) - len(good)}/{len(found)} {why}", flush=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("tables", nargs="*", default=None)
    options.add_argument("--store", action="append", default=[])
    options.add_argument("--share", action="append", type=float, default=[])
    options.add_argument("--policy", action="append", default=[])
    options.add_argument("--seeds", type=int, default=4)
    given = options.parse_args()
    names = given.tables or ([] if given.store else list(PUBLIC))
    for grid in [*(PUBLIC[name]() for name in names), *(g for path in given.store for g in stored(path))]:
        report(grid, given.share or [0.1], given.seeds, given.policy or POLICIES)


if __name__ == "__main__":
    main()
