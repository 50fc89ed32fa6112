"""Samples of every cell, kept beside its loss; and the command line from a store to molecules, vectors and tables."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from chemscale.cli import main
from chemscale.models.chemgpt import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep.preparation import prepare
from chemscale.train.session import train_here
from chemscale.use.quality import cells
from chemscale.use.quality.cells import Sampling, flat, kept, score_cells
from chemscale.use.quality.ranks import ranks
from chemscale.use.quality.score import score
from tests.use.test_quality import against


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three widths, a few updates each: enough that strings end."""
    store = Store(tmp_path_factory.mktemp("cells"), create=True)
    runs = [
        RunSpec(
            ChemGPT.sized(width),
            Data("moses", size=200),
            Optim(lr=0.01, batch=16),
            Budget(updates=15),
            Evaluation(points=1, valid=16, test=16),
        )
        for width in (8, 16, 32)
    ]
    runs = prepare(runs, Resources())
    store.enlist("cells", runs)
    for run in runs:
        train_here(run, store, Resources())
    return store


@pytest.fixture
def no_chemnet(monkeypatch):
    """A reference of two molecules, and no FCD, whose weights take seconds to load."""
    monkeypatch.setattr("chemscale.use.quality.score.activations", lambda *_, **__: None)
    monkeypatch.setattr(cells, "require_reference", lambda *_: None)
    small = against(("CCO", "c1ccccc1C(=O)NC1CC1"), says=("A small reference.",))
    monkeypatch.setattr(cells, "reference", lambda *_, **__: small)
    cells._reference.cache_clear()
    yield
    cells._reference.cache_clear()


@pytest.mark.usefixtures("no_chemnet")
def test_every_finished_run_is_measured_once(store, monkeypatch):
    rows = list(score_cells(store, Sampling(40), processes=1, progress=False))
    assert [row["law_loss"] for row in rows] == sorted(row["law_loss"] for row in rows)
    assert {row["strings"] for row in rows} == {40}
    assert all(0 <= row["validity"] <= 1 for row in rows)
    monkeypatch.setattr(cells, "generate_blocks", None)  # nothing is sampled again
    assert list(score_cells(store, Sampling(40))) == rows
    assert sorted(kept(store), key=lambda row: row["law_loss"]) == rows


@pytest.mark.usefixtures("no_chemnet")
def test_a_row_is_the_scores_laid_flat():
    found = score(["CCO", "CCN"], against(("CCO",)), processes=1, progress=False)
    row = flat(found)
    assert (row["snn"], row["novelty"], row["weight_distance"]) == (
        found.sets[0].snn,
        found.novelty,
        found.distances["weight"],
    )


def test_ranks_are_spearmans():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 12))
    rows = [{"law_loss": x, "fcd": y} for x, y in zip(a, b, strict=True)]
    assert ranks(rows, "fcd").value == pytest.approx(spearmanr(a, b).statistic)
    assert ranks(rows[:2], "fcd") is None
    assert ranks(rows[:3], "fcd").low is None
    assert ranks([{"law_loss": x, "fcd": 1.0} for x in a], "fcd") is None
    same = ranks([{"law_loss": x, "fcd": x} for x in a], "fcd")
    assert same.value == same.high == 1
    assert 0.9 < same.low < 1


@pytest.mark.parametrize("truth", [0.0, 0.5, 0.9])
def test_nine_runs_in_ten_or_more_have_the_true_correlation_in_their_interval(truth):
    """Pairs of a bivariate normal, whose Spearman correlation is 6 / pi asin(r / 2) (Pearson 1907)."""
    random, inside, draws = np.random.default_rng(1), 0, 600
    r = 2 * np.sin(np.pi * truth / 6)
    for _ in range(draws):
        a, b = random.multivariate_normal([0, 0], [[1, r], [r, 1]], size=12).T
        found = ranks([{"law_loss": x, "fcd": y} for x, y in zip(a, b, strict=True)], "fcd")
        inside += found.low <= truth <= found.high
    assert inside / draws == pytest.approx(0.95, abs=0.035)  # 12 runs; three standard errors of the count are .027


