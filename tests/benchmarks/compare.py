"""How often comparisons of planted laws are right: size of the tests, coverage of the intervals, power, sharing.

    python -m tests.benchmarks.compare [--tables 400] [--only size|floor|power|shared|bootstrap] [--folder DIR]

Every table has `side` x `side` runs per group over three decades of N (1e6 to 1e9) and D (1e8 to 1e11) about the
published Chinchilla law, log-normal noise, and in the other groups the difference of alpha that is stated. Simulation
error: a share p of T tables has a standard error of sqrt(p (1 - p) / T), printed at the end. With a folder every table
is written there when it is done, and the same command again goes on where it was.
"""

import argparse
import json
import time
import zlib
from pathlib import Path

import numpy as np

from chemscale.laws.comparison.jointlaw import JointLaw, join
from chemscale.laws.forms import choose
from chemscale.laws.tables.table import Rows, rows
from tests.laws.planted import grid

CHINCHILLA = choose("chinchilla", ("params", "data"))
LEVEL = 0.95
FOLDER: Path | None = None  # where tables are kept
WIDTHS: list[float] = []  # of every line


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


def judged(law: JointLaw, true: float) -> dict[str, float]:
    """What one table says: rejections, coverage of both differences, and the width of alpha's interval."""
    one = {d.exponent: d for d in law.differences if d.group == "g1"}
    tests = {test.question: test.p for test in law.tests}
    own = "E" in law.model(law.chosen).free or "exponents, floor shared" not in tests
    found = {"reject": tests["exponents" if own else "exponents, floor shared"] < 1 - LEVEL}
    found["floors"] = tests.get("floors", 1.0) < 1 - LEVEL
    for name, truth in (("alpha", true), ("beta", 0.0)):
        if name in one:
            low, high = one[name].low, one[name].high
            found[name] = (-np.inf if low is None else low) <= truth <= (np.inf if high is None else high)
    found["detected"], found["open"] = one["alpha"].excludes_zero, one["alpha"].at_most is None
    if one["alpha"].at_most is not None:
        found["half width"] = (one["alpha"].high - one["alpha"].low) / 2
    return {name: float(value) for name, value in found.items()}


def summary(title: str, tables: int, side: int, noise: float, groups: tuple[dict[str, float], ...], **options) -> None:
    """Shares over many tables, and the typical width of alpha's interval, as a line."""
    true = groups[1].get("alpha", 0.34) - groups[0].get("alpha", 0.34)
    kept = FOLDER / f"{title}.jsonl" if FOLDER else None
    done = [json.loads(text) for text in kept.read_text().splitlines()] if kept and kept.exists() else []
    first = zlib.crc32(title.encode())  # no two lines share their noise, or they would not be so many tables
    for seed in range(len(done), tables):
        done.append(judged(compared(first + seed, side, noise, groups, **options), true))
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    found = {}
    for name in ("reject", "floors", "alpha", "beta", "detected", "half width", "open"):
        values = [one[name] for one in done[:tables] if name in one]
        found[name] = float((np.median if name == "half width" else np.mean)(values)) if values else float("nan")
    line(title, found)
    WIDTHS.append(found["half width"])


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
                title = f"{count} groups of {side}x{side}, noise {noise:.0%}, floors free"
                summary(title, tables, side, noise, groups, floor="free")


def floor(tables: int) -> None:
    print("\nFloors that differ a little, and the rule that lets a test allow one floor (5x5, 1 %)")
    for gap in (0.0, 0.05, 0.1):
        for rule in ("free", "tested"):
            summary(f"floors {gap:.2f} apart, floor={rule!r}", tables, 5, 0.01, ({}, {"E": 1.69 + gap}), floor=rule)


def power(tables: int) -> None:
    print("\nPower: alpha of the second group larger by so much, floors free")
    for side, noise in ((4, 0.01), (5, 0.01), (5, 0.03)):
        for gap in (0.0, 0.02, 0.05, 0.1):
            title = f"{side}x{side}, noise {noise:.0%}, alpha {gap:+.2f}"
            summary(title, tables, side, noise, ({}, shifted(gap)), floor="free")


def shared(tables: int) -> None:
    print("\nSharing E, B, beta where they are the same (alpha of the second group 0.02 larger)")
    for side, noise in ((4, 0.01), (5, 0.01)):
        for held in ((), ("E",), ("E", "B", "beta")):
            title = f"{side}x{side}, noise {noise:.0%}, shared {', '.join(held) or 'nothing'}"
            summary(title, tables, side, noise, ({}, shifted(0.02)), floor="free", shared=held)
        print(f"  interval of the difference of alpha narrower by {WIDTHS[-3] / WIDTHS[-1]:.1f} times")


def bootstrap(tables: int) -> None:
    print("\nThe parametric bootstrap (199 draws) on the same tables: p-values and calibrated intervals")
    for side, noise in ((4, 0.01), (4, 0.03)):
        for draws in (0, 199):
            title = f"{side}x{side}, noise {noise:.0%}, {draws} draws"
            summary(title, tables, side, noise, ({}, {"A": 480.0}), floor="free", bootstrap=draws)


TABLES = {"size": size, "floor": floor, "power": power, "shared": shared, "bootstrap": bootstrap}


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage and power of comparisons, by simulation")
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--only", choices=tuple(TABLES))
    parser.add_argument("--folder", type=Path, help="keep every table here, and go on where it was")
    options = parser.parse_args()
    if options.folder:
        global FOLDER
        FOLDER = options.folder
        FOLDER.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    for name, work in TABLES.items():
        if options.only in (None, name):
            work(options.tables)
    error = np.sqrt(0.05 * 0.95 / options.tables)
    print(f"\n{options.tables} tables a line: a share of 5 or 95 % has a standard error of {error:.1%}; "
          f"{time.process_time() - begin:.0f} s of the processor")  # fmt: skip


if __name__ == "__main__":
    main()
