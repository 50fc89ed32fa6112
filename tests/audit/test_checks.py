"""Each check on a clean table, and on one with a planted fault that it must find."""

import numpy as np
import pytest

import chemscale as cs
from tests.audit.tables import clean, searched
from tests.laws.planted import chinchilla

COLUMNS = {"params": "n", "data": "d", "loss": "loss"}
AGAINST = "architecture=b against architecture=a"
UNKNOWABLE = {
    "convergence",
    "edge",
    "tuning",
    "leakage",
    "left out",
    "mixed",
    "noise floor",
    "definitions",
    "evaluator",
}


def verdicts(table, **options):
    found = cs.audit(table, **{**COLUMNS, **options})
    return {f.check: f for f in found.findings}, found


@pytest.fixture(scope="module")
def passed():
    return verdicts(clean())


def test_a_clean_table_passes_and_what_it_does_not_say_is_not_called_fine(passed):
    found, audit = passed
    assert {check for check, f in found.items() if f.verdict == "cannot tell"} == UNKNOWABLE
    assert {f.verdict for check, f in found.items() if check not in UNKNOWABLE} == {"fine"}
    assert all(f.settle for f in found.values() if f.verdict != "fine")
    marks = {c.kind: c.mark for c in audit.claims}
    assert marks["parameter"] == marks["law"] == marks["floor"] == "supported"
    assert all(set(c.unchecked) <= UNKNOWABLE for c in audit.claims)


def spoil(**columns):
    return lambda table: {**table, **{name: make(table) for name, make in columns.items()}}


def rows_of(table, index):
    return {name: values[index] for name, values in table.items()}


FAULTS = {
    "decades": lambda t: rows_of(t, t["n"] < 2e8),
    "collinear": spoil(d=lambda t: 20 * t["n"] * np.exp(np.random.default_rng(0).normal(0, 0.2, 50))),
    "replicates": lambda t: rows_of(t, t["seed"] == 0),
    "duplicates": lambda t: {name: np.concatenate([v, v[:3]]) for name, v in t.items()},
    "outliers": spoil(loss=lambda t: t["loss"] * np.where(np.arange(50) == 12, 1.2, 1)),
    "identified": spoil(loss=lambda t: 0.5 + 406.4 / t["n"] ** 0.34 + 1e-9 * t["d"] ** 0.01),
    "form": spoil(loss=lambda t: t["loss"] * np.where(t["n"] * t["d"] > 1e20, 1.3, 1)),
    "definitions": spoil(params_all=lambda t: t["n"] + 3e7),
    "settings": spoil(
        site=lambda t: np.where(np.arange(50) % 3 == 0, "x", "y"),
        loss=lambda t: t["loss"] * np.where(np.arange(50) % 3 == 0, 1.03, 1),
    ),
    "left out": spoil(status=lambda t: np.where(t["n"] * t["d"] > 5e21, "diverged", "finished")),
    "mixed": spoil(optimiser=lambda t: np.where(t["seed"] == 0, "adamw", "sgd")),
    "convergence": spoil(updates=lambda t: np.where(t["d"] < 2e9, 31, 5000)),
    "evaluator": spoil(evaluator=lambda t: np.where(t["seed"] == 0, "v1", "v2")),
    "leakage": spoil(valid_loss=lambda t: t["loss"]),
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_a_concern(check):
    found, _ = verdicts(FAULTS[check](clean()))
    assert found[check].verdict == "concern", found[check]
    assert found[check].settle


def test_whole_curves_in_place_of_runs_are_found():
    """Twenty checkpoints of each of five runs: the errors along a curve are a walk, not twenty draws."""
    rng = np.random.default_rng(0)
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 20)))
    walk = np.cumsum(rng.normal(0, 0.004, (20, 5)), axis=0).ravel()
    found, audit = verdicts({"n": n, "d": d, "loss": chinchilla(n, d) * np.exp(walk)})
    assert found["correlated"].verdict == "concern"
    assert "correlated" in next(c for c in audit.claims if c.kind == "parameter").against


