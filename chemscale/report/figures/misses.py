"""Runs against laws: what is left, and what was foretold, in percent."""

from __future__ import annotations

from typing import Any, Literal

from chemscale.report import ink
from chemscale.report.figures.base import Figure, level_labels, table_csv
from chemscale.report.numbers import count, percent, some
from chemscale.report.values import Miss, Misses
from chemscale.report.values.laws import nouns

Axis = Literal["params", "data", "seen", "flops"]
Canvas = tuple[float, float, tuple[float, float, float, float]]  # width and height in inches, box
WIDE: Canvas = (4.6, 2.5, (0.115, 0.185, 0.715, 0.60))
SMALL: Canvas = (3.3, 2.3, (0.14, 0.20, 0.63, 0.58))
MOST_NAMED = 10  # levels whose names stand beside a plot
LEAST = 0.002  # half height of the errors' axis, at least


def residuals(misses: Misses, axis: Axis) -> Figure:
    """Measured over fitted loss along an axis of the law."""
    words = nouns(misses.data_unit)
    slug, title = f"{misses.slug}-residuals-{axis}", f"{misses.name}: what the law leaves, along {words[axis]}"
    caption = f"Shaded: half of the runs lie within {percent(misses.typical)}."
    return _errors(misses, axis, slug, title, caption, WIDE)


def backtest(misses: Misses) -> Figure:
    """Measured over foretold loss of the runs that were held out, along data where the law has it."""
    axis: Axis = "data" if "data" in misses.axes else misses.axes[0]  # type: ignore[assignment]
    slug, title = f"{misses.slug}-backtest", f"{misses.name}: largest runs, foretold"
    caption = "Above zero a run was worse than foretold."
    return _errors(misses, axis, slug, title, caption, SMALL)


def _errors(misses: Misses, axis: Axis, slug: str, title: str, caption: str, canvas: Canvas) -> Figure:
    other = next((role for role in ("params", "data") if role != axis and role in misses.axes), None)
    levels = list(misses.levels[other]) if other else [0.0]
    named = some(levels, MOST_NAMED)
    with ink.canvas(*canvas) as (figure, axes):
        tall = 72 * canvas[1]
        figure.text(0.003, 1 - 9 / tall, title, fontsize=9, fontweight="bold", va="center")
        against = "law" if misses.kind == "fitted" else "forecast"
        figure.text(0.003, 1 - 22 / tall, f"measured above {against}, %", color=ink.MUTED, va="center")
        axes.set_xlabel(nouns(misses.data_unit)[axis], loc="center", labelpad=3)
        xs = [miss.at(axis) or 0.0 for miss in misses.misses]
        most = 1.25 * max([abs(miss.error) for miss in misses.misses] + [LEAST])
        axes.set(xscale="log", xlim=_room(xs), ylim=(-100 * most, 100 * most))
        if misses.kind == "fitted":
            axes.axhspan(-100 * misses.typical, 100 * misses.typical, color=ink.SHADE, lw=0, zorder=0)
        axes.axhline(0, color=ink.MUTED, lw=0.8, zorder=1)
        ends = _dots(axes, misses.misses, axis, other, levels)
        if other:
            ends = {i: y for i, y in ends.items() if levels[i] in named}
            level_labels(axes, ends, [count(level) for level in levels], nouns(misses.data_unit)[other])
        ink.level_ticks(axes.xaxis, xs)
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:+g}".replace("-", "−") if abs(y) > 1e-9 else "0")
        svg = ink.svg_of(figure, slug, title)
    return Figure(slug, title, caption, svg, _csv(misses))


def _room(xs: list[float]) -> tuple[float, float]:
    room = max((max(xs) / min(xs)) ** 0.06, 1.15)
    return min(xs) / room, max(xs) * room


def _dots(axes: Any, misses: tuple[Miss, ...], axis: Axis, other: Any, levels: list[float]) -> dict[int, float]:
    """Every run a marker; levels that share a place stand side by side. Returns the last error of each level."""
    ends: dict[int, float] = {}
    low, high = axes.get_xlim()
    step = (high / low) ** 0.012
    for i, level in enumerate(levels):
        mine = [miss for miss in misses if other is None or (miss.at(other) or 0.0) == level]
        aside = step ** (i - (len(levels) - 1) / 2)
        xs, ys = [(miss.at(axis) or 0.0) * aside for miss in mine], [100 * miss.error for miss in mine]
        if not mine:
            continue
        axes.plot(xs, ys, ink.marker(i), color=ink.shade(i, len(levels)), mec="white", mew=0.5, zorder=3)
        ends[i] = ys[xs.index(max(xs))]
    return ends


def _csv(misses: Misses) -> str:
    names = {"params": "params", "data": misses.data_unit, "seen": f"{misses.data_unit}_seen", "flops": "flops"}
    axes = [axis for axis in names if axis != "seen" or axis in misses.axes]
    head = (*(names[axis] for axis in axes), f"measured_{misses.unit.replace(' ', '_')}", "by_law", "error")
    rows = [(*(one.at(axis) for axis in axes), one.measured, one.said, one.error) for one in misses.misses]
    return table_csv(head, rows)
