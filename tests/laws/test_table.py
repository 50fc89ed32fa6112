"""What may be fitted and what is refused, in one clear sentence."""

import numpy as np
import pytest

from chemscale.laws import fit
from chemscale.laws.tables.columns import read, split
from chemscale.laws.tables.meaning import refuse_mixture
from chemscale.laws.tables.selection import select
from chemscale.laws.tables.where import matches
from tests.laws.planted import wide

COLUMNS = {
    "family": ["painn", "painn", "schnet", None],
    "size": [10, 200, 3000, None],
    "loss/val": [1.0, 2.0, 3.0, 4.0],
}


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("family == 'painn'", [0, 1]),
        ("size >= 200", [1, 2]),
        ("10 < size < 1e4 and not family == 'schnet'", [1]),
        ("family in ['schnet', 'nequip'] or size == 10", [0, 2]),
        ("family not in ('painn',)", [2, 3]),
        ("family == None", [3]),
        ("`loss/val` > 2.5", [2, 3]),
        ("size != -1", [0, 1, 2, 3]),
        ("size in (10, None)", [0, 3]),
    ],
)
def test_where_selects(where, rows):
    assert np.flatnonzero(matches(COLUMNS, where)).tolist() == rows


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').system('true')",
        "size.__class__ == 1",
        "(lambda: 1)() == 1",
        "[x for x in ()] == 1",
        "size + 1 > 2",
        "open('x') == 1",
        "size",
        "size = 10",
        "nothing > 1",
        "family > 1",
        "size is None",
        "size < [10, 200]",
        "size < (None,)",
        "",
        "f'{size}' == '1'",
    ],
)
def test_where_refuses_all_else(where):
    with pytest.raises(ValueError, match="where=") as caught:
        matches(COLUMNS, where)
    assert "\n" not in str(caught.value)


def test_a_comparison_without_an_order_names_the_column():
    long = {"family": ["painn" * 100], "size": [10]}
    with pytest.raises(ValueError, match=r"the column 'family' \('painn.{54}…\) with 1, which have no order"):
        matches(long, "size == 10 and 0 < 1 and family > 1")


def test_every_kind_of_table_reads_alike():
    pyarrow, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    columns = {"a": [1.0, None], "b": ["x", "y"]}
    records = [{"a": 1.0, "b": "x"}, {"b": "y"}]
    tables = [
        columns,
        pyarrow.table(columns),
        pandas.DataFrame(columns),
        records,
        {"a": np.array([1.0, np.nan]), "b": ["x", "y"]},
        pyarrow.table({"a": np.array([1.0, np.nan]), "b": ["x", "y"]}),
    ]
    assert all(read(table) == columns for table in tables)


@pytest.mark.parametrize("name", ["family", "architecture", "law_metric", "precision", "data_content"])
def test_mixed_table_is_refused_and_separable(name):
    table = {**wide(noise=0.01), name: ["one", "two"] * 18}
    with pytest.raises(ValueError, match=rf"mixes 2 values of {name} \(one, two\)"):
        fit(table, data="tokens", loss="loss", bootstrap=0)
    assert set(fit(table, data="tokens", loss="loss", bootstrap=0, by=name)) == {"one", "two"}
    assert fit(table, data="tokens", loss="loss", bootstrap=0, where=f"{name} == 'one'").n_runs == 18


def test_two_counts_of_one_models_flops_share_no_law_of_flops():
    """What was written before rules were told counts by the first; laws of other axes take all of them."""
    table = {**wide(noise=0.01), "flops_rule": [None, 2] * 18}
    table["flops"] = [6.0 * n * d for n, d in zip(table["params"], table["tokens"], strict=True)]
    named = {"params": None, "flops": "flops", "loss": "loss", "form": "power_floor", "bootstrap": 0}
    with pytest.raises(ValueError, match=r"by 2 rules \(flops_rule 1, 2; null is 1\).*where='flops_rule == 2'"):
        fit(table, **named)
    assert fit(table, **named, where="flops_rule == 2").n_runs == 18
    assert fit(table, data="tokens", loss="loss", bootstrap=0).n_runs == 36


def test_groups_are_told_apart_by_value_and_none_loses_a_row():
    """1 and 1.0 are one value, "1" another, and every missing value is the same group."""
    values = [1, 1.0, "1", float("nan"), None, float("nan")]
    parts = split(read({"a": values, "row": list(range(6))}), "a")
    assert {value: part["row"] for value, part in parts.items()} == {1: [0, 1], "1": [2], None: [3, 4, 5]}


def test_depth_and_width_that_are_words_are_no_capacity():
    table = {**wide(noise=0.01), "depth": ["deep"] * 36, "width": ["3"] * 36}
    assert fit(table, data="tokens", loss="loss", params="params", bootstrap=0).n_runs == 36


