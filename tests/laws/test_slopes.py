"""Small grids: what may be called, and what is said instead."""

import numpy as np
import pytest

from chemscale.laws import axis_reading, fit, tenfold, verdict
from chemscale.laws.readings.slopes import at_largest, grid_rows, slope_of
from tests.laws.planted import grid

SIZES, AMOUNTS = np.geomspace(1e4, 1e6, 4), np.geomspace(250, 12_000, 4)


def potentials(noise=0.02, seed=0, repeats=1, **truth):
    truth = {"E": 0.01, "A": 2.0, "B": 2.0, "alpha": 0.4, "beta": 0.4, **truth}
    table = grid(SIZES, AMOUNTS, noise=noise, seed=seed, repeats=repeats, **truth)
    return {"params": table["params"], "structures": table["tokens"], "force_mae": table["loss"]}


def read(table, axis="structures", other="params"):
    return axis_reading(table, axis=axis, other=other, loss="force_mae")


def test_long_clean_axis_is_called():
    found = read(potentials(A=0.01, E=1e-9, noise=0.005))
    assert found.exponent == pytest.approx(0.4, abs=0.02) and found.words.startswith("exponent 0.4")
    assert found.exponent_interval[0] < 0.4 < found.exponent_interval[1] and found.at_other == 1e6
    assert found.floor is None and found.floor_words.startswith("floor not identified")


def test_short_axis_is_not_called():
    found = axis_reading(
        potentials(noise=1e-4), axis="structures", other="params", loss="force_mae", where="structures > 500"
    )
    assert found.decades < 1.5 and found.exponent is None and "too short to call" in found.words


def test_noisy_axis_is_not_called():
    found = read(potentials(noise=0.8))
    assert found.exponent is None and "too short to call" in found.words


def test_a_floor_in_the_data_is_found():
    x = np.geomspace(1e2, 1e6, 12)
    table = {"structures": x, "force_mae": (0.05 + 3 / x**0.5) * np.exp(np.random.default_rng(0).normal(0, 0.005, 12))}
    found = read(table, other=None)
    assert found.floor == pytest.approx(0.05, rel=0.05)


def test_two_runs_have_a_slope_but_no_interval():
    table = {"structures": [100, 10_000], "force_mae": [0.2, 0.1], "params": [1e5, 1e5]}
    found = read(table)
    assert found.slope == pytest.approx(-0.1505, abs=1e-4) and found.interval is None and found.exponent is None


def test_tenfold_inside_the_range():
    found = tenfold(potentials(A=1e-4, E=1e-9), axis="structures", other="params", loss="force_mae")
    assert found.kind == "interpolation" and found.stop == 12_000 and found.units == "eV/angstrom"
    assert (
        found.to_loss / found.from_loss == pytest.approx(10**-0.4, rel=0.1) and found.low < found.to_loss < found.high
    )
    assert "meV/angstrom" in found.sentence("meV/angstrom", 1000) and "interpolation" in found.sentence()


def test_tenfold_beyond_the_range_says_so_and_can_use_a_law():
    table = potentials(repeats=2)
    line = tenfold(table, axis="structures", other="params", loss="force_mae", start=12_000)
    law = fit(table, data="structures", loss="force_mae", bootstrap=100)
    curve = tenfold(table, axis="structures", other="params", loss="force_mae", start=12_000, law=law)
    assert line.kind == curve.kind == "extrapolation" and "would take" in line.sentence()
    assert curve.to_loss == law.predict(params=1e6, data=120_000).value and curve.at_other == 1e6


@pytest.mark.parametrize(
    ("truth", "answer"),
    [({"A": 0.01}, "data-limited"), ({"B": 0.01, "A": 8.0}, "model-limited"), ({"E": 2.0}, "cannot tell yet")],
)
def test_verdict(truth, answer):
    found = verdict(potentials(repeats=3, **truth), loss="force_mae")
    assert found.answer == answer and bool(found.would_decide) == (answer == "cannot tell yet")


def test_open_verdict_names_runs_at_the_ends_of_the_grid():
    found = verdict(potentials(noise=0.8), loss="force_mae")
    assert found.answer == "cannot tell yet"
    assert all(run.params >= SIZES[0] and run.data >= AMOUNTS[0] and run.replicates >= 2 for run in found.would_decide)


def test_slope_intervals_cover():
    """200 tables of 4 x 4 runs on a pure power law: t intervals cover 95 % within three standard errors."""
    hits = 0
    for seed in range(200):
        rows = grid_rows(potentials(A=1e-9, E=1e-12, seed=seed, noise=0.03), "structures", "params", "force_mae", None)
        low, high = slope_of(at_largest(rows), rows).interval(0.95)
        hits += low <= -0.4 <= high
    assert 0.90 <= hits / 200 <= 0.995


def test_mistakes_are_one_sentence():
    table = potentials()
    with pytest.raises(ValueError, match="single value"):
        read({**table, "structures": [100] * 16})
    with pytest.raises(ValueError, match="run a grid"):
        read({"structures": [1, 10], "params": [1, 10], "force_mae": [1.0, 0.5]})
    with pytest.raises(ValueError, match="mixes 2 values of architecture"):
        read({**table, "architecture": ["schnet", "painn"] * 8})


@pytest.mark.parametrize("levels", [3, 4])
def test_slope_intervals_of_small_grids_cover(levels):
    """Additive law without floor at the scatter of real seeds; 300 tables, so a standard error of 1.3 %.

    The truth is the slope of the noiseless line through the same runs. The surface that the noise is measured about is
    not the law, so its misfit widens the intervals: they may cover more than 95 %, not less than 92 %.
    """
    sizes, amounts = np.geomspace(3e3, 2e5, levels), np.geomspace(2e2, 6.4e3, levels)
    rng = np.random.default_rng(levels)

    def table(noise):
        n, d = (axis.ravel() for axis in np.meshgrid(sizes, amounts))
        loss = (3.0 / n**0.3 + 1.0 / d**0.3) * np.exp(noise * rng.standard_normal(len(n)))
        return {"params": n, "structures": d, "force_mae": loss}

    truth = read(table(0.0)).slope
    found = [read(table(0.03)) for _ in range(300)]
    covered = np.mean([f.interval[0] <= truth <= f.interval[1] for f in found])
    assert 0.92 <= covered <= 1.0
    assert np.median([f.interval[1] - f.interval[0] for f in found]) < 0.25
