"""Intervals by name against closed forms, scipy and simulation."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import least_squares, minimize
from scipy.stats import f as fisher
from scipy.stats import norm
from scipy.stats import t as student

from chemscale.cli import main
from chemscale.laws import INTERVALS, Law, axis_reading, compare, fit, tenfold, verdict
from chemscale.laws.doubt.draws import Sampler
from chemscale.laws.doubt.intervals import choose_method
from chemscale.laws.doubt.likelihood import Likelihood
from chemscale.laws.doubt.noise import Noise, shared_within
from chemscale.laws.doubt.onerun import RunNoise, amount, mixed_quantile
from chemscale.laws.doubt.residuals import covariance, noise_scale
from chemscale.laws.doubt.seeds import lack_of_fit
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Objective
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.numbers import loss_at, parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from chemscale.laws.solver.tangent import Tangent
from tests.benchmarks.coverage import simulate
from tests.laws.planted import TRUTH, grid, wide

TWO = {"params": "params", "data": "tokens", "loss": "loss"}

OPTIONS = {"data": "tokens", "loss": "loss", "objective": "log_lsq", "bootstrap": 100}


def line(clusters=None, seed=0, noise=0.05, runs=12):
    """A power law of one axis without floor: in logs a straight line, for which textbooks have every answer."""
    x = np.geomspace(1e3, 1e6, runs)
    loss = 5 * x**-0.3 * np.exp(np.random.default_rng(seed).normal(0, noise, runs))
    problem = Problem.of(choose("power", ("data",)), Objective("log_lsq"), x[:, None], loss, np.ones(runs))
    theta = solve(problem)
    return problem, theta, np.arange(runs) if clusters is None else clusters


def textbook(problem, clusters):
    """Slope, its CR2 standard error and Satterthwaite freedom by dense matrices (Pustejovsky and Tipton 2018)."""
    design = np.column_stack([np.ones(len(problem.x)), -problem.x[:, 0]])
    inverse = np.linalg.inv(design.T @ design)
    slope = (inverse @ design.T @ problem.log_loss)[1]
    left = np.eye(len(design)) - design @ inverse @ design.T
    errors, weights = left @ problem.log_loss, design @ inverse[:, 1]
    total, spans = 0.0, []
    for group in np.unique(clusters):
        rows = np.flatnonzero(clusters == group)
        roots, axes = np.linalg.eigh(left[np.ix_(rows, rows)])
        adjusted = axes @ np.diag(roots**-0.5) @ axes.T @ weights[rows]
        total += (adjusted @ errors[rows]) ** 2
        spans.append(left[:, rows] @ adjusted)
    cross = np.array(spans) @ np.array(spans).T
    return slope, np.sqrt(total), np.trace(cross) ** 2 / (cross**2).sum()


@pytest.mark.parametrize("clusters", [None, np.arange(12) // 2])
def test_profile_of_a_straight_line_is_the_textbook_interval(clusters):
    problem, theta, clusters = line(clusters)
    slope, error, freedom = textbook(problem, clusters)
    found, _, left = Likelihood.of(problem, theta, clusters).ends(parameters_of(problem)["alpha"], 0.95)
    assert left == pytest.approx(freedom, rel=1e-6)
    assert found[0] == pytest.approx(slope + student.ppf([0.025, 0.975], freedom) * error, rel=1e-4)


def test_parametric_draws_of_a_straight_line_spread_by_the_standard_error():
    problem, theta, clusters = line()
    noise = Noise.fitted(problem, theta, clusters)
    draws = Sampler(problem, theta, clusters, noise, np.zeros(12)).draw("parametric", 4000, 0)
    error = noise.scale[0] / np.sqrt((problem.x**2).sum())
    assert draws.theta[:, 1].std() == pytest.approx(error, rel=0.04)  # four standard errors of a spread of 4,000


@pytest.mark.parametrize("name", ["alpha", "B", "E", "loss"])
def test_profile_equals_scipys_constrained_fit(name):
    table = wide(noise=0.01)
    axes = np.stack([table["params"], table["tokens"]], 1)
    problem = Problem.of(choose("chinchilla", ("params", "data")), Objective("log_lsq"), axes, table["loss"],
                         np.ones(36))  # fmt: skip
    theta = solve(problem)
    numbers = {**parameters_of(problem), "loss": loss_at(problem, np.array([1e12, 1e13]))}
    likelihood = Likelihood.of(problem, theta, np.arange(36))
    found, ratio, freedom = likelihood.ends(numbers[name], 0.95)
    wanted = student.ppf(0.975, freedom) ** 2 * ratio[0]
    for end in found[0]:

        def gaps(at, end=end):
            held = 1e5 * (numbers[name].of(at[None])[0] - end)
            return np.append(problem.log_loss - problem.model.log_fit(at[None])[0], held)

        best = least_squares(gaps, theta, x_scale=np.abs(theta), xtol=1e-15, ftol=1e-15, gtol=1e-15).x
        rise = (gaps(best)[:-1] ** 2).sum() - (gaps(theta)[:-1] ** 2).sum()
        assert rise == pytest.approx(wanted, rel=5e-3)  # ends are sought to 1e-3 of the root


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_is_named_and_holds_the_fitted_value(interval):
    law = fit(wide(noise=0.005), **OPTIONS, interval=interval)
    said = json.loads(json.dumps(law.to_json()))["provenance"]["interval"]
    assert said["parameters"] == ("profile" if interval == "auto" else interval) and said["why"]
    for name in TRUTH:
        low, high = law.interval(name)
        assert low < law.parameters[name] < high


def test_unknown_interval_and_refits_that_are_missing():
    with pytest.raises(ValueError, match="interval='bayes' is not one of auto, wald"):
        fit(wide(noise=0.01), **OPTIONS, interval="bayes")
    with pytest.raises(ValueError, match="interval='wild' needs refits"):
        choose_method("wild", 20, 0)
    assert choose_method("auto", 50, 100).draws == "pairs" and choose_method("auto", 50, 0).parameters == "wald"


def test_ends_of_a_weakly_identified_law_are_the_best_fits_there():
    """No search by SLSQP from many starts fits better where the loss is held at an end: the profile went all the way.

    Measured force errors of nine small PaiNNs, in three clusters: steps that leave the curve on which a loss is held,
    and are cut short for it, used to end with a deviance three times that of the best fit.
    """
    table = {
        "params": np.repeat([3540.0, 11100.0, 38400.0], 3), "data": np.tile([200.0, 1132.0, 6400.0], 3),
        "loss": np.array([456, 302, 229, 348, 249, 180.3, 326, 220, 164.1]) / 1000,
        "cluster": np.tile(["a", "b", "c"], 3),
    }  # fmt: skip
    law = fit(table, form="chinchilla", params="params", data="data", loss="loss", bootstrap=0)
    told, tables = law.likelihood, law.likelihood.tables
    rng = np.random.default_rng(0)
    for params in (4e4, 1.6e5, 3.84e5):
        number = loss_at(told.problem, np.array([params, 6400.0]))
        ends, ratio, freedom = told.ends(number, 0.95)
        most = float(student.ppf(0.975, freedom[0]) ** 2 * ratio[0])
        held = minimised(tables, number, ends[0, 0], rng)
        assert held == pytest.approx(most, rel=0.02)  # the root is sought to a thousandth


def minimised(tables, number, value, rng):
    """Least deviance of one table with the number at a value, by SLSQP from starts about the best fit."""
    found, high = [], np.minimum(tables.upper, 50.0)
    held = {"type": "eq", "fun": lambda t: number.of(t[None])[0] - value}
    for _ in range(12):
        start = np.clip(tables.theta[0] * np.exp(rng.normal(0, 0.7, len(high))), 1e-6, high)
        with np.errstate(all="ignore"):
            made = minimize(
                lambda t: tables.rise(t[None])[0] * 1e3, start, method="SLSQP", constraints=held,
                bounds=list(zip(tables.lower, high, strict=True)), options={"maxiter": 400, "ftol": 1e-12},
            )  # fmt: skip
        if made.success and abs(held["fun"](made.x)) < 1e-7:
            found.append(2 * (made.fun / 1e3 - tables.rise(tables.theta)[0]))
    return min(found)


def test_law_gives_profiles():
    law = fit(wide(noise=0.01), **OPTIONS)
    found = law.profile("alpha")
    assert (found.low, found.high) == law.interval("alpha")
    deviances = [deviance for _, deviance in found.curve]
    assert deviances[0] == pytest.approx(student.ppf(0.975, found.freedom) ** 2, rel=5e-3)
    assert min(deviances) < 0.02 < deviances[-1]
    narrow, wide_ = law.profile("alpha", level=0.5), law.profile_prediction(params=1e12, data=1e13)
    assert found.low < narrow.low < narrow.high < found.high
    predicted = law.predict(params=1e12, data=1e13)
    assert predicted.low < wide_.low < predicted.value < wide_.high < predicted.high
    with pytest.raises(ValueError, match="is not a parameter"):
        law.profile("gamma")


@pytest.mark.parametrize("objective", ["huber", "lad", "lsq"])
def test_other_objectives_have_profiles_near_those_of_least_squares(objective):
    table = wide(noise=0.005, seed=2)
    usual = fit(table, **OPTIONS).interval("beta")
    low, high = fit(table, **{**OPTIONS, "objective": objective}).interval("beta")
    width = usual[1] - usual[0]
    assert low < 0.28 < high and 0.7 * width < high - low < 1.7 * width


def test_a_floor_of_zero_has_one_sided_profile_and_a_warning_elsewhere():
    table = grid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5), noise=0.01, E=0, seed=1)
    law = fit(table, **OPTIONS)
    assert law.interval("E")[0] == 0 < law.interval("E")[1] < 0.3
    zero = fit(table, **OPTIONS, interval="wald")
    assert zero.solution.theta[0] == 0 and any("at its lower bound, where interval='wald'" in w for w in zero.warnings)


def test_noise_is_drawn_as_asked():
    rng, clusters = np.random.default_rng(0), np.arange(20) // 4
    noise = Noise(np.full(20, 0.02), shared=0.5)
    drawn = noise.draw(rng, 20_000, clusters)
    assert drawn.std() == pytest.approx(0.02, rel=0.02)
    together = np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1], np.corrcoef(drawn[:, 0], drawn[:, 4])[0, 1]
    assert together == pytest.approx((0.5, 0.0), abs=0.03)
    assert shared_within(clusters, drawn[:200].mean(0) * 0 + drawn[0]) <= 0.95
    heavy = noise.kind("t4", np.arange(20.0)).draw(rng, 20_000, clusters)
    assert heavy.std() == pytest.approx(0.02, rel=0.05) and (np.abs(heavy) > 0.08).mean() > 1e-3
    falling = noise.kind("heteroscedastic", np.arange(20.0)).scale
    assert falling[0] / falling[-1] == pytest.approx(3) and (falling**2).mean() == pytest.approx(0.02**2)
    with pytest.raises(ValueError, match="noise='cauchy' is not one of fitted"):
        noise.kind("cauchy", np.arange(20.0))


def test_repeats_give_the_noise_and_test_the_form():
    table = grid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5), noise=0.01, repeats=3)
    law = fit(table, **OPTIONS)
    seeds = law.to_json()["provenance"]["seed_noise"]
    logs = np.log(table["loss"]).reshape(25, 3)
    assert seeds["freedom"] == 50 and seeds["points"] == 25
    assert seeds["sd"] == pytest.approx(np.sqrt(logs.var(1, ddof=1).mean()), rel=0.05)  # but for the shrunk trend
    left = law.problem.log_loss - law.problem.model.log_fit(law.solution.theta[None])[0]
    pure = ((logs - logs.mean(1, keepdims=True)) ** 2).sum()
    ratio = ((left**2).sum() - pure) / 20 / (pure / 50)
    assert seeds["lack_of_fit"]["F"] == pytest.approx(ratio, rel=1e-6)
    assert seeds["lack_of_fit"]["p"] == pytest.approx(fisher.sf(ratio, 20, 50), rel=1e-6)
    assert Law.from_json(law.to_json()).to_json() == law.to_json()


def test_a_wrong_form_misses_by_more_than_repeats_differ():
    table = grid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5), noise=0.002, repeats=2)
    law = fit(table, params="params", form="power", **OPTIONS)
    assert any("form='power' misses by more than that" in w for w in law.warnings)


def test_noise_that_falls_with_scale_is_seen():
    table = grid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5), repeats=6)
    size = np.log(table["params"] * table["tokens"])
    sd = 0.005 * np.exp(-0.15 * (size - size.mean()))  # the log variance falls by 0.3 per natural log
    table["loss"] *= np.exp(np.random.default_rng(0).normal(0, sd))
    seeds = fit(table, **OPTIONS).to_json()["provenance"]["seed_noise"]
    assert seeds["trend"] == pytest.approx(-0.3, abs=0.08)
    assert seeds["sd"] == pytest.approx(0.005, rel=0.15)


def test_repeats_of_one_cluster_count_as_one():
    table = grid(np.geomspace(1e7, 1e10, 4), np.geomspace(1e9, 1e12, 4), noise=0.01, repeats=2)
    table["cluster"] = np.repeat(np.arange(16), 2).astype(str)
    assert fit(table, **OPTIONS).to_json()["provenance"]["seed_noise"] is None


def test_calibration_on_the_command_line(tmp_path, capsys):
    table = wide(noise=0.01)
    rows = ["params,tokens,loss", *(f"{a},{b},{c}" for a, b, c in zip(*table.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    asked = [str(tmp_path / "t.csv"), "--params", "params", "--data", "tokens", "--loss", "loss", "--bootstrap", "0",
             "--objective", "log_lsq", "--calibrate", "20"]  # fmt: skip
    assert main(["fit", *asked, "--interval", "profile", "--predict", "params=1e11,data=1e13", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert found["count"] == 20 and {row["method"] for row in found["rows"]} == set(INTERVALS) - {"auto"}
    assert "law at params=1e+11, data=1e+13" in {row["quantity"] for row in found["rows"]}
    assert all(row["coverage"] > 0.6 for row in found["rows"])


def test_calibration_takes_a_truth_and_refuses_what_is_none():
    law = fit(wide(noise=0.01), **OPTIONS)
    found = law.calibrate(30, methods=("profile", "wald"), truth={"alpha": 0.5, "E": 0.0}, noise="t3")
    assert found.truth["alpha"] == pytest.approx(0.5, abs=1e-5) and found.truth["E"] == 0
    assert "profile" in found.table() and found.of("alpha", "wald").coverage > 0.7
    for options in ({"methods": ("bayes",)}, {"truth": {"gamma": 1}}, {"noise": "odd"}, {"count": 3}):
        with pytest.raises(ValueError):
            law.calibrate(**{"count": 30, **options})


def test_runs_of_one_cluster_are_no_pure_error():
    """Twins that share their subset differ by less than two subsets do: counted as repeats, a true law misses."""
    table = grid(np.geomspace(1e7, 1e10, 4), np.geomspace(1e9, 1e12, 4), repeats=4)
    rng = np.random.default_rng(1)
    table["loss"] *= np.exp(np.repeat(rng.normal(0, 0.01, 32), 2) + rng.normal(0, 0.0005, 64))
    table["cluster"] = np.repeat(np.arange(32), 2).astype(str)
    found = fit(table, **OPTIONS).to_json()["provenance"]["seed_noise"]["lack_of_fit"]
    means = {name: values[::2] for name, values in table.items() if name not in ("loss", "cluster")}
    means["loss"] = np.exp(np.log(table["loss"]).reshape(32, 2).mean(1))
    wanted = fit(means, **OPTIONS).to_json()["provenance"]["seed_noise"]["lack_of_fit"]
    assert found["freedom_noise"] == 16 and found["F"] == pytest.approx(wanted["F"], rel=1e-6) and found["p"] > 0.01


def test_weights_by_replicates_count_clusters():
    table = grid(np.geomspace(1e7, 1e10, 4), np.geomspace(1e9, 1e12, 4), noise=0.01, repeats=4)
    twins = {name: np.repeat(values, 2) for name, values in table.items()}
    twins["loss"] *= 1 + 1e-9 * np.arange(len(twins["loss"]))  # twins, not copies, which would count once
    twins["cluster"] = np.repeat(np.arange(64), 2).astype(str)
    options = {**OPTIONS, "weights": "replicates", "bootstrap": 0}
    assert fit(twins, **options).runs.weights[::2] == pytest.approx(fit(table, **options).runs.weights)


@pytest.mark.parametrize("objective", ["log_lsq", "huber", "lad"])
def test_weights_are_precisions_whatever_the_objective(objective):
    """Noise s / sqrt(w): the scale found is s, and standard errors are the spread of refits of such tables."""
    x, rng = np.geomspace(1e3, 1e6, 60), np.random.default_rng(0)
    weights = np.where(np.arange(60) % 2, 1.8, 0.2)
    spread, said, scales = [], [], []
    for _ in range(200):
        loss = 5 * x**-0.3 * np.exp(rng.normal(0, 0.02, 60) / np.sqrt(weights))
        problem = Problem.of(choose("power", ("data",)), Objective(objective), x[:, None], loss, weights)
        theta = solve(problem)
        spread.append(theta[1])
        said.append(covariance(problem, theta)[1, 1] ** 0.5)
        scales.append(noise_scale(problem, theta))
    assert np.median(scales) == pytest.approx(0.02, rel=0.07)
    assert np.median(said) == pytest.approx(np.std(spread), rel=0.15)  # three errors of a spread of 200


def test_noise_of_one_run_follows_its_size():
    """Noise that falls threefold: the trend is found within its error, and costs degrees of freedom at the ends."""
    size, rng = np.repeat(np.linspace(-7, 7, 12), 12), np.random.default_rng(0)
    alone = np.arange(144)
    for fall in (1.0, 3.0):
        true = 0.01 * fall ** (-size / 14)
        found = RunNoise.of(rng.normal(0, true), np.full(144, 139 / 144), size, alone, robust=False)
        assert abs(found.slope + np.log(fall) / 14) < 2.5 * found.unsure < 0.05
        middle, end = found.half(0.0, 0.95), found.half(7.0, 0.95) / np.exp(7.0 * found.slope)
        assert middle / student.ppf(0.975, 139) == pytest.approx(0.01, rel=0.12)  # two errors of 139 degrees of freedom
        assert end > middle and found.half(70.0, 0.95) == found.half(7.0, 0.95)


@pytest.mark.parametrize(("freedom", "unsure"), [(3.0, 0.3), (9.0, 0.5), (100.0, 0.7)])
def test_an_unsure_scale_is_averaged_over(freedom, unsure):
    """Against the integral over the log-normal factor."""
    found = mixed_quantile(0.975, freedom, unsure)
    below, _ = quad(lambda z: student.cdf(found * np.exp(-unsure * z), freedom) * norm.pdf(z), -8, 8)
    assert below == pytest.approx(0.975, abs=3e-5)  # fifteen nodes
    assert student.ppf(0.975, freedom) < found < student.ppf(0.975, 0.5 / (0.5 / freedom + unsure**2))


def test_noise_of_a_run_holds_what_a_fit_took_up_of_its_clusters():
    """Six clusters, half of the variance shared, four parameters constant within them: residuals show a third of it."""
    rng, clusters = np.random.default_rng(0), np.arange(24) // 4
    design = np.column_stack([rng.normal(size=(6, 4))[clusters], rng.normal(size=24)])
    left = np.eye(24) - design @ np.linalg.pinv(design)
    noise = Noise(np.full(24, 0.01), shared=0.5).draw(rng, 400, clusters) @ left
    found = [amount(errors, left, clusters, 0.0)[0] ** 2 for errors in noise]
    assert np.mean(found) ** 0.5 == pytest.approx(0.01, rel=0.1)
    naive = ((noise**2).sum(1) / np.trace(left)).mean() ** 0.5
    assert naive < 0.0085


@pytest.mark.parametrize("level", [0.0, 1.5, -1.0])
def test_a_level_that_is_none_is_refused_everywhere(level):
    table = wide(noise=0.01)
    law = fit(table, **OPTIONS)
    with_groups = {**table, "architecture": np.tile(["a", "b"], 18)}
    asks = (
        lambda: fit(table, **OPTIONS, level=level), lambda: law.profile("alpha", level=level),
        lambda: law.profile_prediction(level=level, params=1e9, data=1e10), lambda: law.calibrate(20, level=level),
        lambda: compare(with_groups, params="params", data="tokens", loss="loss", level=level),
        lambda: axis_reading(table, axis="tokens", other="params", loss="loss", level=level),
        lambda: tenfold(table, axis="tokens", other="params", loss="loss", level=level),
        lambda: verdict(table, params="params", data="tokens", loss="loss", level=level),
    )  # fmt: skip
    for ask in asks:
        with pytest.raises(ValueError, match=f"level={level!r} must lie between 0 and 1"):
            ask()


@pytest.mark.slow
@pytest.mark.parametrize(("side", "case"), [(4, "t3"), (5, "normal"), (6, "heteroscedastic"), (5, "no floor")])
def test_profile_covers_near_its_level(side, case):
    """93 to 97 % and three binomial standard errors of 400 tables (3.3 %); without a floor one-sided, at least 93 %."""
    found = simulate(side, case, "log_lsq", ("profile",), 400)
    error = 3 * np.sqrt(0.95 * 0.05 / 400)
    for name in TRUTH:
        covered = found.of(name, "profile").coverage
        assert covered > 0.93 - error, found.table()
        assert case == "no floor" or covered < 0.97 + error, found.table()


@pytest.mark.slow
def test_few_clusters_are_covered_where_rows_alone_are_not():
    """Six subsets of data, half of the variance shared by the runs of each: beta varies only between clusters."""
    table = grid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6), noise=0.01)
    problem = fit(table, **OPTIONS).problem
    theta, clusters = solve(problem), np.arange(36) // 6
    noise = Noise(np.full(36, 0.01), shared=0.5)
    rng = np.random.default_rng(0)
    losses = problem.model.log_fit(theta[None]) + noise.draw(rng, 150, clusters)
    number = parameters_of(problem)["beta"]
    hits = {"clusters": 0, "rows": 0}
    for loss in losses:
        one = replace(problem, log_loss=loss)
        fitted = solve(one)
        for name, groups in (("clusters", clusters), ("rows", np.arange(36))):
            low, high = Likelihood.of(one, fitted, groups).ends(number, 0.95)[0][0]
            hits[name] += low <= number.of(theta[None])[0] <= high
    assert hits["rows"] < 0.85 * 150 and hits["clusters"] > (0.93 - 3 * 0.018) * 150, hits  # three standard errors


def test_clusters_that_the_law_passes_through_are_given_up():
    """Three subsets, as many as floor, amplitude and exponent pass through: no residual shows what each shares.

    Sums of residuals over such clusters are zero; intervals made of them alone covered none of twenty.
    """
    hits, said = {"given up": 0, "as named": 0}, 0
    for seed in range(20):
        table = grid(np.geomspace(500, 50_000, 3), np.geomspace(200, 6_400, 3), noise=0.02, seed=seed, E=0.1, A=12.0,
                     B=0.7, alpha=0.7, beta=0.2)  # fmt: skip
        law = fit({**table, "cluster": [f"{d:g}" for d in table["tokens"]]}, **OPTIONS | {"bootstrap": 0})
        said += any("pass through each of the 3 clusters" in warning for warning in law.warnings)
        theta, number = law.solution.theta, parameters_of(law.problem)["beta"]
        for name, clusters in (("given up", law.runs.clusters), ("as named", np.arange(9) // 3)):
            low, high = Likelihood.of(law.problem, theta, clusters).ends(number, 0.95)[0][0]
            hits[name] += low <= 0.2 <= high
    assert said == 20 and min(hits.values()) >= 17, (said, hits)  # one in twenty may miss: more than 3 once in 60 times


def test_what_a_run_decides_alone_is_as_uncertain_as_the_others_say():
    """A column of one run alone: its parameter is as uncertain as that run, which leaves no residual."""
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(12), rng.normal(size=12), np.eye(12)[0]])
    errors = rng.normal(size=12)
    errors -= design @ np.linalg.lstsq(design, errors, rcond=None)[0]
    inverse = np.linalg.inv(design.T @ design)
    tangent = Tangent(design[None], errors[None], inverse[None], np.arange(12))
    alone, shared = np.eye(3)[None, 2], np.eye(3)[None, 1]
    found, variance = tangent.spread(alone), errors @ errors / 9
    rest = inverse[2, 2] - 1  # what the eleven others add to the run's own
    assert tangent.decided(alone)[0] == pytest.approx(1 / inverse[2, 2])
    assert tangent.decided(shared)[0] == pytest.approx(0, abs=1e-12)
    assert variance < found.sound[0] < variance * (1 + 3 * rest)
    assert found.freedom[0] > 8


def test_profile_of_few_clusters_goes_as_far_as_their_t_asks():
    """Four subsets as clusters: Student's t of about one degree of freedom asks for ends ten standard errors away."""
    table = grid(np.geomspace(3e3, 2e5, 4), np.geomspace(1e3, 3e4, 4), noise=0.001, seed=3, E=0.45, A=26, B=2.3,
                 alpha=0.5, beta=0.2)  # fmt: skip
    table["cluster"] = [f"{d:g}" for d in table["tokens"]]
    law = fit(table, data="tokens", loss="loss", objective="log_lsq", bootstrap=50)
    found, problem = law.profile("beta"), law.problem
    assert found.freedom < 1.5 and found.low < found.value < found.high
    at, best = problem.form.inner.index("beta"), problem.value(law.solution.theta[None])[0]

    def rise(beta):
        lower, upper = problem.lower.copy(), problem.form.upper.copy()
        lower[at] = upper[at] = beta
        start = law.solution.theta.copy()
        start[at] = beta
        held = newton(problem.model, problem.objective, problem.log_loss, problem.weights, start[None], upper, 300,
                      1e-13, lower)  # fmt: skip
        return float(problem.value(held)[0] - best)

    assert rise(found.low) == pytest.approx(rise(found.high), rel=0.05)


