"""Compaction: tables, states and specs read the same before and after it, whatever happens beside it."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chemscale.records.attempt import Attempt
from chemscale.records.compact import Upkeep, compact, publish
from chemscale.records.history import History
from chemscale.records.merge import merge
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.train.rows import opening_row
from tests.benchmarks import store_read as benchmark
from tests.test_spec import BASE, POTENTIAL

RUNS_OF_A_STORY = [replace(BASE, seed=k) for k in range(3)] + [POTENTIAL]
OPENINGS = {run.id: opening_row(run) for run in RUNS_OF_A_STORY}


def look(store: Store):
    """All that a reader can ask of a store."""
    ids = store.run_ids()
    return {
        "ids": ids,
        "runs": store.runs().to_pylist(),
        "points": store.points().to_pylist(),
        "of one": {i: store.points(i).to_pylist() for i in ids},
        "of two": store.points(ids[:2]).to_pylist(),
        "states": store.states(),
        "state": {i: store.state(i) for i in ids},
        "specs": {i: store.spec(i) for i in ids},
        "abouts": {i: store.about(i) for i in ids},
        "attempts": {i: [a.number for a in store.attempts(i)] for i in ids},
        "row": {i: store.runs(run_id=i).to_pylist() for i in ids},
        "some": store.runs(columns=("status", "run_id"), family="text").to_pylist(),
        "studies": store.studies(),
        "checkpoints": {
            (i, a.number, name): file.read()
            for i in ids
            for a in store.attempts(i)
            for name in ("state.pt", "weights.pt")
            if (file := a.open(name)) is not None
        },
    }


class Actor:
    """Does to a store what drivers and workers do, late and dead ones too."""

    def __init__(self, path):
        self.store = Store(path, create=True)
        self.attempts: dict[str, list[Attempt]] = {}
        self.over: list[Attempt] = []
        self.steps: dict[int, int] = {}

    def claim(self, run, chance):
        self.attempts.setdefault(run.id, []).append(self.store.claim(run, OPENINGS[run.id]))

    def any_attempt(self, run, chance) -> Attempt | None:
        """Mostly the newest, sometimes one that should have died."""
        mine = self.attempts.get(run.id)
        return None if not mine else mine[-1] if chance.random() < 0.7 else chance.choice(mine)

    def points(self, run, chance):
        attempt = self.any_attempt(run, chance)
        first, loss = chance.randint(1, 5), chance.random()
        if attempt:  # an attempt never measures a step twice; another one may
            first = self.steps.get(id(attempt), first)
            self.steps[id(attempt)] = first + 3
            for step in range(first, first + 3):
                row = {"run_id": run.id, "step": step, "examples": 8 * step, "valid_loss": loss, "seconds": loss}
                attempt.point(row)
            attempt.flush()

    def beat(self, run, chance):
        attempt, step = self.any_attempt(run, chance), chance.randint(1, 9)
        if attempt:
            attempt.beat(step, 8 * step)

    def save(self, run, chance):
        attempt, content = self.any_attempt(run, chance), chance.randbytes(4)
        if attempt:
            attempt.save(chance.choice(("state.pt", "weights.pt")), lambda f: f.write(content))

    def end(self, run, chance):
        attempt, loss = self.any_attempt(run, chance), chance.random()
        status = chance.choice(("finished", "diverged"))
        if attempt and not any(attempt is other for other in self.over):
            self.over.append(attempt)
            row = {**OPENINGS[run.id], "law_loss": loss, "params_by_group": {"a": 1}, "examples_seen": 80, "seconds": 1}
            attempt.end({**row, "status": status})

    def stop(self, run, chance):
        forecast = {"loss": chance.random(), "low": 0.0, "high": 2.0} if chance.random() < 0.5 else None
        if run.id in self.attempts:
            self.store.mark(run.id, "stopped", "early", forecast=forecast)

    def fail(self, run, chance):
        self.store.enlist("late", [run])
        self.store.mark(run.id, "failed", "ValueError: no")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_compacted_store_reads_like_one_that_never_was(tmp_path, seed, monkeypatch):
    """The same random story, told twice; one store is compacted at random moments, the other never."""
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a story has hundreds of files
    names = ["claim", "points", "points", "beat", "save", "end", "stop", "fail"]
    plan = random.Random(seed)
    plain, folded = Actor(tmp_path / "plain"), Actor(tmp_path / "folded")
    for actor in (plain, folded):
        actor.store.enlist("s", RUNS_OF_A_STORY[:3], work={BASE.id: 1.0})
    for _ in range(6):
        for _ in range(12):
            name, run, dice = plan.choice(names), plan.choice(RUNS_OF_A_STORY), plan.random()
            for actor in (plain, folded):
                getattr(actor, name)(run, random.Random(dice))
        compact(folded.store)
        expected = look(plain.store)
        for reader in (folded.store, Store(tmp_path / "folded")):
            assert [name for name, seen in look(reader).items() if seen != expected[name]] == []


def ended_store(path, count, points=2):
    """A store of so many finished runs."""
    store = Store(path, create=True)
    runs = [replace(BASE, seed=k) for k in range(count)]
    store.enlist("s", runs)
    for run in runs:
        finish(store, run, points)
    return store, runs


def finish(store, run, points=2):
    attempt = store.claim(run, OPENINGS[BASE.id] | {"run_id": run.id, "seed": run.seed, "spec": run.to_json()})
    for step in range(1, points + 1):
        attempt.point({"run_id": run.id, "step": step, "examples": 8 * step, "valid_loss": 1 / step})
    attempt.beat(points, 80)
    attempt.end({**attempt.opening()["row"], "status": "finished", "law_loss": run.seed / 7, "examples_seen": 80})


def test_what_ended_is_folded_and_the_rest_stays(tmp_path):
    store, runs = ended_store(tmp_path / "s", 5)
    live = replace(BASE, seed=99)
    store.enlist("s", [live])
    store.claim(live, opening_row(live))
    weights = store.attempts(runs[0].id)[0]
    weights.save("weights.pt", lambda f: f.write(b"dear"))
    done = compact(store)
    assert (done.runs, done.snapshots) == (5, 1)
    assert store.place.names("runs") == [live.id]
    assert store.attempts(runs[0].id)[0].open("weights.pt").read() == b"dear"
    assert compact(store).runs == 0


def test_snapshots_grow_by_doubling(tmp_path):
    """n runs folded k at a time leave about log2(n / k) snapshots, and each run is written about as often."""
    store = Store(tmp_path / "s", create=True)
    written = 0
    for batch in range(16):
        runs = [replace(BASE, seed=4 * batch + k) for k in range(4)]
        store.enlist("s", runs)
        for run in runs:
            finish(store, run)
        before = {s.name for s in store.snapshots.manifest().snapshots}
        compact(store)
        written += sum(s.runs for s in store.snapshots.manifest().snapshots if s.name not in before)
        assert len(store.snapshots.manifest().snapshots) <= 5
    assert written <= 64 * 6
    assert len(store.snapshots.manifest().snapshots) == 1
    assert len(store.runs()) == 64
    assert len(store.place.names("manifests")) <= 2
    assert len(store.place.names("snapshots")) == 2


@pytest.mark.parametrize("moment", ["snapshot", "manifest", "half removed"])
def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path, monkeypatch, moment):
    store, _ = ended_store(tmp_path / "s", 4)
    before = look(store)
    place = type(store.place)
    create, remove = place.create, place.remove
    removed = []

    def dying_create(self, name, content):
        if name.startswith("manifests/"):
            if moment == "manifest":
                create(self, name, content)
            raise KeyboardInterrupt
        return create(self, name, content)

    def dying_remove(self, name):
        removed.append(name)
        if len(removed) == 5:
            raise KeyboardInterrupt
        return remove(self, name)

    with monkeypatch.context() as patch:
        if moment == "half removed":
            patch.setattr(place, "remove", dying_remove)
        else:
            patch.setattr(place, "create", dying_create)
        with pytest.raises(KeyboardInterrupt):
            compact(store)
    assert look(Store(tmp_path / "s")) == before
    compact(Store(tmp_path / "s"))
    assert look(Store(tmp_path / "s")) == before
    assert store.place.names("runs") == []


def test_a_reader_with_an_old_manifest_starts_again(tmp_path):
    """Between its look at the manifest and its look at the files, another process compacts and merges."""
    store, _ = ended_store(tmp_path / "s", 3)
    compact(store)
    before = look(store)
    reader = Store(tmp_path / "s")
    stale = reader.snapshots.manifest()
    for seed in range(50, 54):
        finish(store, replace(BASE, seed=seed))
    compact(store)
    assert not [n for n in store.place.names("snapshots") if n.startswith(stale.snapshots[0].name)]
    seen = []

    def first_stale():
        seen.append(1)
        return stale if len(seen) == 1 else type(reader.snapshots).manifest(reader.snapshots)

    reader.snapshots.manifest = first_stale
    assert len(reader.runs()) == 7
    assert len(seen) >= 2
    assert {r["run_id"] for r in before["runs"]} <= set(reader.run_ids())


def deaf(monkeypatch, place):
    """Manifests are created and the answer is lost, so that the client's second request finds the name taken."""
    create = type(place).create

    def lost(self, name, content):
        return create(self, name, content) and not name.startswith("manifests/")

    monkeypatch.setattr(type(place), "create", lost)


