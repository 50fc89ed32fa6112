"""Managing a store: what it takes, what can go, whether it is whole, and several as one."""

import json
import os
import time
from dataclasses import replace

import pyarrow as pa
import pytest

from chemscale.cli import main
from chemscale.records import snapshots
from chemscale.records.compact import compact
from chemscale.records.manage import forget, plan_pruning, prune, usage
from chemscale.records.merge import merge
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.records.verify import repair, verify
from chemscale.spec import InitFrom, Reading
from chemscale.train.rows import opening_row
from tests.test_spec import BASE, POTENTIAL

SPECS = {name: replace(BASE, seed=k) for k, name in enumerate(("good", "better", "stopped", "failed", "dead", "lives"))}
GONE = {"host": "elsewhere", "pid": 1, "born": 0.0}


def train(store, run, *, loss=None, driver=None, steps=2, weights=b"weights", state=b"state!"):
    """One attempt; it finishes where there is a loss."""
    attempt = store.claim(run, opening_row(run), driver)
    for step in range(1, steps + 1):
        attempt.point({"run_id": run.id, "step": step, "examples": 8 * step, "valid_loss": 1.0 / step})
    attempt.beat(steps, 8 * steps)
    attempt.save("state.pt", lambda f: f.write(state))
    if loss is not None:
        attempt.save("weights.pt", lambda f: f.write(weights))
        more = {"law_loss": loss, "law_metric": "nats_per_token", "examples_seen": 8 * steps}
        attempt.end({**opening_row(run), "status": "finished", **more})
    return attempt


def old_beat(attempt):
    attempt.place.write_json("heartbeat.json", {"time": 1.0, "step": 2, "examples": 16})


@pytest.fixture
def store(tmp_path):
    """One run of every kind."""
    store = Store(tmp_path / "store", create=True)
    store.enlist("s", list(SPECS.values()), question="why?")
    store.enlist("t", [SPECS["good"]])
    train(store, SPECS["good"], loss=2.0)
    train(store, SPECS["better"], loss=1.0)
    train(store, SPECS["stopped"])
    store.mark(SPECS["stopped"].id, "stopped", "early")
    store.mark(SPECS["failed"].id, "failed", "ValueError: no")
    old_beat(train(store, SPECS["dead"], driver=GONE))
    train(store, SPECS["lives"])
    events = store.path / "tensorboard" / "chemgpt" / "w16" / SPECS["good"].id
    events.mkdir(parents=True)
    (events / "events.out").write_bytes(b"12345")
    return store


def named(store):
    """Status by name."""
    states = store.states()
    return {name: states[run.id].status for name, run in SPECS.items()}


ALL = {"good": "finished", "better": "finished", "stopped": "stopped", "failed": "failed", "dead": "interrupted",
       "lives": "running"}  # fmt: skip


def test_usage_adds_up(store):
    found = usage(store)
    on_disk = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(store.path) for f in fs)
    assert found.whole.bytes.total() == on_disk
    assert found.whole.bytes["weights"] == 2 * len(b"weights")
    assert found.whole.files["states"] == 3
    assert found.studies["t"].bytes["events"] == 5
    assert found.architectures["chemgpt"].bytes == found.studies["s"].bytes
    compact(store)
    assert usage(store).whole.bytes["snapshots"] > 0
    assert usage(store).whole.bytes["weights"] == 2 * len(b"weights")


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("asked", "weights", "left", "states"),
    [
        ({}, {"good", "better"}, ALL, 3),
        ({"keep": "best"}, {"better", "good"}, ALL, 3),  # each is the best of one study
        ({"keep": "none"}, set(), ALL, 3),
        ({"keep": "none", "runs": [SPECS["good"].id]}, {"better"}, ALL, 3),
        ({"unfinished": True}, {"good", "better"}, {**ALL, "failed": "pending", "dead": "pending"}, 1),
    ],
)
def test_pruning_takes_what_was_asked_and_nothing_else(store, compacted, asked, weights, left, states):
    if compacted:
        compact(store)
    before = store.runs(status="finished"), store.points(SPECS["good"].id)
    running = store.points(SPECS["lives"].id)
    plan = plan_pruning(store, **asked)
    assert named(store) == ALL  # a plan changes nothing
    free = usage(store).whole.bytes.total()
    prune(store, plan)
    if not (compacted and plan.runs):  # a new manifest takes a few bytes
        assert free - usage(store).whole.bytes.total() == plan.bytes
    kept = {n for n, r in SPECS.items() if any(a.open("weights.pt") for a in store.attempts(r.id))}
    assert kept == weights
    assert named(store) == left
    assert usage(store).whole.files["states"] == states
    assert store.attempts(SPECS["lives"].id)[0].open("state.pt") is not None
    assert store.runs(status="finished").equals(before[0])
    assert store.points(SPECS["good"].id).equals(before[1])
    assert store.points(SPECS["lives"].id).equals(running)
    assert plan_pruning(store, **asked).files == ()
    assert verify(store) == []


