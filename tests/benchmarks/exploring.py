"""Designs of experiments replayed on finished grids: what a tenth of the compute says of the largest runs.

    python -m tests.benchmarks.exploring [TABLE...] [--store STORE]... [--share 0.1]... [--rule v]... [--levels 3]

A grid (see `replayed`) is a pool: a rule picks the next rows, pays their FLOPs, sees their losses, fits again, until a
share of the whole grid's compute is spent. The largest runs (at least half the compute of the largest) are held out,
and the largest is the target. Every rule ends in the same fit; only the choice of runs differs. A replay is repeated on
the grid without its largest runs, and again without the largest of those (`--levels`), so that the target changes, and
with other fifths of the cells left out (`--seeds`), the same for every rule.

Printed: runs used; share spent; error of the predictions of the runs held out (mean and median over the replays; of
planted grids against the law without noise); half width of their intervals (median) and how often they hold what was
measured, each run held out counted; how often an exponent's interval holds that of the law of the whole grid, or the
planted one, with its half width (median, in an exponent's own unit, at most 5); in how many replays the error was
smaller than that of rule v; and how many ended without a law. A law of the whole grid is no truth: where its form holds
it errs less than that of a few of its runs, with which it shares them, so that intervals hold it more often than the
truth (the variance of a difference is the difference of variances; Hausman 1978, Econometrica 46, 1251).
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chemscale.laws import FitError
from chemscale.laws.designs.belief import Belief, plausible
from chemscale.laws.designs.design import BLIND, RULES, choose_runs
from chemscale.laws.designs.search import Candidates
from tests.benchmarks.replayed import AXES, TABLES, Grid, levels, stored

MISSING = 0.2
EXPONENTS = ("alpha", "beta")


def replay(grid: Grid, rule: str, share: float, seed: int) -> list[int]:
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


def open_to(grid: Grid, taken: list[int], left: float, seed: int) -> np.ndarray:
    """Runs that may still be made; a seed leaves out a fifth of the grid, another one each, for every rule the same."""
    may = ~grid.held & (grid.costs <= left)
    may &= np.random.default_rng(seed).random(len(may)) >= MISSING
    may[taken] = False
    return may


def believed(grid: Grid, taken: list[int], rule: str) -> Belief | list[Belief]:
    """As `explore` believes: all that is plausible once there is a law; one is enough for rules that do not look."""
    if rule in BLIND:
        return Belief.before(AXES, grid.points)
    try:
        found = plausible(grid.law(taken, bootstrap=0))
    except (ValueError, FitError):
        found = [Belief.before(AXES, grid.points).with_runs(grid.points[taken])]
    return [replace(one, drift=0.0) for one in found] if rule == "v0" else found


def score(grid: Grid, taken: Sequence[int], truth: dict[str, float]) -> dict[str, float]:
    """Errors and coverage of the law of these rows; `failed` where they bear none."""
    out = {"runs": len(taken), "spent": grid.costs[taken].sum() / grid.costs.sum()}
    try:
        law = grid.law(taken)
    except (ValueError, FitError):
        return {**out, "failed": 1}
    seen = law.predictions([dict(zip(AXES, point, strict=True)) for point in grid.points[grid.held]])
    value, low, high = np.array([(s.value, s.low, s.high) for s in seen]).T
    measured, expected = (grid.columns[name][grid.held] for name in ("loss", "expected"))
    out |= {
        "error": np.mean(np.abs(value / expected - 1)),
        "width": np.median((high - low) / 2 / value),
        "covered": ((low <= measured) & (measured <= high)).sum(),
        "held": len(measured),
    }
    for name in EXPONENTS:
        low, high = law.intervals[name]
        out[f"{name} width"] = (min(high, 5) - low) / 2
        if truth.get(name) is not None:
            out[name] = low <= truth[name] <= high
    return out


def truth_of(grid: Grid) -> dict[str, float]:
    """Exponents that are planted, or of the whole grid's law, with a line that says how well it knows them."""
    part = grid.costs[grid.held].sum() / grid.costs.sum()
    print(f"{grid.name}: {len(grid.costs)} runs; the {grid.held.sum()} held out have {part:.0%} of the compute")
    if grid.noise:
        return grid.known
    whole, rest = (grid.law(np.flatnonzero(rows)) for rows in (np.ones(len(grid.costs)), ~grid.held))
    for title, law in (("all runs", whole), ("those not held out", rest)):
        ends = {name: "{:.3f} to {:.3f}".format(*law.intervals[name]) for name in EXPONENTS}
        known = {name: law.parameters[name] for name in EXPONENTS}
        print(f"  {title}: " + ", ".join(f"{name} {known[name] or np.nan:.3f} ({ends[name]})" for name in EXPONENTS))
    return {name: value for name in EXPONENTS if (value := whole.parameters[name]) is not None}


