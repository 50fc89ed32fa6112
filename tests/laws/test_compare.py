"""Comparisons against closed forms, scipy and planted differences; what does not compare is refused in one sentence."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2, f_oneway, linregress
from scipy.stats import f as fisher

from chemscale.laws import FitError, compare, fit
from chemscale.laws.comparison.answer import CANNOT_TELL, _exponents
from chemscale.laws.comparison.frontier import efficient, joined
from chemscale.laws.comparison.jointlaw import join
from chemscale.laws.doubt.regression import least_squares
from chemscale.laws.forms import choose
from chemscale.laws.tables.table import rows
from tests.laws.planted import PLANTED, grid

SIZES, AMOUNTS = np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5)


def groups(*truths, noise=0.01, side=5, seed=0, **more):
    """A table of one grid per architecture a, b, ...; `truths` holds what differs from the published law."""
    table = {}
    for g, truth in enumerate(truths):
        part = grid(SIZES[:side], AMOUNTS[:side], noise=noise, seed=10 * seed + g, **truth)
        part["architecture"] = ["abcdef"[g]] * len(part["loss"])
        for name, values in {**part, **more}.items():
            table.setdefault(name, []).extend(values)
    return table


def powers(rng, exponents, amplitudes, noise=0.05, runs=9):
    """One-axis powers without a floor, for which everything is linear in logs."""
    x = np.geomspace(1e3, 1e6, runs)
    parts = [
        {"structures": x, "force_mae": a * x**-e * np.exp(rng.normal(0, noise, runs)), "kind": [f"k{g}"] * runs}
        for g, (e, a) in enumerate(zip(exponents, amplitudes, strict=True))
    ]
    return {name: np.concatenate([part[name] for part in parts]).tolist() for name in parts[0]}


def least(columns, y):
    """Coefficients, sum of squares and degrees of freedom of ordinary least squares."""
    design = np.column_stack(columns)
    values, *_ = np.linalg.lstsq(design, y, rcond=None)
    return values, float(((y - design @ values) ** 2).sum()), len(y) - design.shape[1]


OPTIONS = {"by": "kind", "data": "structures", "loss": "force_mae", "form": "power", "bootstrap": 0}


def test_powers_are_ordinary_least_squares_with_interactions():
    """log L = log A_g - alpha_g log x: likelihood ratios, F-tests and the interval have closed forms."""
    table = powers(np.random.default_rng(1), (0.30, 0.36), (5.0, 7.0))
    found = compare(table, **OPTIONS).law
    x, y = np.log(table["structures"]), np.log(table["force_mae"])
    second = (np.array(table["kind"]) == "k1").astype(float)
    one = np.ones_like(x)
    values, full, left = least([one, second, x, second * x], y)
    _, level, _ = least([one, second, x], y)
    _, same, _ = least([one, x], y)
    for question, small, large, degrees in (("law", same, full, 2), ("amplitudes", same, level, 1),
                                            ("exponents", level, full, 1)):  # fmt: skip
        test = found.test(question)
        assert test.statistic == pytest.approx(len(x) * np.log(small / large), rel=1e-6)
        assert test.degrees == degrees and test.p_bootstrap is None
        assert test.p_chi2 == pytest.approx(chi2.sf(test.statistic, degrees), rel=1e-9)
    ratio = (level - full) / (full / left)
    assert found.test("exponents").p_f == pytest.approx(fisher.sf(ratio, 1, left), rel=1e-6)
    (gap,) = found.differences
    error = np.sqrt(full / left * np.linalg.inv((d := np.column_stack([one, second, x, second * x])).T @ d)[3, 3])
    half = error * np.sqrt(fisher.ppf(0.95, 1, left))
    assert gap.value == pytest.approx(-values[3], rel=1e-6) and gap.group == "k1" and gap.exponent == "alpha"
    assert (gap.low, gap.high) == pytest.approx((-values[3] - half, -values[3] + half), rel=1e-3)
    assert gap.at_most == pytest.approx(abs(values[3]) + half, rel=1e-3)
    assert found.model("all free").values["k1"]["alpha"] == pytest.approx(-values[2] - values[3], rel=1e-6)
    n = len(x)
    best = -0.5 * n * (np.log(2 * np.pi * full / n) + 1)
    assert found.model("all free").log_likelihood == pytest.approx(best, rel=1e-9)


def test_levels_alone_are_an_analysis_of_variance():
    """With one slope known to be shared the amplitudes' test of pure levels is scipy's one-way F-test."""
    rng = np.random.default_rng(3)
    table = powers(rng, (0.3, 0.3, 0.3), (5.0, 5.2, 4.9))
    x, y = np.log(table["structures"]), np.log(table["force_mae"])
    found = compare(table, **OPTIONS).law.test("amplitudes")
    slope = -compare(table, **OPTIONS).law.model("amplitudes free").values["k0"]["alpha"]
    kinds = np.array(table["kind"])
    level = f_oneway(*[(y - slope * x)[kinds == k] for k in ("k0", "k1", "k2")])
    rows, between = len(y), 2
    assert found.degrees == between
    # one-way F knows the slope, ours fits it: the sums of squares agree, the degrees of freedom differ by one
    assert np.expm1(found.statistic / rows) * (rows - 3) / between == pytest.approx(level.statistic, rel=1e-2)


def test_a_planted_difference_of_exponents_is_found_and_placed():
    truth = {"alpha": 0.40, "A": 406.4 * 10 ** (7.5 * 0.06)}
    found = compare(groups({}, truth), data="tokens", params="params", loss="loss", bootstrap=199)
    alpha, beta = found.law.differences
    assert alpha.low < 0.06 < alpha.high and alpha.excludes_zero and alpha.axes == ("params",)
    assert beta.low < 0.0 < beta.high and not beta.excludes_zero
    assert found.law.test("exponents").p_bootstrap == pytest.approx(1 / 200)
    assert found.law.test("alpha").p < 0.01 < found.law.test("beta").p
    assert "the exponent changes" in found.sentence and found.reference == "a"
    assert found.sentence.startswith("b against a (loss over parameters and tokens")


def test_a_planted_constant_is_no_change_of_exponent():
    truth = {"A": 300.0, "B": 300.0}
    found = compare(groups({}, truth), data="tokens", params="params", loss="loss", bootstrap=199)
    n, d = SIZES[-1], AMOUNTS[-1]
    (ratio,) = found.law.ratios
    reducible = 406.4 / n**0.34 + 410.7 / d**0.28
    true = (1.69 + 300 / n**0.34 + 300 / d**0.28) / (1.69 + reducible)
    assert ratio.at == {"params": n, "data": d} and ratio.low < true < ratio.high < 1
    alpha, beta = found.law.differences
    assert "only the constant changes" in found.sentence
    assert f"alpha differs by at most {alpha.at_most:.3g}" in found.sentence and beta.at_most < 0.14
    by_params = next(m for m in found.law.multipliers if m.axis == "params")
    needed = (406.4 / (1.69 + 300 / n**0.34 + 300 / d**0.28 - 1.69 - 410.7 / d**0.28)) ** (1 / 0.34) / n
    assert (by_params.better, by_params.worse) == ("b", "a") and by_params.low < needed < by_params.high
    assert by_params.saving < 1 < by_params.value


def test_the_floor_is_free_unless_the_test_allows_one():
    apart = compare(groups({}, {"E": 1.3}), data="tokens", params="params", loss="loss", bootstrap=99)
    assert apart.law.test("floors").p <= 0.05 and apart.law.chosen == "all free"
    options = {"data": "tokens", "params": "params", "loss": "loss", "bootstrap": 0}
    alike = groups({}, {}, seed=3)
    tested, free = (compare(alike, floor=rule, **options).law for rule in ("tested", "free"))
    assert tested.test("floors").p > 0.2 and "floor is shared" in tested.floor
    assert tested.chosen == "amplitudes and exponents free" and free.chosen == "all free"
    width = {law.chosen: law.differences[0].high - law.differences[0].low for law in (tested, free)}
    assert width[tested.chosen] < width[free.chosen]


def test_sharing_what_is_the_same_narrows_the_rest():
    options = {"data": "tokens", "params": "params", "loss": "loss", "bootstrap": 0, "floor": "free"}
    table = groups({}, {}, seed=5)
    free = compare(table, **options).law.differences[0]
    (held,) = compare(table, shared=("E", "B", "beta"), **options).law.differences
    assert (free.high - free.low) / (held.high - held.low) > 2
    every = compare(table, shared=("E", "alpha", "beta"), **options)
    assert every.law.differences == () and "shared by assumption" in every.sentence


def test_three_groups_each_against_the_reference():
    found = compare(
        groups({}, {"A": 300}, {"alpha": 0.40, "A": 406.4 * 10**0.45}), reference="b", params="params", data="tokens",
        loss="loss", bootstrap=99,
    )  # fmt: skip
    assert found.groups == ("b", "a", "c") and len(found.law.differences) == 4 and len(found.paired) == 2
    assert found.law.test("exponents").degrees == 4 and found.law.test("exponents of a").degrees == 2
    assert found.law.test("exponents of a").p > 0.05 > found.law.test("exponents of c").p
    first, second = found.sentences
    assert "only the constant changes" in first and "the exponent changes" in second


def test_json_is_plain_and_complete():
    table = groups({}, {"A": 300}, noise=0.02)
    table["flops"] = (6 * np.array(table["params"]) * np.array(table["tokens"])).tolist()
    table["device_seconds"] = (np.array(table["flops"]) / 1e12).tolist()
    found = compare(table, params="params", data="tokens", loss="loss", bootstrap=0)
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(said) == [
        "by", "reference", "groups", "loss", "level", "sentence", "sentences", "law", "along", "paired", "warnings",
        "error", "provenance",
    ]  # fmt: skip
    assert [law["axes"]["flops"]["units"] for law in said["along"]] == ["FLOPs", "device-seconds"]
    assert len(said["sentences"]) == 3 and said["law"]["tests"][0]["p_bootstrap"] is None
    assert "efficient frontier of FLOPs" in said["sentences"][1]
    alone = compare(table, flops="flops", loss="loss", form="power", bootstrap=0)
    assert alone.along == () and alone.law.about == "all runs"


def test_laws_bring_their_runs():
    table = groups({}, {"A": 300})
    laws = fit(table, by="architecture", params="params", data="tokens", loss="loss", bootstrap=0)
    by_laws, by_table = compare(laws, bootstrap=0), compare(
        table, params="params", data="tokens", loss="loss", bootstrap=0
    )  # fmt: skip
    assert by_laws.law == by_table.law and by_laws.groups == ("a", "b")
    assert compare(laws["a"], laws["b"], bootstrap=0).groups == ("law 1", "law 2")
    assert by_laws.paired[0].pairs == by_table.paired[0].pairs == 25


def test_unequal_noise_is_weighted_and_said():
    quiet, loud = groups({}, noise=0.005), groups({}, noise=0.05, seed=1)
    table = {name: [*quiet[name], *loud[name]] for name in quiet}
    table["architecture"] = ["a"] * 25 + ["b"] * 25
    found = compare(table, params="params", data="tokens", loss="loss", bootstrap=0)
    assert any("noise of a run differs by group" in warning for warning in found.warnings)


def test_paired_slope_is_the_difference_of_exponents():
    """Shared subset and seed noise cancels: the slope equals scipy's linregress of the log ratio."""
    rng = np.random.default_rng(0)
    x, seeds = np.repeat(np.geomspace(1e3, 1e6, 7), 3), np.tile([0, 1, 2], 7)
    common, own = rng.normal(0, 0.1, 21), rng.normal(0, 0.01, (2, 21))
    table = {
        "structures": [*x, *x], "seed": [*seeds, *seeds], "kind": ["a"] * 21 + ["b"] * 21,
        "force_mae": [*(5 * x**-0.30 * np.exp(common + own[0])), *(7 * x**-0.34 * np.exp(common + own[1]))],
    }  # fmt: skip
    found = compare(table, **OPTIONS).paired[0]
    line = linregress(np.log(x), np.log(7 / 5) - 0.04 * np.log(x) + own[1] - own[0])
    assert found.pairs == 21 and found.clusters == 7 and found.matched == ("structures", "seed")
    assert found.slopes["data"]["value"] == pytest.approx(line.slope, rel=1e-6)
    assert found.slopes["data"]["low"] < -0.04 < found.slopes["data"]["high"]
    middle = float(np.exp(np.log(x).mean()))
    assert found.ratio_interval[0] < 1.4 * middle**-0.04 < found.ratio_interval[1]
    assert {"data", "ratio"} == set(found.points[0])