def test_least_squares_of_losses_knows_its_own_errors():
    """The spread of its exponents over tables, which the errors of a fit in logs would give as three times smaller."""
    x, found, said = np.geomspace(1e2, 1e7, 30), [], []
    for seed in range(100):
        loss = 20 * x**-0.4 * np.exp(np.random.default_rng(seed).normal(0, 0.05, 30))
        problem = Problem.of(choose("power", ("data",)), Objective("lsq"), x[:, None], loss, np.ones(30))
        theta = solve(problem)
        found.append(theta[1])
        said.append(covariance(problem, theta)[1, 1] ** 0.5)
    assert 0.8 < np.median(said) / np.std(found) < 1.6  # the median run of a few large ones; 1.26 here


def test_lack_of_fit_is_the_same_test_whatever_the_objective():
    x = np.repeat(np.geomspace(1e2, 1e7, 10), 3)
    loss = 20 * x**-0.4 * np.exp(np.random.default_rng(0).normal(0, 0.05, 30))
    tests = []
    for name in ("log_lsq", "lsq", "huber"):
        problem = Problem.of(choose("power", ("data",)), Objective(name), x[:, None], loss, np.ones(30))
        tests.append(lack_of_fit(problem, solve(problem), np.arange(len(problem.x))))
    assert tests[0]["p"] == pytest.approx(tests[1]["p"], rel=1e-4) == pytest.approx(tests[2]["p"], rel=1e-4)


