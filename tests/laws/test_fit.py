"""A planted law is recovered with its doubt, and what is not there is said not to be."""

import json
import subprocess
import sys

import numpy as np
import pytest

from chemscale.laws import FitError, Law, PartialFitError, compare, fit
from chemscale.laws.optimum import open_ends
from tests.laws.planted import TRUTH, chinchilla, grid, wide


@pytest.fixture(scope="module")
def law():
    return fit(wide(noise=0.005, repeats=2), data="tokens", loss="loss", bootstrap=400)


def test_planted_law_lies_in_the_intervals(law):
    assert set(law.parameters) == set(TRUTH)
    for name, value in TRUTH.items():
        low, high = law.interval(name)
        assert low < value < high and low < law.parameters[name] < high
    assert law.warnings == ()


@pytest.mark.parametrize(
    ("axes", "sizes", "form"),
    [({"flops": "c"}, 8, "power_floor"), ({"flops": "c"}, 5, "power"), ({"params": "n", "flops": "c"}, 8, "power"),
     ({"params": "n", "data": "d"}, 8, "chinchilla")],
)  # fmt: skip
def test_the_form_follows_the_axes_where_none_is_named(axes, sizes, form):
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, sizes), np.geomspace(1e9, 1e11, sizes)))
    table = {"n": n, "d": d, "c": n**2 if len(axes) == 1 else n * d**0.5, "loss": chinchilla(n, d)}
    if len(axes) == 1:
        table["loss"] = 2 + 30 / n**0.2
    found = fit({k: v[:sizes] if len(axes) == 1 else v for k, v in table.items()}, loss="loss", bootstrap=0, **axes)
    assert found.form == form


def test_prediction_covers_and_widens_with_distance(law):
    near, far = law.predict(params=1e9, data=1e11), law.predict(params=1e12, data=1e14)
    assert not near.extrapolates and far.extrapolates
    assert far.low < chinchilla(1e12, 1e14) < far.high
    assert np.log(far.high / far.low) > np.log(near.high / near.low) > 2 * 0.005
    with pytest.raises(ValueError, match="predict needs params"):
        law.predict(params=1e9)


def test_published_identities(law):
    """N ~ C^(beta/(alpha+beta)), D ~ C^(alpha/(alpha+beta)), reducible loss ~ C^-(alpha beta/(alpha+beta))."""
    alpha, beta, floor = (law.parameters[k] for k in ("alpha", "beta", "E"))
    first, second = law.optimal(1e21), law.optimal(1e23)
    assert np.log10(second.params / first.params) / 2 == pytest.approx(beta / (alpha + beta), abs=2e-3)
    assert np.log10(second.data / first.data) / 2 == pytest.approx(alpha / (alpha + beta), abs=2e-3)
    drop = np.log10((first.loss.value - floor) / (second.loss.value - floor)) / 2
    assert drop == pytest.approx(alpha * beta / (alpha + beta), rel=1e-3)
    ratio = alpha * law.parameters["A"] / (beta * law.parameters["B"])
    best = ratio ** (1 / (alpha + beta)) * (1e21 / 6) ** (beta / (alpha + beta))
    assert first.params == pytest.approx(best, rel=1e-3)  # Hoffmann et al. 2022, equation 4
    assert first.params_interval[0] < best < first.params_interval[1]


def test_optimum_uses_measured_cost_and_refuses_to_guess():
    table = grid(np.geomspace(1e4, 1e7, 5), np.geomspace(1e3, 1e6, 5), noise=0.005, A=50, B=20)
    table["structures"] = table.pop("tokens")
    options = {"data": "structures", "loss": "loss", "bootstrap": 50}
    with pytest.raises(ValueError, match="pass flops_per_example"):
        fit(table, **options).optimal(1e15)
    measured = fit({**table, "flops": 90 * table["params"] ** 0.8 * table["structures"]}, **options)
    assert measured.cost.exponent == pytest.approx(0.8) and measured.cost.coefficient == pytest.approx(90)
    by_hand = fit(table, **options).optimal(1e15, flops_per_example=lambda n: 90 * n**0.8)
    assert measured.optimal(1e15).params == pytest.approx(by_hand.params)


