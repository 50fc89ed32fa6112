"""Public tables with known answers; skipped where they are not at hand (CHEMSCALE_SHARED names their folder)."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from chemscale.laws import fit

SHARED = Path(os.environ.get("CHEMSCALE_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "scaling"


def table(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not at hand")
    with open(SHARED / name) as lines:
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def number(text):
    try:
        return float(text)
    except ValueError:
        return text or None


@pytest.mark.parametrize(("form", "most"), [("chinchilla", 0.030), ("tied", 0.012)])
def test_small_runs_of_gadre_predict_the_large_ones(form, most):
    """Gadre et al. 2024: runs up to 411M predict 1.4B and 6.9B to 2.6 % (separate exponents), 1.0 % (tied)."""
    runs, errors, covered = table("gadre_overtraining.csv"), [], []
    for source in ("c4_original", "rpj", "rw_original"):
        law = fit(
            runs, form=form, params="params", data="tokens", loss="loss__c4_val", bootstrap=100,
            where=f"dataset == {source!r} and params < 4.2e8",
        )  # fmt: skip
        for run in (r for r in runs if r["dataset"] == source and r["params"] > 4.2e8):
            said = law.predict(params=run["params"], data=run["tokens"])
            errors.append(abs(said.value / run["loss__c4_val"] - 1))
            covered.append(said.low <= run["loss__c4_val"] <= said.high)
    assert len(errors) == 9 and np.mean(errors) < most and np.mean(covered) > 0.8


def test_toy_language_models_fit_within_a_few_percent():
    law = fit(table("takano_toy_llm.csv"), params="N", data="D", flops="C", loss="loss", bootstrap=100)
    assert law.n_runs == 234 and law.backtest is not None and law.backtest.rmsle < 0.05


def test_effective_data_beat_chinchilla_where_data_repeat():
    """Muennighoff et al. 2023: in the fit and on the largest runs; unique tokens are those seen over the epochs."""
    runs = table("datablations_contour_losses.csv")
    options = {"params": "num_params", "flops": "flops", "loss": "openLM_loss", "bootstrap": 20}
    plain = fit(runs, form="chinchilla", data="token_num", hold_out="largest", **options)
    effective = fit(runs, form="repeated", seen="token_num", epochs="epochs", hold_out="largest", **options)
    assert effective.objective["value"] < 0.8 * plain.objective["value"]
    assert plain.backtest is not None and effective.backtest is not None
    assert effective.backtest.rmsle < 0.85 * plain.backtest.rmsle
    alpha = effective.parameters["alpha"]  # 37 runs overfit, and losses of 8 to 11 pull the likelihood away
    assert alpha == pytest.approx(effective.interval("alpha")[0])
    assert sum("the likelihood's own interval of A, alpha leaves out" in said for said in effective.warnings) == 1
    kept, rising = without_overfit(runs)
    assert len(kept) + rising < len(runs)
    assert sum(said.startswith(f"{rising} of 229 runs have a loss more than 2%") for said in effective.warnings) == 1


def without_overfit(runs):
    """Runs at the lowest loss of their cell so far and below 4.5, and how many others lie over 2 % above that."""
    kept, rising, lowest = [], 0, {}
    for run in sorted(runs, key=lambda run: run["token_num"]):
        cell, loss = (run["num_params"], round(run["token_num"] / run["epochs"], -6)), run["openLM_loss"]
        rising += loss > 1.02 * lowest.get(cell, np.inf)
        lowest[cell] = min(lowest.get(cell, np.inf), loss)
        if loss == lowest[cell] < 4.5:
            kept.append(run)
    return kept, rising


def test_runs_that_overfit_are_no_runs_of_the_law_of_repeats():
    """Without them the worth of repeats is told, of the size of the paper's, 15.4, which held the rest of the law."""
    kept, _ = without_overfit(table("datablations_contour_losses.csv"))
    named = {"params": "num_params", "seen": "token_num", "epochs": "epochs", "loss": "openLM_loss"}
    law = fit(kept, form="repeated", bootstrap=100, **named)
    assert not any("overfit" in said or "was stretched" in said for said in law.warnings)
    worth = law.parameters["R_D_star"]
    assert worth is not None and 15.4 / 3 < worth < 3 * 15.4
    low, high = law.interval("R_D_star")
    assert low < worth < high < 2 * low
