"""The ledger: never over-committed, everything finishes, nobody starves; on a simulated clock."""

import heapq
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemscale.spec import Resources
from chemscale.sweep.slots import PATIENCE, Ledger
from chemscale.train.room import UNIT, Need, Room, place, require_room


def rooms(*cpus, gpus=0):
    return {f"n{i}-{c}": Room.of({"CPU": c, "GPU": gpus}) for i, c in enumerate(cpus)}


def need(workers=1, cpus=1.0, gpus=0.0):
    return Need.of(Resources(workers=workers, cpus=cpus, gpus=gpus))


def used(ledger):
    """(CPUs, [GPUs]) that cells hold on every node, counted from what each holds."""
    taken = {name: (0, Counter()) for name in ledger.rooms}
    for _, placed in ledger._held.values():
        for name, share in placed:
            cpus, gpus = taken[name]
            gpus.update(share.gpus)
            taken[name] = (cpus + share.cpus, gpus)
    return taken


def check_capacity(ledger):
    for name, (cpus, gpus) in used(ledger).items():
        assert cpus <= ledger.rooms[name].cpus
        assert all(amount <= UNIT and index < len(ledger.rooms[name].gpus) for index, amount in gpus.items())


class Simulation:
    """Runs cells through a ledger; keeps when each started and ended, and the area that stood idle while cells waited.

    Args:
        cells: key -> (need, seconds).
    """

    def __init__(self, ledger, cells):
        self.ledger, self.cells, self.now = ledger, cells, 0.0
        self.started, self.ended, self.running = {}, {}, []
        self.first_since = {}  # key -> when it came first in line, with those that ran then

    def ask(self, keys):
        for key in keys:
            self.ledger.ask(key, self.cells[key][0], work=self.cells[key][1])

    def admit(self):
        while (key := self.ledger.admit()) is not None:
            assert key not in self.started
            check_capacity(self.ledger)
            self.started[key] = self.now
            heapq.heappush(self.running, (self.now + self.cells[key][1], key))
        if self.ledger._first is not None and self.ledger._first not in self.started:
            self.first_since.setdefault(self.ledger._first, (self.now, [end for end, _ in self.running]))

    def next_end(self):
        self.now, key = heapq.heappop(self.running)
        self.ended[key] = self.now
        self.ledger.release(key)

    def run(self):
        self.admit()
        while self.running:
            self.next_end()
            self.admit()


NEEDS = st.builds(need, st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
GPU_NEEDS = st.one_of(st.builds(need, st.integers(1, 3), st.just(1.0), st.sampled_from([0.25, 0.3, 0.5, 1.0])), NEEDS)
CELLS = st.lists(st.tuples(GPU_NEEDS, st.floats(0.01, 100)), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(CELLS, st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(0, 4))
def test_whatever_the_cells_capacity_holds_all_finish_and_the_first_waits_for_nobody_new(cells, nodes, gpus):
    ledger = Ledger(rooms(*nodes, gpus=gpus))
    todo = {i: cell for i, cell in enumerate(cells) if ledger.could_hold(cell[0])}
    simulation = Simulation(ledger, todo)
    simulation.ask(todo)
    simulation.run()
    assert set(simulation.ended) == set(todo)
    assert (ledger.waiting, ledger.running) == (0, 0)
    assert all(room == whole for room, whole in zip(ledger._free.values(), ledger.rooms.values(), strict=True))
    for key, (_, ends) in simulation.first_since.items():
        assert simulation.started[key] <= max(ends)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.floats(1, 10)), min_size=12, max_size=80))
def test_slots_are_busy_while_narrow_cells_wait(cells):
    """While a cell of one slot waits no slot is idle, but those kept for the first in line: fewer than it needs."""
    ledger = Ledger(rooms(2, 2, 2))
    todo = {i: (need(workers), seconds) for i, (workers, seconds) in enumerate(cells)}
    simulation = Simulation(ledger, todo)
    simulation.ask(todo)
    simulation.admit()
    while simulation.running:
        idle = 6 - sum(cpus for cpus, _ in used(ledger).values()) / UNIT
        waiting = {cell.need.workers for line in ledger._lines.values() for cell in line.by_work}
        if waiting:
            assert idle < max(waiting)
        simulation.next_end()
        simulation.admit()
    assert set(simulation.ended) == set(todo)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 5), min_size=30, max_size=60), st.integers(0, 27))
