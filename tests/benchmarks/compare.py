"""How often comparisons of planted laws are right: size of the tests, coverage of the intervals, power, sharing.

    python -m tests.benchmarks.compare [--tables 400] [--only size|floor|power|shared|bootstrap]

Every table has `side` x `side` runs per group over three decades of N (1e6 to 1e9) and D (1e8 to 1e11) about the
published Chinchilla law, log-normal noise, and in the other groups the difference of alpha that is stated. Simulation
error: a share p of T tables has a standard error of sqrt(p (1 - p) / T), printed at the end.
"""

import argparse
import time

import numpy as np

from chemscale.laws.comparison.jointlaw import JointLaw, join
from chemscale.laws.forms import choose
from chemscale.laws.tables.table import Rows, rows
from tests.laws.planted import grid

CHINCHILLA = choose("chinchilla", ("params", "data"))
LEVEL = 0.95


def planted(seed: int, side: int, noise: float, groups: tuple[dict[str, float], ...]) -> dict[str, Rows]:
    """Runs of each group; `groups` holds what differs from the published law."""
    parts = {}
    for g, truth in enumerate(groups):
        table = grid(
            np.geomspace(1e6, 1e9, side), np.geomspace(1e8, 1e11, side), noise=noise, seed=1000 * seed + g, **truth
        )
        parts[f"g{g}"] = rows(table, {"params": "params", "data": "tokens"}, "loss")
    return parts


def shifted(alpha: float, **others: float) -> dict[str, float]:
    """A law whose alpha is larger by so much, with the published loss of parameters at the middle of the range."""
    return {"alpha": 0.34 + alpha, "A": 406.4 * 10 ** (7.5 * alpha), **others}


def compared(seed: int, side: int, noise: float, groups: tuple[dict[str, float], ...], **options) -> JointLaw:
    """One simulated comparison."""
    settings = {"shared": (), "floor": "tested", "level": LEVEL, "bootstrap": 0, "seed": seed, **options}
    return join(planted(seed, side, noise, groups), CHINCHILLA, "all runs", **settings)


def summary(tables: int, side: int, noise: float, groups: tuple[dict[str, float], ...], **options) -> dict[str, float]:
    """Shares over many tables: rejections, coverage of both differences, and the typical width of alpha's interval."""
    true = groups[1].get("alpha", 0.34) - groups[0].get("alpha", 0.34)
    found = {name: [] for name in ("reject", "floors", "alpha", "beta", "detected", "half width", "open")}
    for seed in range(tables):
        law = compared(seed, side, noise, groups, **options)
        one = {d.exponent: d for d in law.differences if d.group == "g1"}
        tests = {test.question: test.p for test in law.tests}
        if "E" in law.model(law.chosen).free or "exponents, floor shared" not in tests:
            found["reject"].append(tests["exponents"] < 1 - LEVEL)
        else:
            found["reject"].append(tests["exponents, floor shared"] < 1 - LEVEL)
        found["floors"].append(tests.get("floors", 1.0) < 1 - LEVEL)
        for name, truth in (("alpha", true), ("beta", 0.0)):
            if name in one:
                low, high = (np.inf if end is None else end for end in (one[name].low, one[name].high))
                low = -np.inf if one[name].low is None else low
                found[name].append(low <= truth <= high)
        found["detected"].append(one["alpha"].excludes_zero)
        found["open"].append(one["alpha"].at_most is None)
        if one["alpha"].at_most is not None:
            found["half width"].append((one["alpha"].high - one["alpha"].low) / 2)
    return {
        k: float(np.median(v) if k == "half width" else np.mean(v)) if v else float("nan") for k, v in found.items()
    }


def line(title: str, found: dict[str, float]) -> None:
    print(
        f"{title:<52} exponents' test rejects {found['reject']:6.1%}, floors' {found['floors']:6.1%} | interval covers "
        f"alpha {found['alpha']:6.1%} beta {found['beta']:6.1%} | excludes 0 {found['detected']:6.1%} half width "
        f"{found['half width']:.4f} open {found['open']:5.1%}",
        flush=True,
    )


def size(tables: int) -> None:
    print("\nNo difference of exponents (amplitudes 20 % apart): the test should reject 5 %, the interval cover 95 %")
    for count in (2, 3):
        for side in (4, 5):
            for noise in (0.01, 0.03):
                groups = ({}, *({"A": 406.4 * 1.2**g, "B": 410.7 / 1.2**g} for g in range(1, count)))
                found = summary(tables, side, noise, groups, floor="free")
                line(f"{count} groups of {side}x{side}, noise {noise:.0%}, floors free", found)


def floor(tables: int) -> None:
    print("\nFloors that differ a little, and the rule that lets a test allow one floor (5x5, 1 %)")
    for gap in (0.0, 0.05, 0.1):
        for rule in ("free", "tested"):
            found = summary(tables, 5, 0.01, ({}, {"E": 1.69 + gap}), floor=rule)
            line(f"floors {gap:.2f} apart, floor={rule!r}", found)


def power(tables: int) -> None:
    print("\nPower: alpha of the second group larger by so much, floors free")
    for side, noise in ((4, 0.01), (5, 0.01), (5, 0.03)):
        for gap in (0.0, 0.02, 0.05, 0.1):
            found = summary(tables, side, noise, ({}, shifted(gap)), floor="free")
            line(f"{side}x{side}, noise {noise:.0%}, alpha {gap:+.2f}", found)


def shared(tables: int) -> None:
    print("\nSharing E, B, beta where they are the same (alpha of the second group 0.02 larger)")
    for side, noise in ((4, 0.01), (5, 0.01)):
        widths = []
        for held in ((), ("E",), ("E", "B", "beta")):
            found = summary(tables, side, noise, ({}, shifted(0.02)), floor="free", shared=held)
            widths.append(found["half width"])
            line(f"{side}x{side}, noise {noise:.0%}, shared {', '.join(held) or 'nothing'}", found)
        print(f"  interval of the difference of alpha narrower by {widths[0] / widths[2]:.1f} times")


def bootstrap(tables: int) -> None:
    print("\nThe parametric bootstrap (199 draws) on the same tables: p-values and calibrated intervals")
    for side, noise in ((4, 0.01), (4, 0.03)):
        for draws in (0, 199):
            found = summary(tables, side, noise, ({}, {"A": 480.0}), floor="free", bootstrap=draws)
            line(f"{side}x{side}, noise {noise:.0%}, {draws} draws", found)


TABLES = {"size": size, "floor": floor, "power": power, "shared": shared, "bootstrap": bootstrap}


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage and power of comparisons, by simulation")
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--only", choices=tuple(TABLES))
    options = parser.parse_args()
    begin = time.perf_counter()
    for name, work in TABLES.items():
        if options.only in (None, name):
            work(options.tables)
    error = np.sqrt(0.05 * 0.95 / options.tables)
    print(f"\n{options.tables} tables a line: a share of 5 or 95 % has a standard error of {error:.1%}; "
          f"{time.perf_counter() - begin:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
