"""Stops as Ray's schedulers: each sees its own cell only, and a member of a population keeps its own run."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    TrialScheduler,
)

from chemscale.models import ChemGPT
from chemscale.records.store import Store
from chemscale.sweep import ASHA, PBT, Forecast, Grid, Halving, HyperBand, Median, Search, choice, loguniform
from chemscale.sweep.members import Members
from chemscale.sweep.population import BEFORE, SOURCE
from chemscale.sweep.schedulers import pauses, require_stop, scheduler_of
from tests.sweep.records import record
from tests.test_spec import BASE

SPACE = {"optim.lr": loguniform(1e-4, 1e-1)}
CELLS = Grid(BASE, models=[ChemGPT.sized(width=w) for w in (8, 16)])
TOTAL = BASE.examples


@dataclass(eq=False)
class Run:
    """A trial as a scheduler sees it."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.RUNNING
    is_saving: bool = False
    experiment_tag: str = ""
    evaluated_params: dict[str, Any] = field(default_factory=dict)
    last_result: dict[str, Any] = field(default_factory=dict)
    run_metadata: Any = field(
        default_factory=lambda: SimpleNamespace(
            checkpoint_manager=SimpleNamespace(
                checkpoint_config=SimpleNamespace(num_to_keep=None), _latest_checkpoint_result=None
            )
        )
    )

    def is_finished(self):
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def set_config(self, config):
        self.config = config

    def set_experiment_tag(self, tag):
        self.experiment_tag = tag


class Tune:
    """Tune's loop around a scheduler: as many runs at a time as there are slots, one report each in turn.

    Args:
        loss: (run, examples) -> validation loss.
    """

    search_alg = None

    def __init__(self, scheduler, runs, loss, *, slots=2, points=8):
        self.scheduler, self.runs, self.loss, self.slots, self.points = scheduler, runs, loss, slots, points
        self.seen = dict.fromkeys((run.trial_id for run in runs), 0)
        self.stopped, self.most_running, self.resumed = [], 0, 0
        scheduler.set_search_properties("valid_loss", "min")
        for run in runs:
            run.status = Trial.PENDING
            scheduler.on_trial_add(self, run)

    def get_trials(self):
        return self.runs

    def get_live_trials(self):
        return {run for run in self.runs if not run.is_finished()}

    def pause_trial(self, run, should_checkpoint=True):
        run.status = Trial.PAUSED

    def stop_trial(self, run):
        if run.status in (Trial.PENDING, Trial.PAUSED):
            self.scheduler.on_trial_remove(self, run)
        run.status = Trial.TERMINATED
        self.stopped.append(run.trial_id)

    def fit(self):
        for _ in range(10_000):
            while len(running := [r for r in self.runs if r.status == Trial.RUNNING]) < self.slots:
                chosen = self.scheduler.choose_trial_to_run(self) or next(
                    (r for r in self.runs if r.status == Trial.PENDING), None
                )
                if chosen is None:
                    break
                self.resumed += chosen.status == Trial.PAUSED
                chosen.status = Trial.RUNNING
            self.most_running = max(self.most_running, len(running))
            if not running:
                assert all(run.is_finished() for run in self.runs), "runs wait for ever"
                return self
            self.report(running[0])
            self.runs.append(self.runs.pop(self.runs.index(running[0])))
        raise AssertionError("no end")

    def report(self, run):
        self.scheduler.on_trial_result(self, run, {"examples": self.seen[run.trial_id]})  # a sign of life, no loss
        self.seen[run.trial_id] += TOTAL // self.points
        examples = self.seen[run.trial_id]
        result = {"examples": examples, "valid_loss": self.loss(run, examples), "training_iteration": 1}
        if self.loss(run, examples) > 1e6:  # it ends without the scheduler's leave
            return self.complete(run, {"examples": examples})
        result |= {"status": "finished"} if examples >= TOTAL else {}
        decision = self.scheduler.on_trial_result(self, run, dict(result))
        run.last_result = result
        if decision == TrialScheduler.STOP:
            self.stopped.append(run.trial_id)
            self.complete(run, result)
        elif decision == TrialScheduler.PAUSE:
            run.status = Trial.PAUSED
        elif run.status == Trial.RUNNING and examples >= TOTAL:
            self.complete(run, {"examples": examples})
        return None

    def complete(self, run, result):
        self.scheduler.on_trial_complete(self, run, result)
        run.status = Trial.TERMINATED


def runs_of(search, count, *, members=False):
    return [
        Run(f"{cell}-{k}", {"cell": cell, **({"member": k} if members else {}), "optim.lr": 10 ** (-4 + 3 * k / count)})
        for k in range(count)
        for cell in range(len(search.cells))
    ]


def search_of(stop, base=CELLS):
    return Search(base, SPACE, samples=12, stop=stop)


