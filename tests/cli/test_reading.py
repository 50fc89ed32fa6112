"""Tables as spreadsheets write them."""

import gzip

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from chemscale.cli.reading import read_table

ROWS = ("N,loss,note", "1000000.0,2.75,a", "2000000.0,2.5,b")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_line_ends(tmp_path, separator, end):
    file = tmp_path / ("t.csv" if end == "\n" else "T.CSV")
    file.write_bytes("".join(row.replace(",", separator) + end for row in ROWS).encode())
    assert read_table(str(file)).to_pydict() == {"N": [1e6, 2e6], "loss": [2.75, 2.5], "note": ["a", "b"]}


def test_decimal_commas_and_compression(tmp_path):
    file = tmp_path / "t.csv.gz"
    with gzip.open(file, "wt") as lines:
        lines.write("N;loss;note\n1000000.0;2,75;a\n2000000.0;2,5;b,c\n")
    assert read_table(str(file)).to_pydict() == {"N": [1e6, 2e6], "loss": [2.75, 2.5], "note": ["a", "b,c"]}


def test_fields_of_nested_columns_are_columns(tmp_path):
    write_table(pa.table({"model": [{"n": 1.0}, {"n": 2.0}], "loss": [3.0, 2.0]}), tmp_path / "t.parquet")
    assert read_table(str(tmp_path / "t.parquet")).column_names == ["model.n", "loss"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"", "Empty CSV file"),
        ("t.csv", b"loss,pert\xe9\n1,2\n", "it is not UTF-8 text; save it as UTF-8"),
        ("t.csv", b"a,b\n1,2\n1\n", "Expected 2 columns"),
        ("t.csv.gz", b"no gzip", "cannot be read"),
        ("t.parquet", b"hello", "cannot be read"),
        ("t.xlsx", b"", "is of no known kind; give a store, a .csv, .csv.gz or .parquet file"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        read_table(str(tmp_path / name))
    assert "\n" not in str(raised.value)
