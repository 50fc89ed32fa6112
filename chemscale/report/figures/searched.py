"""Searches: runs that were stopped with the forecasts of their ends, which settings mattered, loss against each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chemscale.report import ink
from chemscale.report.figures.base import Figure, frame, table_csv
from chemscale.report.importance import CLEAR, field_words
from chemscale.report.numbers import digits, percent, significant
from chemscale.report.values import Importance, Searched, Tried

HIGHEST = 3.0  # times the best end; curves above leave the frame
DONE, LEFT = ink.RAMP[2], ink.RAMP[0]  # finished runs, stopped ones
BEST = {"ms": 9, "mfc": "none", "mec": ink.INK, "mew": 1.0}  # the ring around the best run


def stops(found: Searched) -> Figure:
    """Validation loss along the training, and the ends: reached by those that finished, foretold of those stopped."""
    slug, title = f"{found.slug}-stops", f"{found.model}: runs stopped early, and where they would have ended"
    low, high = _limits(found)
    with ink.canvas(7.0, 3.3, (0.075, 0.135, 0.52, 0.71)) as (figure, axes):
        frame(figure, axes, title, f"validation loss, {found.unit}", "share of the training")
        ends = figure.add_axes((0.64, 0.135, 0.345, 0.71))
        axes.set(xscale="linear", yscale="log", xlim=(0, 1.02), ylim=(low, high))
        ranked = sorted((one for one in found.tried if one.end is not None), key=lambda one: one.end or 0.0)
        ends.set(yscale="log", xlim=(0, len(ranked) + 1), ylim=(low, high))
        for one in found.tried:
            _curve(axes, one)
        for place, one in enumerate(ranked, start=1):
            _end(ends, place, one)
        finals = [one.final for one in found.tried if one.final is not None]
        for part in (axes, ends) if finals else ():
            part.axhline(min(finals), color=ink.MUTED, lw=0.8, linestyle=(0, (2, 2)), zorder=1)
        ink.set_ticks(axes.xaxis, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        ink.loss_ticks(axes.yaxis, low, high)
        ink.set_ticks(ends.yaxis, [], [])
        ink.set_ticks(ends.xaxis, [], [])
        ends.set_xlabel("ends, from the best up", labelpad=7)
        _key(figure)
        svg = ink.svg_of(figure, slug, title)
    return Figure(
        slug, title, "Bars: 95 % intervals of forecasts. Dashed: the best finished run.", svg, _tried_csv(found)
    )


def _limits(found: Searched) -> tuple[float, float]:
    """From below the best end to what most curves begin at, or some times the best."""
    ends = [one.end for one in found.tried if one.end is not None]
    lowest = [one.forecast[1] for one in found.tried if one.forecast and one.forecast[1] > min(ends) / 1.5]
    seen = [loss for one in found.tried for _, loss in one.points]
    low = min([*ends, *lowest, min(seen)])
    return low / 1.04, min(max([*ends, *seen]), HIGHEST * min([*ends, min(seen)])) * 1.04


def _curve(axes: Any, one: Tried) -> None:
    if not one.points:
        return
    done = one.final is not None
    style = {"color": DONE, "lw": 1.2, "zorder": 2} if done else {"color": LEFT, "lw": 0.9, "zorder": 1.5}
    axes.plot(*zip(*one.points, strict=True), **style)
    mark = {"mec": "white", "mew": 0.5} if done else {"mfc": "white", "mec": LEFT, "mew": 1.1}
    axes.plot(*one.points[-1], "o" if done else "s", color=DONE if done else LEFT, ms=4.2, zorder=3, **mark)


def _end(axes: Any, place: int, one: Tried) -> None:
    assert one.end is not None
    if one.final is not None:
        axes.plot([place], [one.final], "o", color=DONE, mec="white", mew=0.5, ms=5, zorder=3)
        return
    assert one.forecast is not None
    value, low, high = one.forecast
    axes.plot([place, place], [low, high], color=LEFT, lw=1.1, zorder=2)
    axes.plot([place], [value], "s", mfc="white", mec=LEFT, mew=1.1, ms=4.2, zorder=3)


def _key(figure: Any) -> None:
    tall = 72 * figure.get_figheight()
    y = 1 - 22 / tall
    for x, mark, colour, words in ((0.64, "o", DONE, "finished"), (0.75, "s", LEFT, "stopped: forecast of its end")):
        face = colour if mark == "o" else "white"
        from matplotlib.lines import Line2D

        figure.add_artist(Line2D([x + 0.008], [y], marker=mark, color=colour, mfc=face, ms=4.5, mew=1.1, ls="none"))
        figure.text(x + 0.022, y, words, color=ink.MUTED, fontsize=7, va="center")


def _tried_csv(found: Searched) -> str:
    fields = list(found.tried[0].settings)
    head = ("run_id", "status", "trained", "loss_seen", "final", "forecast", "low", "high", *fields)
    rows = [
        (
            one.run_id, one.status, one.reached, one.points[-1][1] if one.points else None, one.final,
            *(one.forecast or (None, None, None)), *(one.settings[field] for field in fields),
        )
        for one in found.tried
    ]  # fmt: skip
    return table_csv(head, rows)


def importance(found: Searched) -> Figure:
    """The share of each setting in what tells good runs from others, with its interval."""
    slug, title = f"{found.slug}-importance", f"{found.model}: which settings mattered"
    listed = found.importances[::-1]
    tall = 0.75 + 0.27 * len(listed)
    with ink.canvas(4.6, tall, (0.24, 0.36 / tall, 0.56, 1 - 0.82 / tall)) as (figure, axes):
        frame(figure, axes, title, "share of the importance", "")
        axes.set(xlim=(0, 1), ylim=(-0.6, len(listed) - 0.4))
        for y, one in enumerate(listed):
            clear = one.chance < CLEAR
            axes.barh([y], [one.share], height=0.56, color=ink.RAMP[1] if clear else "white", ec=ink.RAMP[1], lw=1.0)
            axes.plot([one.low, one.high], [y, y], color=ink.INK, lw=1.0, zorder=3)
            axes.text(1.03, y, f"{percent(one.share)}, p {_p(one.chance)}", va="center", fontsize=7.5, color=ink.INK)
        ink.set_ticks(axes.yaxis, range(len(listed)), [field_words(one.field) for one in listed])
        ink.set_ticks(axes.xaxis, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        svg = ink.svg_of(figure, slug, title)
    rows = [(one.field, one.share, one.low, one.high, one.chance, one.best) for one in found.importances]
    caption = (
        "PED-ANOVA. Lines: 95 % intervals over resampled runs. Hollow: no more than shuffled losses give; p is how "
        "often they give as much."
    )
    head = ("field", "share", "low", "high", "chance", "best")
    return Figure(slug, title, caption, svg, table_csv(head, rows))


def _p(chance: float) -> str:
    return "< 0.01" if chance < 0.01 else f"= {chance:.2f}"


def slices(found: Searched) -> tuple[Figure, ...]:
    """The end of every run against each setting, the most important first."""
    return tuple(_slice(found, one) for one in found.importances)


def _slice(found: Searched, field: Importance) -> Figure:
    slug = f"{found.slug}-slice-{field.field.replace('.', '-')}"
    title = field_words(field.field)
    ended = [one for one in found.tried if one.end is not None]
    low, high = _end_limits([one.end or math.inf for one in ended])
    values = [one.settings[field.field] for one in ended]
    names = None if field.logarithmic or _are_spread(values) else sorted(set(values), key=lambda v: (str(type(v)), v))
    with ink.canvas(2.7, 2.1, (0.15, 0.19, 0.81, 0.59)) as (figure, axes):
        frame(figure, axes, title, f"validation loss, {found.unit}", "")
        axes.set(xscale="log" if field.logarithmic else "linear", yscale="log", ylim=(low, high))
        best = min(ended, key=lambda one: one.end or math.inf)
        for one, value in zip(ended, values, strict=True):
            x = names.index(value) if names is not None else value
            y = min(one.end or high, high)
            face = DONE if one.final is not None else "white"
            edge = DONE if one.final is not None else LEFT
            axes.plot(
                [x], [y], "o" if one.final is not None else "s", mfc=face, mec=edge, ms=4, clip_on=False, zorder=3
            )
            if one is best:
                axes.plot([x], [y], "o", **BEST, zorder=4)
        _axis(axes, field, names, [v for v in values if isinstance(v, int | float)])
        ink.loss_ticks(axes.yaxis, low, high)
        svg = ink.svg_of(figure, slug, f"{found.cell}: loss against {title}")
    rows = [(one.run_id, one.settings[field.field], one.end, one.status) for one in ended]
    return Figure(slug, title, "", svg, table_csv(("run_id", field.field, "end", "status"), rows))


def _end_limits(ends: Sequence[float]) -> tuple[float, float]:
    """All ends, or those up to some times the best; the others lie at the upper edge."""
    low, high = min(ends), min(max(ends), HIGHEST / 1.5 * min(ends))
    room = (high / low) ** 0.08
    return low / room, high * room


def _are_spread(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 5


def _axis(axes: Any, field: Importance, names: Sequence[Any] | None, values: Sequence[float]) -> None:
    if names is not None:
        axes.set_xlim(-0.5, len(names) - 0.5)
        ink.set_ticks(axes.xaxis, range(len(names)), [digits(name) for name in names])
        return
    low, high = min(values), max(values)
    if field.logarithmic:
        axes.set_xlim(low / 1.3, high * 1.3)
        ticks = ink.round_ticks(low, high)
        ticks = ticks[:: max(1, math.ceil(len(ticks) / 5))]
    else:
        room = 0.05 * (high - low)
        axes.set_xlim(low - room, high + room)
        axes.locator_params(axis="x", nbins=5)
        ticks = [tick for tick in axes.get_xticks() if low - room <= tick <= high + room]
    ink.set_ticks(
        axes.xaxis,
        ticks,
        [significant(tick, 2).rstrip("0").rstrip(".") if 0 < tick < 1 else digits(tick) for tick in ticks],
    )
