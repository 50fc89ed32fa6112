"""Architectures against each other, and the audit's marks, against what was planted."""

import csv
import io

import pytest

from chemscale.audit.comparing import compared
from chemscale.audit.groups import groups_of
from chemscale.audit.subject import of_groups
from chemscale.report import figures, page
from chemscale.report.audited import concerns
from chemscale.report.compared import comparisons
from tests.report.planted import PAINN, SCHNET, rows_of


@pytest.fixture(scope="module")
def pair(found):
    (one,) = found.comparisons
    return one


def test_two_potentials_are_compared_and_the_text_model_is_not(pair):
    assert set(pair.names) == {"PaiNN", "SchNet"}
    assert pair.sentence.startswith("SchNet against PaiNN")
    assert "e+0" not in pair.sentence


def test_the_planted_difference_of_exponents_lies_in_its_interval(pair):
    for one in pair.differences:
        if one.along in ("parameters", "structures"):
            name = "alpha" if one.along == "parameters" else "beta"
            planted = getattr(SCHNET, name) - getattr(PAINN, name)
            assert (one.low is None or one.low <= planted) and (one.high is None or planted <= one.high)
            assert one.clear == ((one.low is not None and one.low > 0) or (one.high is not None and one.high < 0))


def test_pairs_share_their_subset(pair, store):
    (look,) = pair.looks
    sizes = {row["structures"] for row in rows_of(store) if row["architecture"] == "painn"}
    for _, data, ratio in look.points:
        assert round(data) in sizes
        assert ratio > 1  # SchNet's planted law lies above PaiNN's everywhere
    assert look.ratio_interval[0] < look.ratio < look.ratio_interval[1]


def test_one_architecture_is_compared_with_nothing(store):
    groups = [g for g in groups_of(rows_of(store)) if g.architecture == "painn"]
    assert comparisons(compared(of_groups(groups, {}, {}, {}))) == ((), ())


def test_what_cannot_be_compared_is_said(store):
    groups = groups_of([row for row in rows_of(store) if row["params"] < 8_000 and row["architecture"] != "chemgpt"])
    found, notes = comparisons(compared(of_groups(groups, {}, {}, {})))
    assert found == ()
    assert "could not be compared" in notes[0]


def test_figures_hold_their_values(pair):
    rows = list(csv.DictReader(io.StringIO(figures.differences(pair).csv)))
    assert [float(r["difference"]) for r in rows] == pytest.approx([d.value for d in pair.differences], rel=1e-4)
    rows = list(csv.DictReader(io.StringIO(figures.paired(pair).csv)))
    assert [float(r["ratio"]) for r in rows] == pytest.approx([p[2] for p in pair.looks[0].points], rel=1e-4)


def test_runs_against_compute_are_all_there(pair, store):
    flops = {row["flops"] for row in rows_of(store) if row["family"] == "structures" and row["status"] == "finished"}
    rows = list(csv.DictReader(io.StringIO(figures.costs(pair).csv)))
    assert {float(r["flops"]) for r in rows} == {float(f"{f:.6g}") for f in flops}


def test_the_audit_marks_every_claim(found):
    marks = [one.mark for one in found.audit.claims]
    assert set(marks) <= {"supported", "not supported", "cannot tell"}
    assert marks == sorted(marks, key=["supported", "not supported", "cannot tell"].index)
    assert f"Of {len(marks)} claims" in found.audit.sentence
    text = page.html(found)
    for question in concerns(found.audit):
        assert question.replace("'", "&#39;") in text