def test_a_manifest_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    store, _ = ended_store(tmp_path / "s", 3)
    compact(store)
    finish(store, replace(BASE, seed=50))
    finish(store, replace(BASE, seed=51))
    finish(store, replace(BASE, seed=52))
    before = look(store)
    with monkeypatch.context() as patch:
        deaf(patch, store.place)
        assert compact(store).runs == 3
        into = Store(tmp_path / "into", create=True)
        merge([store], into)
    assert look(Store(tmp_path / "s")) == before
    assert store.place.names("runs") == []
    assert len(store.place.names("snapshots")) == 2  # what was merged is gone, what counts is not
    assert len(into.place.names("manifests")) == 1
    assert into.runs().equals(store.runs())


def test_a_manifest_of_another_is_not_taken_for_ones_own(tmp_path, monkeypatch):
    store, _ = ended_store(tmp_path / "s", 3)
    other, spoke = Store(tmp_path / "s"), []
    create = type(store.place).create

    def late(self, name, content):
        if name.startswith("manifests/") and not spoke:
            spoke.append(name)
            assert compact(other).runs == 3
        return create(self, name, content)

    monkeypatch.setattr(type(store.place), "create", late)
    before = look(store)
    assert compact(store).runs == 0
    assert look(Store(tmp_path / "s")) == before
    assert len(store.place.names("snapshots")) == 2


