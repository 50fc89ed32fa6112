"""Numbers show as many digits as their error supports."""

import pytest

from chemscale.report import ink, numbers
from chemscale.report.numbers import by_error, count, duration, percent, significant, whole, with_ends


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (265.31, 3.2, "265 ± 3"),
        (265.31, 1.24, "265.3 ± 1.2"),
        (0.43331, 0.0017, "0.4333 ± 0.0017"),
        (1234.5, 40, "1,234 ± 40"),
        (1.05, None, "1.05"),
    ],
)
def test_a_value_is_rounded_by_its_error(value, error, shown):
    assert by_error(value, error) == shown


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((251.7, 247.6, 256.2), ("252", "248", "256")),
        ((0.4321, 0.4228, 0.4417), ("0.432", "0.423", "0.442")),
        ((0.108, None, None), ("0.108", "?", "?")),
        ((0.5, 0.1, float("inf")), ("0.500", "0.100", "∞")),
    ],
)
def test_an_interval_is_rounded_by_its_width(numbers, shown):
    assert with_ends(*numbers) == shown


def test_sizes_are_short_and_exact_where_they_can_be():
    assert [count(n) for n in (7, 3_400, 199_000, 1_195_136)] == ["7", "3.4k", "199k", "1.2M"]
    assert [whole(n) for n in (3_200, 100_000, 21_500)] == ["3,200", "100,000", "21.5k"]
    assert [percent(x) for x in (0.0123, 0.27)] == ["1.2 %", "27 %"]
    assert [significant(x) for x in (0.0, 412.4, 0.00123, 3.2e15)] == ["0", "412", "0.00123", "3.20 × 10¹⁵"]
    assert [duration(s) for s in (1.34, 45, 600, 9000)] == ["1.3 s", "45 s", "10 min", "2.5 h"]


@pytest.mark.parametrize(("low", "high"), [(0.43, 1.1), (225, 560), (374, 380), (0.001, 900), (1.0, 1.02)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = ink.round_ticks(low, high)
    assert 2 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)


def test_one_number_has_one_tick():
    """Of a run that reported once."""
    assert ink.round_ticks(48.0, 48.0) == [48.0]


def test_labels_that_would_overlap_are_moved_apart_in_order():
    moved = ink.spread([0.5, 0.51, 0.505, 0.9], 0.05)
    assert sorted(moved) == pytest.approx([0.455, 0.505, 0.555, 0.9], abs=1e-9)
    assert moved[0] < moved[2] < moved[1] < moved[3]


def test_sentences_for_terminals_become_readable():
    said = numbers.readable("at 3.84e+04 parameters force_mae is 1.3 (95% interval), of 1.13e+11 FLOPs")
    assert said == "at 38.4k parameters force mae is 1.3 (95 % interval), of 1.1 × 10¹¹ FLOPs"