def replays(grid: Grid, share: float, seeds: int, rules: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """What each rule found on a grid, rule -> one result per seed."""
    truth = truth_of(grid)
    drawn = [grid.again(seed) for seed in range(seeds)]
    return {rule: [score(g, replay(g, rule, share, s), truth) for s, g in enumerate(drawn)] for rule in rules}


def show(title: str, found: dict[str, list[dict[str, float]]]) -> None:
    """A line for each rule."""
    print(f"  {title:<12}   runs spent | error mean median | half width  holds | alpha holds half | beta holds half |"
          " beat v  failed")  # fmt: skip
    for rule, results in found.items():
        good = [r for r in results if "failed" not in r]
        pairs = [(r["error"], v["error"]) for r, v in zip(results, found.get("v", []), strict=False)
                 if "failed" not in r and "failed" not in v]  # fmt: skip
        errors, widths = [r["error"] for r in good], [r["width"] for r in good]
        held = f"{sum(r['covered'] for r in good)}/{sum(r['held'] for r in good)}"
        exponents = " | ".join(
            f"{sum(r[n] for r in good if n in r)}/{sum(n in r for r in good):<5} "
            f"{np.median([r[f'{n} width'] for r in good] or [np.nan]):.3f}" for n in EXPONENTS
        )  # fmt: skip
        print(
            f"  {rule:<12} {np.mean([r['runs'] for r in results]):6.1f} {np.mean([r['spent'] for r in results]):.3f} |"
            f" {np.mean(errors or [np.nan]):.4f} {np.median(errors or [np.nan]):.4f} |"
            f" {np.median(widths or [np.nan]):.3f} {held:>9} | {exponents} |"
            f" {sum(r < v for r, v in pairs)}/{len(pairs)} {len(results) - len(good)}/{len(results)}",
            flush=True,
        )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("tables", nargs="*", default=None, help=f"of {', '.join(TABLES)}")
    options.add_argument("--store", action="append", default=[])
    options.add_argument("--share", action="append", type=float, default=[])
    options.add_argument("--rule", action="append", default=[], help=f"of {', '.join(RULES)}, or v0: v without drift")
    options.add_argument("--levels", type=int, default=3)
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    names = given.tables or ([] if given.store else list(TABLES))
    grids = [*(TABLES[name]() for name in names), *(g for path in given.store for g in stored(path))]
    rules = given.rule or list(RULES)
    for share in given.share or [0.1]:
        everything: dict[str, list[dict[str, float]]] = {rule: [] for rule in rules}
        for grid in grids:
            found: dict[str, list[dict[str, float]]] = {rule: [] for rule in rules}
            for smaller in levels(grid, given.levels):
                for rule, results in replays(smaller, share, given.seeds, rules).items():
                    found[rule] += results
            show(f"share {share:g}", found)
            everything = {rule: everything[rule] + found[rule] for rule in rules}
        print(f"\nall of {len(grids)} grids")
        show(f"share {share:g}", everything)


if __name__ == "__main__":
    main()