def test_paired_errors_are_usual_or_clustered_whichever_is_larger():
    rng = np.random.default_rng(2)
    x = np.repeat(np.arange(8.0), 4)
    alone = least_squares(np.column_stack([np.ones(32), x]), y := rng.normal(0, 1, 32), np.arange(32))
    line = linregress(x, y)
    assert alone.errors == pytest.approx([line.intercept_stderr, line.stderr]) and set(alone.left) == {30}
    shared = y + np.repeat(rng.normal(0, 3, 8), 4)
    wide = least_squares(np.column_stack([np.ones(32), x]), shared, np.repeat(np.arange(8), 4))
    assert wide.errors[1] > 1.3 * linregress(x, shared).stderr and wide.left[1] == 6


def test_sizes_that_never_agree_pair_by_the_best():
    table = groups({}, {"A": 300})
    table["params"] = [*table["params"][:25], *(1.5 * np.array(table["params"][25:]))]
    found = compare(table, params="params", data="tokens", loss="loss", bootstrap=0).paired[0]
    assert found.pairs == 5 and "no sizes agree" in found.words and set(found.slopes) == {"data"}
    table["tokens"] = [*table["tokens"][:25], *(1.1 * np.array(table["tokens"][25:]))]
    none = compare(table, params="params", data="tokens", loss="loss", bootstrap=0).paired[0]
    assert none.pairs == 0 and none.ratio is None and none.words.startswith("nothing is paired")