def test_pruned_events_go_alone(store):
    prune(store, plan_pruning(store, events=True))
    assert not (store.path / "tensorboard" / "chemgpt" / "w16" / SPECS["good"].id).exists()
    assert named(store) == ALL


def test_a_forgotten_run_starts_anew(store):
    compact(store)
    prune(store, plan_pruning(store, unfinished=True))
    train(store, SPECS["failed"], loss=3.0)
    compact(store)
    assert store.state(SPECS["failed"].id).status == "finished"
    assert store.state(SPECS["failed"].id).failures == 0


def outpace(slow, more):
    """Another process folds these runs and merges; the store has the manifest before that in mind once more."""
    stale, other = slow.snapshots.manifest(), Store(slow.url)
    for run in more:
        train(other, run, loss=3.0)
    compact(other)
    assert not [name for name in other.place.names("snapshots") if name.startswith(stale.snapshots[0].name)]
    snapshots._TABLES.clear()
    current, manifests = slow.snapshots.manifest, [stale]
    slow.snapshots.manifest = lambda: manifests.pop() if manifests else current()


def test_runs_are_forgotten_while_another_compacts(store):
    compact(store)
    gone, others = SPECS["failed"].id, [replace(BASE, seed=seed) for seed in range(20, 24)]
    slow = Store(store.url)
    outpace(slow, others)
    forget(slow, [gone])
    left = Store(store.url)
    assert gone not in left.snapshots.where(left.snapshots.manifest())
    assert {left.state(run.id).status for run in (SPECS["good"], *others)} == {"finished"}


def test_a_merge_goes_on_while_another_compacts(tmp_path, monkeypatch):
    one, into = two(tmp_path)
    train(one, BASE, loss=1.0)
    train(into, replace(BASE, seed=1), loss=2.0)
    compact(into)
    monkeypatch.setattr(
        "chemscale.records.merge._copy_checkpoints", lambda *runs: outpace(into, [replace(BASE, seed=2)])
    )
    assert merge([one], into).copied == 1
    rows = Store(into.url).runs(columns=("seed", "law_loss")).to_pylist()
    assert sorted((row["seed"], row["law_loss"]) for row in rows) == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_a_merge_into_a_store_whose_snapshot_is_lost_says_so(tmp_path, monkeypatch):
    one, into = two(tmp_path)
    train(one, BASE, loss=1.0)
    train(into, replace(BASE, seed=1), loss=2.0)
    compact(into)

    def lose(*runs):
        for name in into.place.names("snapshots"):
            into.place.remove(f"snapshots/{name}")

    monkeypatch.setattr("chemscale.records.merge._copy_checkpoints", lose)
    with pytest.raises(OSError, match="but there is no such file"):
        merge([one], into)


def test_an_unknown_policy_is_refused(store):
    with pytest.raises(ValueError, match="keep='some' is not allowed: it must be one of final, best, none"):
        plan_pruning(store, keep="some")


# -- merging ---------------------------------------------------------------------------------------------------------


