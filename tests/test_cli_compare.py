"""`chemscale compare` as a person and as a program meet it."""

import json
from itertools import product

import numpy as np
import pytest

from tests.laws.planted import grid
from tests.test_cli import run


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    lines = ["n,d,arch,seed,loss"]
    for name, amplitude in (("painn", 300.0), ("schnet", 406.4)):
        table = grid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4), noise=0.005, seed=len(name), A=amplitude)
        lines += [f"{n:g},{d:g},{name},0,{loss:.9f}" for n, d, loss in zip(*table.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_compare_prints_a_sentence_tables_and_json(capsys, csv, tmp_path):
    out = tmp_path / "compared.json"
    arguments = ["compare", csv, "--by", "arch", "--params", "n", "--data", "d", "--loss", "loss", "--bootstrap", "99"]
    status, printed, _ = run(capsys, *arguments, "--reference", "schnet", "--out", str(out))
    assert status == 0 and printed.startswith("painn against schnet (loss over n and d, chinchilla")
    assert "16 pairs; ratio of losses" in printed and "amplitudes and exponents free" in printed
    saved = json.loads(out.read_text())
    status, printed, _ = run(capsys, *arguments, "--reference", "schnet", "--json")
    assert status == 0 and json.loads(printed) == saved
    assert saved["groups"] == ["schnet", "painn"] and saved["error"] is None
    assert saved["law"]["differences"][0]["at_most"] > 0


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--by", "arch", "--where", "arch == 'painn'"], 2, "arch has the single group painn"),
        (["--by", "model"], 2, "by='model' is not a column of the table"),
        (["--by", "arch", "--shared", "gamma"], 2, "shared='gamma' cannot be shared alone"),
        (["--by", "arch", "--out", "/no/such/folder/x.json"], 2, "lies in no folder that can be written to"),
    ],
)
def test_mistakes_are_one_sentence(capsys, csv, options, status, said):
    arguments = ["compare", csv, "--params", "n", "--data", "d", "--loss", "loss", "--bootstrap", "0", *options]
    found, _, err = run(capsys, *arguments)
    assert found == status and said in err and err.count("\n") == 1


def test_units_seen_and_a_measured_floor_reach_the_joint_law(capsys, tmp_path):
    rng, lines = np.random.default_rng(0), ["n,u,s,arch,loss"]
    for arch, amplitude in (("a", 300.0), ("b", 406.4)):
        for n, u, times in product([1e6, 1e7, 1e8], [1e8, 1e9, 1e10], [1, 2, 4, 8]):
            worth = u * (1 + 5 * (1 - np.exp(-(times - 1) / 5)))
            loss = (1.5 + amplitude / n**0.34 + 410.7 / worth**0.28) * np.exp(rng.normal(0, 1e-3))
            lines.append(f"{n:g},{u:g},{u * times:g},{arch},{loss:.9f}")
    path = tmp_path / "seen.csv"
    path.write_text("\n".join(lines) + "\n")
    arguments = ["compare", str(path), "--by", "arch", "--params", "n", "--data", "u", "--loss", "loss"]
    arguments += ["--bootstrap", "0", "--json"]
    status, printed, _ = run(capsys, *arguments, "--seen", "s")
    assert status == 0 and json.loads(printed)["law"]["form"] == "repeated"
    once = [*arguments, "--where", "s == u", "--form", "chinchilla"]
    likely = []
    for bound in ("0", "1.9"):  # the planted floor is 1.5
        status, printed, _ = run(capsys, *once, "--noise-floor", bound)
        likely.append(json.loads(printed)["law"]["models"][-1]["log_likelihood"])
    assert status == 0 and likely[1] < likely[0] - 1


def test_a_group_that_cannot_be_believed_fails_with_its_reason(capsys, tmp_path):
    path = tmp_path / "ray.csv"
    sizes = np.geomspace(1e6, 1e9, 8)
    rows = [f"{n:g},{20 * n:g},{arch},{1 + n**-0.3:.6f}" for arch in "ab" for n in sizes]
    path.write_text("n,d,arch,loss\n" + "\n".join(rows) + "\n")
    arguments = ["compare", str(path), "--by", "arch", "--params", "n", "--data", "d", "--loss", "loss"]
    assert run(capsys, *arguments)[0] == 1
    status, printed, _ = run(capsys, *arguments, "--json")
    assert status == 1 and "move together" in json.loads(printed)["error"]
