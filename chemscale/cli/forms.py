"""What forms weighted by their backtests say of a plan that rests on one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chemscale.laws import FitError, Law

if TYPE_CHECKING:
    from chemscale.plan import Plan


def second_opinion(fit_auto: Callable[[], Law], plan_by: Callable[[Law], Plan], made: Plan) -> tuple[str, ...]:
    """A sentence on the plan of the backtest-weighted ensemble beside one that was made; none where it has no law.

    fit_auto: the law of form="auto" for the same runs. plan_by: the plan of a law for the same budget.
    """
    if made.best is None or made.params_interval is None:
        return ()
    try:
        law = fit_auto()
        other = plan_by(law)
    except (ValueError, FitError):
        return ()
    head = f"forms weighted by their backtests ({law.form} leads)"
    if other.best is None:
        return (f"{head} give no plan ({_open(other)}): this one rests on its form; --form auto says more",)
    low, high = made.params_interval
    best = other.best
    words = f"{best.params:.3g} parameters on {best.data:.3g}, loss {best.loss.value:.4g}"
    ends = f"{best.loss.low:.4g} to {best.loss.high:.4g}"
    agree = "agree" if low <= best.params <= high else "differ"
    return (f"{head} {agree}: {words} ({ends}); --form auto plans by them",)


def _open(other: Any) -> str:
    return other.answer.partition(": ")[2].partition(" (")[0] or other.answer
