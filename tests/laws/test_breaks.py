"""The test for a break: a planted break is found where it was put, a planted law is left alone."""

import numpy as np
import pytest

from chemscale.laws import find_breaks, fit
from chemscale.laws.forms import choose
from chemscale.laws.tables.table import Rows


def curve(loss, x, seed, noise=0.01):
    losses = loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(x)))
    return Rows({"data": "n", "loss": "loss"}, {}, {"data": x}, losses, np.ones(len(x)), np.arange(len(x)))


X = np.geomspace(1e3, 1e6, 30)
HINGED = 5 * X**-0.3 * (1 + (X / 3e4) ** 2) ** 0.1  # exponent 0.3 below 3e4, 0.1 above


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_break_is_found_where_it_is(seed):
    (found,) = find_breaks(choose("power", ("data",)), curve(HINGED, X, seed))
    assert found.found and 1e4 < found.at < 1e5
    assert found.after - found.before == pytest.approx(0.2, abs=0.08)
    assert "stops holding along n near" in found.sentence


def test_the_test_has_its_size():
    """P-values of a true law are uniform: 5 % of 200 lie below .05, within three standard errors of that share."""
    loss = 0.5 + 20 * X**-0.4
    p = [find_breaks(choose("power_floor", ("data",)), curve(loss, X, seed))[0].p_value for seed in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)


def test_a_law_tells_of_its_breaks_in_json():
    law = fit({"n": X, "loss": curve(HINGED, X, 0).loss}, form="power", data="n", loss="loss", bootstrap=0)
    (found,) = law.to_json()["breaks"]
    assert found["found"] and found["sentence"] == law.breaks[0].sentence and found["axis"] == "data"


def test_too_few_runs_to_tell():
    assert find_breaks(choose("power", ("data",)), curve(HINGED[::8], X[::8], 0)) == ()
