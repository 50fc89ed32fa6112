"""Forecasts out of fold, and the recipe that makes the paper's table from a store."""

import csv

import pytest

from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep.backtest import law_endings, regression_endings, scores
from chemscale.sweep.forecast import Ending
from tests.sweep.test_forecast import planted


def test_scores_are_those_of_the_textbook():
    said = [Ending.of(0.0, 0.1, 5.0), Ending.of(0.0, 0.1, 5.0)]  # 1 and 1
    found = scores(said, [0.5, 1.5])
    assert found.r2 == 0.0 and found.spearman == 0.0 and found.inside == 0.0
    assert found.error == pytest.approx((1.0 + 1 / 3) / 2)


def test_no_run_helps_to_forecast_itself():
    curves = [planted(i) for i in range(10)]
    said = law_endings(curves, 0.2)
    other = [planted(i) for i in range(9)] + [planted(99)]
    changed = law_endings(other, 0.2)
    assert len(said) == 10
    assert all(a.value != b.value for a, b in zip(said[:9], changed[:9], strict=True) if a != b)
    estimates = [c.loss[3] for c in curves]
    finals = [c.final for c in curves]
    wild = [*finals[:-1], 50.0]
    before, after = regression_endings(estimates, finals), regression_endings(estimates, wild)
    assert before[-1] == after[-1]  # its own end is the one thing that its forecast does not know
    with pytest.raises(ValueError, match="at least 5"):
        law_endings(curves[:4], 0.2)


@pytest.mark.slow
def test_the_papers_table_from_a_small_store_and_again(molecules, tmp_path, capsys):
    from chemscale.sweep.preparation import prepare
    from chemscale.train.session import train_in_store
    from tests.benchmarks.forecast_runs import drawn
    from tune_jobs.frey2023_tpe import HEAD, SHARES, main, recipe

    plan = recipe(width=4, samples=6, source=molecules, size=100, examples=320, points=20)
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(ValueError, match="holds no search"):
        main([str(store.path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    runs = prepare(drawn(plan), None)
    store.enlist(plan.name, runs)
    for run in runs:
        train_in_store(run, store.path, resources=Resources(keep="none"))
    main([str(store.path), "--out", str(tmp_path / "out")])
    table = (tmp_path / "out" / "table.csv").read_text()
    rows = list(csv.reader(table.splitlines()))
    assert tuple(rows[0]) == HEAD and len(rows) == 1 + 2 * len(SHARES)
    assert {row[0] for row in rows[1:]} == {plan.name}
    assert len(list((tmp_path / "out").glob("*.svg"))) == len(SHARES)
    main([str(store.path), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "table.csv").read_text() == table
    assert "curve law" in capsys.readouterr().out
