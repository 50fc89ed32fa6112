"""What text models write, against their losses."""

from __future__ import annotations

from chemscale.report import ink
from chemscale.report.figures.base import Figure, frame, level_labels, table_csv
from chemscale.report.numbers import count
from chemscale.report.values import Quality, Written

SMALL = (3.3, 2.5, (0.15, 0.18, 0.63, 0.60))  # inches, box


def quality(found: Quality, written: Written) -> Figure:
    """A metric against the loss, better models to the right; one marker for each run, by the model's size."""
    slug, title = f"{found.slug}-{written.metric.replace('_', '-').lower()}", f"{found.name}: {written.words}"
    runs = {run.run_id: run for run in found.runs}
    levels = sorted({run.params for run in found.runs})
    losses = [run.loss for run in found.runs]
    room = 0.06 * (max(losses) - min(losses) or 1.0)
    with ink.canvas(*SMALL) as (figure, axes):
        frame(figure, axes, title, f"{written.better} is better", f"{found.unit}, falling")
        axes.set_xlim(max(losses) + room, min(losses) - room)
        ends = {}
        for number, level in enumerate(levels):
            mine = [(runs[i].loss, value) for i, value in written.values if runs[i].params == level]
            if not mine:
                continue
            axes.plot(
                *zip(*mine, strict=True), ink.marker(number), color=ink.shade(number, len(levels)), mec="white", mew=0.5
            )
            ends[number] = min(mine)[1]
        level_labels(axes, ends, [count(level) for level in levels], "parameters")
        axes.locator_params(nbins=5)
        svg = ink.svg_of(figure, slug, title)
    return Figure(slug, title, "", svg, _csv(found, written))


def _csv(found: Quality, written: Written) -> str:
    runs = {run.run_id: run for run in found.runs}
    head = ("run_id", "params", found.data_unit, f"loss_{found.unit.replace(' ', '_')}", written.metric)
    return table_csv(head, [(i, runs[i].params, runs[i].data, runs[i].loss, value) for i, value in written.values])