def loss_by_cell(run, examples):
    """The second cell is a hundred times worse: compared with the first, none of its runs would survive."""
    return 100 ** run.config["cell"] * (1 + int(run.trial_id.split("-")[1]) * 0.1) * (2 - examples / TOTAL)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


STOPS = [
    ASHA(grace=0.125),
    HyperBand(reduction=2, rungs=3),
    Median(grace=0.25),
    ASHAScheduler(time_attr="examples", max_t=TOTAL, grace_period=TOTAL // 8),
    MedianStoppingRule(time_attr="examples", grace_period=TOTAL / 4),
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: type(stop).__name__)
def test_no_scheduler_compares_runs_of_different_cells(store, stop):
    def ends(search):
        tune = Tune(scheduler_of(search, store), runs_of(search, 12), loss_by_cell).fit()
        return {run.trial_id: (run.trial_id in tune.stopped, tune.seen[run.trial_id]) for run in tune.runs}

    together = ends(search_of(stop))
    alone = ends(search_of(stop, CELLS.runs()[:1]))
    survivors = [sum(seen >= TOTAL for name, (_, seen) in together.items() if name[0] == cell) for cell in "01"]
    assert survivors[0] > 0
    assert survivors[1] > 0
    assert sum(seen < TOTAL for _, seen in together.values()) >= 4
    if not pauses(stop):  # runs of one cell report in the same order as alone
        assert {k: v for k, v in together.items() if k[0] == "0"} == alone


@pytest.mark.parametrize("stop", [ASHA(grace=0.125), Median(grace=0.125)], ids=lambda stop: type(stop).__name__)
def test_a_restarted_driver_compares_with_the_runs_of_the_one_before(store, stop):
    search = search_of(stop, CELLS.runs()[:1])
    bad = Run("0-99", {"cell": 0, "optim.lr": 0.05})
    assert Tune(scheduler_of(search, store), [bad], loss_by_cell).fit().stopped == []  # nobody to compare with
    for k in range(6):
        record(store, search.run({"optim.lr": 10 ** (-4 + k / 2)}), [1.0 - 0.01 * k, 0.9, 0.8, 0.7], status="stopped")
    assert Tune(scheduler_of(search, store), [bad], loss_by_cell).fit().stopped == ["0-99"]


@pytest.mark.parametrize("stop", [Forecast(calibrate=2), Halving(((0.25, 0.5), (0.5, 0.25)))], ids=["f", "h"])
def test_a_restarted_driver_forecasts_each_cell_by_its_own_runs(store, stop):
    search = search_of(stop)
    for cell in (0, 1):
        for k in range(3):
            losses = [100**cell * (1.05 + 0.1 * k) * (2 - share / 8) for share in range(1, 9)]
            record(store, search.run({"cell": cell, "optim.lr": 2e-4 + k * 1e-4}), losses)
    tune = Tune(scheduler_of(search, store), runs_of(search, 6), loss_by_cell).fit()
    ended = {run.trial_id for run in tune.runs if tune.seen[run.trial_id] >= TOTAL}
    assert {"0-0", "1-0"} <= ended
    assert len(ended) < 8


def test_what_a_run_measured_before_it_diverged_counts_where_it_was_measured(store):
    """Its end has no loss: ASHA would book the last one at a rung that the run never came to, and stop honest runs."""
    search = search_of(ASHA(grace=0.25), base=BASE)
    scheduler = scheduler_of(search, store)
    scheduler.set_search_properties("valid_loss", "min")
    wild, *honest = runs_of(search, 4)
    rung = TOTAL // 4
    for run in (wild, *honest):
        scheduler.on_trial_add(SimpleNamespace(get_trials=lambda: [wild, *honest]), run)
    controller = SimpleNamespace(get_trials=lambda: [wild, *honest])
    scheduler.on_trial_result(controller, wild, {"examples": rung - 1, "valid_loss": 0.1})
    end = {"examples": rung + 1, "valid_loss": float("inf"), "status": "diverged"}
    assert scheduler.on_trial_result(controller, wild, end) == TrialScheduler.CONTINUE
    scheduler.on_trial_complete(controller, wild, end)
    (bracket,) = scheduler._schedulers[0]._brackets
    assert all(not recorded for _, recorded in bracket._rungs)
    for run in honest[:1]:
        assert scheduler.on_trial_result(controller, run, {"examples": rung, "valid_loss": 2.0}) == "CONTINUE"


def test_hyperband_lets_runs_wait_and_ends_though_one_of_them_ends_by_itself(store):
    search = search_of(HyperBand(reduction=2, rungs=3), CELLS.runs()[:1])

    def loss(run, examples):
        dies = run.trial_id == "0-5" and examples >= TOTAL / 2
        return 1e9 if dies else loss_by_cell(run, examples)

    tune = Tune(scheduler_of(search, store), runs_of(search, 24), loss)
    tune.fit()
    assert tune.resumed > 0
    assert tune.most_running <= 2
    assert len(tune.stopped) >= 8


def test_a_bracket_goes_on_when_the_run_that_it_waits_for_ends(store):
    search = search_of(HyperBand(reduction=2, rungs=2), CELLS.runs()[:1])
    scheduler = scheduler_of(search, store)
    runs = runs_of(search, 12)
    tune = Tune(scheduler, runs, loss_by_cell)
    bracket = scheduler._schedulers[0]._hyperbands[0][-1]
    tune.fit()
    assert not bracket.is_being_processed  # Ray leaves it set, and skips the bracket from then on


def test_members_copy_the_best_and_stay_themselves(store):
    search = replace(search_of(PBT(interval=0.125, share=0.25, resample=0.0)), samples=8)
    runs = runs_of(search, 8, members=True)

    def loss(run, examples):
        return 10 - examples / TOTAL - run.config["optim.lr"]  # higher rates are better

    Tune(scheduler_of(search, store), runs, loss).fit()
    copied = [run for run in runs if SOURCE in run.config]
    assert len(copied) >= 4
    for run in runs:
        cell, member = run.trial_id.split("-")
        assert (run.config["cell"], run.config["member"]) == (int(cell), int(member))
        assert search.space["optim.lr"].holds(run.config["optim.lr"])
        assert run.run_metadata.checkpoint_manager._latest_checkpoint_result is None
    ids = {(r.config["cell"], search.run(r.config).id) for r in runs}
    for run in copied:
        assert (run.config["cell"], run.config[SOURCE]) in ids  # of its own cell
        assert run.config[SOURCE] != search.run(run.config).id
        assert run.config[BEFORE] == 0
    assert all(run.config["optim.lr"] > 1e-3 for run in runs)  # the worst rates have died out


def test_the_member_that_has_waited_longest_trains_next():
    """Not the one with the least progress, to which a copy falls back: it would train again and again."""
    members = Members(time_attr="examples", perturbation_interval=100, hyperparam_mutations={"optim.lr": [0.1, 0.2]})
    members.set_search_properties("valid_loss", "min")
    first, second = runs = [Run(f"0-{k}", {"cell": 0, "optim.lr": 0.1}) for k in range(2)]
    controller: Any = SimpleNamespace(get_trials=lambda: runs, search_alg=None)
    for run, examples in ((first, 90), (second, 10)):
        members.on_trial_add(controller, run)
        members.on_trial_result(controller, run, {"examples": examples, "valid_loss": 1.0, "training_iteration": 1})
        run.status = Trial.PAUSED
    assert members.choose_trial_to_run(controller) is first
    members.on_trial_result(controller, first, {"examples": 95, "valid_loss": 1.0, "training_iteration": 2})
    assert members.choose_trial_to_run(controller) is second
    second.status = first.status = Trial.RUNNING
    assert members.choose_trial_to_run(controller) is None


def test_rays_own_population_based_training_copies_too(store):
    stop = PopulationBasedTraining(
        time_attr="examples", perturbation_interval=TOTAL / 8, hyperparam_mutations={"optim.lr": [1e-3, 1e-2, 1e-1]},
        log_config=False,
    )  # fmt: skip
    search = replace(search_of(stop), space={"optim.lr": choice(1e-3, 1e-2, 1e-1)})
    assert search.populates
    with pytest.raises(ValueError, match=r"mutates 'optim.lr', which the space lacks"):
        replace(search, space={"optim.clip": choice(0.5, 1.0)})
    runs = [Run(f"0-{k}", {"cell": 0, "member": k, "optim.lr": [1e-3, 1e-2, 1e-1][k % 3]}) for k in range(6)]
    Tune(scheduler_of(search, store), runs, lambda run, examples: 1 - run.config["optim.lr"]).fit()
    assert any(SOURCE in run.config for run in runs)
    assert {run.config["member"] for run in runs} == set(range(6))


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        ("asha", "use one of ASHA, HyperBand, Median, PBT"),
        (ASHAScheduler(), "counts 'training_iteration'; give it time_attr='examples'"),
        (HyperBandScheduler(time_attr="examples", metric="loss", mode="min"), "compares 'loss'"),
        (
            PopulationBasedTraining(time_attr="examples", synch=True, hyperparam_mutations={"a": [1]}),
            "give it synch=False",
        ),
    ],
)
def test_a_stop_that_cannot_work_is_refused_in_one_sentence(stop, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        require_stop(stop)
    assert "\n" not in str(caught.value)


def test_what_lets_runs_wait_is_told_from_what_does_not():
    assert [pauses(stop) for stop in (ASHA(), HyperBand(), Median(), PBT(), FIFOScheduler(), None)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    require_stop(FIFOScheduler())
    assert not isinstance(FIFOScheduler(), PopulationBasedTrainingReplay)
