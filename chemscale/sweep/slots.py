"""The ledger of slots: which cell may start now, so that wide and narrow cells share a cluster and none waits for ever.

The widest cell goes first, among equals the longest. Where it does not fit yet, narrower cells may fill what is free,
but only so that it would still fit if those that ran when it came first in line had ended: it waits for them and for
nobody who came after. A cell that sixteen later comers have overtaken goes first whatever its width. Pure.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from chemscale.train.room import Need, Room, Share, place

PATIENCE = 16  # later comers that may overtake a cell

Placed = list[tuple[str, Share]]


@dataclass(frozen=True)
class Cell:
    """One cell in line: what it needs, its estimated seconds, and how many had been admitted when it came."""

    key: Hashable
    need: Need
    work: float
    came: int


@dataclass
class _Line:
    """Cells of one need."""

    by_work: list[Cell] = field(default_factory=list)  # ascending: the longest is the last
    by_age: dict[Hashable, Cell] = field(default_factory=dict)
    overtaken: int = 0

    @property
    def oldest(self) -> Cell:
        return next(iter(self.by_age.values()))

    @property
    def next(self) -> Cell:
        return self.oldest if self.overtaken >= PATIENCE else self.by_work[-1]

    def add(self, cell: Cell) -> None:
        bisect.insort(self.by_work, cell, key=lambda c: c.work)
        self.by_age[cell.key] = cell

    def remove(self, cell: Cell) -> None:
        del self.by_age[cell.key]
        if self.by_work[-1] is cell:
            self.by_work.pop()
        else:
            self.by_work.remove(cell)


class Ledger:
    """What is free, who holds what, who waits.

    Args:
        rooms: node -> its whole room; `refresh` tells of nodes that came or went.
    """

    def __init__(self, rooms: Mapping[str, Room]):
        self._lines: dict[Need, _Line] = {}
        self._held: dict[Hashable, tuple[Need, Placed]] = {}
        self._admitted = 0
        self._first: Hashable = None  # the cell that everybody else must leave room for
        self._since: set[Hashable] = set()  # admitted since it came first
        self.refresh(rooms)

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def ask(self, key: Hashable, need: Need, work: float = 0.0) -> None:
        """Join the line."""
        self._lines.setdefault(need, _Line()).add(Cell(key, need, work, self._admitted))

    def admit(self) -> Hashable | None:
        """The next cell that may start now, which holds its room from here on; None where all must wait."""
        order = self._order()
        if not order:
            return None
        first = order[0].next
        if first.key != self._first:
            self._first, self._since = first.key, set()
        if (placed := place(first.need, self._free)) is not None:
            return self._start(first, placed)
        for line in order[1:]:
            cell = line.next
            if (placed := place(cell.need, self._free)) is None:
                continue
            if self._leaves_room(first.need, placed):
                self._since.add(cell.key)
                return self._start(cell, placed)
            self._give_back(placed)
        return None

    def hold(self, key: Hashable, need: Need) -> None:
        """A cell that runs whatever the ledger says, e.g. resumed by a scheduler: it gets the next free room."""
        self._held[key] = (need, [])
        self._settle()

    def release(self, key: Hashable) -> None:
        """A cell ended, was stopped, or does not want to start any more."""
        if key in self._held:
            _, placed = self._held.pop(key)
            self._give_back(placed)
            self._since.discard(key)
            self._settle()
            return
        for need, line in list(self._lines.items()):
            if key in line.by_age:
                line.remove(line.by_age[key])
            if not line.by_age:
                del self._lines[need]

    def refresh(self, rooms: Mapping[str, Room]) -> None:
        """The nodes there are now: shares on nodes that stayed stay, what was lost is placed anew where it fits."""
        self.rooms, self._free = self._copies(rooms), self._copies(rooms)
        self._possible: dict[Need, bool] = {}
        for key, (need, placed) in self._held.items():
            if all(name in self._free for name, _ in placed):
                for name, share in placed:
                    self._free[name].change(share, -1)
            else:
                self._held[key] = (need, [])
        self._settle()

    # -- what it knows ------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Cells in line."""
        return sum(len(line.by_age) for line in self._lines.values())

    @property
    def running(self) -> int:
        """Cells that hold room."""
        return len(self._held)

    def holds(self, key: Hashable) -> bool:
        """Whether a cell holds room."""
        return key in self._held

    def wishes(self, most: int) -> list[Need]:
        """What a cluster should grow to hold: the needs of cells in line, the widest first, up to `most` that run."""
        in_line = [need for need, line in sorted(self._lines.items(), reverse=True) for _ in line.by_age]
        return in_line[: max(0, most - self.running)]

    def could_hold(self, need: Need) -> bool:
        """Whether the cluster, if it were empty, had room."""
        if need not in self._possible:
            self._possible[need] = place(need, self._copies(self.rooms)) is not None
        return self._possible[need]

    def would_admit(self, need: Need) -> bool:
        """Whether a cell of this need, were it alone in line, could start now."""
        return place(need, self._copies(self._free)) is not None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _order(self) -> list[_Line]:
        """Lines by who goes first: those overtaken too often by age, then the widest; none that can never fit now."""
        lines = [(need, line) for need, line in self._lines.items() if self.could_hold(need)]
        impatient = sorted((p for p in lines if p[1].overtaken >= PATIENCE), key=lambda p: p[1].oldest.came)
        others = sorted((p for p in lines if p[1].overtaken < PATIENCE), key=lambda p: p[0], reverse=True)
        return [line for _, line in impatient + others]

    def _start(self, cell: Cell, placed: Placed) -> Hashable:
        line = self._lines[cell.need]
        line.remove(cell)
        line.overtaken = 0
        if not line.by_age:
            del self._lines[cell.need]
        for other in self._lines.values():
            other.overtaken += other.oldest.came < cell.came
        self._admitted += 1
        self._held[cell.key] = (cell.need, placed)
        return cell.key

    def _settle(self) -> None:
        """Find room for those that run and hold none, the widest first."""
        homeless = [(need, key) for key, (need, placed) in self._held.items() if not placed]
        for need, key in sorted(homeless, key=lambda pair: pair[0], reverse=True):
            self._held[key] = (need, place(need, self._free) or [])

    def _leaves_room(self, first: Need, placed: Placed) -> bool:
        """Whether the first in line would fit beside `placed` and those admitted since it came first."""
        rooms = self._copies(self.rooms)
        later = [share for key in self._since for share in self._held[key][1]]
        for name, share in [*later, *placed]:
            rooms[name].change(share, -1)
        return place(first, rooms) is not None

    @staticmethod
    def _copies(rooms: Mapping[str, Room]) -> dict[str, Room]:
        return {name: room.copy() for name, room in rooms.items()}

    def _give_back(self, placed: Placed) -> None:
        for name, share in placed:
            if name in self._free:
                self._free[name].change(share, +1)
