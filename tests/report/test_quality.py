"""What the report says of samples agrees with what was planted: one metric that follows the loss, one that does not."""

import random

import pytest

from chemscale.audit.groups import groups_of
from chemscale.report.collect import collect
from chemscale.report.page import html
from chemscale.report.quality import quality, quality_table
from tests.report.planted import full_store

SHARED = {"strings": 3000, "temperature": 1.0, "sample_seed": 0, "reference": "moses", "says": ""}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """FCD twice the loss, novelty the loss itself, filters at random, validity one."""
    store, draw = full_store(tmp_path_factory.mktemp("sampled") / "store"), random.Random(0)
    for row in store.runs(family="text", status="finished").to_pylist():
        loss = row["law_loss"]
        scores = {"fcd": 2 * loss, "novelty": loss / 4, "validity": 1.0, "filters": draw.random(), "snn": None}
        store.place.write_json(f"samples/{row['run_id']}-0123abcd.json", {**SHARED, **scores})
    return store


@pytest.fixture(scope="module")
def found(store):
    (one,) = quality(store, groups_of(store.runs().to_pylist()))
    return one


def test_a_metric_that_follows_the_loss_is_foretold(found):
    told = {one.metric: one for one in found.metrics}
    assert set(told) == {"fcd", "novelty", "validity", "filters"}
    assert (told["fcd"].correlation, told["fcd"].expected) == (pytest.approx(1), True)
    assert (told["novelty"].correlation, told["novelty"].expected) == (pytest.approx(1), False)
    assert told["validity"].correlation is None
    assert told["filters"].expected is None


def test_the_sentence_says_what_choosing_by_loss_costs(found):
    assert found.sentence.startswith(f"Loss foretells FCD over these {len(found.runs)} runs (rank correlation 1.00")
    assert "the best of all" in found.sentence
    assert "got worse: novelty" in found.sentence
    assert "nothing clear of share that passes the filters" in found.sentence
    assert "alike in all runs: validity" in found.sentence


def test_a_table_lists_every_metric(found):
    table = quality_table(found)
    assert [row[0].text for row in table.rows] == ["validity", "novelty", "FCD", "share that passes the filters"]


def test_the_page_has_the_section_where_there_are_samples(store, found):
    page = html(collect(store))
    assert "Does loss predict quality?" in page
    assert f'id="{found.slug}-fcd"' in page
    assert f'id="{found.slug}-validity"' not in page  # alike in all runs


def test_other_ways_of_sampling_stand_apart_and_two_runs_say_nothing(store):
    rows = store.runs(family="text", status="finished").to_pylist()
    for row in rows[:2]:
        store.place.write_json(f"samples/{row['run_id']}-ffffffff.json", {**SHARED, "strings": 50, "fcd": 1.0})
    groups = groups_of(store.runs().to_pylist())
    assert len(quality(store, groups)) == 1
    row = rows[2]
    store.place.write_json(f"samples/{row['run_id']}-ffffffff.json", {**SHARED, "strings": 50, "fcd": 2.0})
    assert [len(one.runs) for one in quality(store, groups)] == [len(rows), 3]
