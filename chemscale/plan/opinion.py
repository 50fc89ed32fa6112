"""What forms weighted by their backtests say of a plan that rests on one form."""

from __future__ import annotations

from collections.abc import Callable

from chemscale.laws.errors import FitError
from chemscale.laws.law import Law
from chemscale.plan.choice import Choice, Plan


def in_words(run: Choice) -> str:
    """A planned run in the law's own units."""
    loss = run.loss
    return f"{run.params:.3g} parameters on {run.data:.3g}, loss {loss.value:.4g} ({loss.low:.4g} to {loss.high:.4g})"


def second_opinion(
    fit_auto: Callable[[], Law],
    plan_by: Callable[[Law], Plan],
    made: Plan,
    told: Callable[[Choice], str] = in_words,
) -> tuple[str, ...]:
    """A sentence on the plan of the backtest-weighted ensemble beside one that was made; none where it has no law.

    fit_auto: the law of form="auto" for the same runs. plan_by: the plan of a law for the same budget.
    told: the words for the other run, in the units that its readers see.
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
        return (
            f"{head} give no plan ({_open(other)}): this one rests on its form; chemscale plan --form auto says more",
        )
    low, high = made.params_interval
    agree = "agree" if low <= other.best.params <= high else "differ"
    return (f"{head} {agree}: {told(other.best)}; chemscale plan --form auto plans by them",)


def _open(other: Plan) -> str:
    return other.answer.partition(": ")[2].partition(" (")[0] or other.answer
