"""Hygiene: a planted fault must be named, and a clean grid must stay unmentioned."""

import json

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.laws.doubt.counts import counts_beside
from chemscale.laws.doubt.hygiene import Hygiene
from chemscale.laws.doubt.layout import leans
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from tests.laws.planted import grid, wide


def law_of(table, **options):
    return fit(table, **{"params": "params", "data": "tokens", "loss": "loss", "bootstrap": 100, **options})


def test_a_clean_grid_has_nothing_to_mention():
    found = law_of(wide(noise=0.01)).hygiene
    assert found.sentences == ()
    assert (found.outliers, found.at_bounds, found.duplicates, found.repeated) == ((), (), 0, 0)
    assert found.axes["params"].decades == pytest.approx(3)
    assert (found.axes["params"].levels, found.axes["params"].top_runs) == (6, 12)
    assert found.correlation == pytest.approx(0, abs=1e-9)
    assert found.ratio_decades == pytest.approx(6)


@pytest.mark.parametrize("objective", ["huber", "log_lsq"])
def test_a_run_left_out_gives_the_fit_without_it(objective):
    table = wide(noise=0.02, side=4)
    law = law_of(table, objective=objective)
    one = law.hygiene.alone[0]
    kept = np.arange(16) != one.runs[0]
    fresh = law_of({name: values[kept] for name, values in table.items()}, objective=objective, bootstrap=0)
    assert one.exponents["alpha"] == pytest.approx(fresh.parameters["alpha"] or np.nan, rel=2e-3)
    far = fresh.predict(params=1e11, data=1e13).value
    assert one.farthest == pytest.approx(far, rel=2e-3)


def test_one_wrong_run_is_found_and_named():
    table = wide(noise=0.003, side=5)
    table["loss"][-1] *= 1.5
    found = law_of(table, objective="log_lsq").hygiene
    assert found.alone[0].runs == (24,)
    assert found.outliers == (24,)
    assert 24 in law_of(table).hygiene.outliers


def test_exact_repeats_are_told_from_replicates():
    table = wide(noise=0.01, repeats=2)
    assert law_of(table).hygiene.repeated == 36
    table = wide(noise=0.01)
    twice = {name: np.concatenate([values[:5], values]) for name, values in table.items()}
    once, law = law_of(table), law_of(twice)
    assert any("left out 5 rows that repeat an earlier one exactly" in text for text in law.warnings)
    assert (law.n_runs, law.hygiene.duplicates, law.hygiene.repeated) == (36, 0, 0)
    assert law.intervals == once.intervals
    numbered = law_of({**twice, "index": np.arange(41)})
    assert numbered.intervals == once.intervals
    pair = {name: values[[0, 0, *range(1, 36), *range(36)]] for name, values in table.items()}
    assert law_of({**pair, "index": np.r_[:37, 1:37]}).n_runs == 36  # copies of copies
    measured = law_of({**twice, "seconds": np.linspace(1, 2, 41)})  # another value in every row is no number of it
    assert measured.n_runs == 41
    seeds = law_of({**twice, "seed": np.repeat([1, 0], [5, 36])})
    assert (seeds.n_runs, seeds.hygiene.duplicates) == (41, 5)


def test_a_rounded_loss_is_a_copy_only_where_the_whole_row_is():
    table = wide(noise=0.01)
    table["loss"] = np.round(table["loss"], 3)
    table["seed"] = np.zeros(36, int)
    again = {**rows(table, slice(0, 4)), "seed": np.array([1, 1, 0, 0])}
    law = law_of({name: np.concatenate([table[name], again[name]]) for name in table})
    assert (law.n_runs, law.hygiene.duplicates) == (38, 2)
    assert any("2 rows have the axes and the loss of an earlier one" in text for text in law.warnings)


def rows(table, which):
    return {name: values[which] for name, values in table.items()}


def test_axes_that_move_together_are_named():
    rng = np.random.default_rng(0)
    n = np.geomspace(1e7, 1e10, 40)
    table = grid(n, [1.0], noise=0.003)
    table["tokens"] = 20 * n * 10 ** rng.normal(0, 0.1, 40)
    table["loss"] = 1.69 + 406.4 / n**0.34 + 410.7 / table["tokens"] ** 0.28 * np.exp(rng.normal(0, 0.003, 40))
    found = law_of(table).hygiene
    assert found.spare == pytest.approx(0.1, rel=0.3)
    assert leans(found.correlation, found.spare)
    assert any("move together" in text for text in found.sentences)
    assert found.condition > 3 * law_of(wide(noise=0.01)).hygiene.condition


