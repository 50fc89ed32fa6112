"""The figure of a law: the runs it was fitted to, its lines through them, and how sure it is of the next ten times."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chemscale.report import ink
from chemscale.report.figures.base import BOX as USUAL
from chemscale.report.figures.base import MARGIN, TALL, WIDE, Figure, frame, level_labels, table_csv
from chemscale.report.numbers import count
from chemscale.report.values import Trace, Traced

PICTURE = 3.6  # inches high, with the words beneath the title
PICTURE_BOX = (0.115, 0.125, 0.715, 0.70)
DOTS_PER_INCH = 200


def png(law: Traced) -> tuple[bytes, int, int]:
    """A PNG of the law along its axis on white, with its width and height in pixels."""
    buffer = io.BytesIO()
    with _drawn(law, PICTURE, PICTURE_BOX) as figure:
        figure.text(0.003, 1 - 34 / (72 * PICTURE), _words(law), color=ink.MUTED, fontsize=6.5, va="center")
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
        width, height = figure.get_size_inches() * DOTS_PER_INCH
    return buffer.getvalue(), round(width), round(height)


def law(found: Traced) -> Figure:
    """The law along its axis for a page: its words are the caption."""
    slug = f"{found.section.slug}-law-{found.axis}"
    with _drawn(found, TALL, USUAL) as figure:
        svg = ink.svg_of(figure, slug, title(found))
    unit = found.section.unit.replace(" ", "_")
    other = "params" if found.axis == "data" else found.section.data_unit
    head = (other, found.section.data_unit if found.axis == "data" else "params", f"loss_{unit}", "low", "high")
    rows = [(trace.level, *point) for trace in found.traces for point in trace.points]
    return Figure(slug, title(found), _words(found), svg, table_csv(head, rows))


def title(law: Traced) -> str:
    """What the figure shows."""
    return f"{law.section.name}: {law.section.metric_words} against {_nouns(law)[law.axis]}"


def _nouns(law: Traced) -> dict[str, str]:
    return {"params": "parameters", "data": law.section.data_unit}


@contextmanager
def _drawn(law: Traced, tall: float, box: tuple[float, float, float, float]) -> Iterator[Any]:
    dots, other = law.section.dots, "params" if law.axis == "data" else "data"
    xs = [getattr(dot, law.axis) for dot in dots]
    with ink.canvas(WIDE, tall, box) as (figure, axes):
        frame(figure, axes, title(law), law.section.unit, _nouns(law)[law.axis])
        low, high = _limits(law)
        last = law.traces[0].points[-1][0]
        axes.set(xscale="log", yscale="log", xlim=(min(xs) / MARGIN, last * MARGIN), ylim=(low, high))
        axes.axvspan(min(xs), max(xs), color=ink.SHADE, lw=0, zorder=0)
        for number, trace in enumerate(law.traces):
            colour = ink.shade(number, len(law.traces))
            mine = [d for d in dots if trace.level is None or getattr(d, other) == trace.level]
            _line(axes, trace, max(xs), colour)
            at, losses = [getattr(d, law.axis) for d in mine], [d.loss for d in mine]
            axes.plot(at, losses, ink.marker(number), color=colour, mec="white", mew=0.5, zorder=3)
        _band(axes, law.traces[-1])
        if law.traces[0].level is not None:
            ends = {i: trace.points[-1][1] for i, trace in enumerate(law.traces)}
            level_labels(axes, ends, [count(t.level or 0) for t in law.traces], _nouns(law)[other])
        ink.level_ticks(axes.xaxis, ink.round_ticks(min(xs), last))
        ink.loss_ticks(axes.yaxis, low, high)
        yield figure


def _words(law: Traced) -> str:
    form = law.form.replace("_", " ")
    said = f"Lines: {form} law of {law.n_runs} runs, dashed beyond them. Band: {law.confidence:.0%} interval of one run"
    said += "." if law.traces[0].level is None else ", largest level."
    return said.replace("%", " %")


def _limits(law: Traced) -> tuple[float, float]:
    """All dots, all lines and the band of the last."""
    values = [dot.loss for dot in law.section.dots] + [y for trace in law.traces for _, y, _, _ in trace.points]
    values += [end for _, _, low, high in law.traces[-1].points for end in (low, high)]
    room = (max(values) / min(values)) ** 0.05
    return min(values) / room, max(values) * room


def _line(axes: Any, trace: Trace, edge: float, colour: Any) -> None:
    """Solid where runs were, dashed beyond."""
    inside = [(x, y) for x, y, _, _ in trace.points if x <= edge]
    beyond = inside[-1:] + [(x, y) for x, y, _, _ in trace.points if x > edge]
    for part, dash in ((inside, "-"), (beyond, (0, (4, 2)))):
        axes.plot(*zip(*part, strict=True), color=colour, linestyle=dash, lw=1.2, zorder=2)


def _band(axes: Any, trace: Trace) -> None:
    xs, _, low, high = zip(*trace.points, strict=True)
    axes.fill_between(xs, low, high, color=ink.RAMP[-1], alpha=0.12, lw=0, zorder=1)
