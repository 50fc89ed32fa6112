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
