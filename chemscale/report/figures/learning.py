"""Learning curves: what a run learned on its way."""

from __future__ import annotations

from chemscale.report import ink
from chemscale.report.figures.base import Figure, frame, level_labels, table_csv
from chemscale.report.numbers import count
from chemscale.report.values import Curves


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
        room = (high / low) ** 0.06 if high > low else 1.06  # of a single point
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
    return Figure(slug, title, "", svg, table_csv(head, rows))