def test_a_missing_kind_is_not_a_second_kind():
    refuse_mixture({"family": ["painn", None]})


def test_runs_that_did_not_finish_are_left_out_and_counted():
    table = {**wide(noise=0.01), "status": ["finished"] * 33 + ["diverged", "diverged", "stopped"]}
    table["loss"][33:] = np.nan
    law = fit(table, data="tokens", loss="loss", bootstrap=0)
    assert law.n_runs == 33 and "left out 3 runs that are not finished (2 diverged, 1 stopped)" in law.warnings[0]
    with pytest.raises(ValueError, match="no finished run"):
        select({"status": ["stopped"], "loss": [1.0]})


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"loss": "lost"}, "loss='lost' is not a column"),
        ({}, {"data": "words"}, "data='words' is not a column"),
        ({}, {"weights": "w"}, "weights='w' is neither a column"),
        ({}, {"by": "family"}, "by='family' is not a column"),
        ({}, {"form": "cubic"}, "form='cubic' is not one of power, power_floor"),
        ({}, {"form": "power_floor", "params": "params"}, "takes 1 of params, data, flops, not 2"),
        ({}, {"objective": "l3"}, "objective='l3' is not one of"),
        ({}, {"delta": -1.0}, "delta=-1.0 must be a positive"),
        ({}, {"level": 1.5}, "level=1.5 must lie"),
        ({}, {"bootstrap": -3}, "bootstrap=-3 must be"),
        ({}, {"hold_out": "smallest"}, "hold_out='smallest' must be"),
        ({}, {"along": "time"}, "along='time' is not an axis"),
        ({}, {"where": "tokens > 1e20"}, "leaves no rows"),
        ({"loss": -1.0}, {}, "loss column 'loss' is -1.0 in row 1 of 36.* such as loss > 0"),
        ({"loss": 0.0}, {}, "is 0.0 in row 1"),
        ({"loss": np.nan}, {}, r"is missing \(null or NaN\) in row 1"),
        ({"loss": np.inf}, {}, "is inf in row 1.* such as loss < 1e"),
        ({"tokens": None}, {}, "data column 'tokens' is missing"),
        ({"params": "big"}, {}, "params column 'params' is 'big'"),
    ],
)
def test_a_mistake_is_one_sentence(change, options, words):
    table = {name: list(values) for name, values in wide(noise=0.01).items()}
    for name, value in change.items():
        table[name][0] = value
    with pytest.raises(ValueError, match=words) as caught:
        fit(table, **{"data": "tokens", "loss": "loss", **options})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_text_that_is_a_number_is_one_and_the_first_that_is_not_is_named():
    for column, field in (("loss", "loss"), ("tokens", "data")):
        table = {name: list(values) for name, values in wide(noise=0.01).items()}
        table[column] = [str(value) for value in table[column]]
        assert fit(table, data="tokens", loss="loss", bootstrap=0).n_runs == 36
        table[column][4] = "n/a"
        with pytest.raises(ValueError, match=f"{field} column '{column}' is 'n/a' in row 5 of 36.* {column} != 'n/a'"):
            fit(table, data="tokens", loss="loss", bootstrap=0)


def test_members_of_populations_are_left_out_and_counted():
    table = {**wide(noise=0.01), "lineage": [None] * 30 + ["a1"] * 6}
    kept, notes = select(table)
    assert len(kept["loss"]) == 30
    assert notes == ("left out 6 members of populations, which are no plain runs",)
    assert fit(table, data="tokens", loss="loss", bootstrap=0).n_runs == 30
    with pytest.raises(ValueError, match="only members of populations"):
        select({**wide(), "lineage": ["a1"] * 36})


def test_a_column_that_occurs_twice_is_refused():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_arrays([pyarrow.array([1.0]), pyarrow.array([2.0])], names=["loss", "loss"])
    with pytest.raises(ValueError, match="column 'loss' occurs twice in the table"):
        read(table)


def test_empty_and_short_tables():
    for table in ({}, {"loss": []}, []):
        with pytest.raises(ValueError, match="no rows"):
            fit(table, data="tokens", loss="loss")
    few = {name: values[:5] for name, values in wide().items()}
    with pytest.raises(ValueError, match="has 5 parameters and needs at least 6 runs"):
        fit(few, data="tokens", loss="loss")
    with pytest.raises(ValueError, match="at least one of params, data, flops"):
        fit(wide(), form="power", loss="loss")
    with pytest.raises(ValueError, match="single value"):
        fit({**wide(), "params": [1e6] * 36}, data="tokens", loss="loss")