def test_a_claim_that_was_folded_away_while_it_was_read_is_no_fault():
    """Another process removed the file between the listing and the reading; a newer manifest knows the run."""
    assert History("run", attempts=(1,)).state().status == "interrupted"


@pytest.mark.slow
def test_two_compactors_at_once_lose_nothing(tmp_path):
    """Four processes fold the same store while a fifth writes new runs and this one reads."""
    store, runs = ended_store(tmp_path / "s", 40)
    folder = str(tmp_path / "s")
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_compact_often, args=(folder,)) for _ in range(3)]
    writer = context.Process(target=_write_runs, args=(folder, 100, 140))
    for process in (*others, writer):
        process.start()
    reader, seen = Store(folder), []
    while writer.is_alive():
        table = reader.runs()
        ids = table["run_id"].to_pylist()
        assert len(set(ids)) == len(ids)
        assert {run.id for run in runs} <= set(ids)
        seen.append(len(ids))
    for process in (*others, writer):
        process.join()
        assert process.exitcode == 0
    assert seen == sorted(seen)
    compact(store)
    assert len(Store(folder).runs()) == 80
    assert len(Store(folder).points()) == 160
    assert store.place.names("runs") == []


def _compact_often(folder):
    store = Store(folder)
    for _ in range(12):
        compact(store)
        time.sleep(0.02)