def test_no_stream_of_wide_cells_starves_a_narrow_one(seconds, when):
    """Wide cells come for ever, each before the last one ended, and take the whole cluster."""
    ledger = Ledger(rooms(2, 2))
    todo = {i: (need(4), s) for i, s in enumerate(seconds)} | {"narrow": (need(1), 3.0)}
    simulation = Simulation(ledger, todo)
    simulation.ask([0, 1])
    simulation.admit()
    for i in range(2, len(seconds)):
        if i - 2 == when:
            simulation.ask(["narrow"])
        simulation.ask([i])
        simulation.next_end()
        simulation.admit()
    simulation.run()
    assert set(simulation.ended) == set(todo)
    before = [k for k, at in simulation.started.items() if at < simulation.started["narrow"]]
    assert sum(isinstance(k, int) and k > when + 1 for k in before) <= PATIENCE + 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NEEDS, st.floats(1, 10)), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=6),
)
def test_nodes_that_come_and_go_leave_a_true_account(cells, clusters):
    biggest = rooms(6, 6, 6, 6)
    ledger = Ledger(rooms(*clusters[0]))
    todo = {i: cell for i, cell in enumerate(cells) if Ledger(biggest).could_hold(cell[0])}
    simulation = Simulation(ledger, todo)
    simulation.ask(todo)
    simulation.admit()
    for nodes in clusters[1:]:
        ledger.refresh(rooms(*nodes))
        check_capacity(ledger)
        simulation.admit()
        if simulation.running:
            simulation.next_end()
    ledger.refresh(biggest)
    simulation.run()
    assert set(simulation.ended) == set(todo)


def test_four_quarters_share_a_gpu_and_a_whole_one_waits_for_an_empty_gpu():
    ledger = Ledger(rooms(16, gpus=2))
    for i in range(5):
        ledger.ask(i, need(gpus=0.25))
    assert [ledger.admit() is None for _ in range(6)] == [False] * 5 + [True]
    shares = [dict(share.gpus) for _, placed in ledger._held.values() for _, share in placed]
    assert sorted(Counter(i for share in shares for i in share).values()) == [1, 4]
    ledger.ask("whole", need(gpus=1))
    assert ledger.admit() is None
    lone = next(k for k, (_, p) in ledger._held.items() if list(p[0][1].gpus) == [1])
    ledger.release(lone)
    assert ledger.admit() == "whole"


def test_a_wide_cell_is_not_overtaken_into_waiting_for_ever():
    """Two long narrow cells run; a cell of four waits for them, and narrow cells fill only what it does not need."""
    ledger = Ledger(rooms(2, 2, 2))
    for key in "ab":
        ledger.ask(key, need())
        assert ledger.admit() == key
    ledger.ask("wide", need(6))
    for i in range(10):
        ledger.ask(i, need())
    assert ledger.admit() is None  # whoever started now would make the wide one wait for it
    ledger.release("a")
    assert ledger.admit() is None
    ledger.release("b")
    assert ledger.admit() == "wide"


@pytest.mark.parametrize(("workers", "cpus", "fits"), [(3, 2, True), (4, 2, False), (1, 4, False), (6, 1, True)])
def test_a_worker_lies_on_one_node(workers, cpus, fits):
    assert (place(need(workers, cpus), rooms(2, 2, 2)) is not None) == fits


def test_a_need_that_no_node_can_hold_is_refused_with_what_nodes_have(monkeypatch):
    import ray

    nodes = [{"NodeID": str(i), "Alive": True, "Resources": {"CPU": 2.0}} for i in range(3)]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    require_room(Resources(workers=6))
    with pytest.raises(ValueError, match="asks for 8 CPUs, the cluster has 6"):
        require_room(Resources(workers=8))
    with pytest.raises(ValueError, match=r"each worker must fit on one node.*have 2 CPUs and 0 GPUs, room for 0 of 1"):
        require_room(Resources(cpus=4))


def test_a_list_of_cells_keeps_the_cluster_busy_to_the_end():
    """60 cells of 1, 2 and 4 workers on 3 nodes of 2 slots: busy slots over slots until the line is empty.

    All durations equal, so that the widest-first order leaves no slot idle but by the arithmetic of 4 + 2 = 6.
    """
    ledger = Ledger(rooms(2, 2, 2))
    todo = {i: (need((1, 2, 4)[i % 3]), 1.0) for i in range(60)}
    simulation = Simulation(ledger, todo)
    simulation.ask(todo)
    simulation.run()
    area = sum(n.workers * s for n, s in todo.values())
    assert max(simulation.ended.values()) == pytest.approx(math.ceil(area / 6), abs=1.0)
