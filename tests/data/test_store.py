import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chemscale import data
from chemscale.batch import TextManifest
from chemscale.data import staging, store
from chemscale.data.parallel import in_processes
from chemscale.data.parts import claimed

MANIFEST = TextManifest(
    source="x", family="text", content="", builder=1, counts={"train": 2}, totals={"tokens": 3}, vocabulary=("a",)
)
ARRAYS = {"tokens": np.arange(3, dtype=np.uint8), "offsets": np.array([0, 1, 3])}
BUILD = "import sys; from chemscale.data import build; print(build(sys.argv[1], processes=1, progress=False).content)"


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=env, stdout=subprocess.PIPE, text=True)


def alkanes(path: Path, count: int) -> Path:
    path.write_text("\n".join("C" * (1 + i % 40) + "O" * (i // 40) for i in range(count)))
    return path


def test_what_is_published_reads_back(tmp_path):
    manifest = store.publish(tmp_path / "a", MANIFEST, ARRAYS, [store.Rejected(4, "why: detail", "text, with comma")])
    assert store.read_manifest(tmp_path / "a") == manifest
    found = store.open_arrays(tmp_path / "a")
    assert found["tokens"].tolist() == [0, 1, 2]
    assert not found["tokens"].flags.writeable
    assert (tmp_path / "a" / "rejected.csv").read_text().splitlines()[1] == '4,why: detail,"text, with comma"'


def test_content_sees_the_arrays_and_the_alphabet_and_no_name(tmp_path):
    def content(name, manifest=MANIFEST, arrays=ARRAYS):
        return store.publish(tmp_path / name, manifest, arrays, []).content

    first = content("a")
    assert content("b", store.replace(MANIFEST, source="elsewhere", licence="other")) == first
    assert content("c", store.replace(MANIFEST, vocabulary=("b",))) != first
    assert content("d", arrays={**ARRAYS, "tokens": np.arange(1, 4, dtype=np.uint8)}) != first
    assert content("e", store.replace(MANIFEST, builder=2)) != first


def test_verify_finds_one_changed_byte_and_a_short_file(tmp_path):
    folder = tmp_path / "a"
    store.publish(folder, MANIFEST, ARRAYS, [])
    store.verify(folder)
    whole = (folder / "tokens.npy").read_bytes()
    (folder / "tokens.npy").write_bytes(whole[:-1] + b"\xff")
    with pytest.raises(ValueError, match="'tokens' is not what was built"):
        store.verify(folder)
    (folder / "tokens.npy").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="'tokens' cannot be read"):
        store.verify(folder)


def test_a_failure_on_the_way_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        store.publish(tmp_path / "a", MANIFEST, ARRAYS, (1 // 0 for _ in range(1)))
    assert list(tmp_path.iterdir()) == []


def test_ragged_values_are_found():
    where, lengths = store.ragged_index(np.array([0, 2, 2, 5]), np.array([2, 1, 0]))
    assert where.tolist() == [2, 3, 4, 0, 1]
    assert lengths.tolist() == [3, 0, 2]


def test_the_slower_of_two_builds_discards_its_copy(home, tmp_path):
    path = str(alkanes(tmp_path / "a.smi", 200))
    children = [child(BUILD, path), child(BUILD, path)]
    answers = {process.communicate()[0] for process in children}
    assert [process.returncode for process in children] == [0, 0]
    assert len(answers) == 1
    assert len(list((home / "built").iterdir())) == 1
    data.verify(path)


def test_two_builds_that_finish_at_once_both_succeed(home, tmp_path):
    path = home / "built" / "a"
    meet = (
        "import chemscale.data.staging as g, chemscale.data.store as s, sys; rename = g.os.rename\n"
        "def late(a, b):\n"
        "    print('ready', flush=True); sys.stdin.readline(); rename(a, b)\n"
        "g.os.rename = late\n"
        "from pathlib import Path; from tests.data.test_store import ARRAYS, MANIFEST\n"
        "print(s.publish(Path(sys.argv[1]), MANIFEST, ARRAYS, []).content)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    children = [subprocess.Popen([sys.executable, "-c", meet, str(path)], **pipes) for _ in range(2)]
    for process in children:
        assert process.stdout.readline() == "ready\n"
    for process in children:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in children}
    assert [process.returncode for process in children] == [0, 0]
    assert len(answers) == 1
    assert len(list((home / "built").iterdir())) == 1
    store.verify(path)


def test_a_killed_build_leaves_nothing_that_counts_and_the_next_one_sweeps_up(home, tmp_path):
    path = str(alkanes(tmp_path / "a.smi", 200))
    stop = (
        "import chemscale.data.store as s, time;"
        "s._write_rejected = lambda *a: (print('half', flush=True), time.sleep(60));"
    )
    process = child(stop + BUILD, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    assert len(list((home / "built").iterdir())) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(ValueError, match="is not built here; run `chemscale data build"):
        data.verify(path)
    data.build(path, processes=1, progress=False)
    assert [f.name.startswith("a.smi") for f in (home / "built").iterdir()] == [True]
    data.verify(path)


def test_workers_answer_in_order_and_end(tmp_path):
    from chemscale.data.subsets import digest

    tasks = [str(i) for i in range(50)]
    assert list(in_processes(digest, tasks, 2)) == [digest(t) for t in tasks]


def test_what_a_worker_raises_reaches_the_caller():
    from chemscale.data.tokens import split_string

    with pytest.raises(RuntimeError, match="a worker process failed: TypeError"):
        list(in_processes(split_string, ["a", "b"], 2))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_mistake_of_the_caller_is_one_wherever_it_is_found_out(processes):
    from chemscale.data.units import units_of

    with pytest.raises(ValueError, match=r"^Reading.units='x' is not allowed"):
        list(in_processes(units_of, ["x", "y"], processes))


def test_a_worker_that_dies_says_how_to_go_on():
    with pytest.raises(RuntimeError, match=r"died with exit status 3; run it again, with fewer processes if memory"):
        list(in_processes(os._exit, [3, 3], 2))


def test_what_a_machine_of_a_longer_name_writes_is_left_alone(tmp_path, monkeypatch):
    """On a shared disk node-2 may write while node looks for what its own dead processes left."""
    monkeypatch.setattr(staging.socket, "gethostname", lambda: "node")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    others = [f".building-node-2-{gone.pid}-0123abcd", f".building-nodes-{gone.pid}-0123abcd", ".building-node-x"]
    for name in (*others, f".building-node-{gone.pid}-0123abcd"):
        (tmp_path / name).mkdir()
    with staging.scratch_folder(tmp_path):
        pass
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(others)


def test_workers_end_with_their_parent():
    code = (
        "import time; from chemscale.data import parallel; p = parallel._Worker(parallel.available_processors);"
        "print(p.process.pid, flush=True); time.sleep(60)"
    )
    parent = child(code)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while staging.alive(worker) and not _zombie(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_full_disk_is_named_and_leaves_neither_a_part_of_a_file_nor_an_empty_folder(tmp_path):
    folder = tmp_path / "building" / "parts"

    def build():
        with claimed(folder):
            folder.mkdir()
            with staging.whole_file(folder / "0.npz") as staged:
                staged.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*0\.npz'") as raised:
        build()
    assert raised.value.errno == errno.ENOSPC
    assert [path.name for path in (tmp_path / "building").iterdir()] == ["parts.lock"]
    with claimed(folder):
        folder.mkdir()
        with staging.whole_file(folder / "0.npz") as staged:
            staged.write_bytes(b"whole")
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("0.npz", b"whole")]
