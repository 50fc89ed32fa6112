"""Forecasts of curves: planted truths, public curves out of fold, few runs, broken runs."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from chemscale.sweep.curves import Curve, Schedule
from chemscale.sweep.forecast import CurveLaw, Ending
from chemscale.sweep.tse import Regression, tse, tse_e, tse_ema

SHARED = Path(os.environ.get("CHEMSCALE_SHARED", Path(__file__).parents[3] / "shared")) / "data"
TOTAL = 1_000.0


def rows(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not at hand")
    with open(SHARED / name) as lines:
        return list(csv.DictReader(lines))


def planted(number, *, schedules=True, until=1.0, noise=0.003):
    """A run of a search with a floor, a power law, a drop in the cooldown, and a best rate."""
    rng = np.random.default_rng(number)
    rate = rng.uniform(-2, 2)
    schedule = Schedule(rng.uniform(0, 0.2), rng.uniform(0.1, 0.5)) if schedules else Schedule()
    progress = np.arange(1, 41) / 40
    area, annealed = schedule.area(progress), schedule.annealed(progress)
    loss = (1 + 0.05 * rate**2 + 0.5 * np.exp(0.05 * rng.normal()) * area**-0.35) * np.exp(
        -(0.06 + 0.02 * rate) * annealed
    )
    loss = loss * np.exp(noise * rng.normal(size=len(loss)))
    return Curve(tuple(progress * TOTAL), tuple(loss), TOTAL, schedule, {"log lr": rate}).until(until)


def errors(law, curves, progress):
    said = [law.predict(curve.until(progress)) for curve in curves]
    log = np.array([math.log(s.value / c.final) for s, c in zip(said, curves, strict=True)])
    inside = np.mean([s.low <= c.final <= s.high for s, c in zip(said, curves, strict=True)])
    return float(np.sqrt(np.mean(log**2))), float(inside)


def test_estimators_equal_the_reference_numbers():
    points = [(int(r["epoch"]), float(r["train_loss_step"])) for r in rows("tse/metrics.csv") if r["train_loss_step"]]
    assert len(points) == 1890
    losses = [np.mean([v for e, v in points if e == epoch]) for epoch in range(30)]
    assert tse(losses, 10) == pytest.approx(129.8276312691825, abs=1e-9)
    assert tse_e(losses, 10, 1) == pytest.approx(5.670970326378232, abs=1e-9)
    assert tse_ema(losses, 10, 0.999) == pytest.approx(134.53728970599116, abs=1e-9)


def test_estimators_state_their_windows():
    losses = [8.0, 4.0, 2.0, 1.0]
    assert tse(losses, 2) == 12.0
    assert tse_e(losses, 3, 2) == 3.0
    assert tse_ema(losses, 2, 0.5) == 8 / 4 + 4 / 2 + 2
    with pytest.raises(ValueError, match="needs 5 losses of epochs, there are 4"):
        tse_ema(losses, 4)
    with pytest.raises(ValueError, match="from 1 to 4"):
        tse_e(losses, 3, 5)


def test_the_regression_covers_as_it_says():
    rng, inside = np.random.default_rng(0), []
    for _ in range(400):
        x = rng.normal(size=9)
        y = 0.5 + 0.8 * x + 0.1 * rng.normal(size=9)
        said = Regression.fit(np.exp(x[:8]), np.exp(y[:8])).predict(math.exp(x[8]))
        inside.append(said.low <= math.exp(y[8]) <= said.high)
    assert 0.92 < np.mean(inside) < 0.98  # 0.95 within three standard errors
    with pytest.raises(ValueError, match="at least 3"):
        Regression.fit([1.0, 2.0], [1.0, 2.0])


@pytest.mark.parametrize("shape", ["linear", "sqrt"])
def test_a_schedule_is_that_of_the_loop(shape):
    from chemscale.spec import Optim
    from chemscale.train.optim import lr_share

    optim, updates = Optim(warmup=0.1, cooldown=0.4, shape=shape), 1_000
    ours = Schedule(0.1, 0.4, shape)
    loop = np.array([lr_share(step, updates, optim) for step in range(updates)])
    assert np.abs(ours.share((np.arange(updates) + 0.5) / updates) - loop).max() < 0.03  # root: steep at its start
    assert ours.area(np.array([0.3, 1.0])) == pytest.approx([loop[:300].mean() * 0.3, loop.mean()], abs=2e-3)


def test_the_drop_of_the_cooldown_is_learned_from_finished_runs():
    curves = [planted(i) for i in range(24)]
    law, others = CurveLaw.fit(curves), [planted(i) for i in range(100, 160)]
    rms, inside = errors(law, others, 0.3)  # before any cooldown begins
    assert rms < 0.02 and inside > 0.85
    lines = [math.log(c.until(0.3).loss[-1] / c.final) for c in others]
    assert rms < np.std(lines) / 3


def test_a_rate_never_tried_in_full_is_told_from_its_traits():
    curves = [planted(i) for i in range(24)]
    plain = [Curve(c.examples, c.loss, c.total, c.schedule) for c in curves]
    others = [planted(i) for i in range(100, 160)]
    with_traits, _ = errors(CurveLaw.fit(curves), others, 0.05)
    without, _ = errors(CurveLaw.fit(plain), others, 0.05)
    assert with_traits < without


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_few_finished_runs_give_wide_intervals_that_hold(finished):
    law, others = CurveLaw.fit([planted(i) for i in range(finished)]), [planted(i) for i in range(100, 160)]
    _, inside = errors(law, others, 0.2)
    assert inside > 0.9
    said = law.predict(others[0].until(0.2))
    assert math.log(said.high / said.low) > 0.1
    assert 0.001 < said.chance_below(said.value * 0.9) < 0.45


def test_one_point_and_none():
    law, curve = CurveLaw.fit([planted(i) for i in range(6)]), planted(7)
    others = [planted(i) for i in range(100, 160)]
    for progress in (0.0, 0.03):
        said = law.predict(curve.until(progress))
        assert 0.2 < math.log(said.high / said.low) < 2
        assert errors(law, others, progress)[1] > 0.85
    assert errors(CurveLaw.fit([]), others, 0.03)[1] > 0.85
    with pytest.raises(ValueError, match="without a point has no forecast"):
        CurveLaw.fit([]).predict(curve.until(0.0))


def test_more_of_a_curve_narrows_its_forecast():
    law, curve = CurveLaw.fit([planted(i) for i in range(16)]), planted(50)
    widths = [math.log(s.high / s.low) for s in (law.predict(curve.until(p)) for p in (0.05, 0.3, 0.6, 0.9))]
    assert widths == sorted(widths, reverse=True)


def test_diverged_runs_neither_end_well_nor_spoil_the_law():
    broken = Curve((100.0, 200.0, 300.0), (3.0, math.nan, 2.0), TOTAL)
    climbing = Curve(tuple(np.arange(1, 11) * 100.0), tuple(np.geomspace(2, 2e4, 10)), TOTAL)
    good = [planted(i) for i in range(16)]
    law, others = CurveLaw.fit([*good, broken, climbing]), [planted(i) for i in range(100, 140)]
    assert law.predict(broken).value == math.inf
    assert law.predict(broken).chance_below(10.0) == 0.0
    assert errors(law, others, 0.3)[0] < 2 * errors(CurveLaw.fit(good), others, 0.3)[0]
    begun = law.predict(climbing.until(0.4))
    usual = law.predict(others[0].until(0.4))
    assert begun.high / begun.low > usual.high / usual.low  # a beginning unlike any other is never falsely sure


def test_the_scale_of_the_loss_does_not_matter():
    curves = [planted(i) for i in range(8)]
    small = [Curve(c.examples, tuple(1e-6 * v for v in c.loss), c.total, c.schedule, c.traits) for c in curves]
    a = CurveLaw.fit(curves[:7]).predict(curves[7].until(0.2))
    b = CurveLaw.fit(small[:7]).predict(small[7].until(0.2))
    assert b.value == pytest.approx(1e-6 * a.value, rel=1e-6)


def test_an_earlier_search_stands_in_for_finished_runs():
    earlier, others = CurveLaw.fit([planted(i) for i in range(24)]), [planted(i) for i in range(100, 140)]
    first = [planted(i) for i in range(50, 52)]
    transferred, inside = errors(CurveLaw.fit(first, prior=earlier), others, 0.2)
    assert transferred < errors(CurveLaw.fit(first), others, 0.2)[0] and inside > 0.85


def test_chances_are_those_of_the_interval():
    said = Ending.of(math.log(2.0), 0.1, 7.0)
    assert said.chance_below(2.0) == pytest.approx(0.5)
    assert said.chance_below(said.low) == pytest.approx(0.025)
    assert said.chance_below(said.high) == pytest.approx(0.975)


def test_bad_curves_are_refused():
    for message, arguments in {
        "2 examples and 1 losses": ((1.0, 2.0), (1.0,), 10.0),
        "must increase": ((2.0, 2.0), (1.0, 1.0), 10.0),
        "must be above 0": ((1.0, 2.0), (1.0, 0.0), 10.0),
        "total=0": ((), (), 0.0),
    }.items():
        with pytest.raises(ValueError, match=message):
            Curve(*arguments)


def routed():
    """Clark et al. 2022: (what the model is, its curve) of every run; replicates share the first."""
    runs = {}
    for row in rows("scaling/routing_curves_dev.csv"):
        if row["loss_validation"]:
            runs.setdefault(row["hyper_id"], {})[int(row["step"])] = row
    for points in runs.values():
        steps = sorted(points)
        kind = tuple(points[0][c] for c in ("router_type", "model_size_label", "num_experts", "k", "routing_frequency"))
        losses = tuple(float(points[step]["loss_validation"]) for step in steps)
        yield kind, Curve(tuple(float(s) for s in steps), losses, float(steps[-1]))


def test_routed_language_models_are_forecast_from_a_tenth():
    """Five folds by model, so that replicates of one model never lie on both sides."""
    data = list(routed())
    kinds = sorted({kind for kind, _ in data})
    place = np.random.default_rng(0).permutation(len(kinds))
    fold = {kind: int(place[i]) % 5 for i, kind in enumerate(kinds)}
    said, true = [], []
    for k in range(5):
        law = CurveLaw.fit([curve for kind, curve in data if fold[kind] != k])
        for kind, curve in data:
            if fold[kind] == k:
                said.append(math.log(law.predict(curve.until(0.1)).value))
                true.append(math.log(curve.final))
    assert len(true) == 112
    assert np.sqrt(np.mean((np.array(said) - true) ** 2)) <= 0.010
    assert stats.spearmanr(said, true)[0] >= 0.997


def test_forecasts_load_neither_torch_nor_ray():
    code = "import sys, chemscale.sweep.forecast, chemscale.sweep.tse; print({'torch', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
