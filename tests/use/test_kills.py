"""Embedding and exporting killed before any of their operations on files: done again they end as if undisturbed."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chemscale.cli import main
from chemscale.use import embed, hub
from chemscale.use.load import load
from chemscale.use.parts import Parts
from tests.kills import killed_at_each
from tests.train.runs import text_run, train

pytest.importorskip("safetensors")
EVERY = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
MOLECULES = ("CCO", "C(", "CCCCCC", "NCCO", "C")


@pytest.fixture(scope="module")
def trained(molecules, tmp_path_factory):
    run = text_run(molecules)
    return load(train(run, tmp_path_factory.mktemp("store") / "s"), run.id)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@EVERY
def test_an_embedding_killed_anywhere_goes_on_and_leaves_nothing_else(every, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embed, "PART", 2)
    model, smiles, there = tmp_path / "model", tmp_path / "some.smi", tmp_path / "there"
    hub.export(trained, model)
    smiles.write_text("\n".join(MOLECULES) + "\n")

    def work(out=there / "out.parquet"):
        return main(["embed", str(model), str(smiles), "--processes", "1", "--out", str(out)])

    there.mkdir()
    assert work(tmp_path / "expected.parquet") == 0
    expected = pq.read_table(tmp_path / "expected.parquet")
    for _ in killed_at_each(work, there, every):
        if (there / "out.parquet").exists():
            assert pq.read_table(there / "out.parquet").equals(expected)
        assert work() == 0
        assert pq.read_table(there / "out.parquet").equals(expected)
        assert files(there) == ["out.parquet"]
        (there / "out.parquet").unlink()
    assert pq.read_table(there / "out.parquet").equals(expected)


def test_parts_that_a_kill_left_half_removed_are_not_taken_for_another_request(tmp_path):
    folder = tmp_path / "x.parquet.parts"
    Parts(tmp_path / "x.parquet", {"run": "a"}).add(pa.table({"line": [1]}))
    (folder / "request.json").unlink()
    assert Parts(tmp_path / "x.parquet", {"run": "b"}).done == 0
    assert not folder.exists()


@EVERY
def test_an_export_killed_anywhere_is_absent_or_whole_and_the_next_one_sweeps_up(every, trained, tmp_path):
    there, out = tmp_path / "there", tmp_path / "there" / "model"
    hub.export(trained, tmp_path / "expected")
    expected = {name: (tmp_path / "expected" / name).read_bytes() for name in files(tmp_path / "expected")}
    for _ in killed_at_each(lambda: hub.export(trained, out), there, every):
        if not out.exists():
            hub.export(trained, out)
        assert {name: (out / name).read_bytes() for name in files(out)} == expected
        assert all(path == out or ".building-" in path.name for path in there.iterdir())
        shutil.rmtree(out)
        hub.export(trained, out)
        assert files(there) == sorted(["model", *(f"model/{name}" for name in expected)])
        shutil.rmtree(there)
