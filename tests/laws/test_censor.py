"""Runs that were stopped: bounds and forecasts in the fit."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import laplace, norm

from chemscale.laws import Law, compare, fit
from chemscale.laws.solver.rowwise import Rowwise, UpperBound
from tests.benchmarks.censoring import stopped
from tests.laws.planted import wide

OPTIONS = {"data": "tokens", "loss": "loss", "bootstrap": 0}


@pytest.mark.parametrize("name", ["log_lsq", "lad", "huber"])
def test_bound_is_the_likelihood_of_its_noise_and_its_slopes_are_differences(name):
    goal = Rowwise.of(UpperBound(name, 0.05), np.array([True, True, False]), UpperBound(name, 0.05, 0.2))
    log_loss, log_fit, step = np.array([[0.3, -0.2, 0.01]]), np.array([[0.1, 0.1, 0.02]]), 1e-6
    at = goal.slopes(log_loss, log_fit)
    up, down = goal.penalty(log_loss, log_fit + step), goal.penalty(log_loss, log_fit - step)
    assert np.allclose(at.first, (up - down) / (2 * step), atol=1e-8)
    bend = (goal.slopes(log_loss, log_fit + step).first - goal.slopes(log_loss, log_fit - step).first) / (2 * step)
    assert np.allclose(at.second, bend, atol=1e-6) and (at.majorant > 0).all()
    unit = {"log_lsq": 0.2**2, "lad": 0.2, "huber": 0.2 * 0.05}[name]
    noise = norm if name == "log_lsq" else laplace
    wanted = -unit * noise.logcdf((log_loss - log_fit)[0, :2], scale=0.2)
    assert np.allclose(goal.penalty(log_loss, log_fit)[0, :2], wanted, rtol=1e-10)


def test_one_sided_fit_is_tobins():
    """Against scipy's maximum of the censored likelihood of a straight line, but for degrees of freedom."""
    rng = np.random.default_rng(0)
    x = np.geomspace(1e3, 1e6, 400)
    loss = 5 * x**-0.3 * np.exp(rng.normal(0, 0.2, 400))
    bound = loss < 0.2
    table = {"data": x, "loss": np.maximum(loss, 0.2), "bound": bound}
    law = fit(table, form="power", data="data", loss="loss", objective="log_lsq", censored="bound", bootstrap=0)

    def surprise(p):
        gap = (np.log(table["loss"]) - p[0] + p[1] * np.log(x / 3e4)) / np.exp(p[2])
        return -np.where(bound, norm.logcdf(gap), norm.logpdf(gap) - p[2]).sum()

    best = minimize(surprise, [-1.0, 0.2, -1.0], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-8}).x
    assert law.parameters["alpha"] == pytest.approx(best[1], rel=2e-3)
    assert law.objective["spread"] == pytest.approx(np.exp(best[2]), rel=0.01)
    assert any("upper bounds" in w for w in law.warnings) and bound.sum() > 50
    assert Law.from_json(law.to_json()).problem.value(law.solution.theta[None]) == pytest.approx(law.objective["value"])


def test_stopped_runs_stay_out_unless_a_column_says_they_are_bounds():
    table = wide(noise=0.002)
    table["status"] = ["finished"] * 30 + ["stopped"] * 6
    table["bound"] = np.arange(36) >= 30
    assert fit(table, **OPTIONS).n_runs == 30
    assert fit(table, **OPTIONS, censored="bound").n_runs == 36
    with pytest.raises(ValueError, match="must hold true or false"):
        fit(table, **OPTIONS, censored="tokens")
    with pytest.raises(ValueError, match="objective='lsq' knows no noise"):
        fit(table, **OPTIONS, censored="bound", objective="lsq")


def test_forecasts_stand_in_and_widen():
    table = {name: list(values) for name, values in wide(noise=0.002).items()}
    table["bound"] = [i % 6 == 5 for i in range(36)]
    options = {**OPTIONS, "bootstrap": 200, "objective": "log_lsq", "censored": "bound", "interval": "wild"}
    widths = []
    for off in (1.001, 1.1):
        sure = {"forecast_loss": table["loss"], "forecast_low": [v / off for v in table["loss"]]}
        sure["forecast_high"] = [v * off for v in table["loss"]]
        blank = [None if bound else v for v, bound in zip(table["loss"], table["bound"], strict=True)]
        law = fit({**table, **sure, "loss": blank}, **options)
        assert any("6 stopped runs enter by the forecast" in w for w in law.warnings)
        widths.append(np.subtract(*law.interval("beta")[::-1]))
    assert widths[1] > 1.15 * widths[0]