def test_an_optimum_at_the_end_of_the_search_has_an_open_interval():
    """The search goes to a million times the largest model: where a budget asks for more, nothing bounds the size."""
    law = fit(wide(noise=0.01), data="tokens", loss="loss", bootstrap=50)
    far, near = law.optimal(1e60), law.optimal(1e21)
    assert far.params_interval[1] == np.inf and far.data_interval[0] == 0
    assert 0 < near.params_interval[0] < near.params < near.params_interval[1] < np.inf
    line = np.linspace(0, 10, 101)
    assert open_ends((0.05, 5.0), line).tolist() == [-np.inf, 5.0]
    assert open_ends((5.0, 9.95), line).tolist() == [5.0, np.inf]


def test_json_goes_round(law):
    points = [{"params": 1e9, "data": 1e11}]
    found = json.loads(json.dumps(law.to_json(points), allow_nan=False))
    assert list(found) == [
        "form", "columns", "parameters", "standard_errors", "intervals", "level", "objective", "n_runs",
        "predictions", "backtest", "warnings", "error", "scores", "ensemble", "breaks", "provenance",
        "hygiene",
    ]  # fmt: skip
    assert found["columns"]["data"] == {"name": "tokens", "units": "tokens"} and found["error"] is None
    again = Law.from_json(found)
    assert again.to_json(points) == law.to_json(points) and again.predict(**points[0]) == law.predict(**points[0])
    with pytest.raises(ValueError, match="holds no law"):
        Law.from_json({"error": "flat"})


def test_no_floor_in_the_data_is_called_so():
    x = np.geomspace(1e3, 1e6, 12)
    loss = 5 * x**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 12))
    law = fit({"structures": x, "force_mae": loss}, form="power_floor", data="structures", loss="force_mae")
    assert law.parameters["E"] is None and law.parameters["alpha"] == pytest.approx(0.3, abs=0.05)
    assert any("floor E is not identified" in warning for warning in law.warnings)
    assert law.predict(data=1e6).units == "eV/angstrom"


def test_noise_that_drowns_the_exponent_is_called_so():
    table = grid(np.geomspace(1e7, 4e7, 4), np.geomspace(1e9, 1e12, 6), noise=0.01)
    law = fit(table, data="tokens", loss="loss", bootstrap=200)
    assert law.parameters["alpha"] is None and law.parameters["A"] is None and law.parameters["beta"] is not None
    assert any(w.startswith("alpha is not identified") for w in law.warnings)


def test_short_axis_gives_no_exponent():
    table = grid(np.geomspace(1e7, 2e7, 4), np.geomspace(1e9, 1e12, 6), noise=1e-5)
    law = fit(table, data="tokens", loss="loss", bootstrap=0)
    assert law.parameters["alpha"] is None and any("spans 0.30 decades" in w for w in law.warnings)


@pytest.mark.parametrize(
    ("form", "amounts", "lost"),
    [
        ("chinchilla", [1e9, 1e12], {"E", "B", "beta"}),
        ("power", [1e9, 1e12], {"B", "beta"}),
        ("kaplan", [1e9, 1e12], {"N_c", "D_c", "beta"}),
        ("tied", [1e9, 1e12], set()),
        ("chinchilla", [1e9, 1.001e9, 1e12], {"E", "B", "beta"}),
        ("chinchilla", [1e9, 3e10, 1e12], set()),
    ],
)
def test_two_values_of_an_axis_give_no_exponent(form, amounts, lost):
    table = grid(np.geomspace(1e7, 1e10, 6), np.array(amounts), noise=1e-5)
    law = fit(table, form=form, params="params", data="tokens", loss="loss", bootstrap=50)
    assert lost <= {name for name, value in law.parameters.items() if value is None}
    assert any("tokens has 2 different values" in w for w in law.warnings) == bool(lost)


def test_two_values_suffice_for_a_power_alone():
    table = {"n": [1e3] * 4 + [1e6] * 4, "loss": [5.0, 5.05, 4.95, 5.0, 0.5, 0.505, 0.495, 0.5]}
    law = fit(table, form="power", params="n", loss="loss", bootstrap=50)
    assert law.parameters["alpha"] == pytest.approx(1 / 3, abs=0.01)


