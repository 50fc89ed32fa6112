"""A trunk that many runs share: constant rate over a nested order of examples, from which each cools down at its size.

Under `Data.order="nested"` the first epoch takes the examples as subsets are nested, and with `Optim.warmup_updates`
the rate before the cooldown does not depend on a run's length. Two such runs that differ in size, length and cooldown
alone make the very same first updates, so that the longer one goes on from where the shorter one began to cool down
(Hägele et al. 2024): k sizes cost one long run and k cooldowns. A run gives the numbers that it gives alone; its spec
says all that they depend on, and the trunk is a matter of speed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from chemscale.records.manage import TRUNKS
from chemscale.records.place import Place
from chemscale.spec import RunSpec
from chemscale.values import canonical_json


@dataclass(frozen=True)
class Trunk:
    """The part of a run that other runs may make too.

    Attributes:
        name: equal for runs that share it.
        updates: of this run before its cooldown; states up to there are on its way.
    """

    name: str
    updates: int

    def states(self, root: Place) -> Sequence[TrunkState]:
        """The states in a store that this run can go on from."""
        place = root.at(f"{TRUNKS}/{self.name}")
        found = (TrunkState(place, name) for name in place.names() if name.endswith(".pt"))
        return [state for state in found if 0 < state.step <= self.updates]

    def here(self, root: Place) -> TrunkState:
        """The state that this run leaves for longer ones."""
        return TrunkState(root.at(f"{TRUNKS}/{self.name}"), f"{self.updates:09d}.pt")


@dataclass(frozen=True)
class TrunkState:
    """One saved state of a trunk."""

    place: Place
    file: str

    @property
    def step(self) -> int:
        """Updates made."""
        return int(self.file.removesuffix(".pt"))

    def open(self, name: str) -> BinaryIO | None:
        """The state to read; None where it has gone."""
        return self.place.open(self.file)

    def save(self, name: str, write: Any) -> None:
        """Write it, whole or not at all."""
        self.place.write(self.file, write)


def trunk_of(run: RunSpec) -> Trunk | None:
    """The trunk of a complete run; None where nothing of it can be shared."""
    if run.data.order != "nested" or run.optim.warmup_updates is None or run.member is not None:
        return None
    if run.examples > (run.data.size or 0):  # a second epoch depends on the size
        return None
    tree = run.identity()
    tree["data"] = {k: v for k, v in tree["data"].items() if k != "size"}
    tree["optim"] = {k: v for k, v in tree["optim"].items() if k not in ("cooldown", "shape")}
    shared = {k: v for k, v in tree.items() if k not in ("budget", "evaluation")}
    name = hashlib.sha256(canonical_json(shared).encode()).hexdigest()[:12]
    constant = run.updates - math.ceil(run.optim.cooldown * run.updates)
    whole = run.examples // run.optim.batch  # the last update may hold fewer examples than a batch
    return Trunk(name, min(constant, whole))


def lines_of(runs: Mapping[str, RunSpec]) -> list[list[str]]:
    """Ids of runs that go one after another: those of one trunk by their length, every other run alone."""
    trunks: dict[Hashable, list[tuple[int, str]]] = {}
    for run_id, run in runs.items():
        trunk = trunk_of(run)
        trunks.setdefault(trunk.name if trunk else (run_id,), []).append((trunk.updates if trunk else 0, run_id))
    return [[run_id for _, run_id in sorted(line)] for line in trunks.values()]


def forget_trunks(root: Place, names: Iterable[str]) -> None:
    """Remove the states of these trunks, whose runs are all done."""
    for name in names:
        place = root.at(f"{TRUNKS}/{name}")
        for file in place.names():
            place.remove(file)
        root.tidy(f"{TRUNKS}/{name}")
