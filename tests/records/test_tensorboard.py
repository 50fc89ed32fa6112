"""Event files, read back by TensorBoard itself: the points of the store on every axis, and a row for every run."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from chemscale.records.schema import METRICS
from chemscale.records.store import Store
from chemscale.records.tensorboard import AXES, FINAL, Board, run_folder
from chemscale.spec import Budget, Resources
from chemscale.train.session import train_in_store
from tests.train.runs import run_of, train

SINGLE = 1e-6  # relative; events hold float32
MEASURED = ("train_loss", "valid_loss", *(f"valid_{name}" for name in METRICS))


class Killed(Exception):
    pass


def train_interrupted(run, folder, reports):
    """Train with a checkpoint after every step, interrupted so often; returns the store."""
    store = Store(folder, create=True)
    for left in reports:
        seen = iter(range(left))

        def report(row, seen=seen):
            if next(seen, None) is None:
                raise Killed

        with pytest.raises(Killed):
            train_in_store(run, folder, resources=Resources(checkpoint_seconds=0), report=report)
    train_in_store(run, folder, resources=Resources())
    assert len(store.attempts(run.id)) == len(reports) + 1
    return store


def folder_of(store, row):
    return store.path / "tensorboard" / run_folder(row)


def read_back(folder):
    """Tag -> [(step, value)], as TensorBoard's own reader sees a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def expected(store, run_id):
    """The same from POINTS and RUNS."""
    points, (row,) = store.points(run_id).to_pylist(), store.runs(run_id=run_id).to_pylist()
    found = {
        f"{axis.group}/{name}": [(round(p[axis.column] * axis.scale), p[name]) for p in points]
        for axis in AXES for name in MEASURED if points[0][name] is not None
    }  # fmt: skip
    found |= {f"optimiser/{n}": [(p["examples"], p[n]) for p in points] for n in ("lr", "gradient_norm")}
    return found | {f"final/{n}": [(row["examples_seen"], row[n])] for n in FINAL if row[n] is not None}


def assert_same(read, wanted):
    assert set(read) == set(wanted)
    for tag, series in wanted.items():
        assert [step for step, _ in read[tag]] == [step for step, _ in series], tag
        assert [v for _, v in read[tag]] == pytest.approx([v for _, v in series], rel=SINGLE), tag


@pytest.mark.parametrize("family", ["chemgpt", "painn"])
def test_events_are_the_points_on_every_axis(family, molecules, structures, tmp_path):
    store = train(run_of(family, molecules, structures), tmp_path / "store")
    (row,) = store.runs().to_pylist()
    wanted = expected(store, row["run_id"])
    assert_same(read_back(folder_of(store, row)), wanted)
    assert len({steps for tag in wanted if "valid_loss" in tag for steps in [tuple(s for s, _ in wanted[tag])]}) == 3


def test_what_is_measured_twice_is_seen_once_on_every_axis(molecules, structures, tmp_path):
    run = run_of("chemgpt", molecules, structures)
    store = train_interrupted(run, tmp_path / "store", reports=(1, 2))
    (row,) = store.runs().to_pylist()
    assert_same(read_back(folder_of(store, row)), expected(store, run.id))


def test_a_restart_without_a_checkpoint_starts_the_curves_again(tmp_path):
    opening = {"run_id": "ab" * 8, "architecture": "chemgpt", "width": 8, "examples": 100, "seed": 0}
    first = Board(tmp_path, opening)
    for step in (1, 2, 3):
        first.point({"examples": 10 * step, "flops": 1e9 * step, "seconds": 0.5 * step, "valid_loss": 9.0})
    second = Board(tmp_path, opening)
    second.point({"examples": 10, "flops": 1e9, "seconds": 0.7, "valid_loss": 8.0})
    second.close()
    first.point({"examples": 40, "flops": 4e9, "seconds": 2.0, "valid_loss": 9.0})  # a worker that outlived its driver
    first.close()
    assert read_back(tmp_path) == {
        "by_examples/valid_loss": [(10, 8.0)],
        "by_megaflops/valid_loss": [(1000, 8.0)],
        "by_milliseconds/valid_loss": [(700, 8.0)],
    }