def test_nothing_but_bounds_and_short_axes_is_no_law():
    x = np.geomspace(1e3, 1e5, 8)
    edge = {"n": x, "loss": (x / 1e3) ** -4.97}
    with pytest.raises(
        FitError, match=r"alpha is not identified: it is at its bound \(4.97\), the edge of the searched"
    ):
        fit(edge, form="power", params="n", loss="loss", bootstrap=50)
    short = {"n": np.geomspace(1e3, 2e3, 8), "loss": np.geomspace(1e3, 2e3, 8) ** -0.3}
    with pytest.raises(FitError, match=r"n spans 0\.30 decades, under 0\.5; widen"):
        fit(short, form="power_floor", params="n", loss="loss", bootstrap=50)


def cliff(params, data):
    return 1 + (params / 1e7) ** -6 + 2 * (data / 1e9) ** -0.28


def test_an_exponent_at_its_bound_is_called_so():
    table = grid(np.geomspace(1e7, 1e8, 6), np.geomspace(1e9, 1e12, 6), noise=1e-4, law=cliff)
    law = fit(table, data="tokens", loss="loss", bootstrap=50)
    assert law.parameters["alpha"] is None and law.parameters["beta"] is not None
    assert any("alpha is not identified: it is at its bound" in w for w in law.warnings)


def runs_table(metric, unit):
    table = grid(np.geomspace(1e4, 1e7, 5), np.geomspace(1e3, 1e6, 5), noise=0.004, A=50, B=20)
    return {
        "run_id": [f"r{i}" for i in range(25)], "params": table["params"], unit: table["tokens"],
        "tokens": 40 * table["tokens"], metric: table["loss"], "law_loss": table["loss"], "law_metric": [metric] * 25,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["chinchilla", "power", "auto"])
@pytest.mark.parametrize(
    ("metric", "data", "unit"),
    [("nats_per_token", "molecules", "nats/token"), ("force_mae", "structures", "eV/angstrom")],
)
def test_axes_and_units_of_a_runs_table_come_from_its_loss(form, metric, data, unit):
    for loss in (metric, "law_loss"):
        law = fit(runs_table(metric, data), form=form, loss=loss, bootstrap=0)
        assert law.columns["data"]["name"] == data and law.columns["params"]["name"] == "params"
        assert law.columns["loss"] == {"name": loss, "units": unit}


def test_a_group_that_fails_is_named():
    table = {**wide(noise=0.01), "arch": ["big"] * 33 + ["small"] * 3}
    with pytest.raises(PartialFitError, match=r"^arch=small: form='chinchilla' has 5 parameters") as raised:
        fit(table, data="tokens", loss="loss", bootstrap=0, by="arch")
    assert list(raised.value.laws) == ["big"] and list(raised.value.errors) == ["small"]
    table = {**wide(noise=0.01), "arch": ["big"] * 36}
    table["loss"] = 3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 36))
    with pytest.raises(FitError, match=r"^arch=big: the loss is flat"):
        fit(table, data="tokens", loss="loss", bootstrap=0, by="arch")


def test_runs_in_which_the_loss_was_not_measured_are_left_out():
    """A store of two families has the force error of one and the loss per token of the other."""
    one, other, text = (wide(noise=0.01, seed=seed) for seed in range(3))
    table = {name: np.concatenate([part[name] for part in (one, other, text)]).tolist() for name in one}
    table |= {"arch": ["a"] * 36 + ["b"] * 36 + ["text"] * 36, "family": ["structures"] * 72 + ["text"] * 36}
    for name in ("loss", "tokens"):
        table[name][72:] = [None] * 36
    options = {"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 0}
    with pytest.raises(PartialFitError, match=r"arch=text: .* missing"):  # which rows of other tables count, users say
        fit(table, by="arch", **options)
    table["run_id"] = [f"r{i}" for i in range(108)]
    laws = fit(table, by="arch", **options)
    said = "left out 36 runs in which loss was not measured"
    assert list(laws) == ["a", "b"] and laws["a"].warnings[0] == said
    assert laws["a"].parameters == fit(one, **options).parameters
    assert fit(table, where="arch != 'b'", **options).parameters == laws["a"].parameters
    compared = compare(table, by="arch", **options)
    assert compared.groups == ("a", "b") and said in compared.warnings
    table["loss"] = [None] * 108
    with pytest.raises(ValueError, match="missing"):
        fit(table, by="arch", **options)


def test_what_is_not_to_be_believed_raises():
    n = np.geomspace(1e7, 1e10, 12)
    ray = {"params": n, "tokens": 20 * n, "loss": chinchilla(n, 20 * n)}
    with pytest.raises(FitError, match="move together"):
        fit(ray, data="tokens", loss="loss")
    table = wide()
    table["loss"] = 3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 36))
    with pytest.raises(FitError, match="flat"):
        fit(table, data="tokens", loss="loss")


