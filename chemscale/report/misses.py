"""What laws leave unexplained: residuals of the runs they were fitted to, and what they said of runs held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import kruskal

from chemscale.audit.groups import Group
from chemscale.audit.values import joined
from chemscale.laws import Law
from chemscale.laws.backtests.backtest import Backtest
from chemscale.report.numbers import count, percent, whole
from chemscale.report.values import Miss, Misses
from chemscale.report.values.laws import nouns

BINS = 4  # of an axis with many levels
PATTERN = 0.05  # chance below which a pattern in residuals is called one


def residuals(groups: Iterable[Group], laws: Mapping[str, Law]) -> tuple[Misses, ...]:
    """Every law against the runs that it was fitted to."""
    return tuple(_residuals(group, laws[group.slug]) for group in groups if group.slug in laws)


def backtests(groups: Iterable[Group], laws: Mapping[str, Law]) -> tuple[Misses, ...]:
    """Every law, refitted without its largest runs, against those."""
    pairs = ((group, laws.get(group.slug)) for group in groups)
    return tuple(_backtest(group, law, law.backtest) for group, law in pairs if law is not None and law.backtest)


def _residuals(group: Group, law: Law) -> Misses:
    runs = law.runs
    said = law.losses(**{role: runs.axes[role] for role in law.roles})
    found = _misses(group, law, [dict(zip(law.roles, at, strict=True)) for at in runs.stacked(law.roles)], said,
                    runs.loss, runs.flops)  # fmt: skip
    exact = min(len(law.parameters), len(found) - 1)
    typical = float(np.median(sorted(abs(miss.error) for miss in found)[exact:]))
    told = (_spread(group, found, exact, typical), *_patterns(group, law, found))
    return Misses(
        group.slug, group.title, "fitted", law.form, group.measure.unit, group.data, law.roles, _levels(law),
        found, typical, None, told,
    )  # fmt: skip


def _misses(
    group: Group, law: Law, places: Sequence[Mapping[str, float]], said: Iterable[float], measured: Iterable[float],
    flops: Iterable[float] | None,
) -> tuple[Miss, ...]:  # fmt: skip
    scale = group.measure.scale
    spent = [None] * len(places) if flops is None else [float(c) for c in flops]
    return tuple(
        Miss(
            _at(at, "params"), _at(at, "data"), _at(at, "seen"), _at(at, "flops") or cost or _flops(law, at),
            float(y) * scale, float(f) * scale, float(y / f - 1),
        )
        for at, f, y, cost in zip(places, said, measured, spent, strict=True)
    )  # fmt: skip


def _levels(law: Law) -> dict[str, tuple[float, ...]]:
    return {role: tuple(sorted(set(law.runs.axes[role].tolist()))) for role in law.roles}


def _at(at: Mapping[str, float], axis: str) -> float | None:
    return float(at[axis]) if axis in at else None


def _flops(law: Law, at: Mapping[str, float]) -> float | None:
    if law.cost is None or not {"params", "data"} <= set(at):
        return None
    return float(law.cost.flops(at["params"], at["data"]))


def _spread(group: Group, found: Sequence[Miss], exact: int, typical: float) -> str:
    """A law can pass through as many runs as it has parameters, and a robust one does; the others tell the scatter."""
    worst = max(found, key=lambda miss: abs(miss.error))
    side = "above" if worst.error > 0 else "below"
    return (
        f"{group.title}: beside the {exact} runs that its {exact} parameters can pass through, half of the "
        f"{len(found)} lie within {percent(typical)} of the law; the furthest ({place(group, worst)}) lies "
        f"{percent(abs(worst.error))} {side} it."
    )


def place(group: Group, miss: Miss) -> str:
    """Where a run stands, in words."""
    parts = [f"{count(miss.params)} parameters"] if miss.params else []
    parts += [f"{whole(miss.data)} {group.data}"] if miss.data else []
    parts += [f"{whole(miss.seen)} seen"] if miss.seen else []
    return ", ".join(parts) or f"{count(miss.flops or 0)} FLOPs"


def _patterns(group: Group, law: Law, found: Sequence[Miss]) -> Iterable[str]:
    words = nouns(group.data)
    chances = {axis: chance for axis in law.roles if (chance := _pattern(found, axis)) is not None}
    if not chances:
        return
    seen = [f"{words[axis]} (p = {_p(p)})" for axis, p in chances.items() if p < PATTERN]
    if seen:
        yield (
            f"What is left changes along {joined(seen)}, more than chance would have it: there the form bends "
            "otherwise than the runs, so trust its line less beyond them."
        )
    else:
        told = joined([f"{words[axis]} (p = {_p(p)})" for axis, p in chances.items()])
        yield f"What is left shows no pattern along {told}, by Kruskal and Wallis’s test between levels."


def _pattern(found: Sequence[Miss], axis: str) -> float | None:
    """Chance that residuals of different levels of an axis come from one distribution."""
    xs = np.array([miss.at(axis) for miss in found], float)
    errors = np.array([miss.error for miss in found])
    levels = np.unique(xs)
    if len(levels) > 2 * BINS:
        levels = np.unique(np.quantile(xs, np.linspace(0, 1, BINS + 1)[1:]))
    parts = [errors[np.searchsorted(levels, xs) == i] for i in range(len(levels))]
    parts = [part for part in parts if len(part) > 1]
    if len(parts) < 2 or np.ptp(errors) == 0:
        return None
    return float(kruskal(*parts).pvalue)


def _p(chance: float) -> str:
    return f"{chance:.2f}" if chance >= 0.01 else f"{chance:.1g}"


def _backtest(group: Group, law: Law, test: Backtest) -> Misses:
    places = [one["at"] for one in test.predictions]
    said, measured = ([one[key] for one in test.predictions] for key in ("value", "measured"))
    found = _misses(group, law, places, said, measured, None)
    typical = float(np.median([abs(miss.error) for miss in found]))
    return Misses(
        group.slug, group.title, "held out", test.form, group.measure.unit, group.data, law.roles, _levels(law),
        found, typical, float(np.expm1(test.form_error)), tuple(_foretold(group, test, found)),
    )  # fmt: skip


def _foretold(group: Group, test: Backtest, found: Sequence[Miss]) -> Iterable[str]:
    along = nouns(group.data)[test.along]
    held = len({(miss.params, miss.data, miss.seen, miss.flops, miss.measured) for miss in found})
    high = sum(miss.error < 0 for miss in found)
    side = {0: "all too low", len(found): "all too high"}.get(high, f"{high} of {len(found)} too high")
    runs = f"its {held} largest runs by {along}" if held > 1 else f"its largest run by {along}"
    yield (
        f"{group.title}: fitted without {runs}, the {form_words(test.form)} law foretold them with a mean error of "
        f"{percent(test.mean_abs_rel_error)}{', ' + side if len(found) > 1 else ''}."
    )
    if test.form_error > 0:
        yield (
            f"Noise does not explain all of that: {percent(float(np.expm1(test.form_error)))} is laid to the form, and "
            "widens the interval of every prediction beyond the runs."
        )


def form_words(form: str) -> str:
    """A form as people write it."""
    return {"chinchilla": "Chinchilla", "kaplan": "Kaplan"}.get(form, form.replace("_", " "))
