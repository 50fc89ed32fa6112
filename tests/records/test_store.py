"""The store: whole files, one owner per attempt, a worker's word over the driver's, equal tables."""

import os
import subprocess
import sys
import time

import psutil
import pyarrow as pa
import pytest

from chemscale.records.attempt import Attempt
from chemscale.records.place import LocalPlace
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import MAX_RETRIES, Store, outstanding, process_identity
from chemscale.train.rows import opening_row
from tests.test_spec import BASE, POTENTIAL


def point(step, loss=1.0, **more):
    return {"run_id": BASE.id, "step": step, "examples": 8 * step, "valid_loss": loss, **more}


def finished(**more):
    return {**opening_row(BASE), "status": "finished", "law_loss": 1.0, "examples_seen": 80, **more}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def test_status_follows_the_life_of_a_run(store):
    store.enlist("s", [BASE])
    assert store.state(BASE.id).status == "pending"
    assert len(store.runs()) == 0
    attempt = store.claim(BASE, opening_row(BASE))
    attempt.beat(3, 24)
    assert (store.state(BASE.id).status, store.state(BASE.id).examples) == ("running", 24)
    assert store.runs()["status"].to_pylist() == ["running"]
    attempt.point(point(1))
    attempt.end(finished())
    assert store.state(BASE.id).status == "finished"
    assert store.runs()["studies"].to_pylist() == [["s"]]


def test_a_dead_driver_leaves_an_interrupted_run(store):
    code = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    owner = {**process_identity(), "pid": process.pid, "born": psutil.Process(process.pid).create_time()}
    store.claim(BASE, opening_row(BASE), owner)
    assert store.state(BASE.id).status == "running"
    process.kill()
    process.wait()
    assert store.state(BASE.id).status == "interrupted"
    assert [r.id for r in outstanding(store, [BASE], keep_stopped=False)[0]] == [BASE.id]


def test_a_driver_on_another_host_is_judged_by_its_heartbeat(store, monkeypatch):
    owner = {"host": "elsewhere", "pid": 1, "born": 0.0}
    attempt = store.claim(BASE, opening_row(BASE), owner)
    attempt.beat(1, 8)
    assert store.state(BASE.id).status == "running"
    monkeypatch.setattr("chemscale.records.store.time.time", lambda: attempt.pulse()["time"] + 61)
    assert store.state(BASE.id).status == "interrupted"


def test_readers_take_the_highest_attempt_per_step(store):
    first = store.claim(BASE, opening_row(BASE))
    first.point(point(1, 3.0))
    first.point(point(2, 2.5))
    first.flush()
    second = store.claim(BASE, opening_row(BASE))
    second.point(point(2, 2.0))
    second.point(point(3, 1.0))
    second.end(finished())
    rows = store.points(BASE.id).to_pylist()
    assert [(r["step"], r["valid_loss"], r["attempt"]) for r in rows] == [(1, 3.0, 1), (2, 2.0, 2), (3, 1.0, 2)]


def test_a_late_write_of_a_killed_worker_changes_nothing(store):
    late = store.claim(BASE, opening_row(BASE))
    late.point(point(1, 3.0))
    late.flush()
    winner = store.claim(BASE, opening_row(BASE))
    winner.point(point(1, 3.0))
    winner.point(point(2, 2.0))
    winner.end(finished())
    before, row = store.points(BASE.id), store.runs()
    late.point(point(2, 99.0))
    late.flush()
    late.beat(2, 16)
    assert store.points(BASE.id).equals(before)
    assert store.runs().equals(row)


def test_claims_are_exclusive(store):
    one, two = store.claim(BASE, opening_row(BASE)), store.claim(BASE, opening_row(BASE))
    assert (one.number, two.number) == (1, 2)
    assert not one.place.create("claim.json", b"{}")


