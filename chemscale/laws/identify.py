"""What the data do not identify: each parameter that must not be quoted, with the reason as a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chemscale.laws.doubt import residuals
from chemscale.laws.errors import FitError
from chemscale.laws.form import Form
from chemscale.laws.objectives import Array
from chemscale.laws.solve import Problem
from chemscale.laws.table import Rows

LOCAL = 1.5  # decades of an axis under which an exponent is only a local slope
SHORT = 0.5  # decades under which no exponent is quoted at all
RAY = 0.02  # residual standard deviation of log10 D given log10 N under which both axes are one
NEAR = 0.01  # share of a bound within which a parameter is at it: the data would have taken it further
ALIKE = 0.01  # decades within which two values of an axis are one
FEW = "different values, and"  # in every reason that names an axis with too few values
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


def refuse_unfit(form: Form, rows: Rows) -> None:
    """Raise where no fit can mean anything: too few runs, an axis that never varies, axes that are one."""
    least = len(form.inner) + 1
    cells = len(np.unique(rows.stacked(form.roles), axis=0))
    if len(rows) < least or cells < least - 1:
        raise ValueError(
            f"form={form.name!r} has {least - 1} parameters and needs at least {least} runs at {least - 1} different "
            f"points, but the table gives {len(rows)} runs at {cells}; add runs or use a smaller form."
        )
    for role in form.roles:
        if decades(rows.axes[role]) < 1e-6:
            raise ValueError(
                f"{role} column {rows.columns[role]!r} has the single value {rows.axes[role][0]:g}, so its exponent "
                f"cannot be fitted; fit the other axis alone with form='power_floor'."
            )
    if len(form.roles) > 1:
        _refuse_ray(form, rows)


def _refuse_ray(form: Form, rows: Rows) -> None:
    logs = np.log10(rows.stacked(form.roles))
    for i in range(1, logs.shape[1]):
        others = np.column_stack([np.ones(len(logs)), logs[:, :i]])
        rest = logs[:, i] - others @ np.linalg.lstsq(others, logs[:, i], rcond=None)[0]
        if rest.std() < RAY:
            raise FitError(
                f"{form.roles[0]} and {form.roles[i]} move together (given one, the other varies by "
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
        gained = 1 - left / level if level > 0 else 0.0
        raise FitError(
            f"the loss is flat: form={problem.form.name!r} explains {max(gained, 0):.0%} of it, no more than "
            f"noise would give with {len(theta)} parameters and {len(problem.x)} runs; widen the range of runs."
        )


def _constant(problem: Problem) -> float:
    """Objective of the best constant loss."""
    candidates = np.concatenate([problem.log_loss, [np.average(problem.log_loss, weights=problem.weights)]])
    penalty = problem.objective.penalty(problem.log_loss, candidates[:, None])
    return float((penalty * problem.weights).sum(1).min())


def unidentified(
    problem: Problem,
    theta: Array,
    rows: Rows,
    published: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
) -> dict[str, str]:
    """Published parameter -> why it must not be quoted."""
    form = problem.form
    why = _few_values(form, rows)
    names = dict(zip(form.inner, theta, strict=True))
    for name in form.inner:
        low, high = intervals.get(name, (0.0, 0.0))
        if name in why:
            continue
        if name == "E" and names[name] <= ZERO:
            why[name] = f"floor E is not identified: it is at its bound 0 (interval up to {high:.3g})"
        elif name == "E" and low <= 1e-3 * published[name]:
            why[name] = f"floor E is not identified: its interval {low:.3g} to {high:.3g} reaches 0"
        elif name == "E" and high - low > published[name]:
            why[name] = f"floor E is not identified: its interval {low:.3g} to {high:.3g} is wider than its value"
    for role in form.roles:
        exponent = form.exponent_of(role)
        reason = _exponent(form, rows, role, exponent, published, intervals, names)
        if reason and exponent not in why:
            why[exponent] = reason
    for name, needs in form.partners.items():
        for exponent in needs:
            if exponent in why and name not in why:
                why[name] = f"{name} is not identified because {exponent} is not"
    return why


def _few_values(form: Form, rows: Rows) -> dict[str, str]:
    """Exponents, and the floor, where the axes of an exponent have too few values to tell a power from a constant.

    Two values of an axis give two levels of loss, which any exponent meets once a floor or another axis' term is free.
    """
    least = 2 if len(form.partners) == 1 and "E" not in form.inner else 3
    why: dict[str, str] = {}
    for exponent in dict.fromkeys(map(form.exponent_of, form.roles)):
        axes = [role for role in form.roles if form.exponent_of(role) == exponent]
        if any(distinct(rows.axes[role]) >= least for role in axes):
            continue
        has = " and ".join(f"{rows.columns[role]} has {distinct(rows.axes[role])}" for role in axes)
        why[exponent] = f"{exponent} is not identified: {has} {FEW} {form.name} needs at least {least}"
        if "E" in form.inner:
            why["E"] = f"floor E is not identified because {exponent} is not"
    return why


def _exponent(
    form: Form,
    rows: Rows,
    role: str,
    exponent: str,
    published: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    names: Mapping[str, float],
) -> str | None:
    span = decades(rows.axes[role])
    low, high = intervals[exponent]
    if span < SHORT:
        return f"{exponent} is not identified: {rows.columns[role]} spans {span:.2f} decades, under {SHORT}"
    for amplitude, needs in form.partners.items():
        if needs == (exponent,) and names.get(amplitude, 1.0) <= ZERO:
            return f"{exponent} is not identified: its amplitude {amplitude} is at its bound 0"
    solved = form.solved_as[exponent]
    bound = form.upper[form.inner.index(solved)]
    if names[solved] >= (1 - NEAR) * bound or names[solved] <= ZERO:
        return f"{exponent} is not identified: it is at its bound ({published[exponent]:.3g})"
    if high - low > published[exponent]:
        return (
            f"{exponent} is not identified: its interval {low:.3g} to {high:.3g} is wider than its value "
            f"{published[exponent]:.3g}"
        )
    return None


def short_axes(form: Form, rows: Rows) -> list[str]:
    """A warning per axis that spans too little for its exponent to be more than a local slope."""
    return [
        f"{rows.columns[role]} spans {decades(rows.axes[role]):.2f} decades, under {LOCAL}: a local slope"
        for role in form.roles
        if SHORT <= decades(rows.axes[role]) < LOCAL
    ]
