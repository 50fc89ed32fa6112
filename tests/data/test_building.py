"""Builds of strings: killed and taken up again, on Ray, the same whatever the sizes of parts, blocks, buckets."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rdkit import Chem

from chemscale import data
from chemscale.data import merging, molecules
from chemscale.data.buckets import Buckets, bucket_of
from chemscale.data.moses import read_embedded
from chemscale.data.sources import embedded
from chemscale.data.units import units_of
from chemscale.spec import Data, Reading
from tests.ray_clusters import one_node

EXTRA = [
    "C[C@H](O)F", "C[C@@H](O)F", "[13CH3]CO", "[Na+].[Cl-]", "CC(O)=CC(C)=O", "CC(=O)CC(C)=O", "F/C=C/Br", "rubbish",
    "", "C1CC", "CI(C)(C)(C)C", "[2H]OC", "OCC", "CCO", "CC[N+](C)(C)C.[Br-]", "c1cc[se]c1", "C[Si](C)(C)C",
]  # fmt: skip
GOLDEN = {
    "selfies": "3798119cda54619d6df7f8699cc443f421b14a147dccf94a8742ef9516c4a7ad",
    "smiles": "890af7d1e5948210f0d287e7b93f179e69538b92c2a2fdd6c878cbfbbace6c3e",
}  # of 1,547 lines below: a changed one means that runs on users' files lose their ids


@pytest.fixture
def lines():
    rows = read_embedded(embedded("moses-test.parquet"))[0][:1500]
    return [*rows, *EXTRA, *rows[:30]]


def written(path, rows):
    path.write_text("\n".join(rows))
    return str(path)


@pytest.mark.parametrize("representation", ["selfies", "smiles"])
def test_golden_content_of_a_users_file(home, tmp_path, lines, representation):
    file = written(tmp_path / "a.smi", lines)
    assert data.build(file, representation=representation, processes=1).content == GOLDEN[representation]


def test_parts_blocks_and_buckets_change_nothing(home, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(molecules, "_CHUNK", 70)
    monkeypatch.setattr(merging, "BLOCK_EXAMPLES", 200)
    monkeypatch.setattr(merging, "BUCKET_EXAMPLES", 90)
    assert data.build(written(tmp_path / "a.smi", lines), processes=1, progress=False).content == GOLDEN["selfies"]
    assert not [p for p in (home / "building").iterdir() if p.suffix != ".lock"]


KILLED = """
import sys
from chemscale import data
from chemscale.data import molecules
molecules._CHUNK = 50
data.build(sys.argv[1], processes=1, progress=False)
"""


def test_a_killed_build_goes_on_where_it_was(home, tmp_path, lines, monkeypatch):
    file = written(tmp_path / "a.smi", lines)
    monkeypatch.setattr(molecules, "_CHUNK", 50)
    child = subprocess.Popen([sys.executable, "-c", KILLED, file], env={**os.environ, "PYTHONPATH": os.getcwd()})
    deadline = time.monotonic() + 120
    while not (done := sorted(home.glob("building/*/*.npz"))[:4])[3:] and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(done) == 4
    assert not any((home / "built").glob("*/manifest.json"))
    before = {path: path.stat().st_mtime_ns for path in home.glob("building/*/*.npz")}
    encoded = []
    real = molecules.encode
    monkeypatch.setattr(molecules, "encode", lambda task: encoded.append(task.number) or real(task))
    assert data.build(file, processes=1, progress=False).content == GOLDEN["selfies"]
    assert len(encoded) == 31 - len(before)  # 1,547 lines are 31 parts
    assert not {int(path.name.split(".")[0]) for path in before} & set(encoded)


def test_two_processes_that_build_the_same_wait_for_each_other(home, tmp_path, lines):
    file = written(tmp_path / "a.smi", lines)
    code = "import sys; from chemscale import data; print(data.build(sys.argv[1], processes=1, progress=False).content)"
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    start = [subprocess.Popen([sys.executable, "-c", code, file], env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [child.communicate()[0].decode().strip() for child in start] == [GOLDEN["selfies"]] * 2


@pytest.mark.slow
def test_ray_tasks_build_the_same(home, tmp_path, lines, monkeypatch, short_folder):
    used = []
    real = molecules.parallel._in_ray
    monkeypatch.setattr(molecules.parallel, "_in_ray", lambda *given: used.append(1) or real(*given))
    monkeypatch.setattr(molecules, "_CHUNK", 400)
    with one_node(short_folder) as ray:
        assert data.build(written(tmp_path / "a.smi", lines), progress=False).content == GOLDEN["selfies"]
        _wait_for_a_processor(ray)
        with pytest.raises(ValueError, match=r"^Reading.units='x' is not allowed"):
            list(molecules.parallel.mapped(units_of, ["x"], None))
        _wait_for_a_processor(ray)
        with pytest.raises(RuntimeError, match=r"(?s)failed on the Ray cluster: .*AttributeError"):
            list(molecules.parallel.mapped(units_of, [1], None))
    assert len(used) == 3


def _wait_for_a_processor(ray):
    """Ray says a moment late that a task has ended; without a free processor its cluster is not used."""
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)


def test_duplicates_are_kept_on_request(home, tmp_path, lines):
    file = written(tmp_path / "a.smi", lines)
    kept = data.build(file, reading=Reading(duplicates="kept"), processes=1, progress=False)
    dropped = data.build(file, processes=1, progress=False)
    assert sum(kept.counts.values()) == sum(dropped.counts.values()) + dropped.rejected["duplicate"]
    assert "duplicate" not in kept.rejected


def test_what_is_too_long_is_left_out_and_listed(home, tmp_path, lines):
    file = written(tmp_path / "a.smi", lines)
    manifest = data.build(file, reading=Reading(longest=40), processes=1, progress=False)
    assert manifest.longest == 40
    assert manifest.rejected["longer than 40 tokens"] > 100
    data.open_data(Data(file, reading=Reading(longest=40)), {"context": 40})


def test_the_parent_form_is_what_rdkit_leaves(home, tmp_path, lines):
    reading = Reading(form="parent")
    file = written(tmp_path / "a.smi", lines)
    manifest = data.build(file, reading=reading, processes=1, progress=False)
    assert manifest.notes["removed"] == {"other fragments": 2, "stereochemistry": 3, "isotopes": 2}
    examples = data.open_data(Data(file, reading=reading), {"context": 64})
    everything = np.concatenate([examples.subset(None, 0, None), examples.split("valid"), examples.split("test")])
    found = {Chem.CanonSmiles(s) for s in examples.text(everything)} - {""}
    expected = {Chem.CanonSmiles(s) for s in ("CC(O)F", "CCO", "FC=CBr", "CO", "[Na+]")}
    assert expected <= found
    assert not any(sign in s for s in found for sign in "@/\\.")


def test_a_group_column_decides_the_split(home, tmp_path, lines):
    rows = [(s, f"series{i % 60}") for i, s in enumerate(lines[:600])]
    (tmp_path / "a.csv").write_text("name,structure,series\n" + "".join(f"x,{s},{g}\n" for s, g in rows))
    reading = Reading(column="structure", groups="series")
    manifest = data.build(str(tmp_path / "a.csv"), reading=reading, processes=1, progress=False)
    examples = data.open_data(Data(str(tmp_path / "a.csv"), reading=reading), {"context": 64})
    seen = {}
    of = {Chem.CanonSmiles(s): g for s, g in rows}
    for name in ("train", "valid", "test"):
        ids = examples.subset(None, 0, None) if name == "train" else examples.split(name)
        for smiles in examples.text(ids):
            if smiles:
                seen.setdefault(of[Chem.CanonSmiles(smiles)], set()).add(name)
    assert all(len(splits) == 1 for splits in seen.values())
    assert sum(manifest.counts.values()) == 600
    with pytest.raises(ValueError, match=r"--column structure --groups nothing"):
        data.manifest(Data(str(tmp_path / "a.csv"), reading=Reading(column="structure", groups="nothing")))
    with pytest.raises(ValueError, match=r"Reading.groups='nothing' is no column of a.csv"):
        data.build(str(tmp_path / "a.csv"), reading=Reading(column="structure", groups="nothing"), processes=1)


def test_selfies_in_a_file_are_read(home, tmp_path, lines):
    from chemscale.data.selfies_writer import SelfiesWriter

    write = SelfiesWriter()
    (tmp_path / "a.csv").write_text("selfies\n" + "".join(f"{write(s)}\n" for s in lines[:300]))
    (tmp_path / "b.smi").write_text("\n".join(lines[:300]))
    first = data.build(str(tmp_path / "a.csv"), processes=1, progress=False)
    assert first.content == data.build(str(tmp_path / "b.smi"), processes=1, progress=False).content


def test_buckets_give_back_what_was_put_in_order(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64, endpoint=False)
    buckets = Buckets(tmp_path / "b", [("key", "u8")], 7)
    for some in np.array_split(values, 4):
        buckets.add(bucket_of(some, 7), key=some)
    parts = [buckets.read(i)["key"] for i in range(7)]
    assert sum(map(len, parts)) == 5000
    assert np.concatenate([np.sort(p) for p in parts]).tolist() == np.sort(values).tolist()
    first = bucket_of(values, 7) == 0
    assert parts[0].tolist() == values[first].tolist()


@pytest.mark.slow
def test_merging_holds_a_block_in_memory_and_not_the_file(home):
    """Eight times the examples take no more than a tenth more memory: blocks and buckets are smaller than either."""
    from tests.benchmarks.building import merging as measured

    code = "from chemscale.data import merging as m; m.BLOCK_EXAMPLES = m.BUCKET_EXAMPLES = 20_000; "
    small, large = (measured(n, code)["peak_mb"] for n in (40_000, 320_000))
    assert large < 1.1 * small


def test_command_lines_build_and_report(home, tmp_path, lines, capsys):
    from chemscale.cli import main

    file = written(tmp_path / "a.smi", lines)
    assert main(["data", "build", file, "--vocabulary", "chemgpt-selfies1", "--processes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pad"] == 1
    assert main(["data", "report", file, "--vocabulary", "chemgpt-selfies1", "--processes", "1"]) == 0
    said = capsys.readouterr().out
    assert "vocabulary   chemgpt-selfies1 knows 99.9" in said
    assert "built        train 1,203" in said
    assert main(["data", "build", file, "--vocabulary", "none.json"]) == 2
    assert "is neither chemgpt-selfies1" in capsys.readouterr().err
