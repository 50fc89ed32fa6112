"""What every kind of place must do, over a disk and over a real server, by S3's and by Google's protocol."""

import errno
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chemscale.records import place as places
from chemscale.records.board import written_below
from chemscale.records.compact import compact
from chemscale.records.manage import plan_pruning, prune, usage
from chemscale.records.merge import merge
from chemscale.records.place import LocalPlace, place_at, read_parquet
from chemscale.records.store import Store
from chemscale.records.verify import verify
from tests.records import servers

KINDS = ("local", "s3", "gs")
_folders = itertools.count()


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with servers.s3() as url:
        yield url


@pytest.fixture(scope="module")
def gs(s3):
    return servers.as_gcs(s3)


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "place")
    return servers.below(request.getfixturevalue(request.param), f"f{next(_folders)}")


@pytest.fixture
def place(url):
    return place_at(url)


def put(place, name, content=b"x"):
    place.write(name, lambda file: file.write(content))


def test_what_was_written_is_read(place):
    put(place, "a/b.bin", b"one")
    put(place, "a/b.bin", b"two")
    assert place.read("a/b.bin") == b"two"
    place.write_json("a/c.json", {"k": [1, None]})
    assert place.read_json("a/c.json") == {"k": [1, None]}
    table = pa.table({"x": [1, 2, None]})
    place.write_table("t.parquet", table)
    assert place.read_table("t.parquet").equals(table)


