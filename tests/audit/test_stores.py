"""The audit of a store: its points, statuses, checksums, searches and forecasts."""

import json
from dataclasses import replace

import pytest

import chemscale as cs
from chemscale.audit.audit import of_store
from chemscale.audit.convergence import points_of
from chemscale.audit.forecasts import MOST, forecasts_of
from chemscale.audit.groups import groups_of
from chemscale.audit.origin import leakage
from chemscale.audit.subject import of_groups
from chemscale.audit.thinning import run_ids_of
from chemscale.data.overlaps import Overlap
from chemscale.plan import freeze
from chemscale.plan.register import CHANGED
from chemscale.records.store import Store
from chemscale.sweep import loguniform
from chemscale.sweep.written import written
from tests.report import planted
from tests.report.planted import CHEMGPT, PAINN, SCHNET, break_one, finish, full_store, plant, spec


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return full_store(tmp_path_factory.mktemp("audited") / "store")


@pytest.fixture(scope="module")
def found(store):
    return cs.audit(store)


def of(audit, about):
    return {f.check: f for f in audit.of(about)}


def test_every_architecture_is_asked_everything(found):
    assert {f.about for f in found.findings} == {"ChemGPT", "PaiNN", "SchNet", "SchNet against PaiNN"}
    names = {f.check for f in found.of("ChemGPT")}
    assert names == {f.check for f in found.of("PaiNN")} and len(names) == 19


def test_the_planted_curves_have_not_converged_and_claims_fall_with_them(found):
    seen = of(found, "ChemGPT")["convergence"]
    assert seen.verdict == "concern"
    assert seen.numbers["falling"] == seen.numbers["judged"] == 20
    slopes = [c for c in found.claims if c.about == "ChemGPT" and c.kind == "tenfold"]
    assert len(slopes) == 2 and all(c.mark == "cannot tell" and "convergence" in c.against for c in slopes)


def test_short_axes_bear_no_exponent_and_the_deciding_run_is_named(found):
    data = next(c for c in found.claims if c.about == "PaiNN" and c.kind == "exponent")
    assert data.mark == "not supported"
    assert data.runs[0].at["structures"] >= 200 * 10**1.5 * 0.999


def test_forecasts_are_scored(found):
    marks = {c.statement.split()[0]: c.mark for c in found.claims if c.kind == "forecast"}
    assert marks == {"ChemGPT": "supported", "SchNet": "not supported", "PaiNN": "supported"}


def test_converged_runs_support_what_was_planted(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "points_of", flat)
    monkeypatch.setattr(planted, "row_of", row_with("ab12"))
    store = Store(tmp_path / "store", create=True)
    plant(store, CHEMGPT)
    found = cs.audit(store)
    seen = of(found, "ChemGPT")
    assert {seen[name].verdict for name in ("convergence", "leakage", "mixed", "left out", "decades")} == {"fine"}
    marks = {c.kind: c.mark for c in found.claims if c.kind in ("tenfold", "exponent", "limit")}
    assert marks == {"tenfold": "supported", "exponent": "supported", "limit": "supported"}


def flat(law, run, loss):
    """Points whose last ones before the cooldown agree."""
    for i in range(1, 9):
        yield {
            "run_id": run.id, "step": run.updates * i // 8, "examples": run.examples * i // 8,
            "valid_loss": loss * (2 if i == 1 else 1), "valid_loss_se": loss * law.error,
        }  # fmt: skip


ROW = planted.row_of


def row_with(checksum):
    return lambda law, run, *rest: {**ROW(law, run, *rest), "test_checksum": checksum.format(run.seed)}


def test_two_test_sets_in_one_law_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "row_of", row_with("set{}"))
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, forecast=False)
    seen = of(cs.audit(store), "PaiNN")["leakage"]
    assert (seen.verdict, seen.numbers["test_sets"]) == ("concern", 2)


