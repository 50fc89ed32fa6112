"""What the searchers hand to Tune, without a cluster: when, under which names, and what a recipe says of resources."""

import heapq
import random

import pytest
from ray.tune.search import Searcher

from chemscale.models import ChemGPT
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.sweep import Search, choice
from chemscale.sweep.admission import Listed, Sampled
from chemscale.sweep.groups import Groups
from chemscale.sweep.placement import resources_for
from chemscale.sweep.recipe import load_recipe, recipe_resources
from chemscale.sweep.trial import Plan


@pytest.fixture
def two_nodes(monkeypatch):
    import ray

    nodes = [{"NodeID": str(i), "Alive": True, "Resources": {"CPU": 2.0}} for i in range(2)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr("chemscale.sweep.admission.nested_groups", lambda: Groups((), 0, ()))
    monkeypatch.setattr("chemscale.sweep.growth.Growth.want", lambda self, needs: None)
    return nodes


def run_of(seed=0):
    model, data = ChemGPT.sized(width=4), Data("x", size=10, content="0")
    return RunSpec(model=model, data=data, optim=Optim(lr=1e-3), budget=Budget(updates=2), seed=seed)


class Counting(Searcher):
    """Proposes batches 1, 2, 3 …; keeps what it is told."""

    def __init__(self):
        super().__init__(metric="valid_loss", mode="min")
        self.asked, self.told = [], []

    def suggest(self, trial_id):
        self.asked.append(trial_id)
        return {"optim.batch": len(self.asked)}

    def on_trial_result(self, trial_id, result):
        self.told.append(("result", trial_id))

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append(("complete", trial_id, error))

    def on_pause(self, trial_id):
        self.told.append(("pause", trial_id))

    def save(self, checkpoint_path):
        pass

    restore = save


def plan_of(on):
    return Plan("s", on, search=Search(run_of(), {"optim.batch": choice(*range(1, 100))}))


def test_a_sample_is_drawn_when_there_is_room_and_keeps_its_name_for_the_inner_searcher(two_nodes):
    inner = Counting()
    sampled = Sampled(plan_of(Resources(cpus=2)), inner)
    assert [sampled.suggest(t) for t in "abc"] == [{"optim.batch": 1}, {"optim.batch": 2}, None]
    assert inner.asked == ["sample-1", "sample-2"]  # the third would have known less than it can
    sampled.on_trial_result("b", {"valid_loss": 1.0})
    sampled.on_trial_complete("b", {"valid_loss": 1.0})
    assert inner.told == [("result", "sample-2"), ("complete", "sample-2", False)]
    assert sampled.suggest("d") == {"optim.batch": 3}
    assert sampled.suggest("e") is None


def test_where_the_need_depends_on_the_sample_the_drawn_one_waits(two_nodes):
    inner = Counting()
    sampled = Sampled(plan_of(lambda run: Resources(cpus=2 if run.optim.batch < 3 else 1)), inner)
    assert [sampled.suggest(t) for t in "abcd"] == [{"optim.batch": 1}, {"optim.batch": 2}, None, None]
    assert len(inner.asked) == 3
    sampled.on_trial_complete("a", None, error=True)
    assert [sampled.suggest(t) for t in "efg"] == [{"optim.batch": 3}, {"optim.batch": 4}, None]
    assert inner.told == [("complete", "sample-1", True)]


def test_concurrent_bounds_how_many_run_at_a_time(two_nodes):
    sampled = Sampled(plan_of(Resources(concurrent=3)), Counting())
    assert [sampled.suggest(t) is not None for t in "abcd"] == [True, True, True, False]
    runs = {run.id: run for run in map(run_of, range(4))}
    listed = Listed(Plan("s", Resources(concurrent=2), runs=runs), {})
    assert [listed.suggest(t) is not None for t in "abc"] == [True, True, False]
    listed.on_trial_complete("a")
    assert listed.suggest("d") is not None


def test_a_paused_run_gives_its_room_away_and_takes_it_again(two_nodes):
    inner = Counting()
    sampled = Sampled(plan_of(Resources(cpus=2)), inner)
    assert [sampled.suggest(t) is not None for t in "abc"] == [True, True, False]
    sampled.on_pause("a")
    assert inner.told == [("pause", "sample-1")]
    assert sampled.suggest("c") is not None
    sampled.on_unpause("a", run_of())
    sampled.on_trial_complete("c")
    assert sampled.suggest("d") is None  # "a" is there again
    sampled.on_trial_complete("a")
    assert sampled.suggest("d") is not None


def test_a_group_that_waits_for_its_room_too_long_is_let_in_before_anybody_else(two_nodes, monkeypatch):
    runs = {f"r{i}": run_of(i) for i in range(3)}
    listed = Listed(Plan("s", lambda run: Resources(workers=2 if run.seed == 2 else 1), runs=runs), {})
    assert listed.suggest("a") == {"run_id": "r2"}
    now = [1000.0]
    monkeypatch.setattr("chemscale.sweep.admission.time.monotonic", lambda: now[0])
    monkeypatch.setattr("chemscale.sweep.admission.nested_groups", lambda: Groups((b"g",), 1, ()))
    assert listed.suggest("b") is not None  # for a while it may wait
    assert [listed._stalled() for now[0] in (1002.0, 1010.0, 1020.0)] == [False, False, True]
    assert listed.suggest("c") is None
    listed.on_trial_complete("b")
    now[0] = 1022.0
    assert listed.suggest("c") is not None  # nobody of ours is in its way, so it waits for others' programs


def test_a_grid_hands_out_the_widest_then_the_longest_then_says_that_it_is_finished(two_nodes):
    runs = {f"r{i}": run_of(i) for i in range(4)}
    on = {0: 1, 1: 1, 2: 2, 3: 4}
    listed = Listed(Plan("s", lambda run: Resources(workers=on[run.seed]), runs=runs), {"r0": 1.0, "r1": 2.0})
    assert listed.suggest("a") == {"run_id": "r3"}
    assert listed.suggest("b") is None
    listed.on_trial_complete("a")
    assert [listed.suggest(t)["run_id"] for t in "bcd"] == ["r2", "r1", "r0"]
    assert listed.suggest("e") == Searcher.FINISHED


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_cells_of_one_two_and_four_workers_leave_no_slot_empty(two_nodes, spread):
    """In simulated time, where handing out takes none: six slots, all held until the line is empty."""
    two_nodes.append({"NodeID": "2", "Alive": True, "Resources": {"CPU": 2.0}})
    rng, runs = random.Random(0), {f"r{i}": run_of(i) for i in range(24)}
    workers = {name: (1, 2, 4)[run.seed % 3] for name, run in runs.items()}
    listed = Listed(Plan("s", lambda run: Resources(workers=workers[f"r{run.seed}"]), runs=runs), {})
    now, running, spans = 0.0, [], []
    while len(spans) < len(runs) or running:
        while isinstance(config := listed.suggest(f"t{len(spans)}"), dict):
            end = now + 1 + spread * rng.random()
            heapq.heappush(running, (end, f"t{len(spans)}"))
            spans.append((now, end, workers[config["run_id"]]))
        now, trial_id = heapq.heappop(running)
        listed.on_trial_complete(trial_id)
    last = max(begin for begin, _, _ in spans)
    assert sum((min(end, last) - begin) * slots for begin, end, slots in spans) == pytest.approx(6 * last)


RECIPE = """
from chemscale import Budget, ChemGPT, Data, Grid, Optim, Resources, RunSpec

def recipe():
    models = [ChemGPT.sized(width=w) for w in (4, 8)]
    return Grid(RunSpec(models[0], Data("x", size=10), Optim(lr=1e-3), Budget(updates=2)), models=models)

"""


def test_a_recipe_says_where_its_runs_train_and_leaves_the_rest_to_the_command_line(tmp_path):
    line = Resources(cpus=2)
    for name, more, wanted in (
        ("plain", "", [1, 1]),
        ("ruled", "def resources(run):\n    return Resources(workers=2) if run.model.width == 8 else None\n", [1, 2]),
    ):
        path = tmp_path / f"{name}.py"
        path.write_text(RECIPE + more)
        runs = load_recipe(str(path)).runs()
        on = recipe_resources(str(path), line)
        assert [resources_for(on, run).workers for run in runs] == wanted
        assert resources_for(on, runs[0]) == line
    path = tmp_path / "wrong.py"
    path.write_text(RECIPE + "resources = 3\n")
    load_recipe(str(path))
    with pytest.raises(ValueError, match=r"has resources=3; write def resources"):
        recipe_resources(str(path), line)