@pytest.mark.usefixtures("no_chemnet")
def test_a_store_and_a_file_are_evaluated_from_the_command_line(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("chemscale.use.quality.reference.reference", cells.reference)
    out = tmp_path / "quality.csv"
    assert main(["evaluate", store.url, "--first", "40", "--processes", "1", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "rank correlation with the loss over 3 runs" in told
    assert "A small reference." in told
    assert len(out.read_text().splitlines()) == 4
    sample = tmp_path / "sample.smi"
    sample.write_text("CCO\nC(\n")
    assert main(["evaluate", str(sample), "--json", "--processes", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["validity"] == 0.5
    monkeypatch.setattr("chemscale.use.quality.score.PROTOCOL", 1)
    for words, strings, more in (([], 1, True), (["--first", "1"], 1, False), (["--first", "9"], 2, False)):
        assert main(["evaluate", str(sample), "--json", "--processes", "1", *words]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["strings"] == strings
        assert any("holds more than these first 1 strings" in line for line in found["says"]) == more
    assert main(["evaluate", str(tmp_path / "none.smi")]) == 2
    assert "neither a store nor a file" in capsys.readouterr().err
    assert main(["evaluate", "ftp://here/runs"]) == 2
    assert "store='ftp://here/runs' is of no known kind" in capsys.readouterr().err
    for what, option, says in (
        (store.url, "--bootstrap=5", "--bootstrap says nothing about text runs; leave it out."),
        (store.url, "--device=cuda", "--device says nothing of a store"),
        (str(sample), "--subset=config_type", "--subset says nothing about molecules; name the potential"),
        (store.url, "--first=some", "argument --first: 'some' is no whole number"),
    ):
        assert status_of(["evaluate", what, option]) == 2
        assert says in capsys.readouterr().err


def status_of(arguments):
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.usefixtures("no_chemnet")
def test_runs_without_weights_are_left_out_and_runs_without_data_are_told(store, monkeypatch, tmp_path):
    how = Sampling(24)
    with monkeypatch.context() as patch:
        patch.setenv("CHEMSCALE_HOME", str(tmp_path))
        with pytest.raises(ValueError, match=r"is not built here; run `chemscale data build"):
            list(score_cells(store, how, processes=1, progress=False))
    monkeypatch.setattr("chemscale.train.state.WEIGHTS", "none")
    assert not list(score_cells(store, how, processes=1, progress=False))


def test_strings_are_written_whole_or_gone_on_with(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("chemscale.use.generate.BLOCK", 16)
    ask = ["generate", store.url, "--n", "40", "--processes", "1"]
    whole, again = tmp_path / "whole.csv", tmp_path / "again.csv"
    assert main([*ask, "--out", str(whole)]) == 0
    from chemscale.use import sampling

    tables, seen = sampling.sample_tables, []

    def killed(*args, **named):
        for table in tables(*args, **named):
            seen.append(named["first"])
            yield table
            if len(seen) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "sample_tables", killed)
    assert main([*ask, "--out", str(again)]) == 130
    assert not again.exists()
    assert main([*ask, "--out", str(again)]) == 0
    assert seen == [0, 0, 2]  # two blocks were kept
    rows = [[line.split(",")[0] for line in path.read_text().splitlines()] for path in (whole, again)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 41
    assert not list(tmp_path.glob("again.csv?*"))


def test_a_scaffold_and_embeddings_from_the_command_line(store, tmp_path, capsys):
    assert main(["generate", store.url, "--n", "8", "--prompt", "*c1ccccc1", "--processes", "1"]) == 0
    told = capsys.readouterr()
    assert "contain the scaffold" in told.err
    kept = tmp_path / "kept.parquet"
    asked = ["generate", store.url, "--n", "8", "--prompt", "*c1ccccc1", "--keep-only", "--out", str(kept), "--json"]
    assert main([*asked, "--processes", "1"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert pq.read_metadata(kept).num_rows == counts["grown_as_marked"] <= counts["strings"] == 8
    assert main(["generate", store.url, "--n", "8", "--keep-only"]) == 2
    assert "give one as --prompt" in capsys.readouterr().err
    molecules, out = tmp_path / "some.smi", tmp_path / "some.parquet"
    molecules.write_text("CCO\nC(\nCCN\n")
    assert main(["embed", store.url, str(molecules), "--out", str(out), "--processes", "1"]) == 0
    assert "1 null rows: not a SMILES string of a molecule" in capsys.readouterr().out
    assert pq.read_table(out)["embedding"].null_count == 1


def asked(width):
    return RunSpec(
        ChemGPT.sized(width),
        Data("moses", size=200),
        Optim(lr=0.01, batch=16),
        Budget(updates=10),
        Evaluation(points=1, valid=16, test=16),
    )


def test_the_recipe_lists_a_grid():
    from chemscale.sweep.recipe import load_recipe, parse_options

    runs = load_recipe("tune_jobs/chemgpt_quality.py", parse_options(["widths=8,16", "sizes=100,400"])).runs()
    assert {(run.model.width, run.data.size) for run in runs} == {(w, n) for w in (8, 16) for n in (100, 400)}
    assert {run.budget.examples for run in runs} == {400, round(400 * 0.25**0.6)}


@pytest.mark.usefixtures("no_chemnet")
def test_a_worker_samples_its_run_before_its_last_word(tmp_path):
    store = Store(tmp_path / "beside", create=True)
    (run,) = prepare([asked(8)], Resources())
    store.enlist("beside", [run])
    told = []

    def tell(row):
        told.append((row.get("status"), [row["validity"] for row in kept(store)], store.place.names("samples")))

    row = train_here(run, store, Resources(keep="none"), tell, Sampling(20))
    assert told[-1][0] == "finished"
    assert len(told[-1][2]) == 1  # there before the last report
    alone = train_here(run, Store(tmp_path / "alone", create=True), Resources())
    assert (row["law_loss"], row["run_id"]) == (alone["law_loss"], alone["run_id"])
    assert [found["strings"] for found in kept(store)] == [20]


@pytest.mark.usefixtures("no_chemnet")
def test_a_run_killed_while_it_is_sampled_samples_again_and_trains_no_step_twice(tmp_path, monkeypatch):
    store = Store(tmp_path / "killed", create=True)
    (run,) = prepare([asked(8)], Resources())
    store.enlist("killed", [run])
    sampled = cells._measured

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "_measured", killed)
    with pytest.raises(KeyboardInterrupt):
        train_here(run, store, Resources(checkpoint_seconds=1e9), beside=Sampling(20))
    assert store.state(run.id).status != "finished"
    monkeypatch.setattr(cells, "_measured", sampled)
    train_here(run, store, Resources(), beside=Sampling(20))
    assert [found["strings"] for found in kept(store)] == [20]
    steps = [(row["attempt"], row["step"]) for row in store.points(run.id).to_pylist()]
    assert steps == [(1, 10)]  # measured by the first attempt; the second had nothing left to train


@pytest.mark.usefixtures("no_chemnet")
def test_what_no_worker_could_sample_fails_no_run_and_is_caught_up_with(tmp_path, monkeypatch, capsys):
    store = Store(tmp_path / "late", create=True)
    (run,) = prepare([asked(8)], Resources())
    store.enlist("late", [run])
    sampled, how = cells._measured, Sampling(20)

    def broken(*_, **__):
        raise ValueError("no reference here")

    monkeypatch.setattr(cells, "_measured", broken)
    assert train_here(run, store, Resources(), beside=how)["status"] == "finished"
    assert "nothing was measured beside its loss: no reference here" in capsys.readouterr().err
    monkeypatch.setattr(cells, "_measured", sampled)
    how.catch_up(store, {run.id: run})
    assert len(kept(store)) == 1
    monkeypatch.setattr(cells, "_measured", None)
    how.catch_up(store, {run.id: run})  # nothing is left to do


@pytest.mark.parametrize(
    ("verb", "asked", "says"),
    [
        ("embed", ["{tmp}/none.smi", "--out", "{tmp}/o.parquet"], "is no file on this machine"),
        ("embed", ["{tmp}/empty.smi", "--out", "{tmp}/o.parquet"], "holds no record"),
        ("embed", ["{tmp}/broken.parquet", "--out", "{tmp}/o.parquet"], "damaged Parquet file"),
        ("embed", ["{tmp}/some.smi", "--out", "{tmp}/o.csv"], "use .parquet"),
        ("embed", ["{tmp}/some.smi", "--out", "{tmp}/some.smi/o.parquet"], "no folder that can be written to"),
        ("generate", ["--n", "3", "--out", "{tmp}/o.xyz"], "ends in '.xyz'"),
        ("generate", ["--n", "3", "--prompt", "C" * 400], "a prompt of 400 atoms leaves no room"),
        ("export", ["--out", "{tmp}/some.smi/x"], "cannot be made"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(verb, asked, says, store, tmp_path, capsys):
    (tmp_path / "empty.smi").write_text("")
    (tmp_path / "some.smi").write_text("CCO\n")
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    before = sorted(tmp_path.rglob("*"))
    assert main([verb, store.url, *(word.format(tmp=tmp_path) for word in asked)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and says in told[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_string_of_any_length_is_a_null_row(store, tmp_path, capsys):
    """RDKit would take minutes for the first one."""
    molecules, out = tmp_path / "long.smi", tmp_path / "long.parquet"
    molecules.write_text("C" * 100_000 + "\nCCO\n")
    assert main(["embed", store.url, str(molecules), "--out", str(out), "--processes", "1"]) == 0
    assert "1 null rows: 100000 characters, more than the 127 tokens" in capsys.readouterr().out