def test_a_disk_that_refuses_events_for_a_while_stops_no_run_and_gets_them_all(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    board = Board(folder, {"run_id": "ab", "architecture": "painn", "width": 8, "examples": 10, "seed": 0})
    rows = [{"examples": n, "flops": 1e9 * n, "seconds": 1.0 * n, "valid_loss": 1.0 / n} for n in (1, 2, 3)]
    board.point(rows[0])
    with monkeypatch.context() as patched:
        patched.setattr("chemscale.records.events.EventFile.flush", refuse)
        patched.setattr("chemscale.records.events.EventFile.__init__", refuse)
        board.point(rows[1])
        board.point(rows[2])
    board.close()
    assert [step for step, _ in read_back(folder)["by_examples/valid_loss"]] == [1, 2, 3]


def refuse(*args, **more):
    raise OSError("No space left on device")


def test_a_run_of_ten_to_the_24_flops_still_has_a_step(tmp_path):
    board = Board(tmp_path, {"run_id": "ab", "architecture": "painn", "width": 8, "examples": 10**9, "seed": 0})
    board.point({"examples": 10**12, "flops": 5e24, "seconds": 1e8, "valid_loss": 0.01})
    board.close()
    assert read_back(tmp_path)["by_megaflops/valid_loss"][0][0] == 5 * 10**18


# -- the command of the README ----------------------------------------------------------------------------------------


@contextmanager
def served(folder, fast):
    """The address of a TensorBoard on this folder."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, f"--load_fast={fast}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://localhost:{port}/data/"
    finally:
        process.terminate()
        process.wait(30)


def ask(address, body=None, **query):
    url = address + ("?" + urlencode(query) if query else "")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


def wait_for(question, wanted, seconds=60):
    """Ask until the answer is as wanted: TensorBoard reads while it serves."""
    deadline, answer = time.time() + seconds, None
    while time.time() < deadline:
        try:
            answer = question()
        except OSError:
            answer = None
        if answer is not None and wanted(answer):
            return answer
        time.sleep(0.3)
    raise AssertionError(f"TensorBoard says {answer!r}")


@pytest.fixture(scope="module")
def killed_store(molecules, structures, tmp_path_factory):
    """A ChemGPT that was interrupted twice, a PaiNN, and a ChemGPT that diverged."""
    folder = tmp_path_factory.mktemp("tensorboard") / "store"
    run = run_of("chemgpt", molecules, structures)
    store = train_interrupted(run, folder, reports=(1, 2))
    train(run_of("painn", molecules, structures), folder)
    lost = replace(run, optim=replace(run.optim, lr=1e30, clip=None), budget=Budget(updates=4))
    train(lost, folder)
    assert sorted(store.runs()["status"].to_pylist()) == ["diverged", "finished", "finished"]
    return store


@pytest.mark.slow
@pytest.mark.parametrize("fast", ["auto", "false"])  # the data server in Rust, and the reader in Python
def test_tensorboard_shows_each_point_once_and_each_run_in_one_row(killed_store, fast):
    rows = {row["run_id"]: row for row in killed_store.runs().to_pylist()}
    names = {str(run_folder(row)) for row in rows.values()}
    with served(killed_store.path / "tensorboard", fast) as address:
        assert set(wait_for(lambda: ask(address + "runs"), lambda found: len(found) == 3)) == names
        for row in rows.values():
            for tag, series in expected(killed_store, row["run_id"]).items() if row["status"] == "finished" else ():
                asked = {"run": str(run_folder(row)), "tag": tag}
                shown = wait_for(lambda asked=asked: ask(address + "plugin/scalars/scalars", **asked), bool)
                assert_same({tag: [(step, value) for _, step, value in shown]}, {tag: series})
        assert_rows(ask(address + "plugin/hparams/session_groups", _REQUEST), rows)


_REQUEST = {
    "experimentName": "", "sliceSize": 100, "startIndex": 0, "colParams": [],
    "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"],
}  # fmt: skip


def assert_rows(table, rows):
    groups = {group["name"].split("/")[-1]: group for group in table["sessionGroups"]}
    assert len(table["sessionGroups"]) == len(rows) and set(groups) == set(rows)
    for run_id, group in groups.items():
        row, given = rows[run_id], group["hparams"]
        assert (given["architecture"], given["lr"]) == (row["architecture"], pytest.approx(row["lr"]))
        assert (given["params"], given["width"], given["seed"]) == (row["params"], row["width"], row["seed"])
        (session,) = group["sessions"]
        assert session["status"] == {"finished": "STATUS_SUCCESS", "diverged": "STATUS_FAILURE"}[row["status"]]
        values = {m["name"]["tag"]: m["value"] for m in group.get("metricValues", [])}
        assert values.get("final/law_loss") == (row["law_loss"] and pytest.approx(row["law_loss"], rel=SINGLE))