def test_auto_prefers_the_form_that_extrapolates():
    law = fit(wide(noise=0.003), form="auto", params="params", data="tokens", loss="loss", bootstrap=50)
    assert law.form == "chinchilla" and {"gamma", "chinchilla", "tied", "kaplan"} <= {s["form"] for s in law.scores}
    assert [s["rmsle"] for s in law.scores] == sorted(s["rmsle"] for s in law.scores)


def test_backtest_leaves_the_largest_out():
    table = wide(noise=0.003)
    law = fit(table, data="tokens", loss="loss", bootstrap=50, hold_out="largest:0.1", along="params")
    assert law.backtest.rows == 6 and {p["at"]["params"] for p in law.backtest.predictions} == {table["params"].max()}
    assert law.backtest.rmsle < 0.02


def test_wrong_form_widens_the_prediction():
    table = wide(noise=0.002)
    right = fit(table, data="tokens", loss="loss", bootstrap=100).predict(params=1e11, data=1e13)
    wrong = fit(table, form="power", params="params", data="tokens", loss="loss", bootstrap=100)
    assert wrong.backtest.form_error > 0.02
    far = wrong.predict(params=1e11, data=1e13)
    assert np.log(far.high / far.value) > 0.02 + np.log(right.high / right.value)


def test_clusters_widen_intervals():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e3, 1e6, 8).repeat(6)
    noise = rng.normal(0, 0.05, 8).repeat(6) + rng.normal(0, 0.005, 48)
    table = {"data": x, "loss": 5 * x**-0.3 * np.exp(noise), "cluster": np.arange(8).repeat(6).astype(str)}
    options = {"form": "power", "data": "data", "loss": "loss", "bootstrap": 400, "objective": "log_lsq"}
    low, high = fit(table, **options).interval("alpha")
    alone = fit({k: v for k, v in table.items() if k != "cluster"}, **options).interval("alpha")
    assert high - low > 1.5 * (alone[1] - alone[0])


def test_same_seed_same_law():
    one, two = (fit(wide(noise=0.01), data="tokens", loss="loss", bootstrap=50, seed=4) for _ in range(2))
    assert one.to_json() == two.to_json()


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """5 x 5 runs, 1 % noise, 120 tables: a nominal 95 % interval covers 95 % within three standard errors (2 %)."""
    hits = {"alpha": 0, "beta": 0, "new run": 0}
    rng = np.random.default_rng(99)
    for seed in range(120):
        table = grid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5), noise=0.01, seed=seed)
        law = fit(table, data="tokens", loss="loss", objective="log_lsq", bootstrap=399, seed=seed)
        for name in ("alpha", "beta"):
            hits[name] += law.interval(name)[0] <= TRUTH[name] <= law.interval(name)[1]
        new, said = chinchilla(1e9, 1e11) * np.exp(rng.normal(0, 0.01)), law.predict(params=1e9, data=1e11)
        hits["new run"] += said.low <= new <= said.high
    assert all(count >= 0.89 * 120 for count in hits.values()), hits


def test_import_loads_neither_torch_nor_ray():
    code = "import sys, chemscale.laws, chemscale.plan; print({'torch', 'ray', 'pyarrow', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_cost_is_that_of_the_passes_that_the_most_data_had():
    """Small sets seen four, two and one times: a larger one is seen once, not less than once."""
    table = grid(np.geomspace(1e4, 1e7, 5), np.array([1e3, 1e4, 1e5]), noise=0.005, A=50, B=20)
    passes = {1e3: 4, 1e4: 2, 1e5: 1}
    table["structures"] = table.pop("tokens")
    table["flops"] = 90 * table["params"] ** 0.8 * table["structures"] * [passes[d] for d in table["structures"]]
    law = fit(table, form="power", params="params", data="structures", loss="loss", bootstrap=20)
    assert law.cost.exponent == pytest.approx(0.8)
    assert float(law.cost.flops(1e6, 1e7)) / 1e7 == pytest.approx(90 * 1e6**0.8)
    assert law.cost.spread < 1e-9
