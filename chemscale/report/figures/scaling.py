"""Loss against data and size: every run, and what was predicted of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from chemscale.report import ink
from chemscale.report.figures.base import BOX, MARGIN, TALL, WIDE, Figure, frame, level_labels, table_csv
from chemscale.report.numbers import count, significant, some
from chemscale.report.values import Dot, Foreseen, Section

MOST_LEVELS = 10  # lines of a plot whose names still stand beside it
NEAR = 3.0  # a floor further below the lowest loss than this factor is marked at the edge


def scaling(section: Section, axis: Literal["data", "params"]) -> Figure:
    """Loss against data for each model, or against parameters for each data size; both axes logarithmic."""
    other = "params" if axis == "data" else "data"
    nouns = {"params": "parameters", "data": section.data_unit}
    slug, title = f"{section.slug}-{axis}", f"{section.name}: {section.metric_words} against {nouns[axis]}"
    levels = some((getattr(dot, other) for dot in section.dots), MOST_LEVELS)
    with ink.canvas(WIDE, TALL, BOX) as (figure, axes):
        values = [getattr(dot, axis) for dot in section.dots]
        frame(figure, axes, title, section.unit, nouns[axis])
        low, high = _limits(section)
        axes.set(xscale="log", yscale="log", xlim=(min(values) / MARGIN, max(values) * MARGIN), ylim=(low, high))
        axes.axvspan(min(values), max(values), color=ink.SHADE, lw=0, zorder=0)
        ends = {i: _line(axes, section, axis, other, level, i, len(levels)) for i, level in enumerate(levels)}
        level_labels(axes, ends, [count(level) for level in levels], nouns[other])
        for foreseen in section.foreseen:
            _diamond(axes, getattr(foreseen, axis), foreseen)
        _floor(axes, section.noise, low, high)
        ink.level_ticks(axes.xaxis, values)
        ink.loss_ticks(axes.yaxis, low, high)
        svg = ink.svg_of(figure, slug, title)
    return Figure(slug, title, _caption(section, nouns[other]), svg, _dots_csv(section))


def _limits(section: Section) -> tuple[float, float]:
    """Ends of the loss axis: all dots with their errors and all predictions; the floor where it is near."""
    lows = [dot.loss - (dot.se or 0.0) for dot in section.dots]
    highs = [dot.loss + (dot.se or 0.0) for dot in section.dots]
    for seen in section.foreseen:
        lows.append(seen.low or seen.predicted or lows[0])
        highs.append(seen.high or seen.predicted or highs[0])
    low, high = min(v for v in lows if v > 0), max(highs)
    if section.noise and low / NEAR <= section.noise:
        low = min(low, section.noise)
    room = (high / low) ** 0.08
    return low / room ** (2.2 if _far(section.noise, low) else 1.0), high * room


def _far(noise: float | None, low: float) -> bool:
    return bool(noise) and noise < low / NEAR  # type: ignore[operator]


def _line(axes: Any, section: Section, axis: str, other: str, level: float, number: int, of: int) -> float:
    """One level of the other axis: its means joined, with every seed or the middle of many; returns the last mean."""
    mine = [dot for dot in section.dots if getattr(dot, other) == level]
    places: dict[float, list[Dot]] = {}
    for dot in mine:
        places.setdefault(getattr(dot, axis), []).append(dot)
    xs = sorted(places)
    means = [sum(d.loss for d in places[x]) / len(places[x]) for x in xs]
    colour = ink.shade(number, of)
    axes.plot(xs, means, color=colour, linestyle=ink.dash(number), zorder=2)
    if section.crowded:
        at, losses = xs, means
        errors = [[m - _part(places[x], 0.025) for x, m in zip(xs, means, strict=True)],
                  [_part(places[x], 0.975) - m for x, m in zip(xs, means, strict=True)]]  # fmt: skip
        errors = [[max(e, 0.0) for e in side] for side in errors]
    else:
        at, losses = [getattr(dot, axis) for dot in mine], [dot.loss for dot in mine]
        errors = [dot.se or 0.0 for dot in mine]
    axes.errorbar(
        at, losses, yerr=errors, fmt=ink.marker(number), color=colour, markeredgecolor="white", markeredgewidth=0.5,
        elinewidth=1.0, zorder=3,
    )  # fmt: skip
    return means[-1]


def _part(dots: Sequence[Dot], share: float) -> float:
    losses = sorted(dot.loss for dot in dots)
    return losses[round(share * (len(losses) - 1))]


def _diamond(axes: Any, x: float, seen: Foreseen) -> None:
    assert seen.predicted is not None
    style = {"fmt": "D", "mfc": "white", "mec": ink.INK, "ecolor": ink.INK, "ms": 6.5, "mew": 1.1, "elinewidth": 1.1}
    ends = None
    if seen.low is not None and seen.high is not None:
        ends = [[seen.predicted - seen.low], [seen.high - seen.predicted]]
    axes.errorbar([x], [seen.predicted], yerr=ends, capsize=3, zorder=1.5, **style)
    axes.annotate(
        "predicted", (x, seen.low or seen.predicted), (-7, -1), textcoords="offset points", ha="right", va="center",
        fontsize=7, color=ink.INK,
    )  # fmt: skip


def _floor(axes: Any, noise: float | None, low: float, high: float) -> None:
    """The label noise as a dashed line; at the lower edge, with its distance, where it lies far below."""
    if not noise:
        return
    text = f"label noise {significant(noise, 2)}"
    if noise >= low:
        axes.axhline(noise, color=ink.MUTED, linestyle=(0, (2, 2)), lw=1.0)
        axes.text(0.015, noise, text, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7, color=ink.MUTED)
        return
    axes.axhline(0.035, color=ink.MUTED, linestyle=(0, (2, 2)), lw=1.0)
    line = axes.lines[-1]
    line.set_transform(axes.transAxes)
    axes.text(
        0.015, 0.05, f"{text}, off the scale ↓", transform=axes.transAxes, va="bottom", fontsize=7, color=ink.MUTED
    )


def _caption(section: Section, noun: str) -> str:
    levels = {dot.params if noun == "parameters" else dot.data for dot in section.dots}
    some_of = f"for each of {MOST_LEVELS} of the {len(levels):,} numbers" if len(levels) > MOST_LEVELS else "per number"
    parts = [f"one line {some_of} of {noun}, through the mean of its seeds"]
    if section.crowded:
        parts.append("markers are means of cells and bars hold the middle 95% of their seeds")
        parts.append(f"the CSV holds each of the {len(section.dots):,} runs")
    else:
        parts[0] += "; every run is a marker"
    if any(dot.se for dot in section.dots) and not section.crowded:
        parts.append("bars, where wider than the marker, are standard errors over the test set")
    parts.append("shaded: the range that was run, beyond which nothing here is measured")
    if section.foreseen:
        parts.append(f"open diamond: predicted before the run, with its {section.foreseen[0].level:.0%} interval")
    if section.noise:
        parts.append(f"dashed: label noise, {significant(section.noise, 2)} {section.unit}")
    text = "; ".join(parts).replace("%", " %")
    return text[:1].upper() + text[1:] + "."


def _dots_csv(section: Section) -> str:
    rows: list[tuple[Any, ...]] = [
        ("measured", d.run_id, d.params, d.data, d.seed, d.loss, d.se, None, None) for d in section.dots
    ]
    rows += [("predicted", "", f.params, f.data, "", f.predicted, None, f.low, f.high) for f in section.foreseen]
    unit = section.unit.replace(" ", "_")
    head = (
        "kind",
        "run_id",
        "params",
        section.data_unit,
        "seed",
        f"{section.metric}_{unit}",
        "standard_error",
        "low",
        "high",
    )
    return table_csv(head, rows)
