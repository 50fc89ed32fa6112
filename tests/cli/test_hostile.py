"""Tables and options that nobody should give: one sentence and a status, valid JSON, the planted truth."""

import csv
import gzip
import json

import numpy as np
import pytest

from chemscale.cli import main
from tests.laws.planted import chinchilla

AXES = ("--params", "N", "--data", "D", "--loss", "loss")


def written(path, noise=0.01, scale=1.0, names=("N", "D", "loss"), more=()):
    rng = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([*names, *[name for name, _ in more]])
        for n in np.geomspace(1e7, 1e10, 5):
            for d in np.geomspace(1e8, 1e11, 5):
                loss = scale * chinchilla(n, d) * np.exp(noise * rng.standard_normal())
                out.writerow([n, d, loss, *[value for _, value in more]])
    return str(path)


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "runs.csv")


def said(capsys, *words):
    status = main([*map(str, words)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_a_law_without_noise_is_given_whole(tmp_path, capsys):
    path = written(tmp_path / "exact.csv", noise=0.0)
    status, out, _ = said(capsys, "fit", path, *AXES, "--bootstrap", 20, "--json")
    law = json.loads(out)
    assert status == 0
    assert law["parameters"]["E"] == pytest.approx(chinchilla(1e99, 1e99), rel=1e-6)
    assert law["breaks"] == []
    assert law["intervals"]["E"] == pytest.approx([law["parameters"]["E"]] * 2, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("--seed", "-1"), "seed=-1"),
        (("--delta", "1e300"), "delta=1e"),
        (("--noise-floor", "1e9"), "noise_floor="),
        (("--bootstrap", "1000000000"), "bootstrap="),
        (("--flops", "N"), "both name"),
        (("--cluster", "same"), "cluster='same'"),
        (("--out", "no/such/folder/law.json"), "--out"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, capsys, words, about):
    path = written(tmp_path / "runs.csv", more=[("same", "a")])
    status, out, err = said(capsys, "fit", path, *AXES, *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert about in err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("content", [b"gr\xf6\xdfe,D\n1,2\n", b"\x1f\x8bno gzip at all"])
def test_an_unreadable_file_is_named(tmp_path, capsys, content):
    path = tmp_path / ("runs.csv" if content.startswith(b"gr") else "runs.csv.gz")
    path.write_bytes(content)
    status, _, err = said(capsys, "fit", path, *AXES)
    assert status == 2
    assert f"table={str(path)!r} cannot be read" in err
    good = tmp_path / "good.csv.gz"
    written(tmp_path / "good.csv")
    good.write_bytes(gzip.compress((tmp_path / "good.csv").read_bytes()))
    assert said(capsys, "fit", good, *AXES, "--bootstrap", 0)[0] == 0


def test_units_beyond_floats_are_refused(tmp_path, capsys):
    status, _, err = said(capsys, "fit", written(tmp_path / "huge.csv", scale=1e300), *AXES)
    assert status == 2
    assert "another unit" in err


def test_one_run_is_a_curve_on_one_axis_only(tmp_path, capsys):
    path = written(tmp_path / "one.csv", more=[("run_id", "x")])
    status, _, err = said(capsys, "fit", path, *AXES)
    assert (status, "run_id 'x'" in err) == (2, True)
    curve = ("--data", "D", "--loss", "loss", "--where", "N < 2e7", "--form", "power", "--bootstrap", "0", "--json")
    status, out, _ = said(capsys, "fit", path, *curve)
    assert status == 0
    assert json.loads(out)["provenance"]["clusters"] == 5


@pytest.mark.parametrize("verb", ["fit", "plan"])
def test_a_rising_loss_is_an_error_in_json(tmp_path, capsys, verb):
    path = written(tmp_path / "runs.csv", names=("N", "D", "loss"))
    words = [verb, path, *AXES[:4], "--loss", "up", "--form", "chinchilla", "--json"]
    rows = list(csv.reader((tmp_path / "runs.csv").read_text().splitlines()))
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[*rows[0], "up"]] + [[*row, float(row[0]) ** 0.2] for row in rows[1:]])
    status, out, _ = said(capsys, *words, *(["--flops", "1e20", "--cost", "D"] if verb == "plan" else []))
    assert status == 1
    assert "rises with params" in json.loads(out)["error"]


def test_headers_with_blanks_and_text_of_spreadsheets(tmp_path, capsys):
    path = written(tmp_path / "blanks.csv", names=(" N", "D ", "\tloss"))
    assert said(capsys, "fit", path, *AXES, "--bootstrap", 0)[0] == 0
    other = tmp_path / "wide.csv"
    other.write_text((tmp_path / "blanks.csv").read_text(), encoding="utf-16")
    status, _, err = said(capsys, "fit", other, *AXES)
    assert (status, err) == (2, f"chemscale: table={str(other)!r} cannot be read: it is UTF-16; save it as UTF-8.\n")