def test_predictions_count_groups_of_runs():
    table = wide(noise=0.005)
    table["cluster"] = np.arange(36) // 6
    law = fit(table, **TWO, bootstrap=100)
    assert law.widening == pytest.approx(student.ppf(0.975, 5) / student.ppf(0.975, 10**6))
    assert law.widening > fit({**table, "cluster": np.arange(36)}, **TWO, bootstrap=100).widening


def test_a_law_of_the_large_runs_counts_their_clusters_only():
    x = np.geomspace(1e3, 1e7, 24)
    table = {"x": x, "loss": 1 + 20 * x**-0.4, "group": np.arange(24) // 2}
    law = fit(table, form="power", data="x", loss="loss", weights="large:0.5", cluster="group", bootstrap=0)
    assert law.n_runs == 12 and int(law.runs.clusters.max()) + 1 == law.provenance["clusters"] == 6


def test_open_intervals_come_back_from_json():
    law = fit(wide(noise=0.005), **TWO, bootstrap=0)
    law = replace(law, intervals={**law.intervals, "alpha": (-np.inf, np.inf)})
    assert Law.from_json(json.loads(json.dumps(law.to_json()))).intervals["alpha"] == (-np.inf, np.inf)


def test_calibration_and_noise_floor_refuse_what_cannot_be():
    table = wide(noise=0.005)
    with pytest.raises(ValueError, match=r"predict needs params=\.\.\., data=\.\.\."):
        fit(table, **TWO, bootstrap=0).calibrate(20, at=[{"params": 1e9}])
    with pytest.raises(ValueError, match="noise_floor=2000 is above most of the losses"):
        fit(table, **TWO, bootstrap=0, noise_floor=2000.0)


@pytest.mark.parametrize("level", [0, 1.5])
def test_a_level_that_is_none_is_refused(level):
    law = fit(wide(noise=0.005), **TWO, bootstrap=0)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        law.profile("alpha", level=level)


def test_the_error_of_form_is_told_at_the_level_that_is_asked_for():
    """Of a wrong form far out nearly all of the width is the backtest's: it goes as the level's normal quantile."""
    x = np.geomspace(1e3, 1e6, 16)
    table = {"x": x, "loss": 1 + 5 * x**-0.3}
    ends = []
    for level in (0.5, 0.95):
        law = fit(table, form="power", data="x", loss="loss", objective="log_lsq", bootstrap=100, level=level)
        assert law.backtest is not None and law.backtest.form_error > 0.01
        said = law.predict(data=1e9)
        ends.append(np.log(said.high / said.value))
    assert ends[0] / ends[1] == pytest.approx(norm.ppf(0.75) / norm.ppf(0.975), rel=0.1)  # the law's own part is small


@pytest.mark.parametrize("interval", ["auto", "wald", "wild", "parametric"])
def test_a_start_that_no_run_shows_is_unbounded_whatever_the_interval(interval):
    """On a pure power law Hill's curve has no start: draws that say so are infinite, and count as such."""
    x = np.geomspace(1e3, 1e7, 20)
    loss = 5 * x**-0.2 * np.exp(0.003 * np.random.default_rng(3).standard_normal(20))
    law = fit({"x": x, "loss": loss}, form="hill", data="x", loss="loss", bootstrap=60, interval=interval)
    assert law.interval("L_0")[1] == np.inf and law.parameters["L_0"] is None
    with pytest.raises(ValueError, match="L_0 is infinite in this fit"):
        replace(law, solution=replace(law.solution, theta=law.solution.theta * [1, 0, 1, 1])).profile("L_0")


def test_losses_and_predictions_need_every_axis_as_positive_numbers():
    law = fit(wide(noise=0.01), **TWO, bootstrap=0)
    for given in ({"params": 1e9}, {"params": [1e9, -1.0], "data": 1e9}):
        with pytest.raises(ValueError, match="losses needs params and data"):
            law.losses(**given)
    for given in ({"params": None, "data": 1e9}, {"params": "many", "data": 1e9}, {"params": 1e9}):
        with pytest.raises(ValueError, match=r"predict needs params=\.\.\., data=\.\.\."):
            law.predict(**given)
