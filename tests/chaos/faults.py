"""What can go wrong, one function each: it does the harm, undoes what an owner of the machine would, says what it did.

A fault that finds nothing to harm returns None.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

OUTAGE_SECONDS = (1.0, 4.0)
LAST_WRITES = 100  # tenths of a second in which the trials of a killed driver end
TRIAL, TRAIN_WORKER = "ImplicitFunc", "RayTrainWorker"  # in the titles of Ray's processes

Fault = Callable[[Any, random.Random], str | None]


def kill_driver(world: Any, chance: random.Random) -> str | None:
    """SIGKILL of the process that runs `chemscale sweep`."""
    world.driver.kill()
    world.driver.wait()
    return f"driver {world.driver.pid}"


def kill_trial(world: Any, chance: random.Random) -> str | None:
    """SIGKILL of a process in which a trial runs."""
    return _kill_one(world, chance, TRIAL)


def kill_train_worker(world: Any, chance: random.Random) -> str | None:
    """SIGKILL of one worker of a run that several share."""
    return _kill_one(world, chance, TRAIN_WORKER)


def kill_node(world: Any, chance: random.Random) -> str | None:
    """A node that holds runs goes at once, with all that runs on it; another joins."""
    node = chance.choice(world.nodes)
    world.replace_node(node)
    return f"node {node.unique_id[:8]}"


def fill_disk(world: Any, chance: random.Random) -> str | None:
    """The disk of the store is full for a while."""
    if not world.disk.is_mount():
        return None
    filler = world.disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(65536))
    seconds = _wait(chance)
    filler.unlink()
    return f"full for {seconds:.1f} s"


def hide_store(world: Any, chance: random.Random) -> str | None:
    """The folder of the store cannot be found for a while, as when its disk is not mounted."""
    store = Path(world.store)
    if not (store / "store.json").exists():
        return None
    away = store.with_name("away")
    store.rename(away)
    seconds = _wait(chance)
    begun = store.exists()
    if begun:  # a command that starts while the disk is away cannot know of it: its owner ends it, and what it began
        world.driver.kill()
        world.driver.wait()
    for _ in range(LAST_WRITES):
        shutil.rmtree(store, ignore_errors=True)
        with contextlib.suppress(OSError):
            away.rename(store)
            break
        time.sleep(0.1)
    return f"away for {seconds:.1f} s" + (", and a driver that started meanwhile was ended" if begun else "")


FAULTS: dict[str, Fault] = {
    f.__name__: f for f in (kill_driver, kill_trial, kill_train_worker, kill_node, fill_disk, hide_store)
}


def processes(title: str) -> list[psutil.Process]:
    """Processes below this one whose title has this word; all of them were started by this test."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found


def _kill_one(world: Any, chance: random.Random, title: str) -> str | None:
    there = processes(title)
    if not there:
        return None
    victim = chance.choice(there)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGKILL)
    return f"process {victim.pid}"


def _wait(chance: random.Random) -> float:
    seconds = chance.uniform(*OUTAGE_SECONDS)
    time.sleep(seconds)
    return seconds
