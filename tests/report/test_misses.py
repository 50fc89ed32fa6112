"""Residuals, backtests and frontiers against the laws that were planted."""

import csv
import io

import numpy as np
import pytest

from chemscale.audit.groups import groups_of
from chemscale.laws import fit
from chemscale.report import figures
from chemscale.report.breaking import breaks
from chemscale.report.frontier import cost_of, frontiers
from chemscale.report.misses import backtests, residuals
from tests.report.planted import CHEMGPT, rows_of


def of(found, part, name):
    return next(one for one in getattr(found, part) if one.name == name)


def test_residuals_are_measured_over_fitted(found):
    misses = of(found, "residuals", "ChemGPT")
    assert len(misses.misses) == 20
    for miss in misses.misses:
        assert miss.error == pytest.approx(miss.measured / miss.said - 1)
        assert miss.said == pytest.approx(CHEMGPT.loss(miss.params, miss.data), rel=0.02)
    assert misses.typical < 0.01  # the planted noise is 0.4 %
    assert "no pattern" in misses.sentences[1]


def test_a_form_that_cannot_bend_as_the_runs_leaves_a_pattern(store):
    groups = [g for g in groups_of(rows_of(store)) if g.architecture == "chemgpt"]
    sizes = np.geomspace(1e3, 1e6, 24)
    bent = [{"d": d, "loss": 0.5 + 50 * d**-0.7} for d in sizes]
    law = fit(bent, form="power", data="d", loss="loss", bootstrap=0)
    (misses,) = residuals(groups, {groups[0].slug: law})
    assert "more than chance" in misses.sentences[1]


def test_a_law_of_data_seen_again_is_shown_along_all_its_axes(store):
    group = next(g for g in groups_of(rows_of(store)) if g.architecture == "chemgpt")
    again = [{**row, "molecules_seen": row["molecules"] * (1 + i % 3)} for i, row in enumerate(group.rows)]
    options = {"objective": "log_lsq", "bootstrap": 0, "hold_out": "largest", "along": "seen"}
    law = fit(again, form="repeated", loss=group.metric, **options)
    (left,), (test,) = residuals([group], {group.slug: law}), backtests([group], {group.slug: law})
    assert left.axes == ("params", "data", "seen")
    assert [miss.seen for miss in left.misses] == [row["molecules_seen"] for row in again]
    assert "by molecules seen" in test.sentences[0]
    rows = list(csv.DictReader(io.StringIO(figures.residuals(left, "seen").csv)))
    assert {float(row["molecules_seen"]) for row in rows} == {miss.seen for miss in left.misses}
    alone = fit([{**row, "cluster": None} for row in again], form="repeated", loss=group.metric, **options)
    (broken,) = breaks([group], {group.slug: alone})
    assert any("along molecules seen" in line for line in broken.sentences)


def test_backtests_say_what_was_held_out(found):
    test = of(found, "backtests", "ChemGPT")
    sizes = {(miss.params, miss.data) for miss in test.misses}
    assert (CHEMGPT.params[-1], CHEMGPT.sizes[-1]) in sizes
    assert f"{len(test.misses)} largest runs" in test.sentences[0]
    assert max(abs(miss.error) for miss in test.misses) < 0.05


def test_the_cost_rule_is_the_planted_one(store):
    group = next(g for g in groups_of(rows_of(store)) if g.architecture == "schnet")
    cost = cost_of(group)
    for row in group.rows:
        assert cost.flops(row["params"], row["structures"]) == pytest.approx(row["flops"], rel=0.6)
    data = cost.rule.data(1e5, 1e12)
    assert cost.flops(1e5, data) == pytest.approx(1e12)


def test_the_frontier_follows_the_planted_law(found, store):
    front = of(found, "frontiers", "ChemGPT")
    group = next(g for g in groups_of(rows_of(store)) if g.architecture == "chemgpt")
    cost = cost_of(group)
    for best in front.best:
        sizes = np.geomspace(1e2, 1e9, 4000)
        losses = CHEMGPT.loss(sizes, cost.rule.data(sizes, best.flops))
        step = 1.05  # of the search, which cannot place a minimum at the kink of the cost more finely
        assert best.params_low / step <= sizes[np.argmin(losses)] <= best.params_high * step
        assert best.loss == pytest.approx(losses.min(), rel=0.1)
        assert best.low < best.loss < best.high
    assert any(best.flops == pytest.approx(front.largest) for best in front.best)


def test_lines_of_equal_loss_have_it(found):
    front = of(found, "frontiers", "ChemGPT")
    assert len(front.isolosses) > 3
    for line in front.isolosses:
        said = [CHEMGPT.loss(params, data) for params, data in line.points[::10]]
        assert said == pytest.approx([line.level] * len(said), rel=0.15)


def test_without_flops_there_is_no_frontier(store):
    groups = groups_of([{**row, "flops": None} for row in rows_of(store)])
    assert frontiers(groups, {}) == ()
    assert cost_of(groups[0]) is None


@pytest.mark.parametrize("draw", [figures.frontier, figures.best_sizes])
def test_a_frontier_is_drawn_with_and_without_an_optimum(found, draw):
    from dataclasses import replace

    front = found.frontiers[0]
    full, bare = draw(front), draw(replace(front, best=()))
    assert len(full.csv.splitlines()) > len(bare.csv.splitlines())
    assert "Thick line" in full.caption
    assert "Thick line" not in bare.caption


def test_figures_hold_their_values(found):
    misses = found.residuals[0]
    rows = list(csv.DictReader(io.StringIO(figures.residuals(misses, "data").csv)))
    assert [float(r["error"]) for r in rows] == pytest.approx([m.error for m in misses.misses], rel=1e-4)


def test_laws_that_hold_show_no_sign_of_a_break(found, store):
    text = of(found, "breaks", "ChemGPT")
    assert text.found == () and "in so few clusters, leave no room" in text.sentences[0]
    group = next(g for g in groups_of(rows_of(store)) if g.architecture == "chemgpt")
    alone = [{**row, "cluster": None} for row in group.rows]
    law = fit(alone, form="chinchilla", loss=group.metric, bootstrap=0)
    (text,) = breaks([group], {group.slug: law})
    assert text.found == () and len(text.sentences) == 2
    assert all("no sign of a break" in line for line in text.sentences)


def test_a_planted_break_is_found_and_told(store):
    group = next(g for g in groups_of(rows_of(store)) if g.architecture == "chemgpt")
    chance = np.random.default_rng(0)
    sizes = np.geomspace(1e3, 1e7, 40)
    bent = np.where(sizes < 1e5, (sizes / 1e5) ** -0.05, (sizes / 1e5) ** -0.4) * np.exp(chance.normal(0, 0.005, 40))
    law = fit(
        [{"d": d, "loss": y} for d, y in zip(sizes, bent, strict=True)],
        form="power",
        data="d",
        loss="loss",
        bootstrap=0,
    )
    (broken,) = breaks([group], {group.slug: law})
    ((axis, at),) = broken.found
    assert axis == "data"
    assert 5e4 < at < 2e5
    assert "stops holding" in broken.sentences[0]
