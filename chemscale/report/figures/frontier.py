"""Compute against loss with its frontier, the best sizes of every budget, and lines of equal loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from chemscale.report import ink
from chemscale.report.figures.base import BOX, TALL, WIDE, Figure, frame, level_labels, table_csv
from chemscale.report.numbers import count, significant
from chemscale.report.values import Best, Frontier, Line

BEYOND = (0, (4, 2))  # dashes of what no run has measured
TIMES = (1.0, 10.0, 100.0)  # budgets that the plane of sizes shows, of the largest run
FRONT = "#12435f"


def frontier(found: Frontier) -> Figure:
    """Loss against compute: every run, the law of each size, and the least loss of each budget with its interval."""
    slug, title = f"{found.slug}-frontier", f"{found.name}: {found.metric_words} against compute"
    levels = sorted({run[0] for run in found.runs})
    lines = {line.level: line.points for line in found.sizes}
    with ink.canvas(WIDE, TALL, BOX) as (figure, axes):
        frame(figure, axes, title, found.unit, "FLOPs of a run")
        low, high = _limits(found)
        further = 160 if found.best else 3
        left, right = min(run[2] for run in found.runs) / 1.6, further * found.largest
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
        axes.axvspan(min(run[2] for run in found.runs), found.largest, color=ink.SHADE, lw=0, zorder=0)
        ends: dict[int, float] = {}
        for i, level in enumerate(levels):
            colour = ink.shade(i, len(levels))
            axes.plot(*zip(*lines.get(level, ((left, high),)), strict=True), color=colour, lw=0.9, alpha=0.75, zorder=2)
            mine = [(run[2], run[3]) for run in found.runs if run[0] == level]
            axes.plot(*zip(*mine, strict=True), ink.marker(i), color=colour, mec="white", mew=0.5, ms=4, zorder=3)
            if level in lines:
                ends[i] = min(max(lines[level][-1][1], low), high)
        _front(axes, found)
        if ends:
            level_labels(axes, ends, [count(level) for level in levels], "parameters")
        ink.flops_ticks(axes.xaxis, left, right)
        ink.loss_ticks(axes.yaxis, low, high)
        svg = ink.svg_of(figure, slug, title)
    said = "Thin lines: the law of each size along data. "
    said += _front_words(found) if found.best else ""
    return Figure(slug, title, said.strip(), svg, _runs_csv(found))


def _front_words(found: Frontier) -> str:
    return (
        f"Thick line: the least loss of each budget, dashed beyond the largest run, with the {found.confidence:.0%} "
        "interval of one run. Shaded: the compute that was run."
    ).replace("%", " %")


def _limits(found: Frontier) -> tuple[float, float]:
    values = [run[3] for run in found.runs] + [one.loss for one in found.best]
    room = (max(values) / min(values)) ** 0.08
    return min(values) / room, max(values) * room


def _front(axes: Any, found: Frontier) -> None:
    if not found.best:
        return
    xs = [one.flops for one in found.best]
    axes.fill_between(xs, [b.low for b in found.best], [b.high for b in found.best], color=FRONT, alpha=0.10, lw=0)
    for part, dash in _parts(found):
        axes.plot([b.flops for b in part], [b.loss for b in part], color=ink.INK, lw=2.2, linestyle=dash, zorder=4)


def _parts(found: Frontier) -> tuple[tuple[list[Best], Any], ...]:
    """What lies within the compute that was run, and what lies beyond."""
    inside = [one for one in found.best if one.flops <= found.largest]
    beyond = inside[-1:] + [one for one in found.best if one.flops > found.largest]
    return (inside, "-"), (beyond, BEYOND)


def best_sizes(found: Frontier) -> Figure:
    """The plane of parameters and data: runs, lines of equal loss, and the best size of each budget with its doubt."""
    slug, title = f"{found.slug}-best-sizes", f"{found.name}: where the same loss, and the best, is to be had"
    with ink.canvas(WIDE, TALL, BOX) as (figure, axes):
        frame(figure, axes, title, found.data_unit, "parameters")
        (left, right), (low, high) = _plane(found)
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
        for line in found.isolosses:
            axes.plot(*zip(*line.points, strict=True), color=ink.RULE, lw=0.9, zorder=1)
            _name_line(axes, line, (left, right), (low, high))
        axes.plot(
            *zip(*dict.fromkeys((run[0], run[1]) for run in found.runs), strict=True), "o", color=ink.RAMP[1], ms=4,
            mec="white", mew=0.5, zorder=3,
        )  # fmt: skip
        _path(axes, found)
        ink.level_ticks(axes.xaxis, ink.round_ticks(left, right), most=5)
        ink.level_ticks(axes.yaxis, ink.round_ticks(low, high), most=5)
        svg = ink.svg_of(figure, slug, title)
    caption = f"Dots: runs. Grey lines: equal {found.metric_words} by the law, {found.unit}."
    if found.best:
        caption += (
            " Thick line: the best model and data of growing budgets; bars: its interval at 1, 10 and 100 × the "
            "compute of the largest run."
        )
    return Figure(slug, title, caption, svg, _best_csv(found))


def _plane(found: Frontier) -> tuple[tuple[float, float], tuple[float, float]]:
    ends = []
    for i, names in enumerate((("params", "params_low", "params_high"), ("data",))):
        values = [run[i] for run in found.runs]
        values += [getattr(one, name) for one in _marked(found) for name in names]
        ends.append((min(values) / 1.8, max(values) * 1.8))
    return ends[0], ends[1]


def _marked(found: Frontier) -> list[Best]:
    """The budgets nearest to 1, 10 and 100 times the largest run."""
    if not found.best:
        return []
    near = [min(found.best, key=lambda b: abs(b.flops / found.largest / times - 1)) for times in TIMES]
    return [b for b, times in zip(near, TIMES, strict=True) if abs(b.flops / found.largest / times - 1) < 0.05]


def _name_line(axes: Any, line: Line, across: tuple[float, float], up: tuple[float, float]) -> None:
    """The loss of a line where it leaves the frame, at the right or above."""
    name = {"fontsize": 6.5, "color": ink.MUTED, "annotation_clip": False, "textcoords": "offset points"}
    words = significant(line.level, 3)
    right = _crossing(line.points, across[1])
    above = _crossing([(y, x) for x, y in reversed(line.points)], up[1])
    if right is not None and up[0] < right < up[1]:
        axes.annotate(words, (across[1], right), (3, 0), va="center", **name)
    elif above is not None and across[0] < above < across[1]:
        axes.annotate(words, (above, up[1]), (0, 2), ha="center", va="bottom", **name)


def _crossing(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The y at which a line of increasing x passes there."""
    for (a, at_a), (b, at_b) in pairwise(points):
        if a <= x <= b and b > a:
            part = math.log(x / a) / math.log(b / a)
            return math.exp((1 - part) * math.log(at_a) + part * math.log(at_b))
    return None