def test_frontier_keeps_what_no_cheaper_run_beats():
    cost, loss = np.array([1.0, 2.0, 3.0, 3.0, 5.0]), np.array([3.0, 4.0, 2.0, 2.5, 1.0])
    assert efficient(cost, loss).tolist() == [True, False, True, False, True]


def changed(name, values):
    table = groups({}, {}, noise=0.01)
    table[name] = values
    return table


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (groups({}), {}, "single group a; a comparison needs two or more"),
        (groups({}, {}), {"where": "architecture == 'a' or params < 2e6"}, "architecture=b: form='chinchilla' has 5"),
        (changed("law_metric", ["m"] * 25 + ["k"] * 25), {}, "differ in law_metric (a: m, b: k)"),
        (changed("family", ["text"] * 25 + ["structures"] * 25), {}, "differ in family"),
        (changed("family", ["text", "structures"] * 25), {}, "architecture=a: the table mixes 2 values of family"),
        (changed("tokens", [1e3 * 10 ** (i % 3) + i for i in range(25)] + [1e8 * 10 ** (i % 3) + i for i in range(25)]),
         {}, "share no range of data (1e+03 to 1e+05"),
        (groups({}, {}), {"reference": "z"}, "reference='z' is not a group of architecture; there are a, b"),
        (groups({}, {}), {"shared": ("gamma",)}, "shared='gamma' cannot be shared alone in form='chinchilla'"),
        (groups({}, {}), {"shared": ("E", "A", "B", "alpha", "beta")}, "leaves nothing to compare"),
        (groups({}, {}), {"form": "bnsl", "params": None}, "form='bnsl' cannot be compared: a break that one group"),
        (groups({}, {}), {"bootstrap": 10}, "bootstrap=10 must be 0 or a whole number of at least 99"),
        (groups({}, {}), {"level": 95}, "level=95 must lie between 0 and 1"),
        (groups({}, {}), {"floor": "none"}, "floor='none' is not one of free, tested"),
        (groups({}, {}), {"by": "model"}, "by='model' is not a column"),
    ],
)  # fmt: skip
def test_what_does_not_compare_is_refused(table, options, said):
    with pytest.raises(ValueError) as refusal:
        compare(table, **{"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 0, **options})
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_group_on_a_ray_is_not_to_be_believed():
    table = groups({}, {})
    table["tokens"] = [*table["tokens"][:25], *(100 * np.array(table["params"][25:]))]
    with pytest.raises(FitError, match=r"^architecture=b: .*move together"):
        compare(table, params="params", data="tokens", loss="loss", bootstrap=0)


def test_laws_of_different_losses_do_not_compare():
    table = groups({}, {})
    table["other"] = table["loss"]
    first = fit(table, params="params", data="tokens", loss="loss", where="architecture == 'a'", bootstrap=0)
    second = fit(table, params="params", data="tokens", loss="other", where="architecture == 'b'", bootstrap=0)
    with pytest.raises(ValueError, match="only the same quantity compares"):
        compare(first, second)


def other(form, roles, truth, seed, noise=0.002):
    """Two groups of a planted form; what `truth` holds differs in the second, whose losses are also 10 % higher."""
    axes, law, planted = PLANTED[form, roles]
    names = {"params": "params", "data": "tokens", "seen": "seen"}
    table = {}
    for g, more in enumerate(({}, truth)):
        loss = 1.1**g * law(*axes, **{**planted, **more})
        loss = loss * np.exp(np.random.default_rng(seed + g).normal(0, noise, len(loss)))
        part = {names[role]: axis for role, axis in zip(roles, axes, strict=True)}
        part |= {"loss": loss, "architecture": ["ab"[g]] * len(loss)}
        for name, values in part.items():
            table.setdefault(name, []).extend(values)
    return table, {role: names[role] for role in roles}, planted


@pytest.mark.parametrize(
    ("form", "roles", "exponent", "by"),
    [
        ("kaplan", ("params", "data"), "beta", 0.02), ("gamma", ("params", "data"), "alpha", 0.06),
        ("varying", ("params", "data"), "alpha", 0.05), ("tied", ("params", "data"), "alpha", 0.03),
        ("quadrature", ("data",), "alpha", 0.05), ("hill", ("data",), "alpha", 0.1),
        pytest.param("repeated", ("params", "data", "seen"), "beta", 0.05, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_every_form_finds_a_planted_difference_of_exponents(form, roles, exponent, by):
    base = PLANTED[form, roles][2][exponent]
    table, columns, _ = other(form, roles, {exponent: base + by}, 3)
    law = compare(table, **columns, loss="loss", form=form, bootstrap=0).law
    found = next(d for d in law.differences if d.exponent == exponent)
    low, high = (np.inf if end is None else end for end in (found.low, found.high))
    assert (-np.inf if found.low is None else low) < by < high
    assert abs(found.value - by) < max(0.5 * by, 0.01) and law.test("exponents").p < 0.05
    same, _, _ = other(form, roles, {}, 5)
    none = compare(same, **columns, loss="loss", form=form, bootstrap=0).law
    assert none.test("exponents").p > 0.01 and none.test("amplitudes").p < 0.01


def test_no_groups_floor_lies_below_the_measured_one():
    table = groups({"E": 0.1}, {"E": 0.1, "A": 500.0}, noise=0.003)
    options = {"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 0}
    plain, bound = compare(table, **options), compare(table, **options, noise_floor=0.3)
    assert all(0.3 <= v["E"] < 0.31 for m in bound.law.models for v in m.values.values())
    assert min(v["E"] for m in plain.law.models for v in m.values.values()) < 0.25
    columns = {name: np.array(values)[:25] for name, values in table.items()}
    one = {"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 0, "objective": "log_lsq"}
    laws = [fit(columns, **one, noise_floor=0.3), fit({**columns, "loss": 1.1 * columns["loss"]}, **one)]
    free = compare(*laws, bootstrap=0).law.model("all free").values
    assert free["law 1"]["E"] >= 0.3 > free["law 2"]["E"]


def test_a_frontier_keeps_the_clusters_of_its_points():
    assert joined(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 2, 3]
    table = groups({}, {"A": 480.0})
    table["flops"] = (6 * np.array(table["params"]) * np.array(table["tokens"])).tolist()
    table["cluster"] = [f"{d:g}" for d in table["tokens"]]
    law = compare(table, params="params", data="tokens", loss="loss", bootstrap=0)
    assert law.along and any("clusters as independent" in note for note in law.along[0].warnings)


@pytest.mark.slow
def test_intervals_without_draws_know_clusters():
    """One axis, 8 subsets of 3 runs with most of the noise shared, which the F-test's threshold does not know."""
    rng, form, x, hits = np.random.default_rng(0), choose("power", ("data",)), np.geomspace(1e3, 1e6, 8).repeat(3), 0
    for seed in range(100):
        parts = {}
        for name in "ab":
            noise = rng.normal(0, 0.05, 8).repeat(3) + rng.normal(0, 0.01, 24)
            one = {"d": x, "loss": 5 * x**-0.3 * np.exp(noise), "cluster": np.arange(8).repeat(3)}
            parts[name] = rows({k: v.tolist() for k, v in one.items()}, {"data": "d"}, "loss")
        law = join(parts, form, "all runs", shared=(), floor="free", level=0.95, bootstrap=0, seed=seed)
        hits += law.differences[0].low <= 0 <= law.differences[0].high
    assert hits >= 88  # 95 less three binomial errors


def test_draws_end_where_a_difference_is_plainly_none_and_p_stays_valid(monkeypatch):
    """Besag and Clifford 1991: the share of tables with p below any level is at most that level, whatever ends it."""
    from chemscale.laws.comparison import nested

    rng = np.random.default_rng(3)
    monkeypatch.setattr(nested, "ratios", lambda smaller, larger: lambda losses: losses)
    monkeypatch.setattr(nested, "simulated", lambda fitted, clusters, count, rng: [rng.uniform(size=count)])
    found = [nested.by_draws(None, None, float(s), None, 400, rng) for s in rng.uniform(size=4000)]
    p, draws = np.array(found).T
    for level in (0.01, 0.05, 0.1, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 4000) + 0.0025)
    assert (draws[p <= 0.0475] == 400).all() and draws.mean() < 100


def test_a_small_p_beside_intervals_that_hold_zero_is_told_as_such():
    test = SimpleNamespace(question="exponents", p=0.015)
    wide = SimpleNamespace(
        group="b", reference="a", exponent="alpha", value=-0.13, low=-0.32, high=0.06, excludes_zero=False
    )
    law: Any = SimpleNamespace(own_floors=True, tests=(test,))
    differences: Any = [wide]
    told = _exponents(law, differences, CANNOT_TELL, 0.95)
    assert "cannot tell whether the exponent changes (p = 0.015, but no interval leaves out 0)" in told


def test_groups_of_sizes_apart_are_told_where_size_is_no_axis():
    """One law for all: over data alone a difference in size passes for one of architecture, and must be said so."""
    whole = groups({}, {}, side=5)
    small, large = SIZES[0], SIZES[-1]
    kept = [
        i for i, (n, who) in enumerate(zip(whole["params"], whole["architecture"], strict=True))
        if n == (small if who == "a" else large)
    ]  # fmt: skip
    table = {name: [values[i] for i in kept] for name, values in whole.items()}
    options = {"data": "tokens", "loss": "loss", "form": "power", "bootstrap": 0}
    found = compare(table, **options)
    assert found.law.ratios[0].high < 0.9  # not of the architecture, for both have one law
    told = "architecture=a was run at 1e+06 to 1e+06 params, b 1e+09 to 1e+09: no range in common"
    assert told in found.warnings[0] and "may be size and not architecture" in found.warnings[0]
    assert not compare({**table, "params": [small] * len(kept)}, **options).warnings
    assert not any("no range" in said for said in compare(whole, params="params", **options).warnings)