def two(tmp_path):
    return Store(tmp_path / "a", create=True), Store(tmp_path / "b", create=True)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_merged_store_holds_the_runs_of_both(tmp_path, store, compacted):
    other = Store(tmp_path / "b", create=True)
    other.enlist("u", [POTENTIAL, SPECS["failed"]], work={POTENTIAL.id: 3.0}, question="and?")
    other.register_forecast(POTENTIAL.id, {"value": 1.0})
    train(other, POTENTIAL, loss=5.0, weights=b"others")
    train(other, SPECS["failed"], loss=4.0)  # what failed in one finished in the other
    train(other, SPECS["good"], loss=2.0)  # the same numbers
    if compacted:
        compact(store)
        compact(other)
    into = Store(tmp_path / "into", create=True)
    done = merge([store, other], into)
    assert (done.copied, done.same, done.running, done.conflicts) == (6, 0, (SPECS["lives"].id,), {})
    assert named(into) == {**ALL, "failed": "finished", "lives": "pending"}
    for source, names in ((store, ("good", "better", "stopped")), (other, ("failed",))):
        for name in names:
            run = SPECS[name]
            assert equal(into.points(run.id), source.points(run.id), POINTS)
            one, two = (s.runs(run_id=run.id).drop_columns(["studies"]) for s in (into, source))
            assert one.equals(two)
    assert into.attempts(POTENTIAL.id)[0].open("weights.pt").read() == b"others"
    assert into.attempts(SPECS["stopped"].id)[0].open("state.pt").read() == b"state!"
    assert into.studies()["u"]["work"] == {POTENTIAL.id: 3.0}
    assert into.studies()["s"]["question"] == "why?"
    assert into.forecasts() == other.forecasts()
    again = merge([store, other], into)
    assert (again.copied, again.same) == (0, 6)
    assert verify(into) == []
    assert into.claim(SPECS["stopped"], {}).number == 2


def test_a_finished_run_wins_over_one_that_is_there_already(tmp_path):
    one, into = two(tmp_path)
    old_beat(train(into, BASE, driver=GONE, steps=3))
    train(one, BASE, loss=1.0, steps=5, weights=b"dear")
    merge([one], into)
    assert into.state(BASE.id).status == "finished"
    assert equal(into.points(), one.points(), POINTS)
    assert into.attempts(BASE.id)[-1].open("weights.pt").read() == b"dear"
    compact(into)
    assert equal(into.points(), one.points(), POINTS)


def test_finished_runs_that_differ_are_refused_until_one_is_preferred(tmp_path, capsys):
    one, other = two(tmp_path)
    train(one, BASE, loss=1.0)
    train(other, BASE, loss=1.5)
    train(other, POTENTIAL, loss=1.0)
    paths = [str(one.path), str(other.path)]
    assert main(["store", "merge", *paths, "--into", str(tmp_path / "c")]) == 1
    said = capsys.readouterr().out
    assert f"run {BASE.id} differs in law_loss." in said
    assert "--prefer" in said
    assert Store(tmp_path / "c").runs().num_rows == 0
    assert main(["store", "merge", *paths, "--into", str(tmp_path / "c"), "--prefer", paths[1]]) == 0
    assert Store(tmp_path / "c").runs(run_id=BASE.id)["law_loss"].to_pylist() == [1.5]
    assert main(["store", "merge", *paths, "--into", str(tmp_path / "c"), "--prefer", "elsewhere"]) == 2
    assert "is none of the stores" in capsys.readouterr().err


