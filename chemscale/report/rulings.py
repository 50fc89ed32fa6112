"""Which axis limits the largest run, in words; and where that is open, the runs that would decide."""

from __future__ import annotations

import numpy as np

from chemscale.audit.groups import Group
from chemscale.laws import FitError, NextRun, Verdict, verdict
from chemscale.laws.readings.verdict import CANNOT_TELL
from chemscale.plan import RunCost
from chemscale.report.frontier import cost_of
from chemscale.report.numbers import count, duration, percent, whole
from chemscale.report.values import Ruling


def ruling(group: Group) -> Ruling:
    """Data-limited, model-limited or "cannot tell yet" with the runs that would decide."""
    rows = list(group.rows)
    try:
        found = verdict(rows, loss=group.metric, params="params", data=group.data)
    except (ValueError, FitError):
        why = f"The runs do not vary both parameters and {group.data}, so the two cannot be compared."
        return Ruling(group.title, CANNOT_TELL, why, ())
    cost = cost_of(group)
    words = tuple(_deciding(group, run, cost) for run in found.would_decide)
    return Ruling(group.title, found.answer, _reason(group, found), words)


def _reason(group: Group, found: Verdict) -> str:
    gains = (
        f"At the largest run 10 × more {group.data} takes {_gain(found.data_gain, found.data_interval)} off the "
        f"{group.measure.words}, 10 × more parameters {_gain(found.model_gain, found.model_interval)}"
    )
    if found.answer != CANNOT_TELL:
        return f"{gains}: at the {100 * found.level:.0f} % level the difference is not zero."
    if found.data_interval is None or found.model_interval is None:
        return f"{gains}; too few runs to measure the noise of these numbers."
    return f"{gains}; the {100 * found.level:.0f} % interval of the difference includes zero."


def _gain(gain: float, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return percent(gain)
    if ends[0] < -1:
        return f"{percent(gain)} (an interval wider than the loss itself)"
    return f"{percent(gain)} ({100 * ends[0]:.0f} to {100 * ends[1]:.0f} %)".replace("-", "−")


def _deciding(group: Group, run: NextRun, cost: RunCost | None) -> str:
    times = f"{run.replicates} seeds of " if run.replicates > 1 else ""
    what = f"{times}{group.name} with {count(run.params)} parameters on {whole(run.data)} {group.data}"
    return f"{what}{_time(run, cost)}: {run.why}."


def _time(run: NextRun, cost: RunCost | None) -> str:
    if cost is None:
        return ""
    params = np.array([run.params])
    hours = cost.hours(params, cost.flops(params, run.data))
    return "" if hours is None else f", about {duration(3600 * float(hours[0]))} each"
