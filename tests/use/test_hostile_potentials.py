"""What nobody should ask of a potential: one sentence on the command line, status 2, nothing half-written."""

import errno
from dataclasses import replace

import pytest
from ase import Atoms
from ase.io import write

from chemscale import data
from chemscale.cli import main
from chemscale.records.store import Store
from chemscale.use.load import load
from chemscale.use.parts import write_whole
from chemscale.use.release import export_potential
from tests.train.runs import atoms_run, train


@pytest.fixture
def trained(structures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = atoms_run(structures)
    store = train(run, tmp_path / "store")
    export_potential(load(store, run.id), tmp_path / "potential", program="none")
    (tmp_path / "syntax.py").write_text("def recipe(:")
    (tmp_path / "raises.py").write_text("def recipe():\n    return 1 / 0\n")
    (tmp_path / "few.smi").write_text("CC\n")
    write("few.xyz", [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + k / 9]], info={"REF_energy": -30.0}) for k in range(4)])
    return run


def test_mistakes_are_one_sentence_each(trained, tmp_path, capsys):
    before = {path.name for path in tmp_path.iterdir()}
    for words, said in (
        ("evaluate store", "has no finished text run; give a file of labelled structures"),
        ("evaluate potential", "is an exported potential; give a file of labelled structures"),
        ("evaluate few.xyz", "chemscale evaluate STORE few.xyz"),
        ("evaluate store few.xyz --energy-key E", "missing label: neither energy nor forces (it has REF_energy)"),
        ("evaluate store few.xyz --forces-key F", "Reading.forces='F' is in no record of 'few.xyz'"),
        ("evaluate store few.xyz --groups name", "Reading.groups='name' is in no record of 'few.xyz'"),
        ("evaluate store few.xyz --bootstrap 1000000000", "bootstrap=1000000000 is not allowed"),
        ("evaluate store few.xyz --labels mp2", "Reading.level='mp2' says nothing about structures of this kind"),
        ("evaluate few.smi --out few.xlsx", "--out 'few.xlsx' ends in '.xlsx'; for molecules use .json"),
        ("train painn --store new", "--width says how wide the model is; give one, or weights to start from"),
        ("train schnet --store new --init-from store", "--init-from 'store' is a painn, not a schnet"),
        ("evaluate store few.xyz --level 2", "level=2.0 is not allowed"),
        ("evaluate store few.xyz --device gpu", "--device 'gpu' is no device of this machine"),
        ("evaluate store few.xyz --device meta", "--device 'meta' is no device of this machine"),
        ("generate potential", "is an exported potential, which knows no strings"),
        ("embed potential few.smi --out e.parquet", "is an exported potential, which knows no strings"),
        ("embed store few.xyz --out e.parquet", "'few.xyz' holds structures"),
        ("export store --out few.xyz", "--out 'few.xyz' is there and not empty"),
        ("export store --out new --program none --licence mit:x", "licence='mit:x' is not allowed"),
        ("show few.xyz", "recipe='few.xyz' is not a Python file"),
        ("show syntax.py", "syntax.py cannot be run: SyntaxError"),
        ("show raises.py", "raises.py cannot be run: ZeroDivisionError division by zero"),
        ("data label few.smi --out l.txt", "--out 'l.txt' ends in '.txt'"),
        ("data label few.xyz --out l.parquet", "ends in .xyz"),
        (f"data build {'x' * 300}.xyz", "cannot be used: File name too long; give another path"),
        ("data build few.xyz --address 127.0.0.1:1", "--address='127.0.0.1:1' cannot be reached"),
        ("data label few.smi --out l.parquet --charges 0.5", "charges=0.5 is no whole number"),
    ):
        if words.startswith("data label"):
            pytest.importorskip("tblite")
        assert main(words.split()) == 2, words
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), (words, out, err)
        assert said in err, (words, err)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_run_is_used_where_its_data_are_gone(trained, structures, tmp_path, capsys):
    store = Store("store")
    moved = replace(trained.data, source="moved.extxyz", content=data.manifest(store.spec(trained.id).data).content)
    assert data.manifest(moved) == data.manifest(store.spec(trained.id).data)
    with pytest.raises(ValueError, match=r"'moved.extxyz' is neither"):
        data.manifest(replace(moved, content="0" * 64))


def test_an_exported_folder_can_be_read_by_whoever_reads_its_card(trained, tmp_path):
    modes = {path.stat().st_mode for path in (tmp_path / "potential").iterdir()}
    assert len(modes) == 1


def test_a_full_disk_is_told_as_such(trained, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    assert main(["export", "store", "--out", "other", "--program", "none"]) == 1
    told = "chemscale: No space left on device at {}; make room and give the same command again.\n"
    assert capsys.readouterr().err == told.format("other")
    assert not (tmp_path / "other").exists()

    def told_in_rust(*_, **__):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", told_in_rust)
    assert main(["export", "store", "--out", "other", "--program", "none"]) == 1
    assert capsys.readouterr().err == told.format("other")
    assert not (tmp_path / "other").exists()


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    def full(tables, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "errors.csv"
    out.write_text("before")
    with pytest.raises(OSError, match=r"No space left on device: .*errors\.csv"):
        write_whole(full, iter([]), out)
    assert out.read_text() == "before" and [path.name for path in tmp_path.iterdir() if "errors" in path.name] == [
        out.name
    ]
