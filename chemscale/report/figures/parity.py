"""Labels against predictions of a potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from chemscale.report import ink
from chemscale.report.figures.base import Figure, frame, table_csv
from chemscale.report.values import Parity

MOST_DOTS = 800  # points that are drawn one by one
LISTED = 5000  # rows of the data


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
    caption = f"{len(pairs):,} {what}; the line is equality.{dense}{left_out}"
    name = unit.replace("/", "_per_")
    return Figure(slug, title, caption, svg, table_csv((f"label_{name}", f"predicted_{name}"), pairs[:LISTED]))


def parities(shown: Parity) -> list[Figure]:
    """Forces, then energies, of those that have labels."""
    return [parity(shown, quantity) for quantity in ("forces", "energies") if getattr(shown, quantity)]


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("chemscale", list(ink.RAMP))