def _path(axes: Any, found: Frontier) -> None:
    for part, dash in _parts(found):
        axes.plot([b.params for b in part], [b.data for b in part], color=ink.INK, lw=2.0, linestyle=dash, zorder=4)
    for one in _marked(found):
        axes.plot([one.params_low, one.params_high], [one.data_high, one.data_low], color=ink.INK, lw=1.0, zorder=4)
        axes.plot([one.params], [one.data], "D", color=ink.INK, mfc="white", ms=5.5, mew=1.1, zorder=5)
        axes.annotate(
            f"{one.flops / found.largest:.3g} ×", (one.params, one.data), (8, -9), textcoords="offset points",
            fontsize=7, color=ink.INK, zorder=5,
        )  # fmt: skip


def _runs_csv(found: Frontier) -> str:
    unit = found.unit.replace(" ", "_")
    head = ("kind", "params", found.data_unit, "flops", f"loss_{unit}", "low", "high")
    rows = [("measured", *run, None, None) for run in found.runs]
    rows += [("best by the law", b.params, b.data, b.flops, b.loss, b.low, b.high) for b in found.best]
    return table_csv(head, rows)


def _best_csv(found: Frontier) -> str:
    unit = found.data_unit
    head = ("kind", "flops", "params", "params_low", "params_high", unit, f"{unit}_low", f"{unit}_high", "loss")
    rows: list[tuple[Any, ...]] = [
        ("best", b.flops, b.params, b.params_low, b.params_high, b.data, b.data_low, b.data_high, b.loss)
        for b in found.best
    ]
    rows += [("run", run[2], run[0], None, None, run[1], None, None, run[3]) for run in found.runs]
    rows += [
        ("equal loss", None, x, None, None, y, None, None, line.level)
        for line in found.isolosses
        for x, y in line.points
    ]
    return table_csv(head, rows)
