"""Small forms of `tests/benchmarks/compare.py`: how often comparisons of planted laws are right."""

import numpy as np
import pytest

from chemscale.laws.comparison.jointlaw import join
from chemscale.laws.forms import choose
from chemscale.laws.tables.table import rows
from tests.benchmarks.compare import CHINCHILLA, planted, shifted

pytestmark = pytest.mark.slow
SETTINGS = {"level": 0.95, "bootstrap": 0, "floor": "free"}


def test_size_and_coverage_of_powers_over_clusters():
    """One axis, 3 subsets' worth of shared noise: the calibrated test keeps its size where the F-test does not."""
    rng = np.random.default_rng(0)
    form, x = choose("power", ("data",)), np.geomspace(1e3, 1e6, 8).repeat(3)
    hits = {"bootstrap": 0, "f": 0, "covers": 0}
    tables = 100
    for seed in range(tables):
        parts = {}
        for name in "ab":
            noise = rng.normal(0, 0.05, 8).repeat(3) + rng.normal(0, 0.01, 24)
            table = {"d": x, "loss": 5 * x**-0.3 * np.exp(noise), "cluster": np.arange(8).repeat(3)}
            parts[name] = rows({k: v.tolist() for k, v in table.items()}, {"data": "d"}, "loss")
        law = join(parts, form, "all runs", shared=(), **{**SETTINGS, "bootstrap": 99, "seed": seed})
        (gap,) = law.differences
        hits["bootstrap"] += law.test("exponents").p_bootstrap < 0.05
        hits["f"] += law.test("exponents").p_f < 0.05
        hits["covers"] += gap.low <= 0 <= gap.high
    assert hits["f"] > 0.12 * tables  # errors that are shared and taken as independent reject far too often
    assert hits["bootstrap"] <= 0.12 * tables and hits["covers"] >= 0.88 * tables, hits


def test_size_coverage_and_power_of_the_two_axis_law():
    """5 x 5 runs, 1 % noise: 5 % of 60 tables is 3 +- 1.7, and a difference of 0.1 is always seen."""
    hits = {"reject": 0, "covers": 0}
    for seed in range(60):
        law = join(planted(seed, 5, 0.01, ({}, {"A": 480.0})), CHINCHILLA, "all runs", shared=(), seed=0, **SETTINGS)
        hits["reject"] += law.test("exponents").p_f < 0.05
        hits["covers"] += all(d.low <= 0 <= d.high for d in law.differences if d.exponent == "alpha")
    assert hits["reject"] <= 8 and hits["covers"] >= 52, hits
    for seed in range(5):
        law = join(planted(seed, 5, 0.01, ({}, shifted(0.1))), CHINCHILLA, "all runs", shared=(), seed=0, **SETTINGS)
        assert law.differences[0].low > 0 and law.test("exponents").p_f < 0.001
