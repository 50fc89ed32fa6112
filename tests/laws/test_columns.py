"""Weights by name, repeated data, measured noise and whole curves: what `fit` makes of them."""

import json

import numpy as np
import pytest

from chemscale.laws import FitError, Law, fit
from chemscale.laws.backtests.weighting import weighted
from chemscale.laws.tables.table import rows
from tests.laws.planted import PLANTED, wide

TRUTH = PLANTED["repeated", ("params", "data", "seen")][2]


def repeated_runs(noise=0.002):
    (n, unique, seen), law, truth = PLANTED["repeated", ("params", "data", "seen")]
    loss = law(n, unique, seen, **truth) * np.exp(np.random.default_rng(0).normal(0, noise, len(n)))
    return {"params": n, "tokens": unique, "epochs": seen / unique, "tokens_seen": seen, "loss": loss}


def test_seen_epochs_and_a_table_of_runs_say_the_same():
    table, options = repeated_runs(), {"form": "repeated", "loss": "loss", "bootstrap": 0}
    named = {"params": "params", "data": "tokens"}
    first = fit(table, **named, seen="tokens_seen", **options)
    assert first.columns["seen"] == {"name": "tokens_seen", "units": "tokens_seen"}
    for name in ("alpha", "beta", "R_D_star"):
        low, high = first.interval(name)
        assert low < TRUTH[name] < high
    for other in (
        fit(table, **named, epochs="epochs", **options),
        fit(table, params="params", seen="tokens_seen", epochs="epochs", **options),
        fit({**table, "run_id": range(144), "nats_per_token": table["loss"]}, **{**options, "loss": "nats_per_token"}),
    ):
        assert other.parameters == pytest.approx(first.parameters, rel=1e-5)
    said = first.predict(params=1e9, data=1e9, seen=4e9)
    assert said.low < said.value < said.high and said.value < first.predict(params=1e9, data=1e9, seen=1e9).value
    assert first.losses(params=1e9, data=1e9, seen=4e9) == pytest.approx(said.value)
    with pytest.raises(ValueError, match="leave out one of 'tokens' and 'tokens_seen', which say the same"):
        fit(table, **named, seen="tokens_seen", epochs="epochs", **options)
    with pytest.raises(ValueError, match=r"needs either data or seen beside it.*; name one of them"):
        fit(table, params="params", epochs="epochs", **options)


def test_a_column_that_does_not_count_the_unique_data_is_told():
    """One data set's size beside runs on parts of it, as in the published table of Muennighoff et al. 2023."""
    table = repeated_runs()
    table["whole"] = np.full(len(table["loss"]), np.median(table["tokens_seen"]))
    options = {"form": "repeated", "loss": "loss", "bootstrap": 0, "params": "params", "seen": "tokens_seen"}
    short = int((table["tokens_seen"] < table["whole"]).sum())
    assert 0 < short < len(table["loss"])
    with pytest.raises(ValueError, match=r"but in \d+ of 144 rows it is not \(row 1: .*'whole' and 'tokens_seen'"):
        fit(table, data="whole", epochs="epochs", **options)
    law = fit(table, data="whole", **options)
    assert sum(f"{short} of 144 runs have more whole than tokens_seen" in said for said in law.warnings) == 1
    right = fit(table, epochs="epochs", **options)
    assert not any("first pass" in said for said in right.warnings)


def test_runs_that_overfit_are_counted():
    """A repeat is worth nothing at worst; some of the longest runs of a cell are planted above their shorter ones."""
    table, options = repeated_runs(), {"form": "repeated", "loss": "loss", "bootstrap": 0, "epochs": "epochs"}
    named = {"params": "params", "seen": "tokens_seen"}
    assert not any("overfit" in said for said in fit(table, **named, **options).warnings)
    longest = np.flatnonzero(table["epochs"] == table["epochs"].max())[:5]
    table["loss"][longest] *= 2
    said = [said for said in fit(table, **named, **options).warnings if "overfit" in said]
    assert len(said) == 1 and said[0].startswith("5 of 144 runs have a loss more than 2% above that of a run")


def test_an_interval_that_was_stretched_to_the_fitted_value_says_so():
    """Half of the runs, from eight passes on, get worse with more: no law of repeats, for objective or likelihood."""
    table = repeated_runs()
    named = {"params": "params", "seen": "tokens_seen", "epochs": "epochs", "loss": "loss"}
    options = {"form": "repeated", "bootstrap": 20, **named}
    assert not any("was stretched" in said for said in fit(table, **options).warnings)
    table["loss"] = table["loss"] * np.where(table["epochs"] >= 8, (table["epochs"] / 8 * 1.2) ** 0.3, 1)
    law = fit(table, **options)
    assert sum("own interval of R_D_star leaves out the fitted value" in said for said in law.warnings) == 1


