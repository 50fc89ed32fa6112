"""Public tables, and what is known of them; skipped where they are not at hand."""

import chemscale as cs
from tests.laws.test_public import table


def verdicts(audit, about=""):
    return {f.check: f for f in audit.of(about)}


def test_three_corpora_in_one_table_are_noticed():
    """Gadre et al. 2024 trained on three corpora; their losses on C4 do not share one law."""
    runs = table("gadre_overtraining.csv")
    named = {"params": "params", "data": "tokens", "loss": "loss__c4_val"}
    found = verdicts(cs.audit(runs, **named))
    assert found["settings"].verdict == "concern"
    assert found["settings"].answer.startswith("dataset explains")
    assert "params_no_embed" in found["definitions"].answer
    apart = cs.audit(runs, **named, by="dataset")
    assert {f.check for f in apart.findings if f.verdict == "concern"}.isdisjoint({"settings", "form", "collinear"})


def test_repeated_data_is_noticed():
    """Muennighoff et al. 2023: tokens seen again are worth less, so a law of tokens seen alone is wrong."""
    runs = table("datablations_contour_losses.csv")
    found = cs.audit(runs, params="num_params", data="token_num", loss="openLM_loss")
    seen = verdicts(found)
    assert "epochs explains" in seen["settings"].answer
    assert seen["form"].verdict == seen["correlated"].verdict == "concern"
    assert {c.mark for c in found.claims} <= {"not supported", "cannot tell"}


def test_points_of_one_curve_are_no_runs():
    """Alabdulmohsin et al. 2022: each model is one training curve."""
    runs = [r for r in table("rnsl_vision_dev.csv") if r["Task"] == "bird_5" and r["Model"] == "BiT/101/3"]
    seen = verdicts(cs.audit(runs, data="Seen Examples", loss="Loss"))
    assert seen["correlated"].verdict == "concern"
    assert seen["correlated"].numbers["neighbours"] > 0.6