def test_the_workers_word_wins_over_the_drivers(store):
    attempt = store.claim(BASE, opening_row(BASE))
    store.mark(BASE.id, "stopped", "by the scheduler")
    assert store.state(BASE.id).status == "stopped"
    attempt.end(finished())
    assert store.state(BASE.id).status == "finished"


def test_what_a_rerun_does(store):
    def todo(keep_stopped=False):
        return bool(outstanding(store, [BASE], keep_stopped=keep_stopped)[0])

    assert todo()
    store.claim(BASE, opening_row(BASE))
    store.mark(BASE.id, "stopped", "by the scheduler")
    assert todo()
    assert not todo(keep_stopped=True)
    for failures in range(1, MAX_RETRIES + 2):
        store.mark(BASE.id, "failed", "ValueError: no")
        assert todo() == (failures <= MAX_RETRIES)
    store.claim(BASE, opening_row(BASE)).end(finished())
    assert not todo()


def test_a_run_that_another_driver_trains_is_left_to_it(store):
    store.claim(BASE, opening_row(BASE))
    todo, elsewhere = outstanding(store, [BASE], keep_stopped=False)
    assert not todo
    assert elsewhere[0].owner.startswith(f"{os.getpid()}@")


def test_a_failure_before_the_claim_is_a_row(store):
    store.enlist("s", [BASE])
    store.mark(BASE.id, "failed", "MemoryError: out of memory: chemgpt of width 16")
    row = store.runs().to_pylist()[0]
    assert (row["status"], row["architecture"], row["width"]) == ("failed", "chemgpt", 16)
    assert "width 16" in row["stop_reason"]


def test_forecasts_are_frozen_and_come_before_the_run(store):
    assert store.register_forecast(BASE.id, {"value": 1.0})
    assert not store.register_forecast(BASE.id, {"value": 2.0})
    assert store.forecasts()[BASE.id]["value"] == 1.0
    store.claim(POTENTIAL, opening_row(POTENTIAL))
    with pytest.raises(ValueError, match="already started"):
        store.register_forecast(POTENTIAL.id, {"value": 1.0})
    for name in ("a/b", "../x", "", ".hidden", "a b"):
        with pytest.raises(ValueError, match="of a forecast is not allowed"):
            store.register_forecast(name, {"value": 1.0})


def test_rows_are_checked():
    with pytest.raises(KeyError, match="no column 'lost'"):
        POINTS.table([{**point(1), "attempt": 1, "lost": 1}])
    with pytest.raises(ValueError, match="a missing number is null"):
        POINTS.table([point(1, float("nan"), attempt=1)])
    with pytest.raises(KeyError, match="may not be null"):
        RUNS.table([{"run_id": "x"}])


def test_an_older_table_reads_with_new_columns_null():
    old = pa.table({"run_id": ["a"], "step": [1], "gone": [2.0]})
    read = POINTS.read(old)
    assert read.column_names == POINTS.arrow.names
    assert read["valid_loss"].to_pylist() == [None]


def test_equal_tables_ignore_volatile_columns_and_order():
    rows = [point(k, k / 2, attempt=1, seconds=1.0) for k in (1, 2)]
    other = [point(k, k / 2, attempt=7, seconds=9.0) for k in (2, 1)]
    assert equal(POINTS.table(rows), POINTS.table(other), POINTS)
    assert not equal(POINTS.table(rows), POINTS.table([*other[:1], point(1, 9.0, attempt=1)]), POINTS)


def test_every_column_has_a_unit_and_a_meaning():
    for schema in (RUNS, POINTS):
        assert all(c.meaning for c in schema.columns)
        stored = schema.table([]).schema
        assert all(set(f.metadata) == {b"unit", b"meaning", b"volatile"} for f in stored)


