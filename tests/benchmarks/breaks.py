"""Size and power of the test for a break, by simulation.

    python -m tests.benchmarks.breaks [--draws 300]

`size`: share of tables from a true law, without a break, in which one is found at 5 %; it should be .05 within its
standard error. `power`: share of tables with a change of exponent by so much at the middle of the axis in which one is
found, and `within`: share of those whose place is within a factor of three of the true one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from chemscale.laws import find_breaks
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Array
from chemscale.laws.tables.table import Rows

MIDDLE, SHARP = 3e4, 0.3
Noise = Callable[[np.random.Generator, int], Array]
DESIGNS: tuple[tuple[str, str, int, float], ...] = (
    ("30 runs, power", "power", 30, 0.0), ("30 runs, floor", "power_floor", 30, 0.8),
    ("60 runs, floor", "power_floor", 60, 0.8), ("12 runs, floor", "power_floor", 12, 0.8),
)  # fmt: skip
NOISES: dict[str, Noise] = {
    "normal": lambda rng, n: rng.normal(0, 0.01, n),
    "heavy tails": lambda rng, n: 0.01 * rng.standard_t(3, n) / np.sqrt(3),
    "large runs noisier": lambda rng, n: rng.normal(0, 1, n) * np.linspace(0.004, 0.016, n),
    "AR(1) .6": lambda rng, n: _series(rng, n, 0.6),
}


def main() -> None:
    """Print one line per design and noise."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--draws", type=int, default=300)
    draws = given.parse_args().draws
    print(f"{draws} tables each; standard error of a size of .05: {np.sqrt(0.05 * 0.95 / draws):.3f}")
    for title, form, runs, floor in DESIGNS:
        for kind, noise in NOISES.items():
            size = np.mean([_found(form, runs, floor, 0.0, noise, i) > 0 for i in range(draws)])
            power = []
            for bend in (0.05, 0.1, 0.2):
                places = [place for i in range(draws) if (place := _found(form, runs, floor, bend, noise, i))]
                near = np.mean([1 / 3 < place / MIDDLE < 3 for place in places]) if places else np.nan
                power.append(f"{bend}: {len(places) / draws:.2f} (within {near:.2f})")
            print(f"{title:<16} {kind:<20} size {size:.3f}  power {'  '.join(power)}", flush=True)


def _found(form: str, runs: int, floor: float, bend: float, noise: Noise, seed: int) -> float:
    """Where a break is found in one table, 0 where none is."""
    x = np.geomspace(1e3, 1e6, runs)
    loss = floor + 30 * x**-0.35 * (1 + (x / MIDDLE) ** (1 / SHARP)) ** (bend * SHARP)
    losses = loss * np.exp(noise(np.random.default_rng(seed), runs))
    table = Rows({"data": "n", "loss": "loss"}, {}, {"data": x}, losses, np.ones(runs), np.arange(runs))
    found = find_breaks(choose(form, ("data",)), table)
    return found[0].at if found and found[0].found else 0.0


def _series(rng: np.random.Generator, count: int, correlation: float) -> Array:
    out = rng.normal(0, 0.01, count)
    for i in range(1, count):
        out[i] = correlation * out[i - 1] + np.sqrt(1 - correlation**2) * out[i]
    return out


if __name__ == "__main__":
    main()
