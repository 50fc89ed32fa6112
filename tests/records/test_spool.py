"""A store out of reach for a while: nothing lost, nothing doubled, and one sentence where it lasts too long."""

import os
import pickle
import re
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from chemscale.records.place import LocalPlace, Place, place_at
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.spool import Spooling, StoreUnreachableError, patient
from chemscale.records.store import Store
from chemscale.records.unsaid import Unsaid
from chemscale.spec import Resources
from chemscale.train.rows import opening_row
from tests.records import servers
from tests.records.test_store import finished, point
from tests.test_spec import BASE


class Flaky(Place):
    """A place that raises while `down`, in every operation, and remembers in which order files were written."""

    def __init__(self, inner, switch=None, log=None):
        self.inner, self.url = inner, inner.url
        self.switch, self.log = switch if switch is not None else {"down": False}, log if log is not None else []

    def at(self, folder):
        return Flaky(self.inner.at(folder), self.switch, self.log)

    def _up(self):
        if self.switch["down"]:
            raise OSError(5, "Input/output error", self.url)
        return self.inner

    def write(self, name, write):
        self._up().write(name, write)
        self.log.append(name)

    def create(self, name, content):
        return self._up().create(name, content)

    def open(self, name):
        return self._up().open(name)

    def names(self, folder=""):
        return self._up().names(folder)

    def exists(self, name):
        return self._up().exists(name)

    def remove(self, name):
        self._up().remove(name)


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("chemscale.records.spool.LONGEST_PAUSE", 0.5)
    return Flaky(LocalPlace(tmp_path / "store"))


def spools(folder):
    return sorted(folder.glob("chemscale-spool-*"))


def put(place, name, content):
    place.write(name, lambda file: file.write(content))


def test_writes_wait_in_order_and_the_newest_of_a_name_counts(flaky, tmp_path):
    place = Spooling(flaky, seconds=60, spool_bytes=1e9)
    put(place, "before", b"0")
    flaky.switch["down"] = True
    for k in range(3):
        put(place.at("a"), f"point-{k}", str(k).encode())
        put(place, "state.pt", b"state %d" % k)
    put(place, "gone", b"1")
    place.remove("gone")
    place.remove("before")
    assert flaky.log == ["before"]
    assert len(spools(tmp_path)) == 1
    flaky.switch["down"] = False
    place.settle()
    assert flaky.log == ["before", "a/point-0", "a/point-1", "a/point-2", "state.pt"]
    assert flaky.inner.names() == ["a", "state.pt"]
    assert flaky.inner.read("state.pt") == b"state 2"
    deadline = time.time() + 60
    while spools(tmp_path) and time.time() < deadline:
        time.sleep(0.01)
    assert spools(tmp_path) == []


def test_reads_and_claims_wait_and_say_that_they_do(flaky):
    told = []
    place = Spooling(flaky, seconds=60, spool_bytes=1e9, waiting=lambda: told.append(1))
    put(place, "a", b"1")
    flaky.switch["down"] = True
    put(place, "a", b"2")
    threading.Timer(1.0, lambda: flaky.switch.update(down=False)).start()
    assert place.read("a") == b"2"  # what was spooled is seen by its writer
    assert told
    flaky.switch["down"] = True
    threading.Timer(0.5, lambda: flaky.switch.update(down=False)).start()
    assert place.create("claim", b"mine")


def test_an_attempt_through_an_outage_is_an_undisturbed_one(flaky, tmp_path):
    calm = Store(tmp_path / "calm", create=True)
    Store(flaky.inner, create=True)
    shaken = Store(Spooling(flaky, seconds=60, spool_bytes=1e9))
    for store in (calm, shaken):
        attempt = store.claim(BASE, opening_row(BASE))
        for step in range(1, 9):
            if step in (3, 6):
                flaky.switch["down"] = True
                threading.Timer(0.7, lambda: flaky.switch.update(down=False)).start()
            attempt.point(point(step, 1 / step))
            attempt.flush()
            attempt.beat(step, 8 * step)
            if step == 7:
                attempt.save("state.pt", lambda file: file.write(b"state"))
        attempt.end(finished())
    direct = Store(flaky.inner)
    assert equal(calm.points(), direct.points(), POINTS)
    assert equal(calm.runs(), direct.runs(), RUNS)
    assert sorted(direct.points()["step"].to_pylist()) == list(range(1, 9))


