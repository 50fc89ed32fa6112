"""Clusters that grow: the first node for a run is asked of Ray's autoscaler and waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from chemscale.spec import Resources
from chemscale.train.room import UNIT, Need, require_room

PATIENCE_SECONDS = 900.0  # a cloud may take minutes to find, start and set up a node
LOOK_SECONDS = 1.0
AT_ONCE = 8  # cells that are asked for at a time


def wait_for_room(*wanted: Resources, patience: float = PATIENCE_SECONDS) -> None:
    """Wait until the cluster holds one run of each kind; where it has no room yet, its autoscaler is asked for it.

    Only `Resources.concurrent`, how many runs the cluster may grow to hold, makes this wait: without it the cluster is
    what it is now. The ledger then asks for further nodes, for as many runs as may train at a time.

    Raises:
        ValueError: there is no room, and none came in time; the message has what is asked for and what there is.
    """
    for on in wanted:
        if on.concurrent is not None and not _has_room(on):
            _wait_for(on, patience)
    require_room(*wanted)


def _wait_for(on: Resources, patience: float) -> None:
    print(f"waiting up to {patience / 60:.0f} min for the cluster to grow …", file=sys.stderr)
    growth = Growth()
    try:
        end = time.monotonic() + patience
        while not _has_room(on) and time.monotonic() < end:
            growth.want([Need.of(on)])
            time.sleep(LOOK_SECONDS)
    finally:
        growth.end()


class Growth:
    """Room that the cluster should grow by: placement groups that wait for it, and are given back once it is there.

    They make Ray's autoscaler start nodes, and go with the program that asked, however it ends; a standing request to
    the autoscaler would outlive it and keep its nodes for ever.
    """

    def __init__(self) -> None:
        self._asked: list[Any] = []

    def want(self, needs: Sequence[Need]) -> None:
        """Ask for room for these, of which at most `AT_ONCE` at a time."""
        from ray.util import placement_group, remove_placement_group

        for group in [g for g in self._asked if g.wait(0)]:
            remove_placement_group(group)
            self._asked.remove(group)
        for need in needs[len(self._asked) : AT_ONCE]:
            self._asked.append(placement_group([_bundle(need)] * need.workers))

    def end(self) -> None:
        """Ask for no more."""
        from ray.util import remove_placement_group

        for group in self._asked:
            remove_placement_group(group)
        self._asked = []


def _bundle(need: Need) -> dict[str, float]:
    cpus, gpus = need.each
    return {"CPU": cpus / UNIT, **({"GPU": gpus / UNIT} if gpus else {})}


def _has_room(on: Resources) -> bool:
    try:
        require_room(on)
    except ValueError:
        return False
    return True
