"""How figures look: one ramp of colours that stays ordered in grey and for colour-blind eyes, markers and dashes that
differ with it, round ticks, and matplotlib's SVG made fit to stand in a page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chemscale.report.numbers import count, power, significant
from chemscale.report.svg import fit_for_page

RAMP = ((0.87, 0.62, 0.13), (0.20, 0.56, 0.55), (0.07, 0.17, 0.36))  # amber, teal, navy: dark grows with the level
MARKERS = "os^Dv<>P"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (6, 1.6, 1, 1.6)), (0, (1, 1.2)), (0, (3, 1, 1, 1, 1, 1)))
INK, MUTED, RULE, SHADE = "#20262d", "#5d6873", "#c9d0d6", "#eef2f4"
ROUND = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))  # mantissas of ticks, from few to many

STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "chemscale", "font.family": "DejaVu Sans", "font.size": 8.0,
    "text.color": INK, "axes.edgecolor": RULE, "axes.labelcolor": MUTED, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": RULE, "ytick.color": RULE,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "xtick.major.size": 3.0, "ytick.major.size": 3.0,
    "lines.linewidth": 1.4, "lines.markersize": 4.6, "errorbar.capsize": 0.0, "figure.facecolor": "none",
    "axes.facecolor": "none", "text.parse_math": False,
}  # fmt: skip


@contextmanager
def canvas(width: float, height: float, box: tuple[float, float, float, float]) -> Iterator[tuple[Any, Any]]:
    """A figure of so many inches and its one pair of axes; `box` is left, bottom, width, height as shares of it."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        yield figure, figure.add_axes(box)


def svg_of(figure: Any, slug: str, description: str) -> str:
    """The figure as one `<svg>` element that can stand beside others: own ids, the page's fonts, nothing external."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return fit_for_page(buffer.getvalue(), slug, description)


def shade(number: int, of: int) -> tuple[float, float, float]:
    """The colour of level `number` of `of`, light to dark."""
    place = (number / (of - 1) if of > 1 else 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    part = place - low
    r, g, b = ((1 - part) * a + part * z for a, z in zip(RAMP[low], RAMP[low + 1], strict=True))
    return r, g, b


def marker(number: int) -> str:
    """The marker of level `number`."""
    return MARKERS[number % len(MARKERS)]


def dash(number: int) -> Any:
    """The line style of level `number`."""
    return DASHES[number % len(DASHES)]


def level_ticks(axis: Any, values: Sequence[float], most: int = 6) -> None:
    """Ticks of a log axis at the values that were run, or at round ones where those are many."""
    shown = sorted(set(values)) if len(set(values)) <= most else round_ticks(min(values), max(values))
    kept = [shown[0]]
    for value in shown[1:]:
        if math.log10(value / kept[-1]) > 0.12 * math.log10(shown[-1] / shown[0]):
            kept.append(value)
    set_ticks(axis, kept, [count(v) for v in kept])


def loss_ticks(axis: Any, low: float, high: float) -> None:
    """Three or more round ticks of a log axis."""
    ticks = round_ticks(low, high)
    set_ticks(
        axis, ticks, [significant(tick, 3).rstrip("0").rstrip(".") if tick < 1 else f"{tick:,.4g}" for tick in ticks]
    )


def flops_ticks(axis: Any, low: float, high: float) -> None:
    """Powers of ten, or round numbers where an axis has but one."""
    whole = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    ticks = whole[:: max(1, math.ceil(len(whole) / 6))] if len(whole) > 1 else round_ticks(low, high)
    set_ticks(axis, ticks, [power(tick, 0).replace("1 × ", "") for tick in ticks])


def set_ticks(axis: Any, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """These ticks and no others."""
    from matplotlib.ticker import NullLocator

    axis.set_minor_locator(NullLocator())
    axis.set_ticks(list(ticks), labels=list(labels))


def round_ticks(low: float, high: float, least: int = 3) -> list[float]:
    """Round numbers within [low, high], as few as are at least `least`; evenly spaced ones in a narrow range.

    The one number where there is but one.
    """
    if low == high:
        return [low]
    for mantissas in ROUND:
        found = [
            m * 10.0**k
            for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for m in mantissas
            if low <= m * 10.0**k <= high
        ]
        if len(found) >= least:
            return found
    step = _round_step((high - low) / least)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _round_step(width: float) -> float:
    size = 10.0 ** math.floor(math.log10(width))
    return max(m * size for m in (1, 2, 2.5, 5) if m * size <= width * 1.0001)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places moved as little as it takes for neighbours to be `gap` apart, in their order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[float, int]] = []  # centre, how many labels
    for i in order:
        blocks.append((places[i], 1))
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (b, n), (a, m) = blocks.pop(), blocks.pop()
            blocks.append(((a * m + b * n) / (m + n), m + n))
    moved = [c + gap * (k - (n - 1) / 2) for c, n in blocks for k in range(n)]
    return [moved[order.index(i)] for i in range(len(places))]
