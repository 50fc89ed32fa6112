"""The command line as a person meets it: sentences on stderr, exit statuses, JSON for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chemscale.cli import main
from chemscale.data.moses import FILES
from chemscale.records.store import Store
from tests.records.test_store import finished
from tests.test_spec import BASE


def run(capsys, *arguments):
    """Exit status, standard output, standard error."""
    try:
        status = main(list(arguments))
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "runs.csv"
    lines = ["n,d,loss,arch"]
    for n in (1e4, 1e5, 1e6, 1e7):
        for d in (1e5, 1e6, 1e7, 1e8):
            lines.append(f"{n:g},{d:g},{1.69 + 406.4 / n**0.34 + 410.7 / d**0.28:.9f},a")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fit_recovers_the_published_law_and_speaks_json(capsys, csv, tmp_path):
    arguments = ["fit", str(csv), "--params", "n", "--data", "d", "--loss", "loss", "--bootstrap", "50"]
    status, out, _ = run(capsys, *arguments, "--predict", "params=1e9,data=1e10", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["parameters"]["alpha"] == pytest.approx(0.34, abs=1e-3)
    assert found["parameters"]["E"] == pytest.approx(1.69, abs=1e-2)
    truth = 1.69 + 406.4 / 1e9**0.34 + 410.7 / 1e10**0.28
    assert found["predictions"][0]["value"] == pytest.approx(truth, rel=1e-3)
    assert set(found) >= {
        "form", "columns", "parameters", "standard_errors", "intervals", "level", "objective", "n_runs", "predictions",
        "backtest", "warnings", "error", "provenance",
    }  # fmt: skip
    status, out, _ = run(capsys, *arguments, "--by", "arch", "--json", "--out", str(tmp_path / "law.json"))
    assert [law["arch"] for law in json.loads(out)] == ["a"]
    assert json.loads((tmp_path / "law.json").read_text())[0]["form"] == "chinchilla"
    status, out, _ = run(capsys, *arguments)
    assert "alpha" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", "nowhere.csv", "--loss", "x"], "table='nowhere.csv' is not there"),
        (["fit", "CSV", "--loss", "gone", "--params", "n"], "gone"),
        (["fit", "CSV", "--loss", "loss"], "axis"),
        (["fit", "CSV", "--loss", "loss", "--params", "n", "--form", "magic"], "magic"),
        (["fit", "CSV", "--loss", "loss", "--params", "n", "--where", "__import__('os')"], "where"),
        (["fit", "CSV", "--loss", "loss", "--params", "n", "--predict", "n=x"], "params=1e9,data=1e8"),
        (["sweep", "nowhere.py", "--store", "s"], "is not a file"),
        (["report", "nowhere"], "is not a chemscale store"),
        (["status", "nowhere"], "is not a chemscale store"),
        (["generate", "nowhere"], "is not a chemscale store"),
        (["train", "bert", "--width", "8", "--store", "s"], "architecture='bert' is unknown"),
        (["train", "chemgpt", "--width", "8", "--data", "no.smi", "--store", "s"], "no.smi"),
        (["train", "chemgpt", "--width", "0", "--store", "s"], "width"),
        (["train", "chemgpt", "--width", "8", "--data", "MOLECULES", "--size", "99999", "--store", "s"], "99999"),
        (["train", "painn", "--width", "8", "--data", "MOLECULES", "--store", "s"], "holds text"),
        (["train", "chemgpt", "--width", "8", "--workers", "0", "--store", "s"], "Resources.workers=0"),
        (["data", "build", "nowhere"], "nowhere"),
        (["data", "fetch", "nowhere"], "nowhere"),
        (["data", "build", "moses", "--processes", "2", "--address", "auto"], "not allowed with argument --processes"),
        (["paint"], "invalid choice"),
        (["fit"], "required"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys, csv, molecules, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    given = [{"CSV": str(csv), "MOLECULES": molecules}.get(a, a) for a in arguments]
    before = sorted(tmp_path.rglob("*"))
    status, _, err = run(capsys, *given)
    lines = [line for line in err.splitlines() if line.strip()]
    assert status == 2
    assert sentence in lines[-1]
    assert len([line for line in lines if "Traceback" in line]) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mixed_table_is_refused_until_it_is_separated(capsys, tmp_path):
    columns = {
        "params": [1e3, 1e4, 1e5, 1e6] * 2, "loss": [4.0, 3.0, 2.25, 1.6875] * 2,
        "architecture": ["a"] * 4 + ["b"] * 4,
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    arguments = ["fit", str(tmp_path / "t.parquet"), "--params", "params", "--loss", "loss", "--form", "power"]
    status, _, err = run(capsys, *arguments, "--bootstrap", "20")
    assert status == 2
    assert "architecture" in err
    assert run(capsys, *arguments, "--by", "architecture", "--bootstrap", "20")[0] == 0
    assert run(capsys, *arguments, "--where", "architecture == 'a'", "--bootstrap", "20")[0] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(("n,d,loss,arch", "n,loss,loss,arch"), "column 'loss' occurs twice in"),
     (("1e+07,1e+08,", "1e+07,1e+08,n/a"), "in row 16 of 16")],
)  # fmt: skip
def test_a_damaged_csv_is_one_sentence(capsys, csv, change, sentence):
    csv.write_text(csv.read_text().replace(*change))
    status, _, err = run(capsys, "fit", str(csv), "--params", "n", "--data", "d", "--loss", "loss")
    assert status == 2
    assert sentence in err


def test_a_fit_not_to_be_believed_is_status_1(capsys, tmp_path):
    (tmp_path / "flat.csv").write_text("n,loss\n" + "".join(f"{10**k},2.0\n" for k in range(3, 9)))
    arguments = ["fit", str(tmp_path / "flat.csv"), "--params", "n", "--loss", "loss", "--form", "power"]
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 1
    assert json.loads(out)["error"]


def test_train_runs_once_and_generates(capsys, molecules, tmp_path):
    store = str(tmp_path / "store")
    arguments = ["train", "chemgpt", "--width", "8", "--data", molecules, "--size", "100", "--updates", "30",
                 "--batch", "16", "--store", store, "--json"]  # fmt: skip
    status, out, _ = run(capsys, *arguments)
    row = json.loads(out)
    assert status == 0
    assert row["status"] == "finished"
    status, out, _ = run(capsys, *arguments)
    assert json.loads(out)["started"] == row["started"]
    status, out, _ = run(capsys, "generate", store, "--n", "5", "--out", str(tmp_path / "made.smi"))
    assert status == 0
    made = (tmp_path / "made.smi").read_text()
    molecules = len(made.splitlines())  # hardly trained, it may end a string before any atom
    assert 1 <= molecules <= 5
    arguments = ["generate", store, "--n", "5", "--out", str(tmp_path / "again.smi"), "--json"]
    assert json.loads(run(capsys, *arguments)[1]) == {
        "path": str(tmp_path / "again.smi"), "model": f"run {row['run_id']}", "run_id": row["run_id"], "strings": 5,
        "molecules": molecules,
    }  # fmt: skip
    assert (tmp_path / "again.smi").read_text() == made
    assert len(json.loads(run(capsys, "generate", store, "--n", "5", "--json")[1])) == 5
    page = str(tmp_path / "page")
    assert json.loads(run(capsys, "report", store, "--out", page, "--json")[1]) == {"path": f"{page}/index.html"}
    status, out, _ = run(capsys, "status", store)
    assert "1/1 runs" in out
    status, out, _ = run(capsys, "store", "list", store, "--json")
    assert json.loads(out)[0]["run_id"] == row["run_id"]


def test_where_the_data_were_fetched_to_is_json_too(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path))
    folder = tmp_path / "fetched" / "moses"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).touch()
    assert json.loads(run(capsys, "data", "fetch", "moses", "--json")[1]) == {"path": str(folder)}
    assert run(capsys, "data", "fetch", "moses")[1] == f"{folder}\n"


def test_generate_without_weights_says_so(capsys, tmp_path):
    store = Store(tmp_path / "store", create=True)
    store.claim(BASE, {}).end(finished())
    status, _, err = run(capsys, "generate", str(store.path))
    assert status == 2
    assert "has no weights" in err


def test_show_prints_the_ladder_and_starts_nothing(capsys, molecules, structures, tmp_path, monkeypatch):
    from chemscale import data

    for source in (molecules, structures):
        data.build(source, progress=False)
    sizes = "molecules=(20,60)", "structures=(20,60)", f"source={molecules}", f"potential_source={structures}"
    options = [part for size in sizes for part in ("--set", size)]
    small = ["--set", "widths=(4,8)", "--set", "schnet_widths=(4,)", "--set", "painn_widths=(4,)"]
    status, out, _ = run(capsys, "show", "tune_jobs/quickstart.py", *options, *small, "--json")
    cells = json.loads(out)
    assert status == 0
    assert len(cells) == 8
    assert all(cell["flops"] > 0 and cell["memory_bytes"] > 0 and cell["seconds"] > 0 for cell in cells)


def test_show_of_a_source_that_is_not_built_names_the_command(capsys, tmp_path):
    (tmp_path / "new.smi").write_text("CCO\nCCN\n")
    status, _, err = run(capsys, "show", "tune_jobs/quickstart.py", "--set", f"source={tmp_path / 'new.smi'}")
    assert status == 2
    assert "chemscale data build" in err


def test_imports_are_light():
    code = (
        "import sys, chemscale, chemscale.laws, chemscale.cli\n"
        "assert not {'torch', 'ray', 'rdkit', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
        "assert callable(chemscale.fit)\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
        "import chemscale.sweep, chemscale.plan\n"
        "assert callable(chemscale.sweep) and callable(chemscale.plan)\n"
    )
    env = {**os.environ}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_the_module_answers_as_the_console_script_does():
    commands = ([sys.executable, "-m", "chemscale"], [Path(sys.executable).with_name("chemscale")])
    one, other = (subprocess.run([*c, "fit"], capture_output=True, text=True, check=False) for c in commands)
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert one.stderr.startswith("chemscale fit: ")


def test_every_public_name_is_there():
    import chemscale

    for name in chemscale.__all__:
        assert getattr(chemscale, name) is not None
    rooms = ("sweep", "report", "plan", "explore")
    assert all(callable(getattr(chemscale, name)) for name in rooms)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chemscale.nothing


def test_a_model_that_cannot_be_sharded_is_refused_before_anything_is_made(capsys, tmp_path):
    arguments = ["train", "painn", "--width", "8", "--store", str(tmp_path / "store"), "--sharding", "fsdp"]
    status, _, err = run(capsys, *arguments, "--workers", "2")
    assert status == 2
    assert "sharding='fsdp' cannot train painn with 'energy_force'" in err
    assert "set sharding='ddp'" in err
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "Resources.workers=1 is not allowed: it must be at least 2 with sharding='fsdp'" in err
    assert not (tmp_path / "store").exists()


def test_resources_come_from_the_command_line():
    from chemscale.cli.arguments import parser
    from chemscale.cli.output import resources_of
    from chemscale.spec import Resources

    given = parser().parse_args(
        [
            "sweep",
            "x.py",
            "--store",
            "s",
            "--workers",
            "4",
            "--min-workers",
            "2",
            "--sharding",
            "fsdp",
            "--keep",
            "best",
        ]
    )
    assert resources_of(given) == Resources(workers=4, min_workers=2, sharding="fsdp", keep="best")