def test_the_worth_of_repeats_needs_repeats():
    table = repeated_runs()
    with pytest.raises(FitError, match="no run sees its data more than once"):
        fit(table, form="repeated", params="params", data="tokens", seen="tokens", loss="loss")
    few = {k: v[table["epochs"] <= 2] for k, v in table.items()}
    law = fit(few, form="repeated", params="params", data="tokens", seen="tokens_seen", loss="loss", bootstrap=50)
    assert law.parameters["R_D_star"] is None and any(w.startswith("R_D_star is not identified") for w in law.warnings)
    again = Law.from_json(json.loads(json.dumps(law.to_json(), allow_nan=False)))
    assert again.intervals == law.intervals


def test_a_measured_noise_floor_bounds_the_floor():
    x = np.geomspace(1e3, 1e6, 14)
    rng = np.random.default_rng(1)
    table = {"n": x, "force_rmse": np.hypot(0.02, 3 * x**-0.4) * np.exp(rng.normal(0, 0.01, 14))}
    options = {"form": "quadrature", "data": "n", "loss": "force_rmse", "bootstrap": 100}
    free = fit(table, **options)
    assert free.parameters["s"] == pytest.approx(0.02, rel=0.1)
    assert any("of 14 runs lie within a factor 2 of the noise floor" in w for w in free.warnings)
    below = fit(table, **options, noise_floor=0.005)
    assert below.parameters == pytest.approx(free.parameters, rel=1e-6)
    bound = fit(table, **options, noise_floor=0.03)
    assert bound.parameters["s"] == pytest.approx(0.03) and bound.problem.noise_floor == 0.03
    assert any("floor s is the measured noise floor" in w for w in bound.warnings)
    additive = fit(table, **{**options, "form": "power_floor"}, noise_floor=0.0299)
    assert additive.parameters["E"] == pytest.approx(0.0299, rel=1e-6)
    with pytest.raises(ValueError, match="form='power' has none"):
        fit(table, **{**options, "form": "power"}, noise_floor=0.01)


def test_a_break_outside_the_runs_is_not_quoted():
    x = np.geomspace(1e3, 1e8, 30)
    table = {"n": x, "loss": 0.1 + 5 * x**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.01, 30))}
    law = fit(table, form="bnsl", data="n", loss="loss", bootstrap=50)
    assert law.parameters["f1"] is None


def test_one_amplitude_of_two_at_zero_leaves_their_exponent():
    """Where data do no good the one exponent of `tied` is that of the parameters, and data have no amplitude."""
    table = wide()
    table["loss"] = (1.7 + 406.4 / table["params"] ** 0.34) * table["tokens"] ** 1e-3
    law = fit(table, form="tied", params="params", data="tokens", loss="loss", bootstrap=20)
    assert law.parameters["alpha"] == pytest.approx(0.34, abs=0.02) and law.parameters["A"] is not None
    assert law.interval("B") == (0, np.inf)
    assert law.parameters["B"] is None and "B is not identified: it is at its bound 0" in law.warnings


def runs(table, **options):
    return rows(table, {"params": "params", "data": "tokens"}, "loss", **options)


def test_replicates_weigh_noisy_points_less():
    table = wide(repeats=6)
    quiet = table["params"] > 1e8
    noise = np.where(quiet, 0.002, 0.05)
    table["loss"] = table["loss"] * np.exp(np.random.default_rng(0).normal(0, 1, len(noise)) * noise)
    found = weighted(runs(table), "replicates", None).weights
    assert (np.unique(found[:6]).size == 1) and found[quiet].min() > 5 * found[~quiet].max()
    with pytest.raises(ValueError, match="needs runs that repeat a point"):
        weighted(runs(wide()), "replicates", None)


def test_large_keeps_the_top_of_the_range():
    table = wide()
    kept = weighted(runs(table), "large:0.5", "params")
    assert kept.axes["params"].min() >= 10**8.5 * (1 - 1e-9) and len(kept) == 18
    assert "left out 18 runs with params below 6.31e+08: weights=large:0.5" in kept.warnings
    law = fit(table, data="tokens", loss="loss", weights="large", bootstrap=0)
    assert law.n_runs < 36 and any("weights=large" in w for w in law.warnings)


@pytest.mark.parametrize("name", ["small", "large:2", "large:x", "replicates:3"])
def test_unknown_weights_are_one_sentence(name):
    with pytest.raises(ValueError, match="is neither a column of the table nor one of replicates, large") as caught:
        fit(wide(), data="tokens", loss="loss", weights=name)
    assert "\n" not in str(caught.value)


def test_rows_of_one_run_are_one_cluster():
    table = {**wide(), "run_id": np.arange(36) // 3, "trunk": np.arange(36) // 9}
    assert runs(table).clusters.max() + 1 == 12
    assert runs(table, cluster="trunk").clusters.max() + 1 == 4
    assert runs({**table, "cluster": [None] * 18 + ["a"] * 18}).clusters.max() + 1 == 7
    with pytest.raises(ValueError, match="cluster='branch' is not a column"):
        runs(table, cluster="branch")