def search_rates(store):
    """Three more rates in each cell of PaiNN, the best the largest of them; returns all runs."""
    made = []
    for width, params in zip(PAINN.widths, PAINN.params, strict=True):
        for size in PAINN.sizes:
            run = spec(PAINN, width, size)
            made.append(run)
            for rate in (1e-3, 1e-2, 3e-2):
                made.append(replace(run, optim=replace(run.optim, lr=rate)))
                finish(store, PAINN, made[-1], params, PAINN.loss(params, size) * (3e-3 / rate) ** 0.1)
    return made


@pytest.mark.parametrize(("highest", "verdict"), [(1.0, "fine"), (3.1e-2, "concern")])
def test_the_edge_is_that_of_the_space_where_the_store_has_it(tmp_path, highest, verdict):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, replicates=False, forecast=False)
    store.enlist("rates", search_rates(store), space=written({"optim.lr": loguniform(1e-3, highest)}))
    seen = of(cs.audit(store), "PaiNN")["edge"]
    assert (seen.verdict, seen.numbers["cells"]) == (verdict, 9)
    if verdict == "concern":
        assert seen.answer.startswith("9 times in 9 cells, e.g. lr=0.03")


def test_a_space_of_another_version_is_as_none(tmp_path):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, replicates=False, forecast=False)
    store.enlist("rates", search_rates(store), space=[{"field": "optim.lr", "kind": "later"}])
    assert of(cs.audit(store), "PaiNN")["edge"].answer.startswith("9 times in 9 cells")


def test_two_potentials_are_compared_and_their_concerns_stand_against_it(found):
    one = next(c for c in found.claims if c.kind == "comparison")
    assert one.about == "SchNet against PaiNN" and one.statement.startswith(one.about)
    assert one.mark == "cannot tell" and "convergence" in one.against


def test_commits_of_one_spec_version_are_one_code(tmp_path, monkeypatch):
    for name, marks, verdict in (("a", "de", "fine"), ("b", "d+", "concern")):
        monkeypatch.setattr(planted, "row_of", committed(marks))
        store = Store(tmp_path / name, create=True)
        plant(store, PAINN, forecast=False)
        seen = of(cs.audit(store), "PaiNN")["mixed"]
        assert seen.verdict == verdict
        assert "2 " in seen.answer and "commit" in seen.answer


def test_flops_of_two_rules_are_named(tmp_path, monkeypatch):
    """A store that goes on with a model whose work has changed: old rows have no rule, which is the first."""
    rules = {0: None, 1: 2}
    monkeypatch.setattr(
        planted, "row_of", lambda law, run, *rest: {**ROW(law, run, *rest), "flops_rule": rules[run.seed % 2]}
    )
    store = Store(tmp_path / "s", create=True)
    plant(store, PAINN, forecast=False)
    seen = of(cs.audit(store), "PaiNN")["mixed"]
    assert seen.verdict == "concern" and "2 values of flops_rule (1, 2)" in seen.answer


def committed(marks):
    """Seeds differ in the commit: an even one has the first mark after eleven letters, an odd one the second."""
    return lambda law, run, *rest: {
        **ROW(law, run, *rest), "versions": json.dumps({"commit": "abcdefghijk" + marks[run.seed % 2]})
    }  # fmt: skip


def test_architectures_tuned_unequally_are_found(tmp_path):
    store = Store(tmp_path / "store", create=True)
    for law in (PAINN, SCHNET):
        plant(store, law, replicates=False, forecast=False)
    search_rates(store)
    found = cs.audit(store)
    pair = found.of("SchNet against PaiNN")[0]
    assert pair.verdict == "concern"
    assert (
        "1 trial per cell against 4 trials per cell" in pair.answer
        and "searched over nothing against lr" in pair.answer
    )
    seen = of(found, "PaiNN")
    assert seen["edge"].verdict == "concern" and "9 times in 9 cells, e.g. lr=0.03" in seen["edge"].answer
    assert "not the best trial of its cell" in seen["left out"].answer


