"""The driver's words: the newest attempt's counts, and every failure counts, whoever speaks."""

from dataclasses import replace

import pytest

from chemscale.records import merge as merging
from chemscale.records.compact import compact
from chemscale.records.merge import merge
from chemscale.records.store import Store
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
