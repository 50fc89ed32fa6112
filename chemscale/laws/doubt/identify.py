"""What the data do not identify: each parameter that must not be quoted, with the reason as a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from chemscale.laws.doubt.residuals import residuals
from chemscale.laws.errors import FitError
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.table import Rows

LOCAL = 1.5  # decades of an axis under which an exponent is only a local slope
SHORT = 0.5  # decades under which no exponent is quoted at all
RAY = 0.02  # residual standard deviation of log10 D given log10 N under which both axes are one
NEAR = 0.01  # share of a bound within which a parameter is at it: the data would have taken it further
ALIKE = 0.01  # decades within which two values of an axis are one
FLOOR_LEVELS = 6  # values of an axis from which a power over a floor is told from one without
FEW = "different values, and"  # in every reason that names an axis with too few values
RISING = 0.5  # correlation of log loss with the log of an axis from which it is said to rise
CONSTANTS = 201  # constant losses that are tried: quantiles of the runs, which of fewer runs are the runs
NOISY = 2.0  # multiple of the noise floor under which a run shows the labels rather than the law
ZERO = 1e-9  # an amplitude smaller than this share of a typical loss is at its bound


def decades(values: Array) -> float:
    """Span of an axis in powers of ten."""
    return float(np.log10(values.max() / values.min()))


def distinct(values: Array) -> int:
    """How many values an axis has, nearly equal ones counted once."""
    count, last = 0, -np.inf
    for value in np.unique(np.log10(values)):
        if value - last > ALIKE:
            count, last = count + 1, value
    return count


def usual_form(axes: Mapping[str, Sequence[float] | Array]) -> str:
    """The form of these axes (role -> values) where none is asked for."""
    if len(axes) == 1:
        (values,) = axes.values()
        return "power_floor" if distinct(np.asarray(values, float)) >= FLOOR_LEVELS else "power"
    if "seen" in axes:
        return "repeated"
    return "chinchilla" if {"params", "data"} <= axes.keys() else "power"


def refuse_unfit(form: Form, rows: Rows) -> None:
    """Raise where no fit can mean anything: too few runs, an axis that never varies, axes that are one."""
    least = len(form.inner) + 1
    cells = len(np.unique(rows.stacked(form.roles), axis=0))
    if len(rows) < least or cells < least - 1:
        raise ValueError(
            f"form={form.name!r} has {least - 1} parameters and needs at least {least} runs at {least - 1} different "
            f"points, but the table gives {len(rows)} runs at {cells}; add runs or use a smaller form."
        )
    for roles in form.must_vary:
        if all(decades(rows.axes[role]) < 1e-6 for role in roles):
            raise ValueError(
                f"{roles[0]} column {rows.columns[roles[0]]!r} has the single value {rows.axes[roles[0]][0]:g}, so its "
                f"exponent cannot be fitted; fit the other axis alone with form='power_floor'."
            )
    if rows.noise_floor > np.median(rows.loss):
        raise ValueError(
            f"noise_floor={rows.noise_floor:g} is above most of the losses (median {np.median(rows.loss):.3g}), of "
            f"which it is to be a part; give it in the unit of the loss, {rows.units['loss']}."
        )
    form.refuse(rows.axes)
    if len(form.roles) > 1:
        _refuse_ray(form, rows)


def _refuse_ray(form: Form, rows: Rows) -> None:
    roles = [group[-1] for group in form.must_vary]
    logs = np.log10(rows.stacked(roles))
    for i in range(1, logs.shape[1]):
        others = np.column_stack([np.ones(len(logs)), logs[:, :i]])
        rest = logs[:, i] - others @ np.linalg.lstsq(others, logs[:, i], rcond=None)[0]
        if rest.std() < RAY:
            raise FitError(
                f"{roles[0]} and {roles[i]} move together (given one, the other varies by "
                f"{rest.std():.2g} decades), so their effects cannot be told apart; add runs off the ray, or fit one."
            )


def refuse_flat(problem: Problem, theta: Array, value: float) -> None:
    """Raise FitError where the law explains no more than as many parameters would explain of pure noise."""
    if not np.isfinite(value):
        raise FitError(f"form={problem.form.name!r} found no finite fit; check the units of the columns.")
    left = problem.objective.penalty(problem.log_loss, problem.log_loss - residuals(problem, theta)) @ problem.weights
    level = _constant(problem)
    by_chance = (len(theta) - 1) / (len(problem.x) - 1)
    if level <= 0 or 1 - left / level < by_chance:
        _refuse_rising(problem)
        gained = 1 - left / level if level > 0 else 0.0
        raise FitError(
            f"the loss is flat: form={problem.form.name!r} explains {max(gained, 0):.0%} of it, no more than "
            f"noise would give with {len(theta)} parameters and {len(problem.x)} runs; widen the range of runs."
        )


def _refuse_rising(problem: Problem) -> None:
    """Raise FitError where the loss is not flat but grows along an axis."""
    for role, x in zip(problem.form.roles, problem.x.T, strict=True):
        if np.ptp(problem.log_loss) > 0 and np.ptp(x) > 0 and np.corrcoef(x, problem.log_loss)[0, 1] > RISING:
            raise FitError(
                f"the loss rises with {role}, and form={problem.form.name!r} only falls; check the columns, and "
                f"whether large runs were trained to their end."
            )


def _constant(problem: Problem) -> float:
    """Objective of the best constant loss."""
    shares = np.linspace(0, 1, min(len(problem.log_loss), CONSTANTS))
    own = np.quantile(problem.log_loss, shares, method="nearest")
    candidates = np.concatenate([own, [np.average(problem.log_loss, weights=problem.weights)]])
    totals = [float(problem.objective.penalty(problem.log_loss, one) @ problem.weights) for one in candidates]
    return min(totals)


def cut_short(problem: Problem, theta: Array, rows: Rows, published: Mapping[str, float]) -> dict[str, str]:
    """Published parameter -> why no more runs of this noise at these points could tell it: range, values, bounds."""
    form = problem.form
    why = _few_values(form, rows)
    solved = dict(zip(form.inner, theta, strict=True))
    for exponent, roles in form.moved_by.items():
        span = max(decades(rows.axes[role]) for role in roles)
        if span < SHORT:
            columns = " and ".join(rows.columns[role] for role in roles)
            why.setdefault(exponent, f"{exponent} is not identified: {columns} spans {span:.2f} decades, under {SHORT}")
    for exponent, behind in form.amplitudes.items():
        gone = [amplitude for amplitude in behind if solved[amplitude] <= ZERO]
        if len(gone) == len(behind):
            told = f"its amplitude {gone[0]} is" if len(gone) == 1 else f"its amplitudes {' and '.join(gone)} are"
            why.setdefault(exponent, f"{exponent} is not identified: {told} at its bound 0")
        else:
            why |= {amplitude: f"{amplitude} is not identified: it is at its bound 0" for amplitude in gone}
    for name, reason in form.beyond(theta, problem.x).items():
        why.setdefault(name, f"{name} is not identified: {reason}")
    for name, behind in form.solved_as.items():
        if any(_at_bound(problem, form.inner.index(one), solved[one]) for one in behind):
            why.setdefault(name, _bounded(form, name, published[name]))
    if form.floor is not None and problem.noise_floor > 0:
        why.pop(form.floor, None)  # where the runs leave off, the measured noise speaks
    return why


def _at_bound(problem: Problem, index: int, value: float) -> bool:
    low, high = problem.lower[index], problem.form.upper[index]
    edge = ZERO if low == 0 else low + NEAR * (low if low > 0 else high - low)
    return bool(value <= edge or value >= (1 - NEAR) * high)


def _bounded(form: Form, name: str, value: float) -> str:
    if name == form.floor:
        return f"floor {name} is not identified: it is at its bound 0"
    return f"{name} is not identified: it is at its bound ({value:.3g}), the edge of the searched range"


def refuse_hopeless(form: Form, why: Mapping[str, str]) -> None:
    """Raise FitError where every exponent is cut short, so that the law says nothing."""
    if all(exponent in why for exponent in form.moved_by):
        raise FitError(f"form={form.name!r}: {'; '.join(why[e] for e in form.moved_by)}; widen the range of runs.")


def unidentified(
    form: Form,
    why: Mapping[str, str],
    published: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    noise_floor: float = 0.0,
) -> dict[str, str]:
    """`why` (from `cut_short`), what the noise hides, and what means nothing without either."""
    found = dict(why)
    for name in form.solved_as:
        low, high = intervals[name]
        if name in found or name in form.signed:
            continue
        called = f"floor {name}" if name == form.floor else name
        if name == form.floor and published[name] <= (1 + NEAR) * noise_floor:
            continue  # it is the measured one, which the runs need not identify
        if name == form.floor and low <= 1e-3 * published[name] and not noise_floor:
            found[name] = f"{called} is not identified: its interval {low:.3g} to {high:.3g} reaches 0"
        elif high - low > published[name]:
            found[name] = (
                f"{called} is not identified: its interval {low:.3g} to {high:.3g} is wider than its value "
                f"{published[name]:.3g}"
            )
    for name, needs in form.partners.items():
        for exponent in needs:
            if exponent in found and name not in found:
                found[name] = f"{name} is not identified because {exponent} is not"
    return found


def near_noise(problem: Problem, theta: Array, rows: Rows, published: Mapping[str, float]) -> list[str]:
    """What the noise of the labels does to these runs, where it was measured or is part of the form."""
    form, said, measured = problem.form, [], problem.noise_floor > 0
    if form.floor is None or not (measured or form.floor_is_noise):
        return []
    floor, index = published[form.floor], form.inner.index(form.solved_as[form.floor][0])
    if measured and _at_bound(problem, index, theta[index]):
        said.append(f"floor {form.floor} is the measured noise floor: the runs show none above it")
    close = int((rows.loss < NOISY * floor).sum())
    if close:
        said.append(f"{close} of {len(rows)} runs lie within a factor {NOISY:g} of the noise floor {floor:.3g}")
    return said


def _few_values(form: Form, rows: Rows) -> dict[str, str]:
    """Exponents, and the floor, where the axes of an exponent have too few values to tell a power from a constant.

    Two values of an axis give two levels of loss, which any exponent meets once a floor or another axis' term is free.
    """
    least = 2 if len(form.partners) == 1 and form.floor is None else 3
    why: dict[str, str] = {}
    for exponent, axes in form.moved_by.items():
        if any(distinct(rows.axes[role]) >= least for role in axes):
            continue
        has = " and ".join(f"{rows.columns[role]} has {distinct(rows.axes[role])}" for role in axes)
        why[exponent] = f"{exponent} is not identified: {has} {FEW} {form.name} needs at least {least}"
        if form.floor is not None:
            why[form.floor] = f"floor {form.floor} is not identified because {exponent} is not"
    return why


def short_axes(form: Form, rows: Rows) -> list[str]:
    """A warning per axis that spans too little for its exponent to be more than a local slope."""
    return [
        f"{rows.columns[role]} spans {decades(rows.axes[role]):.2f} decades, under {LOCAL}: a local slope"
        for role in form.roles
        if SHORT <= decades(rows.axes[role]) < LOCAL
    ]
