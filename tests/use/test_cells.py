"""Samples of every cell, kept beside its loss; and the command line from a store to molecules, vectors and tables."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from chemscale.cli import main
from chemscale.models.chemgpt import ChemGPT
from chemscale.records.store import Store
from chemscale.spec import Budget, Data, Evaluation, Optim, Resources, RunSpec
from chemscale.sweep.drive import prepare
from chemscale.train.session import train_here
from chemscale.use.quality.cells import Sampling, flat, ranks, score_cells
from chemscale.use.quality.reference import Reference
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
    monkeypatch.setattr("chemscale.use.quality.score.activations", lambda *_, **__: None)


@pytest.mark.usefixtures("no_chemnet")
def test_every_finished_run_is_measured_once(store, monkeypatch):
    reference = against(("CCO", "c1ccccc1C(=O)NC1CC1"))
    rows = list(score_cells(store, Sampling(40), reference, processes=1, progress=False))
    assert [row["law_loss"] for row in rows] == sorted(row["law_loss"] for row in rows)
    assert {row["strings"] for row in rows} == {40}
    assert all(0 <= row["validity"] <= 1 for row in rows)
    monkeypatch.setattr("chemscale.use.quality.cells.generate_blocks", None)  # nothing is sampled again
    assert list(score_cells(store, Sampling(40), reference)) == rows
    assert len(store.place.names("samples")) == 3


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
    assert ranks(rows, "fcd") == pytest.approx(spearmanr(a, b).statistic)
    assert ranks(rows[:2], "fcd") is None
    assert ranks([{"law_loss": x, "fcd": 1.0} for x in a], "fcd") is None


@pytest.mark.usefixtures("no_chemnet")
def test_a_store_and_a_file_are_evaluated_from_the_command_line(store, tmp_path, monkeypatch, capsys):
    reference = against(("CCO", "c1ccccc1C(=O)NC1CC1"), says=("A small reference.",))
    assert isinstance(reference, Reference)
    monkeypatch.setattr("chemscale.use.quality.reference.reference", lambda *_, **__: reference)
    out = tmp_path / "quality.csv"
    assert main(["evaluate", store.url, "--first", "40", "--processes", "1", "--out", str(out)]) == 0
    assert "rank correlation with the loss over 3 runs" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 4
    sample = tmp_path / "sample.smi"
    sample.write_text("CCO\nC(\n")
    assert main(["evaluate", str(sample), "--json", "--processes", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["validity"] == 0.5
    assert main(["evaluate", str(tmp_path / "none.smi")]) == 2
    assert "neither a store nor a file" in capsys.readouterr().err


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
