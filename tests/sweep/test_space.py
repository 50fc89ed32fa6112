"""Domains and conditions: what a space draws, counts, refuses and flags."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemscale.sweep import choice, integers, logintegers, loguniform, uniform, when
from chemscale.sweep.space import Space

CONDITIONAL = Space(
    {
        "optim.clip": when(
            "optim.shape", {"sqrt": when("model.width", {8: loguniform(0.1, 10)}), "linear": choice(1.0)}
        ),
        "optim.shape": choice("linear", "sqrt"),
        "model.width": choice(8, 16),
        "optim.cooldown": when("optim.shape", {"sqrt": uniform(0.1, 0.5)}),
    }
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_field_exists_at_a_point_exactly_where_its_conditions_hold(seed):
    values = CONDITIONAL.draw(np.random.default_rng(seed))
    shape, width = values["optim.shape"], values["model.width"]
    assert ("optim.cooldown" in values) == (shape == "sqrt")
    assert ("optim.clip" in values) == (shape == "linear" or width == 8)
    assert CONDITIONAL.holds(values)
    again = CONDITIONAL.choose(lambda field, name, domain: values[field])
    assert again == values


@pytest.mark.parametrize(
    ("domain", "inside", "edges", "outside"),
    [
        (loguniform(1e-4, 1e-2), [1e-3], [1.1e-4, 9e-3], [1e-5, 0.1, "a", None, True]),
        (uniform(0, 10), [5], [0.1, 9.9], [-1, 11]),
        (integers(1, 100), [50], [1, 100, 3], [0, 101, 2.5]),
        (logintegers(1, 1024), [32], [1, 1024], [0, 2000]),
        (choice(8, 16, 32), [16], [8, 32], [12]),
        (choice("a", "b", "c"), ["a", "c"], [], ["d"]),
        (choice(1, 2), [1, 2], [], [3]),
    ],
)
def test_edges_and_members_of_a_domain(domain, inside, edges, outside):
    assert [domain.at_edge(v) for v in inside] == [False] * len(inside)
    assert [domain.at_edge(v) for v in edges] == [True] * len(edges)
    assert all(domain.holds(v) for v in inside + edges)
    assert not any(domain.holds(v) for v in outside)


@pytest.mark.parametrize(
    "domain", [loguniform(1e-4, 1), uniform(-1, 1), integers(1, 3), logintegers(1, 9), choice(4, 5)]
)
def test_draws_lie_in_the_domain_and_reach_all_of_it(domain):
    rng = np.random.default_rng(0)
    drawn = [domain.draw(rng) for _ in range(400)]
    assert all(domain.holds(v) for v in drawn)
    if hasattr(domain, "values") or isinstance(drawn[0], int):
        assert len(set(drawn)) == (2 if hasattr(domain, "values") else domain.high)
    else:
        assert any(domain.at_edge(v) for v in drawn)


def test_finite_spaces_are_counted_with_their_conditions():
    assert Space({"a": choice(1, 2), "b": integers(1, 5)}).size == 10
    assert Space({"a": choice(1, 2), "b": when("a", {2: integers(1, 5)})}).size == 6
    assert Space({"a": choice(1, 2), "b": uniform(0, 1)}).size is None
    assert Space({"a": integers(1, 1000), "b": integers(1, 1000)}).size is None
    assert Space({"a": integers(1, 10**12)}).size is None  # counted without being held
    assert Space({"a": choice([1, 2], [3, 4], [1, 2])}).size == 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: integers(3, 3), "low < high"),
        (lambda: integers(1.5, 3), "whole numbers"),
        (lambda: logintegers(0, 3), "low must be at least 1"),
        (lambda: when("a", {}), "is empty"),
        (lambda: Space({"b": when("a", {1: choice(1)})}), "hangs on 'a', which the space lacks"),
        (lambda: Space({"a": choice(1), "b": when("a", {2: choice(1)})}), "a=2, which 'a' never takes"),
        (lambda: Space({"a": uniform(0, 1), "b": when("a", {0.5: choice(1)})}), "never takes"),
        (
            lambda: Space({"a": when("b", {1: choice(1)}), "b": when("a", {1: choice(1)})}),
            "a, b hang on each other in a circle",
        ),
    ],
)
def test_mistakes_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)