def test_a_long_outage_ends_in_one_sentence(flaky, tmp_path):
    place = Spooling(flaky, seconds=0.5, spool_bytes=1e9)
    flaky.switch["down"] = True
    put(place, "a/b", b"kept")
    time.sleep(0.6)
    expected = (
        r"store has not been reachable since [-\d]+ [:\d]+ \(Input/output error\), longer than Resources.patience=0.5 "
        r"allows; make it reachable and give the same command again. What the run wrote meanwhile lies in (\S+)\.$"
    )
    with pytest.raises(StoreUnreachableError, match=expected) as raised:
        put(place, "a/c", b"no")
    folder = Path(re.search(expected, str(raised.value))[1])
    assert (folder / "a/b").read_bytes() == b"kept"
    with pytest.raises(StoreUnreachableError):
        place.read("a/b")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    flaky.switch["down"] = False


def test_a_large_spool_ends_in_one_sentence(flaky):
    place = Spooling(flaky, seconds=60, spool_bytes=1000)
    flaky.switch["down"] = True
    put(place, "a", bytes(2000))
    with pytest.raises(StoreUnreachableError, match=r"2,000 bytes wait, more than Resources.spool_bytes=1000 allows"):
        put(place, "b", b"1")
    flaky.switch["down"] = False


def test_a_missing_disk_is_an_outage_and_is_not_built_anew(tmp_path):
    Store(tmp_path / "store", create=True)
    store = Store(patient(tmp_path / "store", Resources(patience=60)))
    attempt = store.claim(BASE, opening_row(BASE))
    (tmp_path / "store").rename(tmp_path / "away")
    attempt.point(point(1))
    attempt.flush()
    attempt.beat(1, 8)
    time.sleep(0.6)
    assert not (tmp_path / "store").exists()
    (tmp_path / "away").rename(tmp_path / "store")
    attempt.end(finished())
    assert Store(tmp_path / "store").points()["step"].to_pylist() == [1]
    assert Store(tmp_path / "store").state(BASE.id).status == "finished"


