"""`chemscale audit` as a person and a program meet it, and what a hostile table gets."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from tests.audit.tables import clean
from tests.test_cli import run

NAMED = ["--params", "n", "--data", "d", "--loss", "loss"]


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "runs.csv"
    pc.write_csv(pa.table(clean()), path)
    return str(path)


def test_people_get_a_table_and_programs_get_json(capsys, csv):
    status, out, _ = run(capsys, "audit", csv, *NAMED, "--strict")
    assert status == 0
    assert "Do the axes span enough decades?" in out and "supported" in out
    assert out.strip().splitlines()[-1].startswith(f"{csv}: 10 fine, 9 cannot tell; claims: ")
    status, out, _ = run(capsys, "audit", csv, *NAMED, "--json")
    found = json.loads(out)
    assert found["verdicts"] == {"fine": 10, "concern": 0, "cannot tell": 9}
    assert {c["mark"] for c in found["claims"]} <= {"supported", "not supported", "cannot tell"}


def test_strict_is_status_1_where_a_concern_stands(capsys, csv):
    arguments = ["audit", csv, *NAMED, "--where", "seed == 0", "--json"]
    assert run(capsys, *arguments)[0] == 0
    assert run(capsys, *arguments, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.csv", *NAMED], "is not there"),
        (["CSV", "--params", "n", "--data", "d"], "loss is not named"),
        (["CSV", "--loss", "loss"], "no axis is named"),
        (["CSV", "--loss", "loss", "--params", "gone"], "params='gone' is not a column"),
        (["CSV", *NAMED, "--where", "n < 0"], "leaves no rows"),
        (["CSV", *NAMED, "--by", "gone"], "by='gone'"),
        (["CSV", *NAMED, "--counts", "gone"], "counts='gone'"),
        (["CSV", *NAMED, "--form", "magic"], "magic"),
        (["CSV", "--params", "n", "--loss", "who"], "has no row with a positive number in each of n, who"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, csv, arguments, sentence):
    status, _, err = run(capsys, "audit", *(csv if a == "CSV" else a for a in arguments))
    assert status == 2
    assert sentence in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: {**t, "loss": np.where(np.arange(50) % 5 == 0, np.nan, t["loss"])},
        lambda t: {**t, "loss": np.where(np.arange(50) % 5 == 0, -1, t["loss"])},
        lambda t: {**t, "loss": [str(v) if i else "n/a" for i, v in enumerate(t["loss"])]},
        lambda t: {name: values[:1] for name, values in t.items()},
        lambda t: {name: values[:3] for name, values in t.items()},
        lambda t: {**t, "d": np.full(50, 1e9)},
        lambda t: {**t, "loss": np.full(50, 2.0)},
        lambda t: {**t, "d": 20 * t["n"]},
        lambda t: {**t, "odd[name]": [None] * 50, "seed": [None if i % 2 else "x" for i in range(50)]},
    ],
)
def test_a_hostile_table_is_audited_not_a_crash(capsys, tmp_path, spoil):
    pc.write_csv(pa.table(spoil(clean())), tmp_path / "t.csv")
    status, out, err = run(capsys, "audit", str(tmp_path / "t.csv"), *NAMED, "--json")
    assert (status, err) == (0, "")
    json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
