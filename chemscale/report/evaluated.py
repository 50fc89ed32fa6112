"""A page of a potential's errors on a file of structures: a table of subsets, and parity plots of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.audit.values import joined
from chemscale.report import figures
from chemscale.report.numbers import whole, with_ends
from chemscale.report.page import environment, made_now, template
from chemscale.report.values import Column, Entry, Parity, Table
from chemscale.use.errors import ALL, Estimated, Measured, SubsetErrors, points

COLUMNS = {  # error -> its heading, in thousandths of its unit
    "energy_mae": "energy MAE, meV/atom", "energy_rmse": "energy RMSE, meV/atom", "total_rmse": "energy RMSE, meV",
    "force_mae": "force MAE, meV/Å", "force_rmse": "force RMSE, meV/Å",
}  # fmt: skip
MOST_POINTS = 20_000  # of a plot, beyond which hexagons look the same
MOST_PLOTTED = 12  # subsets that have plots of their own


def page_of(measured: Measured, record: Mapping[str, Any]) -> str:
    """The page as HTML that needs nothing else.

    Args:
        record: what `chemscale evaluate --json` says: the run, its architecture, the file, the level.
    """
    first = measured.subsets[0]
    parity = [(shown, figures.parities(shown)) for shown in (_parity(measured, one) for one in _plotted(measured))]
    return (
        environment()
        .get_template("evaluated.html")
        .render(
            title=f"{record['architecture']} on {Path(record['file']).name}",
            summary=f"Run {record['run_id']} on {whole(first.structures)} structures of {whole(first.atoms)} atoms.",
            table=_table(measured),
            note=_note(measured, float(record["level"])),
            parity=parity,
            css=template("page.css"),
            made=made_now(),
        )
    )


def _plotted(measured: Measured) -> tuple[SubsetErrors, ...]:
    several = measured.subsets[1:]
    return several[:MOST_PLOTTED] if several else measured.subsets


def _table(measured: Measured) -> Table:
    columns = (Column("subset"), Column("structures", True), *(Column(name, True) for name in COLUMNS.values()))
    rows = [
        (Entry(one.name), Entry(whole(one.structures)), *(Entry(_told(one.errors[name])) for name in COLUMNS))
        for one in measured.subsets
    ]
    return Table(columns, tuple(rows))


def _told(found: Estimated | None) -> str:
    if found is None:
        return "—"
    ends = (None if end is None else 1000 * end for end in (found.low, found.high))
    value, low, high = with_ends(1000 * found.value, *ends)
    return value if found.low is None else f"{value} ({low} to {high})"


def _note(measured: Measured, level: float) -> str:
    groups, structures = measured.subsets[0].groups, measured.subsets[0].structures
    drawn = "structures" if groups == structures else f"{whole(groups)} groups of structures"
    parts = [f"In brackets {100 * level:g} % intervals by bootstrap over {drawn}."] if groups > 1 else []
    lacking = {"energies": measured.subsets[0].energies, "forces": measured.subsets[0].forces}
    parts += [f"{whole(have)} structures have {name}." for name, have in lacking.items() if have < structures]
    left_out = [f"{whole(count)} ({reason})" for reason, count in measured.labelled.left_out.items()]
    parts += [f"Left out: {joined(left_out)}."] if left_out else []
    more = len(measured.subsets) - 1 - MOST_PLOTTED
    parts += [f"Plots of the last {more} subsets are left out."] if more > 0 else []
    return " ".join(parts)


def _parity(measured: Measured, one: SubsetErrors) -> Parity:
    """Energies per atom minus reference energies, and components of forces."""
    labelled = measured.labelled
    here = np.flatnonzero(labelled.subsets == one.name) if one.name != ALL else np.arange(len(measured.energy))
    atoms = np.array([len(labelled.structures[k]) for k in here])
    energies = [(energy[here] - measured.reference[here]) / atoms for energy in (labelled.energy, measured.energy)]
    forces = [np.concatenate([np.ravel(forces[k]) for k in here]) for forces in (labelled.forces, measured.forces)]
    slug = f"{measured.subsets.index(one)}-{re.sub('[^a-z0-9]+', '-', one.name.lower()).strip('-')}"
    return Parity(
        f"subset-{slug}",
        "All structures" if one.name == ALL else f"{labelled.named_by} {one.name}",
        "Energies are per atom, minus reference energies." if one.energies else "No structure has an energy.",
        points(*energies, MOST_POINTS),  # type: ignore[arg-type]
        points(*forces, MOST_POINTS),  # type: ignore[arg-type]
    )