def test_a_second_count_of_parameters_is_refitted():
    """Embeddings of 1e7 parameters on top of N: counted with them, small models look alike and alpha rises."""
    table = wide(noise=0.002)
    table |= {
        "params_all": table["params"] + 3e7,
        "params_thousands": table["params"] / 1e3,
        "hyperparams": table["loss"],
    }
    law = law_of(table)
    (recount,) = law.hygiene.recounts
    assert (recount.role, recount.column) == ("params", "params_all")
    assert recount.moved == ("alpha",)
    assert any("counted by params_all instead of params, alpha goes from 0.34" in text for text in law.warnings)
    other = Problem.of(law.shape, law.problem.objective, np.stack([table["params_all"], table["tokens"]], 1),
                       table["loss"], np.ones(36))  # fmt: skip
    assert recount.exponents["alpha"] == pytest.approx(solve(other)[3], rel=1e-3)


def test_counts_can_be_named_and_must_be_numbers():
    columns = {"n": [1e3, 1e4], "weights_total": [2e3, 1.1e4], "loss": [2.0, 1.0], "who": ["a", "b"]}
    assert list(counts_beside(columns, {"params": "n"}, ["weights_total"])) == ["weights_total"]
    assert counts_beside(columns, {"params": "n"}) == {}
    with pytest.raises(ValueError, match="counts column 'who'"):
        counts_beside(columns, {"params": "n"}, ["who"])


def test_an_amplitude_at_its_bound_is_listed():
    table = grid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6), noise=0.01, E=0.0)
    table["loss"] = table["loss"] - 0.3 * table["loss"].min()
    assert "E" in law_of(table).hygiene.at_bounds


def test_json_goes_round():
    found = law_of(wide(noise=0.01, repeats=2)).hygiene
    assert Hygiene.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_a_cluster_is_left_out_whole():
    """The last subset's runs are off together: no single run shows it, all of them do."""
    table = wide(noise=0.003)
    last = np.arange(36) % 6 == 5
    table["loss"] = np.where(last, 1.05 * table["loss"], table["loss"])
    table["cluster"] = (np.arange(36) % 6).astype(str)
    law = law_of(table, objective="log_lsq")
    one = law.hygiene.alone[0]
    assert set(one.runs) == set(np.flatnonzero(last))
    kept = {name: values[~last] for name, values in table.items()}
    fresh = law_of(kept, objective="log_lsq", bootstrap=0)
    assert one.farthest == pytest.approx(fresh.predict(params=1e11, data=1e13).value, rel=2e-3)
    assert all(len(found.runs) == 6 for found in law.hygiene.alone)


def test_a_loss_that_rises_with_size_is_said_to_rise():
    """Larger models that were trained too briefly: beside a large gain from data no correlation shows it."""
    rng, table = np.random.default_rng(0), wide(noise=0.01, side=4)
    n, d = np.asarray(table["params"]), np.asarray(table["tokens"])
    table["loss"] = 10 * n**0.02 * d**-0.1 * np.exp(rng.normal(0, 0.01, len(n)))
    said = [text for text in law_of(table).warnings if "rises with" in text]
    assert len(said) == 1 and said[0].startswith("the loss rises with params (by 5% a decade")  # 10 ** 0.02 = 1.047
    table["loss"] = 10 * d**-0.1 * np.exp(rng.normal(0, 0.01, len(n)))
    assert not any("rises with" in text for text in law_of(table).warnings)


def test_a_scale_beyond_the_range_of_floats_is_unknown_and_warns_of_nothing():
    """Kaplan's N_c is A to the power of 1/alpha, and alpha is at its bound 0 where the loss rises with size."""
    table = grid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e7, 1e9, 5), noise=0.01, E=1, A=0.02, alpha=-0.2)
    law = law_of(table, form="kaplan", interval="profile")
    assert law.parameters["N_c"] is None and law.parameters["D_c"] is not None