def test_a_killed_merge_goes_on(tmp_path, monkeypatch):
    one, into = two(tmp_path)
    for seed in range(6):
        train(one, replace(BASE, seed=seed), loss=float(seed))
    monkeypatch.setattr("chemscale.records.merge.BATCH", 2)

    def killed(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge([one], into, progress=killed)
    assert len(into.runs()) == 4
    assert merge([one], into).copied == 2
    assert equal(into.runs(), one.runs(), RUNS)


# -- verifying -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compacted", [False, True])
def test_a_whole_store_has_no_faults(store, compacted):
    if compacted:
        compact(store)
    assert verify(store) == []


KINDS = {  # of runs whose stored spec says more than their id holds
    "file": replace(BASE, data=replace(BASE.data, reading=Reading(longest=40))),
    "member": replace(BASE, member="population-0-1"),
    "origin": replace(BASE, init_from=InitFrom("runs/base", run="1a2b", content="c0", matched=3, fresh=1)),
    "potential": POTENTIAL,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_any_kind_is_whole(tmp_path, kind):
    store = Store(tmp_path / "store", create=True)
    train(store, KINDS[kind], loss=1.0)
    assert verify(store) == []


def damage_table(store):
    store.place.write("runs/x/attempts/0001/points.parquet", lambda f: f.write(b"PAR1 not at all"))
    return "does not read"


def damage_spec(store):
    attempt = store.attempts(SPECS["good"].id)[0]
    row = attempt.place.read_json("run.json")
    attempt.place.write_json("run.json", {**row, "spec": row["spec"].replace('"seed":0', '"seed":77')})
    return "its spec has the id"


def damage_points(store):
    attempt = store.attempts(SPECS["good"].id)[0]
    table = attempt.place.read_table("points.parquet")
    examples = pa.array([16, 8])
    at = table.column_names.index("examples")
    attempt.place.write_table("points.parquet", table.set_column(at, table.schema.field(at), examples))
    return "its points do not grow at step 2"


def damage_snapshot(store):
    compact(store)
    name = next(n for n in store.place.names("snapshots") if ".points." in n)
    store.place.remove(f"snapshots/{name}")
    return "which is missing"


def damage_half_a_snapshot(store):
    compact(store)
    name = next(n for n in store.place.names("snapshots") if ".runs." in n)
    store.place.write(f"snapshots/{name}", lambda f: f.write(b"PAR1 not at all"))
    return "does not read"


def damage_records(store):
    store.place.remove(f"runs/{SPECS['good'].id}")
    return "belongs to a run without any record"


def damage_claim(store):
    store.place.remove(f"runs/{SPECS['lives'].id}/attempts/0001/claim.json")
    return "without a claim"


@pytest.mark.parametrize(
    "damage",
    [damage_table, damage_spec, damage_points, damage_snapshot, damage_half_a_snapshot, damage_records, damage_claim],
)
def test_damage_is_found_and_named(store, damage, capsys):
    expected = damage(store)
    assert any(expected in fault.wrong for fault in verify(Store(store.path)))
    assert main(["store", "verify", str(store.path)]) == 1
    said = capsys.readouterr().out
    assert expected in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("store.json", "", "Expecting value"),
        ("store.json", "{}", "it has no version"),
        ("forecasts/next.json", '{"val', "Unterminated string"),
        ("studies/s.00000000000000000001-00000000.parquet", "PAR1", "Parquet"),
    ],
)
def test_a_damaged_file_is_named(store, capsys, file, content, why):
    (store.path / file).parent.mkdir(exist_ok=True)
    (store.path / file).write_text(content)
    assert main(["store", "merge", str(store.path), "--into", f"{store.path}-new"]) == 2
    said = capsys.readouterr().err
    assert f"{store.path}/{file} does not read: {why}" in said and said.count("\n") == 1


def test_repair_removes_only_what_nobody_needs(store, capsys):
    old, new = store.path / "runs" / ".claim.json.aaaa.tmp", store.path / "runs" / ".claim.json.bbbb.tmp"
    for file in (old, new):
        file.write_text("")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    (store.path / "snapshots").mkdir()
    orphan = store.path / "snapshots" / f"{1:020d}-00000000.runs.parquet"
    store.place.write_table(orphan.relative_to(store.path).as_posix(), RUNS.table([]))
    before = store.runs()
    faults = verify(store)
    assert {fault.what.rsplit("/", 1)[-1] for fault in faults} == {old.name, orphan.name}
    assert main(["store", "verify", str(store.path), "--repair", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["repaired"]) == sorted(f.what for f in faults)
    assert new.exists() and not old.exists() and not orphan.exists()
    assert repair(store, verify(store)) == []
    assert store.runs().equals(before)


# -- the command line ------------------------------------------------------------------------------------------------


def said(capsys, *arguments):
    assert main(["store", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_verb_speaks_to_programs_and_people(store, capsys):
    path = str(store.path)
    assert len(said(capsys, "list", path)) == 6
    assert said(capsys, "du", path)[0]["what"] == "in all"
    would = said(capsys, "prune", path, "--keep", "none", "--where", "law_loss > 1.5", "--dry-run")
    assert (would["dry_run"], would["by_kind"]) == (True, {"weights": 7})
    assert said(capsys, "prune", path, "--keep", "none", "--where", "law_loss > 1.5")["bytes"] == 7
    assert said(capsys, "compact", path)["runs"] == 4
    assert said(capsys, "verify", path) == {"faults": [], "repaired": []}
    assert said(capsys, "merge", path, "--into", str(store.path.parent / "new"))["copied"] == 5
    for arguments in (["list", path], ["du", path], ["prune", path], ["compact", path], ["verify", path]):
        assert main(["store", *arguments]) == 0
        out = capsys.readouterr()
        assert out.out.strip()
        assert not out.err


def test_a_mistake_is_one_sentence(tmp_path, store, capsys):
    for arguments in (["du", str(tmp_path / "none")], ["prune", str(store.path), "--where", "nosuch > 1"]):
        assert main(["store", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
