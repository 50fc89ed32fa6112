"""What searches chose from, where the store says."""

from __future__ import annotations

from collections.abc import Mapping

from chemscale.audit.groups import Row
from chemscale.records.store import Store
from chemscale.spec import from_json
from chemscale.sweep.search import read_field
from chemscale.sweep.space import Space
from chemscale.sweep.written import read_space

Spaces = Mapping[str, Space]


def spaces_of(store: Store) -> dict[str, Space]:
    """Run id -> the space of its search; searches of before spaces were written are left out, as are newer kinds."""
    found: dict[str, Space] = {}
    for study in store.studies().values():
        if not study.get("space"):
            continue
        try:
            space = read_space(study["space"])
        except ValueError:
            continue
        found |= dict.fromkeys(study["runs"], space)
    return found


def at_edges(row: Row, space: Space) -> list[tuple[str, float]] | None:
    """Fields in which a run lies at the edge of a space, with its values (of `optim.lr`, `lr`).

    None where the model of the run is not registered here.
    """
    try:
        run = from_json(row["spec"])
    except ValueError:
        return None
    values = space.choose(lambda field, name, domain: read_field(run, field))
    return [(field.rsplit(".", 1)[-1], float(values[field])) for field in space.edges(values)]
