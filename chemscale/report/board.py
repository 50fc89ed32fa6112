"""The figures of laws beside the curves of their runs, on TensorBoard's page of images."""

from __future__ import annotations

from collections.abc import Iterable

from chemscale.audit.groups import groups_of
from chemscale.audit.thinning import thinned
from chemscale.records.board import written_below
from chemscale.records.events import EventFile
from chemscale.records.store import Store
from chemscale.report.collect import section
from chemscale.report.figures.law import png
from chemscale.report.fitted import laws_of
from chemscale.report.traced import traced
from chemscale.report.values import Traced

FOLDER = "laws"


def show_laws(store: Store) -> int:
    """Fit a Chinchilla law to every architecture and write its figures into the store's TensorBoard folder.

    Returns:
        How many figures; none where no architecture has runs enough for a law.
    """
    groups = [thinned(group) for group in groups_of(store.runs().to_pylist())]
    laws, _ = laws_of(groups, None)
    return write_figures(store, traced(groups, laws, [section(group, (), None) for group in groups]))


def write_figures(store: Store, laws: Iterable[Traced]) -> int:
    """The figures of these laws as images; the step is the number of runs, so that a growing study has a slider."""
    drawn = list(laws)
    for slug in dict.fromkeys(law.section.slug for law in drawn):
        mine = [law for law in drawn if law.section.slug == slug]
        with written_below(store.place.at(f"tensorboard/{FOLDER}/{slug}")) as folder:
            events = EventFile(folder, since=mine[0].n_runs)
            for law in mine:
                events.image(f"law/against_{law.axis}", *png(law), step=law.n_runs)
            events.close()
    return len(drawn)
