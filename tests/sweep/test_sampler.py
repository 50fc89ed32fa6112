"""Samplers by name and the searcher that hands Tune their points: inside the space, cell by cell, nothing twice."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from chemscale.models import ChemGPT
from chemscale.records.spool import patient
from chemscale.records.store import Store, process_identity
from chemscale.spec import Budget, Resources, with_fields
from chemscale.sweep import PBT, Grid, Search, choice, integers, loguniform, uniform, when
from chemscale.sweep.endings import as_record
from chemscale.sweep.found import result_of, samples_of
from chemscale.sweep.proposals import Proposals
from chemscale.sweep.sampler import Asked, replayed
from chemscale.sweep.space import Space
from chemscale.train.objectives import EnergyForce
from tests.sweep.records import record
from tests.test_spec import BASE, POTENTIAL

SPACE = {"optim.lr": loguniform(1e-4, 1e-1), "optim.warmup": uniform(0, 0.3)}
CONDITIONAL = {
    "optim.shape": choice("linear", "sqrt"),
    "optim.cooldown": when("optim.shape", {"sqrt": uniform(0.1, 0.5)}),
    "optim.lr": when("optim.shape", {"sqrt": loguniform(1e-4, 1e-2), "linear": loguniform(1e-3, 1e-1)}),
}
SEVERAL = ("valid_loss", "flops")


def loss_of(values):
    """A bowl with its minimum at lr = 0.01."""
    return 1 + (math.log10(values["optim.lr"]) + 2) ** 2


@pytest.mark.parametrize("space", [SPACE, CONDITIONAL], ids=["plain", "conditional"])
@pytest.mark.parametrize("name", ["tpe", "gp", "qmc", "nsga2", "random"])
def test_every_named_sampler_proposes_points_of_the_space_and_learns(name, space):
    objectives = SEVERAL if name == "nsga2" else ("valid_loss",)
    search = Search(BASE, space, samples=24, sampler=name, objectives=objectives)
    asked = Asked(search, 0)
    for k in range(16):
        values = asked.ask(str(k))
        assert search.choices.holds(values)
        losses = [loss_of(values), 1.0][: len(objectives)]
        asked.end(str(k), None if k == 3 else losses, failed=k == 4)
    assert asked._study is not None
    states = [t.state.name for t in asked._study.trials]
    assert states[3] == ("FAIL" if name == "nsga2" else "PRUNED")
    assert states[4] in ("COMPLETE", "FAIL")
    assert states.count("COMPLETE") >= 14


def test_the_default_sampler_is_multivariate_with_a_constant_liar_and_learns_where_the_minimum_is():
    search = Search(BASE, {"optim.lr": loguniform(1e-5, 1.0)}, samples=40)
    asked = Asked(search, 0)
    assert asked._study is not None
    sampler = asked._study.sampler
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate
    assert sampler._constant_liar
    found = []
    for k in range(40):
        found.append(asked.ask(str(k)))
        asked.end(str(k), [loss_of(found[-1])], failed=False)
    late = np.median([loss_of(v) for v in found[20:]])
    assert late < np.median([loss_of(v) for v in found[:10]])


def test_a_replayed_point_is_what_optuna_would_have_kept_itself():
    search = Search(BASE, CONDITIONAL, samples=4)
    asked = Asked(search, 0)
    values = asked.ask("a")
    asked.end("a", [2.0], failed=False)
    asked.learn(values, [2.0])
    asked.learn(values, None)
    assert asked._study is not None
    own, told, worst = asked._study.trials
    assert (own.params, own.distributions, own.values) == (told.params, told.distributions, told.values)
    assert worst.state.name == "PRUNED"


def test_values_that_optuna_cannot_keep_go_by_their_place():
    space = Space({"x": choice((1, 2), (3, 4)), "y": choice(None, 1.0)})
    assert replayed(space, {"x": (3, 4), "y": None}, [1.0]).params == {"x": 1, "y": None}


def test_objects_of_optuna_and_of_ray_pass_straight_through():
    mine = optuna.samplers.RandomSampler(seed=3)
    asked = Asked(Search(BASE, SPACE, sampler=mine), 0)
    assert asked._study is not None
    assert isinstance(asked._study.sampler, optuna.samplers.RandomSampler)
    theirs = OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=5))
    asked = Asked(Search(BASE, SPACE, sampler=theirs), 0)
    values = asked.ask("a")
    assert set(values) == set(SPACE)
    assert Search(BASE, SPACE).choices.holds(values)
    asked.result("a", {"valid_loss": 1.0, "training_iteration": 1})
    asked.end("a", [1.0], failed=False)
    asked.learn(values, [1.0])
    assert len(asked._searcher._ot_study.trials) == 2  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="which Ray's searchers cannot say"):
        Asked(Search(BASE, CONDITIONAL, sampler=OptunaSearch()), 0)
    with pytest.raises(ValueError, match="an Optuna sampler or a Ray searcher"):
        Search(BASE, SPACE, sampler=tune.uniform(0, 1))


# -- the searcher over all cells ---------------------------------------------------------------------------------------


def two_cells(**kwargs):
    models = [ChemGPT.sized(width=w) for w in (8, 16)]
    return Search(Grid(BASE, models=models), SPACE, samples=4, **kwargs)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def drain(proposals, store, search, *, status="finished"):
    """Propose, record and complete until the searcher is finished; returns the configurations."""
    configs = []
    while (config := proposals.suggest(str(len(configs)))) != Searcher.FINISHED:
        assert config is not None
        record(store, search.run(config), [2.0, loss_of(config)], status=status, study=search.name)
        proposals.on_trial_complete(str(len(configs)), {"valid_loss": loss_of(config)})
        configs.append(config)
    return configs


def test_a_point_that_is_proposed_again_while_it_trains_is_not_called_bad(store):
    states = set()
    for seed in range(6):  # of three draws from three values, some come twice
        search = Search(BASE, {"optim.batch": choice(8, 16, 32)}, samples=3, sampler="random", seed=seed)
        proposals = Proposals(search, store, samples_of(store, search))
        assert {proposals.suggest(str(k))["optim.batch"] for k in range(3)} == {8, 16, 32}  # nothing has ended
        states |= {trial.state.name for trial in proposals._cells[0].asked._study.trials}
    assert states == {"RUNNING", "FAIL"}


@pytest.mark.parametrize("field", ["optim.warmup_updates", "optim.epoch_warmup"])
def test_a_search_finds_its_runs_again_whatever_their_fields_exclude(store, field):
    search = Search(BASE, {field: integers(1, 4), "optim.lr": loguniform(1e-4, 1e-1)}, samples=3)
    drain(Proposals(search, store, samples_of(store, search)), store, search)
    (samples,) = samples_of(store, search)
    assert len(samples) == 3
    assert all(1 <= sample.values[field] <= 4 for sample in samples)


def test_every_cell_gets_the_same_number_of_samples_in_turn_from_a_study_of_its_own(store):
    search = two_cells()
    proposals = Proposals(search, store, samples_of(store, search))
    assert proposals.trials == 8
    configs = drain(proposals, store, search)
    assert [c["cell"] for c in configs] == [0, 1] * 4
    studies = [cell.asked._study for cell in proposals._cells]
    for index, study in enumerate(studies):
        rates = [c["optim.lr"] for c in configs if c["cell"] == index]
        assert [t.params["optim.lr"] for t in study.trials] == rates
    result = result_of(store, search)
    assert [len(cell.samples) for cell in result.cells] == [4, 4]
    assert [cell.base.model.width for cell in result.cells] == [8, 16]
    with pytest.raises(ValueError, match="losses of different cells are not compared"):
        _ = result.best
    again = Proposals(search, store, samples_of(store, search))
    assert again.trials == 0
    assert again.suggest("x") == Searcher.FINISHED


def test_a_restarted_search_goes_on_with_interrupted_runs_first_and_has_learned_of_all(store):
    search = replace(two_cells(), samples=6)
    first = Proposals(search, store, samples_of(store, search))
    configs = [first.suggest(str(k)) for k in range(6)]
    statuses = ["finished", "stopped", "diverged", "failed", "interrupted", "finished"]
    for config, status in zip(configs, statuses, strict=True):
        record(store, search.run(config), [3.0, 2.5], status=status)
    dead = {**process_identity(), "born": 0.0}
    for run_id in store.run_ids():  # their driver is gone
        if store.state(run_id).status == "running":
            store.claim(store.spec(run_id), {"run_id": run_id}, dead)
    second = Proposals(search, store, samples_of(store, search))
    assert second.trials == 2 + 12 - 6
    assert [second.suggest("a"), second.suggest("b")] == [configs[4], configs[3]]  # left, and failed but once
    counts = [[t.state.name for t in cell.asked._study.trials] for cell in second._cells]
    assert counts == [["COMPLETE", "PRUNED"], ["COMPLETE", "COMPLETE"]]
    fresh = [second.suggest(f"n{k}") for k in range(6)]
    known = {search.run(c).id for c in configs}
    assert all(search.run(c).id not in known for c in fresh)
    assert [c["cell"] for c in [*configs, *fresh]].count(0) == 6


def test_a_run_that_never_started_is_not_forgotten(store):
    search = Search(BASE, SPACE, samples=1)
    config = Proposals(search, store, samples_of(store, search)).suggest("a")
    store.enlist("search", [search.run(config)])  # and the driver dies
    assert Proposals(search, store, samples_of(store, search)).suggest("a") == config


def test_a_stopped_run_teaches_where_it_would_have_ended(store):
    """The driver's word comes after Tune's: while it lives the law says it, afterwards the store does, the same."""
    search = Search(BASE, SPACE, samples=4)
    proposals = Proposals(search, store, samples_of(store, search))
    for k in range(3):
        run = search.run(proposals.suggest(f"whole-{k}"))
        record(store, run, [3.0, 2.5, 2.2, 2.1 + k / 100], study=search.name)
        proposals.on_trial_complete(f"whole-{k}", {"valid_loss": 2.1})
    run = search.run(proposals.suggest("a"))
    record(store, run, [3.0, 2.5], status="running", of=4)
    proposals.on_trial_complete("a", {"valid_loss": 2.5})
    taught = proposals._cells[0].asked._study.trials[-1].value
    assert 2.0 < taught < 2.3
    ending = proposals.endings.ending_of(run.id)
    store.mark(run.id, "stopped", "early", forecast=as_record(ending))
    again = Proposals(search, store, samples_of(store, search))
    assert [t.value for t in again._cells[0].asked._study.trials][-1] == taught == ending.value


def test_a_trial_that_ends_while_the_store_is_away_is_learned_when_it_is_back(store, tmp_path):
    search = Search(BASE, SPACE, samples=2)
    waited = Store(patient(store.url, Resources(patience=60)))
    proposals = Proposals(search, waited, samples_of(waited, search))
    record(store, search.run(proposals.suggest("a")), [2.0])
    Path(store.url).rename(tmp_path / "away")
    threading.Timer(1.0, (tmp_path / "away").rename, [store.url]).start()
    proposals.on_trial_complete("a", {"valid_loss": 2.0})
    assert [t.value for t in proposals._cells[0].asked._study.trials] == [2.0]


def test_generations_go_on_after_a_restart(store):
    search = Search(BASE, SPACE, samples=24, sampler="nsga2", objectives=SEVERAL)
    for k in range(8):
        run = search.run({"optim.lr": 1e-3 * (k + 1), "optim.warmup": 0.1})
        record(store, run, [float(k)], flops=float(8 - k))
    asked = Proposals(search, store, samples_of(store, search))._cells[0].asked
    asked.ask("a")
    sampler, trial = asked._study.sampler, asked._study.trials[-1]
    assert sampler.get_trial_generation(asked._study, trial) == 2  # two generations of four are behind it


def test_a_small_space_is_searched_once_and_then_used_up(store):
    search = Search(BASE, {"optim.batch": choice(4, 8, 16), "optim.lr": choice(0.1, 0.2)}, samples=50)
    assert search.samples_each == 6
    configs = drain(Proposals(search, store, samples_of(store, search)), store, search)
    assert len({search.run(c).id for c in configs}) == len(configs) == 6
    assert Proposals(search, store, samples_of(store, search)).trials == 0


def test_members_of_a_population_are_numbered_and_have_ids_of_their_own(store):
    search = replace(two_cells(), space={"optim.lr": loguniform(1e-4, 1e-1)}, stop=PBT())
    proposals = Proposals(search, store, samples_of(store, search))
    configs = [proposals.suggest(str(k)) for k in range(8)]
    assert [(c["cell"], c["member"]) for c in configs] == [(i, k) for k in range(4) for i in (0, 1)]
    assert len({search.run(c).id for c in configs}) == 8
    for config in configs[2:]:  # a driver that dies has written of some, and not of the first of either cell
        record(store, search.run(config), [2.0], status="running")
    again = Proposals(search, store, samples_of(store, search))
    late = [again.suggest(str(k)) for k in range(2)]
    assert [(c["cell"], c["member"]) for c in late] == [(0, 0), (1, 0)]
    assert not {search.run(c).id for c in configs} & {with_fields(search.run(c), {"member": None}).id for c in configs}


# -- what was found ----------------------------------------------------------------------------------------------------


def test_several_objectives_have_a_front(store):
    search = Search(BASE, {"model.depth": integers(1, 9)}, samples=5, sampler="nsga2", objectives=SEVERAL)
    runs = [search.run({"model.depth": depth}) for depth in (1, 2, 3, 4, 5)]
    for run, loss, flops in zip(runs, (5.0, 4.0, 4.5, 2.0, 2.0), (1.0, 2.0, 3.0, 4.0, 5.0), strict=True):
        record(store, run, [loss], flops=flops)
    record(store, with_fields(runs[0], {"budget": Budget(epochs=7)}), [0.1])  # not of this search
    front = result_of(store, search).front
    assert [(s.loss, s.measured["flops"]) for s in front] == [(2.0, 4.0), (4.0, 2.0), (5.0, 1.0)]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Search(BASE, SPACE, objectives=("flops",)), "'valid_loss' first"),
        (lambda: Search(BASE, SPACE, objectives=("valid_loss", "speed")), "not one of valid_loss, flops"),
        (lambda: Search(BASE, SPACE, objectives=SEVERAL, stop=PBT()), "a stop compares one loss on the way"),
        (lambda: Search(BASE, SPACE, sampler="nsga2"), "is for several objectives"),
        (lambda: Search(BASE, CONDITIONAL, stop=PBT()), "cannot change while a run trains"),
        (lambda: Search(BASE, {"optim.batch": choice(4, 8)}, stop=PBT()), "'optim.batch', which cannot change"),
    ],
)
def test_mistakes_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_field_that_one_cell_lacks_is_refused_by_name():
    with pytest.raises(ValueError, match=r"cell 'painn'.*model\.heads"):
        Search([BASE, POTENTIAL], {"model.heads": choice(1, 2)})


def test_fields_of_an_objective_can_be_searched():
    search = Search(replace(POTENTIAL, objective=None), {"objective.energy": uniform(0.1, 2)})
    assert search.run({"objective.energy": 0.5}).objective == EnergyForce(energy=0.5)
    with pytest.raises(ValueError, match=r"objective\.weight is not a field"):
        Search(POTENTIAL, {"objective.weight": uniform(0.1, 2)})