def _write_runs(folder, low, high):
    store = Store(folder)
    for seed in range(low, high):
        run = replace(BASE, seed=seed)
        store.enlist("s", [run])
        finish(store, run)


@pytest.mark.slow
def test_a_sigkill_of_the_compactor_is_harmless(tmp_path):
    store, _ = ended_store(tmp_path / "s", 60)
    before = store.runs(), store.points()
    code = f"from chemscale.records import compact, store; s = store.Store({str(tmp_path / 's')!r})\n"
    code += "compact.CHUNK = 4\nprint('go', flush=True)\ncompact.compact(s)"
    wait = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(wait.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        again = Store(tmp_path / "s")
        assert again.runs().equals(before[0])
        assert again.points().equals(before[1])
    compact(store)
    assert Store(tmp_path / "s").runs().equals(before[0])


def test_a_claim_of_a_folded_run_takes_a_number_of_its_own(tmp_path):
    store, (run,) = ended_store(tmp_path / "s", 1)
    compact(store)
    assert store.claim(run, opening_row(run)).number == 2
    store.mark(run.id, "failed", "no")
    compact(store)
    assert store.claim(run, opening_row(run)).number == 3
    store.mark(run.id, "failed", "no")
    assert store.state(run.id).failures == 2
    assert store.state(run.id).status == "finished"


def test_a_stopped_run_goes_on_after_it_was_folded(tmp_path):
    store = Store(tmp_path / "s", create=True)
    store.enlist("s", [BASE])
    attempt = store.claim(BASE, opening_row(BASE))
    attempt.point({"run_id": BASE.id, "step": 1, "examples": 8, "valid_loss": 2.0})
    attempt.save("state.pt", lambda f: f.write(b"half way"))
    store.mark(BASE.id, "stopped", "early")
    compact(store)
    assert store.state(BASE.id).status == "stopped"
    again = store.claim(BASE, opening_row(BASE))
    assert store.state(BASE.id).status == "running"
    assert store.attempts(BASE.id)[0].open("state.pt").read() == b"half way"
    again.point({"run_id": BASE.id, "step": 2, "examples": 16, "valid_loss": 1.0})
    again.end({**opening_row(BASE), "status": "finished", "examples_seen": 16})
    assert store.points()["valid_loss"].to_pylist() == [2.0, 1.0]
    assert store.attempts(BASE.id)[0].open("state.pt") is None
    compact(store)
    assert store.points()["valid_loss"].to_pylist() == [2.0, 1.0]
    assert store.runs()["status"].to_pylist() == ["finished"]


@pytest.fixture
def version_1(tmp_path):
    """A store that version 1 wrote, with the tables that it read from it."""
    with zipfile.ZipFile(Path(__file__).parent / "data" / "store_v1.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_a_store_of_version_1_still_reads(version_1):
    store = Store(version_1 / "store")
    assert equal(store.runs(), RUNS.read(pq.read_table(version_1 / "runs.parquet")), RUNS)
    assert store.points().equals(POINTS.read(pq.read_table(version_1 / "points.parquet")))
    assert store.runs()["studies"].equals(pq.read_table(version_1 / "runs.parquet")["studies"])
    assert [s.failures for s in store.states().values() if s.status == "failed"] == [2]
    assert list(store.studies()["first"]["work"].values()) == [0.0, 2.5, 5.0, 7.5]
    assert store.studies()["first"]["question"] == "why?"
    assert len(store.run_ids()) == 7
    assert store.spec(POTENTIAL.id) == POTENTIAL
    assert json.loads((version_1 / "store" / "store.json").read_text())["version"] == 1


def test_a_store_of_version_1_goes_on_and_compacts(version_1):
    store = Store(version_1 / "store")
    before = look(store)
    store.enlist("first", [BASE])  # the first write makes it version 2
    assert json.loads((version_1 / "store" / "store.json").read_text()) == {"version": 2, "began": 1}
    assert look(store) == before
    assert compact(store).runs == 5
    assert look(Store(version_1 / "store")) == before
    weights = {key: content for key, content in before["checkpoints"].items() if key[2] == "weights.pt"}
    assert list(weights.values()) == [b"the weights"]
    (failed,) = [i for i, s in store.states().items() if s.status == "failed"]
    store.mark(failed, "failed", "a third time")
    assert store.state(failed).failures == 3
    (waiting,) = [i for i, s in store.states().items() if s.status == "interrupted"]
    assert store.claim(store.spec(waiting), {}).number == 2


def test_studies_of_two_drivers_at_once_lose_nothing(tmp_path):
    """Version 1 read, changed and wrote one file: what two drivers said at once was lost."""
    Store(tmp_path / "s", create=True)
    context = multiprocessing.get_context("fork")
    drivers = [context.Process(target=_enlist, args=(str(tmp_path / "s"), 30 * k)) for k in range(2)]
    for driver in drivers:
        driver.start()
    merger = Store(tmp_path / "s")
    while any(driver.is_alive() for driver in drivers):
        merger.studied.merge(least=4)
    assert all(driver.exitcode == 0 for driver in drivers if driver.join() is None)
    study = Store(tmp_path / "s").studies()["both"]
    assert len(study["runs"]) == 60
    assert len(study["work"]) == 60
    assert study["from 0"] == study["from 30"] == 29
    assert merger.state(BASE.id).failures == 60


def _enlist(folder, first):
    store = Store(folder)
    for k in range(30):
        run = replace(BASE, seed=first + k)
        store.enlist("both", [run], work={run.id: float(k)}, **{f"from {first}": k})
        store.mark(BASE.id, "failed", "no")


def test_a_study_reads_the_same_after_its_parts_were_merged(tmp_path):
    store = Store(tmp_path / "s", create=True)
    for k in range(40):
        store.enlist("s", [replace(BASE, seed=k)], note=k)
    before = store.studies()
    copy = shutil.copytree(tmp_path / "s", tmp_path / "copy")
    assert store.studied.merge() == 40
    for part in sorted(os.listdir(copy / "studies"))[15:]:  # a kill in the midst of the removal, oldest first
        shutil.copy(copy / "studies" / part, tmp_path / "s" / "studies")
    assert store.studies() == Store(tmp_path / "s").studies() == before
    store.enlist("s", [BASE], note="newer")
    assert store.studies()["s"]["note"] == "newer"


def test_a_driver_folds_what_ended_and_a_store_out_of_reach_only_delays_it(tmp_path, monkeypatch, caplog):
    store, _ = ended_store(tmp_path / "s", 6)
    monkeypatch.setattr("chemscale.records.compact.WORTH", 5)
    monkeypatch.setattr("chemscale.records.compact.EVERY", 2)
    upkeep = Upkeep(store)
    with monkeypatch.context() as patch:
        patch.setattr(store.place, "names", _unreachable)
        upkeep.finish()
    assert "put off" in caplog.text
    upkeep.count()
    assert len(store.place.names("runs")) == 6
    upkeep.count()  # the second run that ended: a thread folds
    upkeep.finish()
    assert store.place.names("runs") == []
    finish(store, replace(BASE, seed=77))
    upkeep.finish()
    assert len(store.place.names("runs")) == 1  # too few to be worth it


def _unreachable(folder=""):
    raise OSError("no such host")


@pytest.mark.slow
def test_reading_takes_its_share_of_three_seconds_for_a_hundred_thousand_runs(tmp_path):
    """The bound at full size (tests/benchmarks/store_read.py), for fewer runs, plus what opening costs at any size."""
    store = Store(tmp_path / "s", create=True)
    count = 2_000
    runs = [replace(benchmark.BASE, seed=k) for k in range(count)]
    store.enlist("s", runs)
    for start in range(0, count, 500):
        chunk = [benchmark.folded(run, 4) for run in runs[start : start + 500]]
        assert publish(store, store.snapshots.manifest(), chunk)
    taken = []
    for _ in range(3):
        begin = time.process_time()
        assert len(Store(tmp_path / "s").runs()) == count
        taken.append(time.process_time() - begin)
    assert min(taken) < 3.0 * count / 100_000 + 0.2
