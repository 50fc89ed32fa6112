"""Clusters that grow: the first node for a run is asked of Ray's autoscaler and waited for."""

from __future__ import annotations

import sys
import time

from chemscale.spec import Resources
from chemscale.train.worker import require_room

PATIENCE_SECONDS = 900.0  # a cloud may take minutes to find, start and set up a node
LOOK_SECONDS = 1.0


def wait_for_room(on: Resources, patience: float = PATIENCE_SECONDS) -> None:
    """Wait until the cluster holds one run; where it has no room yet, its autoscaler is asked for it.

    Only `Resources.concurrent`, how many runs the cluster may grow to hold, makes this wait: without it the cluster is
    what it is now. Trials that wait for their place then bring the further nodes.

    Raises:
        ValueError: there is no room, and none came in time; the message has what is asked for and what there is.
    """
    if on.concurrent is None or _has_room(on):
        return require_room(on)
    from ray.autoscaler.sdk import request_resources

    print(f"waiting up to {patience / 60:.0f} min for the cluster to grow …", file=sys.stderr)
    request_resources(bundles=[{"CPU": on.cpus, **({"GPU": on.gpus} if on.gpus else {})}] * on.workers)
    try:
        end = time.monotonic() + patience
        while not _has_room(on) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
    finally:
        request_resources(bundles=[])  # a standing request would keep its nodes for ever
    return require_room(on)


def _has_room(on: Resources) -> bool:
    try:
        require_room(on)
    except ValueError:
        return False
    return True