@pytest.mark.parametrize("kind", ["file", "full", "absent", "newer"])
def test_what_is_not_a_store_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("")
    elif kind == "full":
        path.mkdir()
        (path / "thesis.txt").write_text("dear")
    elif kind == "newer":
        Store(path, create=True)
        (path / "store.json").write_text('{"version": 99}')
    with pytest.raises(ValueError, match=r"store|layout version") as caught:
        Store(path, create=kind != "absent")
    assert "\n" not in str(caught.value)
    assert kind != "full" or [p.name for p in path.iterdir()] == ["thesis.txt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    place = LocalPlace(tmp_path)
    place.write("state", lambda f: f.write(b"old"))

    def dies(file):
        file.write(b"new, but hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.write("state", dies)
    assert place.read("state") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_driver_that_ended_unasked_for_is_dead(store):
    """A process whose parent has not asked for its status keeps its number and its start."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = {**process_identity(), "pid": process.pid, "born": psutil.Process(process.pid).create_time()}
    store.claim(BASE, opening_row(BASE), owner)
    assert store.state(BASE.id).status == "running"
    process.stdin.close()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert store.state(BASE.id).status == "interrupted"
    process.wait()


def test_concurrent_claims_never_share_a_number(tmp_path):
    Store(tmp_path / "store", create=True)
    code = (
        "import sys; from chemscale.records.store import Store; from tests.test_spec import BASE\n"
        "from chemscale.train.rows import opening_row\n"
        f"s = Store({str(tmp_path / 'store')!r})\n"
        "print([s.claim(BASE, opening_row(BASE)).number for _ in range(20)])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    numbers = [n for p in running for n in eval(p.communicate()[0])]
    assert sorted(numbers) == list(range(1, 41))


def test_heartbeats_are_rare_unless_asked(tmp_path):
    store = Store(tmp_path / "store", create=True)
    attempt: Attempt = store.claim(BASE, opening_row(BASE))
    attempt.beat(1, 8)
    attempt.beat(2, 16)
    assert attempt.pulse()["step"] == 1
    attempt._beat = time.time() - 10
    attempt.beat(3, 24)
    assert attempt.pulse()["step"] == 3


def test_a_store_reads_without_the_code_of_its_models(store, monkeypatch):
    """A user's own model is known where it was trained, not where its store is read."""
    from chemscale import spec
    from chemscale.sweep.progress import Watch, cells_of

    store.enlist("s", [BASE, POTENTIAL])
    store.claim(BASE, opening_row(BASE)).end(finished())
    store.mark(POTENTIAL.id, "failed", "RuntimeError: no")
    monkeypatch.setattr(spec, "MODELS", {})
    assert sorted(store.runs()["status"].to_pylist()) == ["failed", "finished"]
    progress = Watch(store, cells_of(store)).look()
    assert progress.ended == 2
    assert progress.trouble == (("painn w16 n800", "RuntimeError: no"),)


def test_a_stopped_run_keeps_its_forecast_until_it_goes_on(store):
    store.claim(BASE, opening_row(BASE))
    store.mark(BASE.id, "stopped", "stopped early", forecast={"loss": 1.5, "low": 1.4, "high": 1.7})
    row = store.runs().to_pylist()[0]
    assert [row[f"forecast_{name}"] for name in ("loss", "low", "high")] == [1.5, 1.4, 1.7]
    assert row["status"] == "stopped"
    store.claim(BASE, opening_row(BASE))
    assert store.runs().to_pylist()[0]["forecast_loss"] is None


def test_a_store_whose_disk_is_gone_is_neither_empty_nor_built_anew(store, tmp_path):
    store.claim(BASE, opening_row(BASE)).end(finished())
    store.path.rename(tmp_path / "away")
    for ask in (lambda: store.state(BASE.id), store.run_ids, lambda: store.claim(POTENTIAL, opening_row(POTENTIAL))):
        with pytest.raises(OSError, match="cannot be reached"):
            ask()
    assert not store.path.exists()
    (tmp_path / "away").rename(store.path)
    assert store.state(BASE.id).status == "finished"
