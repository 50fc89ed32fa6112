"""How much a run needs, how much a node has, and whether the one fits on the other; pure but for `require_room`.

Quantities are whole ten-thousandths, as Ray counts them, so that four quarters of a GPU are one GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chemscale.spec import Resources

UNIT = 10_000


@dataclass(frozen=True, order=True)
class Need:
    """Equal workers; each lies on one node, and a fraction of a GPU on one GPU. Larger needs sort higher.

    Args:
        gpus, cpus: of all workers together, ten-thousandths.
        workers: how many share it.
    """

    gpus: int
    cpus: int
    workers: int

    @classmethod
    def of(cls, on: Resources) -> Need:
        """What `Resources` ask for."""
        return cls(round(on.gpus * UNIT) * on.workers, round(on.cpus * UNIT) * on.workers, on.workers)

    @classmethod
    def within(cls, on: Resources, rooms: Mapping[str, Room]) -> Need:
        """What an elastic run asks for: as many workers as these nodes can ever hold, from its fewest to all."""
        whole = cls.of(on)
        fits = sum(room.holds(whole) for room in rooms.values())
        return cls.of(replace(on, workers=max(on.min_workers or on.workers, min(on.workers, fits)), min_workers=None))

    @property
    def each(self) -> tuple[int, int]:
        """(CPUs, GPUs) of one worker."""
        return self.cpus // self.workers, self.gpus // self.workers


@dataclass(frozen=True)
class Share:
    """What one worker takes of one node: CPUs, and so much of each of these GPUs."""

    cpus: int
    gpus: Mapping[int, int]


@dataclass
class Room:
    """What is free on one node: CPUs, and each GPU by itself; ten-thousandths."""

    cpus: int
    gpus: list[int]

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Room:
        """A whole node, from Ray's {"CPU": …, "GPU": …}."""
        return cls(round(resources.get("CPU", 0) * UNIT), [UNIT] * int(resources.get("GPU", 0)))

    def holds(self, need: Need) -> int:
        """How many workers of this need fit."""
        cpus, gpus = need.each
        fits = [need.workers, self.cpus // cpus]
        if gpus >= UNIT:
            fits.append(sum(free == UNIT for free in self.gpus) * UNIT // gpus)
        elif gpus:
            fits.append(sum(free // gpus for free in self.gpus))
        return max(0, min(fits))

    def take(self, need: Need) -> Share:
        """Give one worker its share; fractions fill the fullest GPU that has room, so that whole ones stay whole."""
        cpus, gpus = need.each
        if gpus >= UNIT:
            chosen = [i for i, free in enumerate(self.gpus) if free == UNIT][: gpus // UNIT]
            share = Share(cpus, dict.fromkeys(chosen, UNIT))
        elif gpus:
            share = Share(cpus, {min((f, i) for i, f in enumerate(self.gpus) if f >= gpus)[1]: gpus})
        else:
            share = Share(cpus, {})
        self.change(share, -1)
        return share

    def change(self, share: Share, sign: int) -> None:
        """Add a share (+1) or take it away (-1)."""
        self.cpus += sign * share.cpus
        for index, amount in share.gpus.items():
            if index < len(self.gpus):
                self.gpus[index] += sign * amount

    def copy(self) -> Room:
        return Room(self.cpus, list(self.gpus))


def place(need: Need, rooms: Mapping[str, Room]) -> list[tuple[str, Share]] | None:
    """Take room for all workers of a need, on as few nodes as may be, the fullest that will do; None, and nothing
    taken, where they do not fit."""
    fits = {name: room.holds(need) for name, room in rooms.items()}
    if sum(fits.values()) < need.workers:
        return None
    placed: list[tuple[str, Share]] = []
    while (left := need.workers - len(placed)) > 0:
        whole = [name for name, count in fits.items() if count >= left]
        fullest = min(whole, key=lambda n: (fits[n], rooms[n].cpus)) if whole else max(fits, key=lambda n: fits[n])
        count = min(left, fits.pop(fullest))
        placed += [(fullest, rooms[fullest].take(need)) for _ in range(count)]
    return placed


def slots(on: Resources) -> int:
    """How many runs the cluster holds at a time, at most `on.concurrent`.

    Raises:
        ValueError: it can never hold one.
    """
    import ray

    require_room(on)
    need, rooms, count = Need.of(on), rooms_of(ray.nodes()), 0
    while (on.concurrent is None or count < on.concurrent) and place(need, rooms) is not None:
        count += 1
    return max(1, count)


def rooms_of(nodes: Iterable[Mapping[str, Any]]) -> dict[str, Room]:
    """Node id -> its whole room, from `ray.nodes()`; nodes that died are left out."""
    return {node["NodeID"]: Room.of(node["Resources"]) for node in nodes if node["Alive"]}


def require_room(*wanted: Resources) -> None:
    """Refuse what the cluster can never hold, instead of waiting for ever; asked before anything is written.

    Before Ray is initialised this machine is the cluster, unless RAY_ADDRESS names one that is still to be joined.

    Raises:
        ValueError: with what is asked for and what there is.
    """
    rooms, where = _whole_cluster()
    for on in dict.fromkeys(wanted):
        need = Need.of(replace(on, workers=on.min_workers or on.workers, min_workers=None))
        if rooms is not None and place(need, {name: room.copy() for name, room in rooms.items()}) is None:
            raise ValueError(_refusal(on, need, list(rooms.values()), where))


def _whole_cluster() -> tuple[dict[str, Room] | None, str]:
    import ray

    if ray.is_initialized():
        return rooms_of(ray.nodes()), "the cluster"
    if os.environ.get("RAY_ADDRESS"):
        return None, "the cluster"  # known once it has been joined
    import torch
    from ray._private.utils import get_num_cpus  # a container may have fewer than its machine

    cpus = get_num_cpus(override_docker_cpu_warning=True)
    return {"here": Room.of({"CPU": cpus, "GPU": torch.cuda.device_count()})}, "this machine"


def _refusal(on: Resources, need: Need, rooms: Sequence[Room], where: str) -> str:
    totals = {"CPU": sum(r.cpus for r in rooms) / UNIT, "GPU": float(sum(len(r.gpus) for r in rooms))}
    count, field = (on.workers, "workers") if on.min_workers is None else (on.min_workers, "min_workers")
    for name, each in (("CPU", on.cpus), ("GPU", on.gpus)):
        asked, there = each * count, totals[name]
        if asked > there:
            return (
                f"Resources({field}={count}, {name.lower()}s={each:g}) asks for {asked:g} {name}s, {where} "
                f"has {there:g}; ask for less or start a larger cluster."
            )
    nodes = "; ".join(dict.fromkeys(f"{r.cpus / UNIT:g} CPUs and {len(r.gpus)} GPUs" for r in rooms))
    held = sum(room.holds(need) for room in rooms)
    return (
        f"Resources({field}={count}, cpus={on.cpus:g}, gpus={on.gpus:g}): each worker must fit on one node, and "
        f"nodes of {where} have {nodes}, room for {held} of {count} workers; ask for smaller workers."
    )