def test_a_file_that_does_not_fit_leaves_nothing_behind(tmp_path):
    place = LocalPlace(tmp_path / "store")
    put(place, "a", b"old")
    limit, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            put(place, "a", bytes(2000))
        with pytest.raises(OSError, match="File too large"):
            place.create("b", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(place.path) == ["a"]
    assert place.read("a") == b"old"


def test_a_full_disk_is_an_outage(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        Store(disk / "store", create=True)
        attempt = Store(patient(disk / "store", Resources(patience=60))).claim(BASE, opening_row(BASE))
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(2**20))
        attempt.point(point(1))
        attempt.flush()
        threading.Timer(1.0, (disk / "filler").unlink).start()
        attempt.end(finished())
        direct = Store(disk / "store")
        assert direct.points()["step"].to_pylist() == [1]
        assert not list((disk / "store").rglob(".*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_trial_that_begins_while_the_disk_of_the_store_is_away_waits_for_it(tmp_path):
    """To its process, which has never seen the store, an empty folder looks like no store."""
    Store(tmp_path / "store", create=True)
    (tmp_path / "store").rename(tmp_path / "away")
    threading.Timer(1.0, (tmp_path / "away").rename, [tmp_path / "store"]).start()
    begun = time.monotonic()
    assert Store(patient(tmp_path / "store", Resources(patience=60))).run_ids() == []
    assert time.monotonic() - begun > 0.9
    with pytest.raises(StoreUnreachableError, match=r"longer than Resources\.patience=0\.3 allows"):
        Store(patient(tmp_path / "elsewhere", Resources(patience=0.3)))


def test_a_bucket_whose_server_restarts_is_an_outage():
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with servers.s3() as url:
        port = int(url.rsplit(":", 1)[1])
        place = patient(servers.below(url, "f"), Resources(patience=60))
        put(place, "a", b"1")
        servers.stop(servers.running[port])
        put(place, "b", b"2")
        put(place, "c", b"3")
        servers.start_s3(port)
        place.settle()
        direct = place_at(servers.below(url, "f"))
        assert direct.names() == ["b", "c"]  # the server's memory was lost with it, what waited was not
        assert direct.read("c") == b"3"


def test_a_word_that_cannot_be_said_is_said_later():
    said, down = [], [True]

    def word(text):
        def say():
            if down[0]:
                raise OSError(5, "Input/output error")
            said.append(text)

        return say

    unsaid = Unsaid("runs", seconds=60)
    unsaid.say(word("first"))
    unsaid.say(word("second"))
    assert said == []
    down[0] = False
    unsaid.settle()
    assert said == ["first", "second"]
    unsaid.say(word("third"))
    assert said[-1] == "third"
    down[0] = True
    silent = Unsaid("runs", seconds=0.2)
    silent.say(word("never"))
    with pytest.raises(StoreUnreachableError, match=r"^runs could not be reached .* give the same command again\.$"):
        silent.settle()


def test_a_run_that_waits_tells_its_scheduler(tmp_path, monkeypatch, molecules):
    from chemscale.sweep.preparation import prepare
    from chemscale.train import session
    from tests.sweep.test_tune import text_grid

    run = prepare(text_grid(molecules).runs()[:1], Resources())[0]
    store = Store(tmp_path / "store", create=True)
    flaky = Flaky(LocalPlace(tmp_path / "store"))
    monkeypatch.setattr(
        session, "patient", lambda path, on, waiting: Spooling(flaky, seconds=60, spool_bytes=1e9, waiting=waiting)
    )
    told, waiting = [], []

    def report(row):
        if "valid_loss" in row and not any("valid_loss" in before for before in told):
            flaky.switch["down"] = True
        elif told and row == {"examples": told[-1]["examples"], "step": told[-1]["step"]}:  # nothing new: it waits
            waiting.append(row)
            flaky.switch["down"] = len(waiting) < 3
        told.append(row)

    row = session.train_in_store(run, str(tmp_path / "store"), resources=Resources(), report=report)
    assert row["status"] == "finished" == store.state(run.id).status
    assert len(waiting) >= 3
    assert told[-1]["status"] == "finished"
    assert len(store.points()) == len({p["step"] for p in store.points().to_pylist()}) == 3


def test_what_a_scheduler_hears_of_a_run_that_it_may_stop_is_in_the_store(tmp_path, monkeypatch, molecules):
    """The process of a stopped run may end right after its report, and what waits on its disk ends with it."""
    from chemscale.sweep.preparation import prepare
    from chemscale.train import session
    from tests.sweep.test_tune import text_grid

    run = prepare(text_grid(molecules).runs()[:1], Resources())[0]
    store = Store(tmp_path / "store", create=True)
    flaky = Flaky(LocalPlace(tmp_path / "store"))
    monkeypatch.setattr(
        session, "patient", lambda path, on, waiting: Spooling(flaky, seconds=60, spool_bytes=1e9, waiting=waiting)
    )
    heard = []

    def report(row):
        heard.append(row)
        if "valid_loss" not in row:
            flaky.switch["down"] = (
                len(heard) < 4
            )  # away from the first update on, back after some reports that it waits
            return
        raise SystemExit

    monkeypatch.setattr("chemscale.train.journal.REPORT_SECONDS", 0.0)
    with pytest.raises(SystemExit):
        session.train_in_store(run, str(tmp_path / "store"), resources=Resources(), report=report, stoppable=True)
    assert len(heard) >= 4
    assert store.points()["examples"].to_pylist() == [heard[-1]["examples"]]
