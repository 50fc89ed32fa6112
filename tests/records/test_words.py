"""The driver's words: the newest attempt's counts, each is said once, however often it is tried and whoever speaks."""

import secrets
from dataclasses import replace

import pytest

from chemscale.records import merge as merging
from chemscale.records.compact import compact
from chemscale.records.history import RECENT
from chemscale.records.merge import merge
from chemscale.records.store import Store
from chemscale.records.unsaid import Unsaid
from chemscale.train.rows import opening_row
from tests.records.test_manage import two
from tests.test_spec import BASE

FORECAST = {"loss": 1.5, "low": 1.4, "high": 1.7}


def stopped(store, steps, words=1, forecast=None):
    """A run that came so far and was stopped, after as many words on it."""
    attempt = store.claim(BASE, opening_row(BASE))
    attempt.point({"run_id": BASE.id, "step": steps, "examples": 8 * steps, "valid_loss": 1.0})
    attempt.beat(steps, 8 * steps)
    for _ in range(words - 1):
        store.mark(BASE.id, "failed", "no")
    store.mark(BASE.id, "stopped", "early", forecast=forecast)


def patch_create(monkeypatch, store, replacement):
    """Let `replacement(create, name, content)` stand for the creation of words."""
    create = type(store.place).create

    def patched(self, name, content):
        return replacement(create.__get__(self), name, content) if "/word-" in name else create(self, name, content)

    monkeypatch.setattr(type(store.place), "create", patched)


def at_most(tries):
    """Creates words so often, then gives up instead of trying for ever."""
    tried = []

    def bounded(create, name, content):
        tried.append(name)
        assert len(tried) <= tries, tried
        return create(name, content)

    return bounded


@pytest.mark.parametrize("words", [(1, 1), (3, 1), (1, 3)])
def test_the_word_of_a_merged_attempt_wins_over_live_ones_of_older_attempts(tmp_path, monkeypatch, words):
    one, into = two(tmp_path)
    into.enlist("s", [BASE])
    stopped(into, 1, words[0])
    stopped(one, 5, words[1], FORECAST)
    merge([one], into)
    for store in (into, Store(into.path)):
        state = store.state(BASE.id)
        assert (state.status, state.examples, state.forecast) == ("stopped", 40, FORECAST)
        assert store.runs()["forecast_loss"].to_pylist() == [1.5]
    patch_create(monkeypatch, into, at_most(1))
    failures = into.state(BASE.id).failures
    into.mark(BASE.id, "failed", "no")
    assert (into.state(BASE.id).status, into.state(BASE.id).failures) == ("failed", failures + 1)
    before = into.state(BASE.id)
    compact(into)
    assert into.place.names("runs") == []
    assert into.state(BASE.id) == Store(into.path).state(BASE.id) == before


@pytest.mark.parametrize("words", [(3, 1), (1, 3)])
def test_a_store_that_was_merged_before_numbers_went_on_can_be_spoken_to(tmp_path, monkeypatch, words):
    """Merging once left the numbers of the words as they were, so a live one could have any beside a folded one's."""
    one, into = two(tmp_path)
    stopped(into, 1, words[0])
    stopped(one, 5, words[1])
    shifted = merging._shifted

    def as_once(fold, known):
        return shifted(fold, replace(known, said=0))

    monkeypatch.setattr(merging, "_shifted", as_once)
    merge([one], into)
    patch_create(monkeypatch, into, at_most(1))
    into.mark(BASE.id, "failed", "no")
    assert into.history(BASE.id).word["number"] == 4
    assert into.state(BASE.id).failures == words[1]


def test_numbers_go_on_where_a_merged_run_has_no_word(tmp_path):
    one, into = two(tmp_path)
    stopped(into, 1, 3)
    compact(into)
    one.claim(BASE, opening_row(BASE)).beat(5, 40)
    elsewhere = {"host": "elsewhere", "pid": 1, "born": 0.0}
    attempt = one.claim(BASE, opening_row(BASE), elsewhere)
    attempt.place.write_json("heartbeat.json", {"time": 1.0, "step": 5, "examples": 40})
    merge([one], into)
    assert into.state(BASE.id).status == "interrupted"
    Store(into.path).mark(BASE.id, "failed", "no")
    assert into.history(BASE.id).word["number"] == 4


def test_a_word_whose_number_was_folded_meanwhile_is_said_again(tmp_path, monkeypatch):
    """Between one driver's look and its word, another speaks and what it said is folded."""
    store = Store(tmp_path / "s", create=True)
    store.claim(BASE, opening_row(BASE))
    other, spoke = Store(store.path), []

    def late(create, name, content):
        if not spoke:
            spoke.append(name)
            other.mark(BASE.id, "failed", "first")
            compact(other)
        return create(name, content)

    patch_create(monkeypatch, store, late)
    store.mark(BASE.id, "failed", "second")
    assert (store.state(BASE.id).failures, store.state(BASE.id).reason) == (2, "second")


def lose_the_read(patch, store):
    """The word is written; what is asked next is not answered."""
    steadily = store.snapshots.steadily
    asked = []

    def unanswered(read):
        asked.append(read)
        if len(asked) == 2:
            raise OSError("no such host")
        return steadily(read)

    patch.setattr(store.snapshots, "steadily", unanswered)


def lose_the_answer(patch, store):
    """The word is written; its answer is lost, and a second request is told that the name is taken."""
    patch_create(patch, store, lambda create, name, content: create(name, content) and False)


def lose_the_line(patch, store):
    """The word is written; its answer never comes."""
    tried = []

    def cut(create, name, content):
        made = create(name, content)
        tried.append(name)
        if len(tried) == 1:
            raise OSError("timed out")
        return made

    patch_create(patch, store, cut)


@pytest.mark.parametrize("meanwhile", ["nothing", "another speaks", "folded"])
@pytest.mark.parametrize("lose", [lose_the_read, lose_the_answer, lose_the_line])
def test_a_word_that_is_tried_twice_is_said_once(tmp_path, monkeypatch, lose, meanwhile):
    monkeypatch.setattr("chemscale.records.unsaid.FIRST_PAUSE", 0.0)
    store = Store(tmp_path / "s", create=True)
    store.claim(BASE, opening_row(BASE))
    other, tries, token = Store(store.path), [], secrets.token_hex(8)

    def word():
        tries.append(1)
        if len(tries) == 2:
            patch.undo()
            if meanwhile == "another speaks":
                other.mark(BASE.id, "failed", "another's")
            elif meanwhile == "folded":
                compact(other)
        store.mark(BASE.id, "failed", "no", token=token)

    with monkeypatch.context() as patch:
        lose(patch, store)
        unsaid = Unsaid("runs", seconds=60)
        unsaid.say(word)
        unsaid.settle()
    assert len(tries) == (1 if lose is lose_the_answer else 2)
    others = meanwhile == "another speaks" and len(tries) == 2
    assert store.state(BASE.id).failures == 1 + others
    assert store.history(BASE.id).word["number"] == 1 + others


def test_words_of_one_token_are_one_and_others_are_others(tmp_path):
    store = Store(tmp_path / "s", create=True)
    tokens = [f"{k:016x}" for k in range(2 * RECENT)]
    for failures, token in enumerate(tokens, 1):
        for _ in range(2):
            store.mark(BASE.id, "failed", "no", token=token)
        assert store.state(BASE.id).failures == failures
    assert store.history(BASE.id).word["tokens"] == tokens[-RECENT:]
    store.mark(BASE.id, "failed", "no")
    store.mark(BASE.id, "failed", "no")
    assert store.state(BASE.id).failures == len(tokens) + 2