def test_a_report_hands_over_what_it_has_read(store, found):
    groups = groups_of(store.runs().to_pylist())
    again = of_store(store, groups, points_of(store, run_ids_of(groups)), {}, {})
    assert again.findings == found.findings
    assert again.claims == found.claims


def test_a_store_can_be_filtered_and_its_loss_named(store):
    found = cs.audit(store, where="architecture == 'painn'", loss="energy_mae")
    assert {f.about for f in found.findings} == {"PaiNN"}
    assert any("energy_mae" in c.statement for c in found.claims)


def test_empty_and_unfinished_stores_are_one_sentence(tmp_path):
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(ValueError, match="no run at all"):
        cs.audit(store)
    break_one(store, PAINN, "not finite")
    with pytest.raises(ValueError, match=r"no finished run \(diverged\)"):
        cs.audit(store)


@pytest.mark.parametrize(("shared", "verdict"), [(0, "fine"), (3, "concern")])
def test_examples_of_two_splits_on_disk_are_a_leak(store, shared, verdict):
    groups = [replace(group, rows=tuple({**row, "test_checksum": "0" * 16} for row in group.rows))
              for group in groups_of(store.runs().to_pylist()) if group.architecture == "painn"]  # fmt: skip
    (mine,) = of_groups(groups, {}, {}, {})
    found = Overlap({"train": 900, "valid": 50, "test": 50}, {("test", "train"): shared}, 0)
    said = leakage(replace(mine, overlap=found))
    assert said.verdict == verdict
    assert ("3 of 50 test examples on disk are train examples too (6.00%)" in said.answer) == (shared > 0)


def test_forecasts_of_other_runs_are_left_out_and_plans_find_their_runs(tmp_path):
    """A filter leaves finished runs of others out, and a plan registered by a name is scored by the run that came."""
    store = Store(tmp_path / "store", create=True)
    plant(store, CHEMGPT, replicates=False)
    plant(store, PAINN, replicates=False)
    law = cs.fit(store.runs(architecture="painn"), loss="force_mae", bootstrap=0)
    largest, size = PAINN.params[-1], 2 * PAINN.sizes[-1]
    plan = freeze(law, params=largest, data=size, metric="force_mae", architecture="painn")
    store.register_forecast("next", plan)
    where = "architecture == 'painn'"
    open_, closed = (c for c in cs.audit(store, where=where).claims if c.kind == "forecast")
    assert {open_.about, closed.about} == {"PaiNN"}
    assert sorted([open_.mark, closed.mark]) == ["cannot tell", "supported"]
    finish(store, PAINN, spec(PAINN, PAINN.widths[-1], size), largest, PAINN.loss(largest, size))
    marks = [c.mark for c in cs.audit(store, where=where).claims if c.kind == "forecast"]
    assert marks == ["supported", "supported"]


def test_many_forecasts_are_summed_up_and_a_changed_one_is_told():
    """Nine in ten of 95 % intervals is likely of 40 forecasts, and six in ten is not."""

    def told(inside):
        made = {
            str(i): {"architecture": "painn", "metric": "m", "value": 1.0, "low": 0.9, "high": 1.1} for i in range(41)
        }
        rows = {str(i): {"m": 1.0 if i < inside else 2.0} for i in range(40)}
        return list(forecasts_of(made, rows))

    first, *others = told(36)
    assert (
        len(others) == MOST and [c.mark for c in others] == ["not supported"] * 4 + ["cannot tell"] + ["supported"] * 5
    )
    assert first.mark == "supported" and "36 of 40 measured" in first.why
    assert told(24)[0].mark == "not supported"
    (changed,) = forecasts_of({"next": {"architecture": "painn", "value": None, "reason": CHANGED}}, {})
    assert changed.mark == "not supported" and "next" in changed.statement
