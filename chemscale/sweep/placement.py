"""Where each run of a sweep trains: the same resources for all, or a rule from a run to its resources."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chemscale.spec import Resources, RunSpec
from chemscale.train.room import require_room

On = Resources | Callable[[RunSpec], Resources]


def resources_for(on: On | None, run: RunSpec) -> Resources:
    """The resources of one run.

    Raises:
        ValueError: the rule returned something else.
    """
    if on is None or isinstance(on, Resources):
        return on or Resources()
    found = on(run)
    if not isinstance(found, Resources):
        name = getattr(on, "__name__", repr(on))
        raise ValueError(f"on={name} returned {found!r} for a run; return a chemscale.Resources for every run.")
    return found


def require_room_for(on: On | None, runs: Iterable[RunSpec] = ()) -> None:
    """Refuse resources that the cluster can never hold; a rule is asked for every run.

    Raises:
        ValueError: with what is asked for and what there is.
    """
    require_room(*wanted_by(on, runs))


def wanted_by(on: On | None, runs: Iterable[RunSpec] = ()) -> list[Resources]:
    """All different resources that these runs ask for."""
    return list(dict.fromkeys(resources_for(on, run) for run in runs)) if callable(on) else [on or Resources()]
