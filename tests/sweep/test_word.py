"""The driver's word on trials that fail, by what killed them."""

from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError

from chemscale.models import ChemGPT
from chemscale.records.store import MAX_RETRIES, Store
from chemscale.spec import Budget, Data, Optim, Resources, RunSpec
from chemscale.sweep.trial import Plan
from chemscale.sweep.word import DIED, EXCUSED, DriverWord

RUN = RunSpec(
    model=ChemGPT.sized(width=4),
    data=Data("x", size=10, content="c"),
    optim=Optim(lr=0.1),
    budget=Budget(updates=9),
)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", create=True)
    made.enlist("s", [RUN])
    return made


@pytest.fixture
def word(store):
    return DriverWord(Plan(store.url, Resources(), runs={RUN.id: RUN}), "s")


@pytest.fixture
def fails(word, tmp_path):
    """Let the trial fail with an error, as Tune tells it."""
    trial = SimpleNamespace(
        config={"run_id": RUN.id}, max_failures=MAX_RETRIES, pickled_error_file=str(tmp_path / "error.pkl"),
        error_file=None,
    )  # fmt: skip

    def fail(error):
        (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(error))
        word.on_trial_recover(0, [trial], trial)
        return trial.max_failures

    return fail


def unreachable(*args, **kwargs):
    raise OSError(5, "Input/output error")


def attempt_at(store, *, saved):
    attempt = store.claim(RUN, {}, None)
    if saved:
        attempt.save("state.pt", lambda file: file.write(b"state"))


def test_what_raises_is_a_failure_however_far_it_came(store, fails):
    attempt_at(store, saved=True)
    assert fails(ValueError("no such atom")) == MAX_RETRIES
    state = store.state(RUN.id)
    assert (state.status, state.reason, state.failures) == ("failed", "ValueError: no such atom", 1)


def test_a_killed_process_is_no_failure_once_its_attempt_saved_its_state(store, fails):
    for deaths in range(1, 2 * MAX_RETRIES + 2):
        attempt_at(store, saved=True)
        assert fails(ActorDiedError()) == MAX_RETRIES + deaths
        state = store.state(RUN.id)
        assert (state.status, state.reason, state.failures) == ("interrupted", DIED, 0)


def test_a_process_that_is_killed_again_and_again_before_it_saves_anything_fails(store, fails):
    """Or a run that needs more memory than there is, and a process that dies while it starts, would start for ever."""
    attempt_at(store, saved=True)
    for _ in range(1 + EXCUSED):  # the first saved its state, the others nothing
        fails(ActorDiedError())
        assert (store.state(RUN.id).status, store.state(RUN.id).failures) == ("interrupted", 0)
    for failures in range(1, MAX_RETRIES + 2):
        attempt_at(store, saved=False)
        assert fails(ActorDiedError()) == MAX_RETRIES + 1 + EXCUSED
        assert (store.state(RUN.id).status, store.state(RUN.id).failures) == ("failed", failures)


def test_a_word_that_the_store_did_not_take_is_said_again_as_it_was(store, fails, word, monkeypatch):
    attempt_at(store, saved=True)
    monkeypatch.setattr(Store, "mark", unreachable)
    fails(ActorDiedError())
    assert store.state(RUN.id).status == "running"
    monkeypatch.undo()
    word.on_experiment_end([])
    assert (store.state(RUN.id).status, store.state(RUN.id).failures) == ("interrupted", 0)


def test_a_death_that_saved_something_begins_the_count_anew(store, fails):
    for saved in (False, False, False, True, False, False, False):
        attempt_at(store, saved=saved)
        fails(ActorDiedError())
        assert (store.state(RUN.id).status, store.state(RUN.id).failures) == ("interrupted", 0)
