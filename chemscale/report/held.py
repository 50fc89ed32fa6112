"""Something to hold: molecules that the best text model writes, and the best potential's errors on its test set.

Needs the weights of the best runs and their data on this machine; what is missing is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chemscale.records.store import Store
from chemscale.report.groups import Group
from chemscale.report.numbers import by_error, count, whole
from chemscale.report.values import Held, Molecules, Parity

DRAWN = 20  # molecules on the page
SAMPLED = 500  # molecules that validity, uniqueness and novelty are told of
STRUCTURES = 200  # test structures behind the parity plots
SEED = 0


def hold(store: Store, groups: Sequence[Group]) -> Held:
    """What can be shown of the best model of each architecture."""
    missing: list[str] = []
    molecules, potentials = None, []
    text = [group for group in groups if group.family == "text"]
    atoms = _one_each([group for group in groups if group.family == "structures"])
    if not text:
        missing.append("No text model has finished, so there are no molecules to show.")
    if not atoms:
        missing.append("No interatomic potential has finished, so there are no energies and forces to show.")
    for group in text[:1]:
        try:
            molecules = _molecules(store, group)
        except (ValueError, OSError) as error:
            missing.append(f"No molecules of {group.title}: {error}")
    for group in atoms:
        try:
            potentials.append(_parity(store, group))
        except (ValueError, OSError) as error:
            missing.append(f"No parity plots of {group.title}: {error}")
    return Held(molecules, tuple(potentials), tuple(missing))


def _one_each(groups: list[Group]) -> list[Group]:
    """The first group of every architecture and data set: metrics share their runs."""
    return list({(g.architecture, g.content): g for g in reversed(groups)}.values())[::-1]


def _molecules(store: Store, group: Group) -> Molecules:
    raise ValueError("not yet")


def _parity(store: Store, group: Group) -> Parity:
    raise ValueError("not yet")
