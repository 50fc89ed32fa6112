"""What all figures share: a drawing with its data, the frame around it, the names of its lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chemscale.report import ink

WIDE, TALL = 4.6, 3.3  # inches
BOX = (0.115, 0.135, 0.715, 0.71)
MARGIN = 1.35  # factor by which an axis reaches beyond the range that was run


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


def frame(figure: Any, axes: Any, title: str, unit: str, noun: str) -> None:
    """Title, unit of the loss and name of the other axis."""
    tall = 72 * figure.get_figheight()  # points
    figure.text(0.003, 1 - 9 / tall, title, fontsize=9, fontweight="bold", va="center")
    figure.text(0.003, 1 - 22 / tall, unit, color=ink.MUTED, va="center")
    axes.set_xlabel(noun, loc="center", labelpad=3)


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


def table_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; numbers to six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    return text.getvalue()