READS = """
import os, sys
from chemscale.records.place import place_at, read_parquet

place = place_at(sys.argv[1])
before = set(os.listdir("/proc/self/task"))
assert len(place.read_table("t")) == 2
with place.open("t") as file:
    assert len(read_parquet(file, ["c0"], ("c0", ["b"]))) == 1
print(set(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux' /proc")
def test_a_table_is_read_by_no_other_thread(tmp_path):
    """A thread of pyarrow that lets go of a Python object while the process ends aborts it."""
    place_at(tmp_path).write_table("t", pa.table({f"c{i}": ["a", "b"] for i in range(20)}))
    ended = subprocess.run([sys.executable, "-c", READS, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("set()\n", "", 0)


def test_rows_are_found_among_row_groups(tmp_path):
    ids = [f"{i:03d}" for i in range(50)]
    table = pa.table({"id": ids, "x": range(50)})
    pq.write_table(table, tmp_path / "t", row_group_size=7)
    pq.write_table(table, tmp_path / "unknown", row_group_size=7, write_statistics=False)
    for wanted in (["003", "020", "021", "absent"], [], ["zzz"], [ids[-1]]):
        expected = table.filter(pa.array([i in wanted for i in ids]))
        for name in ("t", "unknown"):
            with (tmp_path / name).open("rb") as file:
                assert read_parquet(file, ["id", "x"], ("id", wanted)).equals(expected)


def test_what_is_not_there_is_none_or_empty(place):
    assert place.read("a") is None
    assert place.open("a") is None
    assert place.read_table("a/b") is None
    assert place.names("a") == []
    assert not place.exists("a")
    place.remove("a")


def test_names_are_those_of_files_and_folders_of_one_level(place):
    for name in ("b/1", "b/2/3", "ba/4", "c"):
        put(place, name)
    assert place.names() == ["b", "ba", "c"]
    assert place.names("b") == ["1", "2"]
    assert place.at("b").names() == ["1", "2"]
    assert place.at("b").at("2").read("3") == b"x"
    assert place.exists("b")
    assert place.exists("b/1")
    assert not place.exists("b/3")


def test_files_are_listed_with_their_bytes_however_deep(place):
    for name, content in (("a", b""), ("b/c", b"12"), ("b/d/e", b"123")):
        put(place, name, content)
    assert sorted(place.files()) == [("a", 0), ("b/c", 2), ("b/d/e", 3)]
    assert sorted(place.files("b")) == [("b/c", 2), ("b/d/e", 3)]
    assert sorted(place.at("b").files()) == [("c", 2), ("d/e", 3)]
    assert list(place.files("none")) == []


def test_tidying_takes_only_what_is_empty(place):
    put(place, "a/b/c")
    place.tidy("a/b")
    place.tidy("none")
    assert place.names("a/b") == ["c"]
    place.remove("a/b/c")
    place.tidy("a/b")
    place.tidy("a")
    assert place.names() == []


@pytest.mark.slow
def test_a_store_in_it_compacts_merges_and_is_whole(url, tmp_path):
    from tests.records.test_manage import POTENTIAL, SPECS, train

    store = Store(url, create=True)
    store.enlist("s", [*SPECS.values(), POTENTIAL])
    train(store, SPECS["good"], loss=1.0)
    train(store, SPECS["stopped"])
    store.mark(SPECS["stopped"].id, "stopped", "early")
    train(store, SPECS["lives"])
    before = store.runs(), store.points(), store.states()
    assert compact(store).runs == 2
    assert store.place.names("runs") == [SPECS["lives"].id]
    for reader in (store, Store(url)):
        assert reader.runs().equals(before[0])
        assert reader.points().equals(before[1])
        assert reader.states() == before[2]
    assert verify(store) == []
    assert usage(store).whole.bytes["weights"] == len(b"weights")
    merged = Store(tmp_path / "merged", create=True)
    assert merge([store], merged).copied == 2
    assert merged.attempts(SPECS["good"].id)[0].open("weights.pt").read() == b"weights"
    plan = plan_pruning(store, keep="none")
    prune(store, plan)
    assert [name for name, _ in plan.files] == [f"checkpoints/{SPECS['good'].id}/0001/weights.pt"]
    assert store.runs().equals(before[0])


def hooked_open(monkeypatch, store, once_open):
    """Let `once_open(name)` happen once the first snapshot has been opened and before it is read."""
    real, opened = type(store.place).open, []

    def hooked(self, name):
        file = real(self, name)
        if name.startswith("snapshots/") and not opened:
            opened.append(name)
            once_open(name)
        return file

    monkeypatch.setattr(type(store.place), "open", hooked)


def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_anew(url, monkeypatch):
    from tests.records.test_manage import SPECS, train

    store = Store(url, create=True)
    train(store, SPECS["good"], loss=1.0)
    compact(store)
    train(store, SPECS["better"], loss=2.0)
    reader = Store(url)
    hooked_open(monkeypatch, reader, lambda name: compact(store))  # merges both and discards what is being read
    assert sorted(reader.runs()["law_loss"].to_pylist()) == [1.0, 2.0]


def test_a_snapshot_that_is_lost_while_it_is_read_is_named(url, monkeypatch):
    from tests.records.test_manage import SPECS, train

    store = Store(url, create=True)
    train(store, SPECS["good"], loss=1.0)
    compact(store)
    reader = Store(url)
    hooked_open(monkeypatch, reader, reader.place.remove)
    with pytest.raises(OSError, match="in its manifest, but there is no such file; `chemscale store verify"):
        [reader.runs() for _ in range(2)]  # on a disk an open file can still be read


def test_a_folder_goes_with_all_it_holds_and_nothing_else(place):
    for name in ("b/1", "b/2/3", "ba/4", "b.json"):
        put(place, name)
    place.remove("b")
    assert place.names() == ["b.json", "ba"]
    place.remove("b.json")
    assert place.names() == ["ba"]


def test_a_writer_that_raises_leaves_what_was_there(place):
    put(place, "a", b"old")

    def broken(file):
        file.write(os.urandom(12 * 2**20))
        raise RuntimeError("halfway")

    for name in ("a", "new"):
        with pytest.raises(RuntimeError, match="halfway"):
            place.write(name, broken)
    assert place.read("a") == b"old"
    assert place.names() == ["a"]
    if place.local():
        assert os.listdir(place.path) == ["a"]


def test_a_large_file_is_read_piece_by_piece(place):
    content = os.urandom(21 * 2**20)  # three parts of an upload
    put(place, "big", content)
    with place.open("big") as file:
        assert file.seekable()
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]
        file.seek(9 * 2**20)
        assert file.read(5) == content[9 * 2**20 :][:5]
        file.seek(0)
        assert file.read() == content


def test_weights_are_loaded_from_it(place):
    import torch

    weights = {"w": torch.arange(5.0)}
    place.write("w.pt", lambda file: torch.save(weights, file))
    with place.open("w.pt") as file:
        assert torch.load(file, weights_only=True)["w"].equal(weights["w"])


def test_create_is_exclusive(place):
    assert place.create("claims/1", b"mine")
    assert not place.create("claims/1", b"theirs")
    assert place.read("claims/1") == b"mine"


def _claim(url, who, barrier, won):
    place = place_at(url)
    barrier.wait()
    won.put([n for n in range(8) if place.create(f"claims/{n}", str(who).encode())])


def test_processes_that_claim_at_once_never_share(url):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_claim, args=(url, who, barrier, won)) for who in range(3)]
    for process in processes:
        process.start()
    claims = [won.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(n for some in claims for n in some) == list(range(8))


def test_it_travels_to_another_process(place):
    put(place, "a/b", b"1")
    assert pickle.loads(pickle.dumps(place.at("a"))).read("b") == b"1"


def test_a_store_lies_in_it(url):
    with pytest.raises(ValueError, match="is not a chemscale store"):
        Store(url)
    store = Store(url, create=True)
    assert Store(store.url).url == store.url
    assert store.run_ids() == []


def test_a_bucket_that_cannot_be_reached_is_an_os_error():
    pytest.importorskip("obstore")
    place = place_at(f"s3://bucket/f?anonymous=true&region=x&endpoint=http://127.0.0.1:{servers.free_port()}")
    for ask in (lambda: place.read("a"), lambda: put(place, "a"), lambda: place.names(), lambda: place.exists("a")):
        with pytest.raises(OSError, match="s3://bucket/f"):
            ask()


def test_a_bucket_that_is_not_there_is_said_in_one_sentence(s3):
    with pytest.raises(OSError, match="NoSuchBucket: The specified bucket does not exist: 's3://nobody/f"):
        Store(servers.below(s3.replace("bucket", "nobody", 1), "f"), create=True)


def test_a_server_without_conditional_puts_is_refused(s3, monkeypatch):
    from chemscale.records import objects

    real = objects.obstore.put
    monkeypatch.setattr(objects, "_conditional", set())
    monkeypatch.setattr(objects.obstore, "put", lambda *given, mode=None, **more: real(*given, **more))
    with pytest.raises(OSError, match="ignores `If-None-Match"):
        place_at(servers.below(s3, "ignorant")).create("a", b"1")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://host/f", "is of no known kind; give a folder, s3://"),
        ("s3://", "names no bucket; give s3://BUCKET/FOLDER"),
        ("s3://key:secret@bucket/f", "names no bucket"),
        ("s3://b/f?secret=1", "has an option 'secret'; s3:// knows anonymous, endpoint, region"),
        ("gs://b/f?region=x", "has an option 'region'; gs:// knows endpoint"),
    ],
)
def test_a_url_that_names_nothing_is_refused(url, sentence):
    pytest.importorskip("obstore")
    with pytest.raises(ValueError, match=sentence):
        place_at(url)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    monkeypatch.delitem(__import__("sys").modules, "chemscale.records.objects", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'chemscale\[s3\]'"):
        place_at("s3://b/f")
    assert isinstance(place_at("runs"), LocalPlace)


def test_files_of_others_reach_every_kind_of_place(place):
    with written_below(place.at("tensorboard/laws")) as folder:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "events.out").write_bytes(b"one")
    assert place.read("tensorboard/laws/deep/events.out") == b"one"


def test_a_file_is_for_whom_the_umask_says(tmp_path):
    """A store on a shared disk is read by others than who wrote it."""
    before = os.umask(0o027)
    try:
        LocalPlace(tmp_path).write("written", lambda file: file.write(b"x"))
        LocalPlace(tmp_path).create("created", b"x")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("written", "created")] == [0o640, 0o640]


def test_a_full_disk_is_named_and_leaves_no_empty_folder(tmp_path, monkeypatch):
    def full(temporary, write):
        os.close(temporary[0])
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path / "source", create=True)
    given = tmp_path / "given"
    given.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(places, "_fill", full)
        for write in (
            lambda: merge([store], Store(tmp_path / "into", create=True)),
            lambda: Store(given, create=True),
            lambda: put(store.place, "studies/one.json"),
            lambda: store.place.create("forecasts/one.json", b"{}"),
        ):
            with pytest.raises(OSError, match=r"No space left on device: .*\.json") as raised:
                write()
            assert raised.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["given", "source", "store.json"]  # what was there
    merge([store], Store(tmp_path / "into", create=True))
    assert (tmp_path / "into" / "store.json").exists()
