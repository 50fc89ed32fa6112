"""Architectures against each other: paired losses, and differences of exponents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chemscale.report import ink
from chemscale.report.figures.base import BOX, TALL, WIDE, Figure, frame, level_labels, table_csv
from chemscale.report.values import Apart, Compared

ROOM = 1.35


def paired(found: Compared) -> Figure:
    """Loss over the reference's loss, pair by pair, against data (or parameters, where that is what they share)."""
    reference = found.looks[0].reference
    by_data = any(data for look in found.looks for _, data, _ in look.points)
    noun = found.data_unit if by_data else "parameters"
    slug, title = f"{found.slug}-paired", f"{found.metric_words.capitalize()} over that of {reference}, pair by pair"
    with ink.canvas(WIDE, TALL, BOX) as (figure, axes):
        frame(figure, axes, title, f"times that of {reference}", noun)
        xs = [x for look in found.looks for x in _places(look.points, by_data)]
        ratios = [ratio for look in found.looks for _, _, ratio in look.points]
        low, high = min([*ratios, 1.0]), max([*ratios, 1.0])
        room = (high / low) ** 0.1 if high > low else 1.05
        axes.set(xscale="log", yscale="log", ylim=(low / room, high * room))
        axes.set_xlim(min(xs) / ROOM, max(xs) * ROOM)
        axes.axhline(1.0, color=ink.MUTED, lw=0.9, zorder=1)
        for i, look in enumerate(found.looks):
            colour = ink.shade(i + 1, len(found.looks) + 1)
            pairs = sorted(zip(_places(look.points, by_data), (p[2] for p in look.points), strict=True))
            axes.plot(*zip(*pairs, strict=True), ink.marker(i), color=colour, mec="white", mew=0.5, zorder=3)
            x, y = pairs[-1]
            axes.annotate(look.model, (x, y), (8, 0), textcoords="offset points", va="center", annotation_clip=False)
        ink.level_ticks(axes.xaxis, xs)
        ink.loss_ticks(axes.yaxis, low / room, high * room)
        svg = ink.svg_of(figure, slug, title)
    head = ("model", "reference", "params", found.data_unit, "ratio")
    rows = [(look.model, look.reference, *point) for look in found.looks for point in look.points]
    return Figure(slug, title, f"Above the line {reference} is better.", svg, table_csv(head, rows))


def _places(points: Any, by_data: bool) -> list[float]:
    return [(data if by_data else params) or 0.0 for params, data, _ in points]


def differences(found: Compared) -> Figure:
    """Every exponent minus that of the reference, with its interval."""
    slug, title = f"{found.slug}-differences", "Exponent minus that of the reference"
    listed = found.differences[::-1]
    tall = 0.85 + 0.34 * len(listed)
    with ink.canvas(WIDE, tall, (0.36, 0.40 / tall, 0.60, 1 - 0.92 / tall)) as (figure, axes):
        frame(figure, axes, title, f"{found.confidence:.0%} intervals".replace("%", " %"), "")
        low, high = _ends(listed)
        axes.set(xlim=(low, high), ylim=(-0.6, len(listed) - 0.4))
        axes.axvline(0.0, color=ink.MUTED, lw=0.9, zorder=1)
        for y, one in enumerate(listed):
            ends = [low if one.low is None else max(one.low, low), high if one.high is None else min(one.high, high)]
            axes.plot(ends, [y, y], color=ink.RAMP[1], lw=1.6, zorder=2, solid_capstyle="butt")
            face = ink.RAMP[2] if one.clear else "white"
            axes.plot([min(max(one.value, low), high)], [y], "o", mfc=face, mec=ink.RAMP[2], ms=6, mew=1.2, zorder=3)
        ink.set_ticks(axes.yaxis, range(len(listed)), [_name(found, one) for one in listed])
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3g}".replace("-", "−") if abs(x) > 1e-9 else "0")
        svg = ink.svg_of(figure, slug, title)
    head = ("model", "reference", "exponent", "along", "difference", "low", "high")
    rows = [(d.model, d.reference, d.exponent, d.along, d.value, d.low, d.high) for d in found.differences]
    caption = "Filled: the interval leaves out zero. Left of zero the loss falls slower than the reference’s."
    return Figure(slug, title, caption, svg, table_csv(head, rows))


def _name(found: Compared, one: Apart) -> str:
    return one.along if len(found.names) == 2 else f"{one.model}, {one.along}"


def _ends(listed: tuple[Apart, ...]) -> tuple[float, float]:
    """All values, and intervals up to three times as far out as the widest value or the median end."""
    ends = sorted(abs(end) for one in listed for end in (one.low, one.high) if end is not None)
    most = max([abs(one.value) for one in listed] + ([3 * ends[len(ends) // 2]] if ends else [0.1]))
    reach = min(most, ends[-1]) if ends else most
    return -1.1 * reach, 1.1 * reach


def costs(found: Compared) -> Figure:
    """Loss against compute of every architecture: its runs, and the least loss that so much compute has bought."""
    slug, title = f"{found.slug}-costs", f"{found.metric_words.capitalize()} against compute"
    with ink.canvas(WIDE, TALL, BOX) as (figure, axes):
        frame(figure, axes, title, found.unit, "FLOPs of a run")
        flops, losses = zip(*(run for _, runs in found.costs for run in runs), strict=True)
        low, high = min(losses), max(losses)
        room = (high / low) ** 0.08
        left, right = min(flops) / ROOM, max(flops) * ROOM
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low / room, high * room))
        ends: dict[int, float] = {}
        for i, (_, runs) in enumerate(found.costs):
            colour = ink.shade(i, len(found.costs))
            axes.plot(*zip(*runs, strict=True), ink.marker(i), color=colour, ms=4, alpha=0.6, mew=0, zorder=2)
            best = _efficient(runs)
            axes.plot(*zip(*best, strict=True), ink.marker(i), color=colour, mec="white", mew=0.5, zorder=3)
            axes.plot(*zip(*best, strict=True), color=colour, linestyle=ink.dash(i), zorder=3)
            ends[i] = best[-1][1]
        level_labels(axes, ends, [name for name, _ in found.costs], "")
        ink.flops_ticks(axes.xaxis, left, right)
        ink.loss_ticks(axes.yaxis, low / room, high * room)
        svg = ink.svg_of(figure, slug, title)
    rows = [(name, *run) for name, runs in found.costs for run in runs]
    head = ("model", "flops", f"loss_{found.unit.replace(' ', '_')}")
    caption = "Lines: through the runs that no cheaper run of the same architecture beats."
    return Figure(slug, title, caption, svg, table_csv(head, rows))


def _efficient(runs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The runs whose loss is below that of every cheaper one."""
    best: list[tuple[float, float]] = []
    for run in sorted(runs):
        if not best or run[1] < best[-1][1]:
            best.append(run)
    return best
