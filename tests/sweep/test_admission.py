"""Cells of one, two and four workers on a simulated cluster of three nodes with two slots each."""

import json
import time
from collections import Counter
from dataclasses import replace

import pytest
from ray import tune

from chemscale.spec import Resources
from chemscale.sweep.admission import Listed
from chemscale.sweep.drive import sweep
from chemscale.sweep.trial import RUN_ID, Plan
from chemscale.sweep.tune import _reservations
from chemscale.sweep.ushers import Cleaners, Ushers
from tests.ray_clusters import several_nodes
from tests.train.runs import text_run

pytestmark = pytest.mark.slow

NODES, SLOTS = 3, 6
SECONDS = 1.0  # of a fake cell


@pytest.fixture
def three_nodes(short_folder, home):
    """A Ray cluster of three nodes that declare two processors each, on this machine."""
    with several_nodes(short_folder, *[2] * NODES):
        import ray

        yield ray


def by_seed(run):
    """The rule of these tests: the seed says how many workers."""
    return Resources(workers=(1, 2, 4)[run.seed % 3])


def fake(config, plan):
    """A cell that reserves slots the way a real one does, by a placement group of its own where it has workers."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def busy(folder, who, seconds):  # by value, so that the processes which only sleep import nothing
        import json
        import time

        begin = time.time()
        time.sleep(seconds)
        line = {"node": ray.get_runtime_context().get_node_id(), "begin": begin, "end": time.time()}
        with open(f"{folder}/{who}.json", "w") as file:
            json.dump(line, file)

    workers = plan.resources_of(plan.runs[config[RUN_ID]]).workers
    if workers == 1:
        busy(plan.store, f"{config[RUN_ID]}-0", SECONDS)
    else:
        group = placement_group([{"CPU": 1}] * workers)
        work = ray.remote(num_cpus=1)(busy).options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
        ray.get([work.remote(plan.store, f"{config[RUN_ID]}-{i}", SECONDS) for i in range(workers)])
        remove_placement_group(group)
    tune.report({"valid_loss": 1.0})


class Noting(Listed):
    """Notes when each cell was admitted and when it ended."""

    def __init__(self, plan, work):
        super().__init__(plan, work)
        self.held = {}

    def suggest(self, trial_id):
        config = super().suggest(trial_id)
        if isinstance(config, dict):
            self.held[config[RUN_ID]] = [time.time(), None]
        return config

    def on_trial_complete(self, trial_id, result=None, error=False):
        assert not error
        self.held[self._keys[trial_id]][1] = time.time()
        super().on_trial_complete(trial_id, result, error)


def test_cells_of_one_two_and_four_workers_keep_every_slot_busy(three_nodes, molecules, tmp_path):
    """Slots held over slots, from the first start until the line is empty: at least three quarters.

    In simulated time none is lost (`test_searchers.py`). Here the seconds are that Tune takes to say that a cell ended
    and to ask for the next one: more, beside cells of seconds, the more else the machine has to do.
    """
    first = text_run(molecules)
    runs = {f"cell-{i:02d}": replace(first, seed=i) for i in range(24)}
    folder = tmp_path / "busy"
    folder.mkdir()
    plan = Plan(str(folder), by_seed, runs=runs)
    admission = Noting(plan, {})
    made = tune.Tuner(
        tune.with_resources(tune.with_parameters(fake, plan=plan), _reservations(plan)),
        tune_config=tune.TuneConfig(search_alg=admission, num_samples=len(runs), reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"), callbacks=[Cleaners(plan), Ushers(admission, plan)], verbose=0
        ),
    )
    assert not made.fit().errors
    spans = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(spans) == 8 * (1 + 2 + 4)
    assert len({span["node"] for span in spans}) == NODES
    for node in {span["node"] for span in spans}:
        assert most_at_once(s for s in spans if s["node"] == node) <= 2
    begin, last = min(t for t, _ in admission.held.values()), max(t for t, _ in admission.held.values())
    held = sum((min(e, last) - t) * by_seed(runs[key]).workers for key, (t, e) in admission.held.items())
    share = held / (SLOTS * (last - begin))
    print(f"slots held: {share:.3f} of {SLOTS} over {last - begin:.1f} s")
    assert 0.75 <= share <= 1.0 + 1e-9


def most_at_once(spans):
    """How many spans overlap at the busiest moment."""
    events = sorted((t, d) for s in spans for t, d in ((s["begin"], 1), (s["end"], -1)))
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def test_real_groups_of_workers_share_the_cluster_with_narrow_cells(three_nodes, molecules, tmp_path):
    runs = [text_run(molecules, seed=seed) for seed in range(4)]
    store = sweep(runs, store=tmp_path / "store", on=by_seed)
    rows = store.runs().to_pylist()
    assert Counter(row["status"] for row in rows) == {"finished": 4}
    assert {row["seed"]: row["devices"] for row in rows} == {0: 1, 1: 2, 2: 4, 3: 1}
    with pytest.raises(ValueError, match="asks for 8 CPUs, the cluster has 6"):
        sweep(runs, store=tmp_path / "store", on=lambda run: Resources(workers=8 if run.seed else 1))