def test_bounds_are_kept_by_every_interval():
    table, _ = stopped("target", 0)
    table = {name: table[name] for name in ("params", "tokens", "loss", "bound")}
    for interval in ("auto", "wald", "pairs", "profile"):
        law = fit(table, data="tokens", loss="loss", censored="bound", bootstrap=60, interval=interval,
                  objective="log_lsq")  # fmt: skip
        low, high = law.interval("alpha")
        assert 0.2 < low < law.parameters["alpha"] < high < 0.5
    with pytest.raises(ValueError, match="interval='wild' cannot make up stopped runs"):
        fit(table, data="tokens", loss="loss", censored="bound", interval="wild")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "way"), [("target", "one-sided"), ("rivals", "imputed")])
def test_exponents_stay_unbiased_where_dropping_and_best_so_far_do_not(kind, way):
    from tests.benchmarks.censoring import errors

    found = errors(kind, 60)
    apart = {name: error - found["complete"] for name, error in found.items() if name != "complete"}  # the same noise
    bias = {name: np.abs(gap.mean(0) / gap.std(0)).max() * np.sqrt(60) for name, gap in apart.items()}
    assert bias[way] < 3 < min(bias["as if final"], bias["dropped"]), bias  # in standard errors


@pytest.mark.parametrize("form", ["chinchilla", "auto"])
def test_bounds_and_squares_of_the_loss_do_not_go_together(form):
    table = {**wide(noise=0.01), "stopped": [False] * 30 + [True] * 6}
    with pytest.raises(ValueError, match="objective='lsq' knows no noise"):
        fit(table, form=form, data="tokens", params="params", loss="loss", censored="stopped", objective="lsq")


def test_bounds_judge_nothing():
    """A bound far above the end of its run is no miss of the law, no outlier, no break and no part of a comparison."""
    table = wide(noise=0.003)
    rng = np.random.default_rng(0)
    table["bound"] = np.isin(np.arange(36), rng.choice(36, 8, replace=False))
    table["loss"] = np.where(table["bound"], 1.3 * np.array(table["loss"]), table["loss"])
    done = {name: np.array(values)[~table["bound"]] for name, values in table.items()}
    options = {"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 50}
    plain, law = fit(done, **options), fit(table, **options, censored="bound")
    assert law.backtest is not None and plain.backtest is not None and law.hygiene is not None
    assert law.backtest.rmsle < 2 * plain.backtest.rmsle < 0.05
    assert law.hygiene.outliers == ()
    assert [found.p_value for found in law.breaks] == [found.p_value for found in plain.breaks]
    with pytest.raises(ValueError, match="8 of the law's losses are upper bounds"):
        compare(law, plain)
    with pytest.raises(ValueError, match="'wild' cannot make up stopped runs"):
        law.calibrate(20, methods=("wild",))


def test_calibration_makes_up_stopped_runs_and_forecasts_and_says_so():
    table, _ = stopped("target", 0)
    plain = {name: table[name] for name in ("params", "tokens", "loss", "bound")}
    options = {"data": "tokens", "loss": "loss", "objective": "log_lsq", "bootstrap": 0, "censored": "bound"}
    found = fit(plain, **options).calibrate(20, methods=("wald",), at=({"params": 1e11, "data": 1e13},))
    count = int(table["bound"].sum())
    assert f"{count} runs stopped again wherever they would end under their bound" in found.simulated
    assert "simulated: 20 tables" in found.table() and found.of("alpha", "wald").coverage > 0.75
    guessed = fit(table, **options).calibrate(20, methods=("wald", "profile"))
    assert f"{count} forecasts off by as much as they said" in guessed.simulated
    assert guessed.of("alpha", "profile").coverage > 0.75


@pytest.mark.slow
def test_wald_of_bounds_covers():
    """A bound tells less than a measured run, and runs that were not stopped are a chosen part of the noise."""
    law = fit(
        {name: values for name, values in stopped("target", 0)[0].items() if "forecast" not in name},
        data="tokens", loss="loss", objective="log_lsq", bootstrap=0, censored="bound",
    )  # fmt: skip
    found = law.calibrate(200, methods=("wald",))
    for name in ("alpha", "beta"):
        assert abs(found.of(name, "wald").coverage - 0.95) < 3 * 0.0154, found.table()  # three binomial errors


@pytest.mark.slow
def test_an_ensemble_reads_bounds_as_bounds():
    rng = np.random.default_rng(3)
    x = np.geomspace(1e3, 1e6, 24)
    loss = (1 + 30 * x**-0.4) * np.exp(rng.normal(0, 0.003, 24))
    bound = np.arange(24) % 3 == 1
    options = {"form": "auto", "data": "x", "loss": "loss", "bootstrap": 50}
    law = fit({"x": x, "loss": np.where(bound, 1.2 * loss, loss), "bound": bound}, **options, censored="bound")
    assert law.predict(data=1e7).value == pytest.approx(1 + 30 * 1e7**-0.4, rel=0.02)
