"""Convergence is read from the points before the cooldown."""

from chemscale.audit.convergence import convergence, still_falling


def test_convergence_is_judged_before_the_cooldown():
    row = {"run_id": "a", "cooldown": 0.3, "updates": 80, "law_rule": "final"}
    falling = [{"step": s, "valid_loss": 2 - 0.1 * s / 10, "valid_loss_se": 0.01} for s in range(10, 90, 10)]
    flat = [{**p, "valid_loss": 1.0 if p["step"] < 60 else 0.1} for p in falling]  # falls in the cooldown only
    assert still_falling(row, falling) is True
    assert still_falling(row, flat) is False
    assert still_falling(row, falling[:1]) is None
    told = convergence([row, {**row, "run_id": "b"}], {"a": falling})
    assert (told.falling, told.judged, told.short, told.runs) == (1, 1, 2, 2)