def test_one_run_that_decides_is_found():
    """An exponent of data that one far run alone speaks for."""
    table = clean(noise=0.002)
    near = rows_of(table, table["d"] < 3e10)
    far = {name: np.append(v, v[-1]) for name, v in near.items()}
    far["d"][-1], far["loss"][-1] = 1e12, 1.12 * far["loss"][-1]
    found, _ = verdicts(far)
    assert found["outliers"].verdict == "concern" or found["influence"].verdict == "concern"
    assert "1e+12" in found["influence"].answer


@pytest.mark.parametrize(("lowest", "verdict"), [(1e-3, "fine"), (3e-2, "concern")])
def test_a_best_rate_at_the_edge_is_found(lowest, verdict):
    found, _ = verdicts(searched(lowest))
    assert found["edge"].verdict == verdict
    assert found["tuning"].verdict == "fine"
    assert found["tuning"].numbers["trials"] == {"5": 25}


def test_unequal_tuning_is_found():
    table = searched()
    kept = (table["n"] > 5e7) | (table["lr"] == 1e-3)
    found, audit = verdicts(rows_of(table, kept))
    assert found["tuning"].verdict == "concern"
    assert found["tuning"].numbers["trials"] == {"1": 5, "5": 20}
    assert all("tuning" in c.against for c in audit.claims)


def test_kinds_that_no_law_may_mix_are_audited_apart():
    one, other = clean(), clean(seed=1)
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    both["architecture"] = np.array(["a"] * 50 + ["b"] * 50)
    found = cs.audit(both, **COLUMNS)
    assert {f.about for f in found.findings} == {"architecture=a", "architecture=b", AGAINST}
    assert found.of(AGAINST)[0].verdict == "cannot tell"  # nothing says that they share a test set
    by_seed = cs.audit(both, **COLUMNS, by="seed")
    assert {f.about for f in by_seed.findings} == {"seed=0", "seed=1", "seed=1 against seed=0"}


def test_rows_without_a_loss_are_named_with_their_place():
    table = clean()
    table["loss"][table["n"] * table["d"] > 5e21] = np.nan
    found, _ = verdicts(table)
    assert found["left out"].verdict == "concern"
    assert "2 without a positive loss or axis; 1 cell has no other run (the largest at n=1e+10 d=1e+12)" in (
        found["left out"].answer
    )


def test_a_settings_column_that_an_axis_decides_is_no_setting():
    found, _ = verdicts({**clean(), "width": np.unique(clean()["n"], return_inverse=True)[1], "c": clean()["n"] ** 2})
    assert set(found["settings"].numbers) == {"seed"}


HOLES = {
    "loss": lambda t: np.where(np.arange(125) == 7, np.nan, t["loss"]),
    "lr": lambda t: [None if rate == 1e-3 else rate for rate in t["lr"]],
    "valid_loss": lambda t: ["n/a"] * 125,
    "updates": lambda t: ["10k"] * 125,
    "versions": lambda t: ["1.2", "two"] + ["[1]"] * 123,
    "spec": lambda t: ["large"] * 125,
}


@pytest.mark.parametrize("name", HOLES)
def test_columns_with_holes_and_words_are_audited_all_the_same(name):
    """Of a searched table: the other trials of each cell, and the other columns, still say what they say."""
    table = {**searched(), "status": ["finished"] * 125}
    found, _ = verdicts({**table, name: HOLES[name](table)})
    assert found["edge"].numbers["cells"] == 25
    assert found["mixed"].verdict == found["convergence"].verdict == "cannot tell"


def test_the_floor_of_any_form_is_a_claim():
    _, found = verdicts(clean(), form="quadrature")
    assert [c.statement[:14] for c in found.claims if c.kind == "floor"] == ["quadrature: s,"]
