"""Placement groups of Ray Train below Tune's trials: ended with their trial, removed when their creator is gone.

Tune sees a trial's own process only. Ray Train's controller, a child of that process, reserves the workers by a
placement group that lives as long as the job, even when the controller is dead; and Tune keeps the process of a stopped
trial for the next one, with the training still running inside. So the driver ends the controller when it stops a trial,
and removes every group whose creator is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray.train.v2._internal.execution.callback import ControllerCallback

STARTS_WITHIN = 60.0  # seconds in which a controller that was asked for shows itself


class Announcing(ControllerCallback):
    """Ray Train's controller writes down which process it is, for the trial on the same node that started it."""

    def __init__(self, file: Path):
        self._file = file

    def after_controller_start(self, train_run_context: Any) -> None:
        with contextlib.suppress(FileNotFoundError):  # the trial was stopped and took its folder along
            half = self._file.with_suffix(".tmp")
            half.write_text(json.dumps({"pid": os.getpid(), "born": psutil.Process().create_time()}))
            half.rename(self._file)


@dataclass
class _Group:
    file: Path
    ended: bool = False


_CURRENT: list[_Group] = []  # of this trial's process: one at most, but for the moment in which one is being ended


@contextlib.contextmanager
def group() -> Iterator[ControllerCallback]:
    """A Ray Train run inside a trial; what it raises after `end_group` is swallowed, since nobody waits for it."""
    with tempfile.TemporaryDirectory(prefix="chemscale-group-", ignore_cleanup_errors=True) as folder:
        mine = _Group(Path(folder) / "controller.json")
        _CURRENT.append(mine)
        try:
            yield Announcing(mine.file)
        except Exception:
            if not mine.ended:
                raise
        finally:
            _CURRENT.remove(mine)


def end_group(trainable: Any = None) -> None:
    """End the Ray Train run of this trial's process, if there is one; its workers end with their controller."""
    for found in list(_CURRENT):
        found.ended = True
        if not _kill(found.file):
            threading.Thread(target=_kill_when_there, args=(found,), daemon=True).start()


def _kill_when_there(found: _Group) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while found in _CURRENT and time.monotonic() < deadline and not _kill(found.file):
        time.sleep(0.2)


def _kill(file: Path) -> bool:
    try:
        controller = json.loads(file.read_text())
    except FileNotFoundError:
        return False
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if abs(psutil.Process(controller["pid"]).create_time() - controller["born"]) < 1.0:
            os.kill(controller["pid"], signal.SIGKILL)
    return True


@dataclass(frozen=True)
class Groups:
    """Placement groups that this job's actors made, i.e. those of Ray Train.

    Attributes:
        alive: ids of all.
        waiting: how many have no room yet.
        orphans: ids of those whose creator is dead, and of those that a job which has ended left on the cluster: Ray
            (2.60) removes its groups when it ends, but for one that was being made at that moment.
    """

    alive: tuple[bytes, ...]
    waiting: int
    orphans: tuple[bytes, ...]


def nested_groups() -> Groups:
    """What Ray's own table says; public functions leave the creator out."""
    import ray
    from ray._private.state import actors, jobs, state
    from ray.core.generated.gcs_pb2 import (
        PlacementGroupTableData,  # pyright: ignore[reportAttributeAccessIssue]  # made by protobuf when imported
    )

    job = ray.get_runtime_context().get_job_id()
    table = [
        PlacementGroupTableData.FromString(row) for row in state._connect_and_get_accessor().get_placement_group_table()
    ]
    table = [row for row in table if row.state != PlacementGroupTableData.REMOVED]
    ours = [
        row
        for row in table
        if row.creator_job_id.hex() == job and _creator(row) is not None  # else the driver made it, i.e. Tune
    ]
    over = {one["JobID"] for one in jobs() if one["IsDead"]}
    left = [
        row for row in table if row.creator_job_id.hex() in over and not row.is_detached and not _lives(row, actors)
    ]
    return Groups(
        tuple(row.placement_group_id for row in ours),
        sum(row.state != PlacementGroupTableData.CREATED for row in ours),
        tuple(row.placement_group_id for row in [*left, *ours] if row in left or row.creator_actor_dead),
    )


def _creator(row: Any) -> str | None:
    """The actor that made a group; None where a driver did, which Ray writes as all ones."""
    return None if set(row.creator_actor_id) == {255} else row.creator_actor_id.hex()


def _lives(row: Any, actors: Callable[[str], dict[str, Any]]) -> bool:
    """Whether the actor that made a group is alive; a detached one outlives its job and keeps its groups."""
    creator = _creator(row)
    return creator is not None and actors(creator).get("State") not in (None, "DEAD")


def remove_orphans() -> Groups:
    """Remove the orphans among the placement groups, with all that runs in them; returns what was found."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    found = nested_groups()
    for orphan in found.orphans:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(orphan)))
    return found
