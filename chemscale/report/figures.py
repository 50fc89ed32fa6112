"""Values in, figures out: vector drawings with the data that they show.

Losses are in display units (see `values`). matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chemscale.report import ink
from chemscale.report.numbers import count, significant
from chemscale.report.values import Curves, Dot, Foreseen, Parity, Section

WIDE, TALL = 4.6, 3.3  # inches
BOX = (0.115, 0.135, 0.715, 0.71)
MARGIN = 1.35  # factor by which an axis reaches beyond the range that was run
NEAR = 3.0  # a floor further below the lowest loss than this factor is marked at the edge
MOST_DOTS = 800  # points of a parity plot that are drawn one by one
LISTED = 5000  # rows of a parity plot's data


@dataclass(frozen=True)
class Figure:
    """A drawing as one `<svg>` element, its title and caption, and its data as CSV; a notebook shows it."""

    slug: str
    title: str
    caption: str
    svg: str
    csv: str

    def _repr_svg_(self) -> str:
        return self.svg


def scaling(section: Section, axis: Literal["data", "params"]) -> Figure:
    """Loss against data for each model, or against parameters for each data size; both axes logarithmic."""
    other = "params" if axis == "data" else "data"
    nouns = {"params": "parameters", "data": section.data_unit}
    slug, title = f"{section.slug}-{axis}", f"{section.name}: {section.metric_words} against {nouns[axis]}"
    levels = sorted({getattr(dot, other) for dot in section.dots})
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


def frame(figure: Any, axes: Any, title: str, unit: str, noun: str) -> None:
    """Title, unit of the loss and name of the other axis."""
    tall = 72 * figure.get_figheight()  # points
    figure.text(0.003, 1 - 9 / tall, title, fontsize=9, fontweight="bold", va="center")
    figure.text(0.003, 1 - 22 / tall, unit, color=ink.MUTED, va="center")
    axes.set_xlabel(noun, loc="center", labelpad=3)


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
    """One level of the other axis: every seed a marker, their means joined; returns the last mean."""
    mine = [dot for dot in section.dots if getattr(dot, other) == level]
    places: dict[float, list[Dot]] = {}
    for dot in mine:
        places.setdefault(getattr(dot, axis), []).append(dot)
    xs = sorted(places)
    means = [sum(d.loss for d in places[x]) / len(places[x]) for x in xs]
    colour = ink.shade(number, of)
    axes.plot(xs, means, color=colour, linestyle=ink.dash(number), zorder=2)
    errors = [dot.se or 0.0 for dot in mine]
    axes.errorbar(
        [getattr(dot, axis) for dot in mine], [dot.loss for dot in mine], yerr=errors, fmt=ink.marker(number),
        color=colour, markeredgecolor="white", markeredgewidth=0.5, elinewidth=1.0, zorder=3,
    )  # fmt: skip
    return means[-1]


def level_labels(axes: Any, ends: Mapping[int, float], names: Sequence[str], noun: str) -> None:
    """The names of levels at the right edge beside their last losses (level -> loss), moved apart, with markers."""
    tall = 72 * axes.figure.get_figheight() * axes.get_position().height  # points
    heights = [float(axes.transAxes.inverted().transform(axes.transData.transform((1.0, y)))[1]) for y in ends.values()]
    moved = ink.spread(heights, 10 / tall)
    axes.text(1.035, max(moved) + 12 / tall, noun, transform=axes.transAxes, color=ink.MUTED, fontsize=7, va="center")
    for i, y in zip(ends, moved, strict=True):
        at = {"transform": axes.transAxes, "clip_on": False, "scalex": False, "scaley": False}
        axes.plot([1.05], [y], ink.marker(i), color=ink.shade(i, len(names)), markersize=4, **at)
        axes.text(1.09, y, names[i], transform=axes.transAxes, color=ink.INK, va="center", fontsize=7.5)


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
    parts = [f"one line per number of {noun}, through the mean of its seeds; every run is a marker"]
    if any(dot.se for dot in section.dots):
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
    return _csv(head, rows)


def learning(curves: Curves) -> tuple[Figure, ...]:
    """Validation loss against examples seen: a small plot per data size, a line per model, on shared axes."""
    sizes = sorted({curve.data for curve in curves.curves})
    return tuple(_learning(curves, size) for size in sizes)


def _learning(curves: Curves, size: float) -> Figure:
    models = sorted({curve.params for curve in curves.curves})
    title, slug = f"{curves.name}, {count(size)} {curves.data_unit}", f"{curves.slug}-curves-{size:.0f}"
    every = [point for curve in curves.curves for point in curve.points]
    mine = [curve for curve in curves.curves if curve.data == size]
    low, high = min(y for _, y in every), max(y for _, y in every)
    with ink.canvas(2.7, 2.1, (0.15, 0.19, 0.59, 0.59)) as (figure, axes):
        frame(figure, axes, title, curves.unit, "examples seen")
        room = (high / low) ** 0.06
        seen = [x for x, _ in every if x > 0]
        axes.set(xscale="log", yscale="log", xlim=(min(seen) / 1.3, max(seen) * 1.3), ylim=(low / room, high * room))
        ends: dict[int, float] = {}
        for curve in mine:
            i = models.index(curve.params)
            xs, ys = zip(*curve.points, strict=True)
            axes.plot(xs, ys, color=ink.shade(i, len(models)), linestyle=ink.dash(i), lw=1.1)
            axes.plot(xs[-1:], ys[-1:], ink.marker(i), color=ink.shade(i, len(models)), ms=3.5)
            ends[i] = ys[-1]
        level_labels(axes, ends, [count(m) for m in models], "parameters")
        ink.level_ticks(axes.xaxis, ink.round_ticks(min(seen), max(seen)), most=5)
        ink.loss_ticks(axes.yaxis, low, high)
        svg = ink.svg_of(figure, slug, title)
    rows = [(c.run_id, c.params, c.data, c.seed, x, y) for c in mine for x, y in c.points]
    head = ("run_id", "params", curves.data_unit, "seed", "examples_seen", f"valid_{curves.unit.replace(' ', '_')}")
    return Figure(slug, title, "", svg, _csv(head, rows))


def parity(shown: Parity, quantity: Literal["energies", "forces"]) -> Figure:
    """Labels against predictions: dots, or the density of many on a logarithmic scale."""
    unit = {"energies": "eV/atom", "forces": "eV/angstrom"}[quantity]
    pairs: Sequence[tuple[float, float]] = getattr(shown, quantity)
    slug, title = f"{shown.slug}-{quantity}", f"{shown.name}: {quantity}, {unit}"
    ends = [v for pair in pairs for v in pair]
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low or 1.0)
    with ink.canvas(3.6, 3.5, (0.15, 0.13, 0.8, 0.74)) as (figure, axes):
        frame(figure, axes, title, "predicted", "label")
        axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal")
        axes.plot([low, high], [low, high], color=ink.MUTED, lw=0.8, zorder=1)
        xs, ys = zip(*pairs, strict=True)
        if len(pairs) > MOST_DOTS:
            colours = _ramp()
            axes.hexbin(xs, ys, gridsize=44, bins="log", mincnt=1, cmap=colours, linewidths=0.1, zorder=2)
        else:
            axes.plot(xs, ys, "o", color=ink.shade(2, 3), ms=3, alpha=0.55, mew=0, zorder=2)
        axes.locator_params(nbins=6)
        svg = ink.svg_of(figure, slug, title)
    dense = " Darker hexagons hold more, on a logarithmic scale." if len(pairs) > MOST_DOTS else ""
    what = "force components" if quantity == "forces" else "structures"
    left_out = f" The CSV holds the first {LISTED:,}." if len(pairs) > LISTED else ""
    caption = f"{len(pairs):,} {what} of the test set; the line is equality.{dense}{left_out}"
    name = unit.replace("/", "_per_")
    return Figure(slug, title, caption, svg, _csv((f"label_{name}", f"predicted_{name}"), pairs[:LISTED]))


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("chemscale", list(ink.RAMP))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    return text.getvalue()
