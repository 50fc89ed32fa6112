"""Jobs against a real head node that asks for a token: submitted, followed over a bad line, stopped, gone on with."""

import dataclasses
import json
import os
import shlex
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from chemscale.cli import main
from chemscale.cli.arguments import parser
from chemscale.cli.output import resources_of
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep import head, jobs
from chemscale.sweep.follow import LostContactError, follow
from chemscale.sweep.jobs import Job, entrypoint
from chemscale.sweep.recipe import load_recipe, parse_options
from tests.head_node import head_node, wait_until
from tests.line import Line

TOKEN = "0123456789abcdef0123456789abcdef"
RECIPE = """
from chemscale import Budget, ChemGPT, Data, Evaluation, Grid, Optim, RunSpec, Search, loguniform

def recipe(source="moses", updates: int = 20, search=False):
    base = RunSpec(
        model=ChemGPT.sized(width=8), data=Data(source, size=100), optim=Optim(batch=8),
        budget=Budget(updates=updates), evaluation=Evaluation(points=2, valid=32, test=32),
    )
    if search:
        return Search(base, {"optim.lr": loguniform(1e-3, 1e-2)}, samples=2, name="rates")
    return Grid(base, models=[ChemGPT.sized(width=w) for w in (8, 12)])
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "few.py"
    path.write_text(RECIPE)
    return str(path)


def run(capsys, *arguments):
    status = main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


# -- without a cluster -------------------------------------------------------------------------------------------------


def test_a_job_runs_the_verb_that_the_recipe_asks_for_with_every_option(recipe):
    most = Resources(
        workers=2, min_workers=1, sharding="fsdp", cpus=0.5, gpus=1, micro_batch=4, concurrent=3, keep="best",
        checkpoint_seconds=2.5, patience=7.0, spool_bytes=1e6, layout="padded", activations="recomputed",
    )  # fmt: skip
    # One of the two excludes the other.
    both = [dataclasses.replace(most, compile="step"), dataclasses.replace(most, kernels="cuequivariance")]
    for field in dataclasses.fields(Resources):
        assert any(getattr(on, field.name) != field.default for on in both), field.name
    options = {"source": "a b.smi", "updates": 7, "search": False}
    loaded, python = load_recipe(recipe, options), "/opt/env/bin/python"
    for on in both:
        command = entrypoint(loaded, "few.py", "s3://bucket/runs", options, on, python)
        assert command.startswith("exec /opt/env/bin/python -m chemscale sweep few.py")
        given = parser().parse_args(shlex.split(command)[4:])
        assert resources_of(given) == on
        assert given.store == "s3://bucket/runs"
        assert parse_options(given.set) == options
    number = entrypoint(load_recipe(recipe, {"source": "10"}), "few.py", "/s", {"source": "10"}, Resources())
    assert parse_options(parser().parse_args(shlex.split(number)[4:]).set) == {"source": "10"}  # still a string
    assert " search few.py" in entrypoint(load_recipe(recipe, {"search": True}), "few.py", "/s", {}, Resources())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "/x"], "--address is missing"),
        (["--store", "runs/x", "--address", "http://127.0.0.1:1"], "store='runs/x' is relative"),
        (["--store", "/x", "--address", "http://127.0.0.1:1"], "cannot be reached"),
        (["--store", "/x", "--address", "head:8265"], "give its dashboard's URL"),
        (["--store", "/x", "--address", "http://127.0.0.1:1", "--set", "no=1"], "names no argument"),
        (["--store", "/x", "--address", "http://127.0.0.1:1", "--env", "NAME"], "write --env NAME=VALUE"),
        (["--store", "/x", "--address", "http://127.0.0.1:1", "--working-dir", "/usr/bin"], "lies outside"),
        (["--store", "/x", "--address", "http://127.0.0.1:1", "--working-dir", "/no"], "is not a folder"),
    ],
)
def test_mistakes_are_one_sentence(capsys, monkeypatch, recipe, arguments, sentence):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    status, _, err = run(capsys, "submit", recipe, *arguments)
    assert status == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_the_address_that_is_given_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(head.UnreachableError, match=r"http://127\.0\.0\.1:1"):
        jobs.jobs("http://127.0.0.1:1")
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:2"


def test_a_missing_job_client_names_the_extra(monkeypatch):
    monkeypatch.setattr(head.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"aiohttp is not installed; `pip install 'chemscale\[jobs\]'`"):
        head.connect("http://127.0.0.1:1")


def test_a_folder_that_ray_would_not_send_is_refused_before_it_is_packed(capsys, monkeypatch, recipe, tmp_path):
    from ray._private.runtime_env import packaging

    monkeypatch.setattr(packaging, "GCS_STORAGE_MAX_SIZE", 2 << 20)
    (tmp_path / "large.bin").write_bytes(bytes(3 << 20))
    arguments = ["submit", recipe, "--working-dir", str(tmp_path), "--store", "/x", "--address", "http://127.0.0.1:1"]
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "more than the 2 MiB" in err
    (tmp_path / ".gitignore").write_text("large.bin\n")
    status, _, err = run(capsys, *arguments)
    assert "cannot be reached" in err


def test_another_server_is_no_head_node(capsys):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, _, err = run(capsys, "status", "--address", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert status == 2
    assert "does not answer as a Ray head node" in err


# -- against a real head node ------------------------------------------------------------------------------------------


@contextmanager
def token_mode(token):
    """This process as a client that knows `token`; Ray reads its mode once, so it is told to read again."""
    from ray._raylet import AuthenticationTokenLoader, Config

    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"})
    try:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture(scope="module")
def address(home):
    """URL of a head node that asks for TOKEN."""
    with (
        tempfile.TemporaryDirectory(prefix="cs", dir="/tmp", ignore_cleanup_errors=True) as folder,
        head_node(folder, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as (url, _),
    ):
        yield url


@pytest.fixture
def known(address):
    with token_mode(TOKEN):
        yield address


@pytest.mark.slow
def test_a_study_is_submitted_stopped_and_goes_on(capsys, known, recipe, molecules, tmp_path):
    store = tmp_path / "store"
    arguments = ["submit", recipe, "--address", known, "--store", str(store), "--json"]
    arguments += ["--set", f"source={molecules}", "--set", "updates=1200"]
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    first = json.loads(out)["job"]

    def under_way():
        return store.exists() and any(state.examples for state in states(store))

    wait_until(under_way, 300, lambda: Job(known, first).logs())
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert f"job {first} is already at work" in err
    status, out, _ = run(capsys, "stop", first, "--address", known)
    assert (status, out) == (0, f"{first} stopped\n")
    wait_until(lambda: not any(state.status == "running" for state in states(store)), 60)
    assert any(state.status == "interrupted" and state.examples for state in states(store))

    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    second = json.loads(out)["job"]
    assert second != first
    status, out, err = run(capsys, "logs", second, "-f", "--address", known)
    assert status == 0, out
    assert "2/2 runs" in out
    assert f"job {second} succeeded" in err
    rows = Store(store).runs().to_pylist()
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert max(row["attempt"] for row in rows) == 2  # the interrupted run went on in a second attempt
    status, out, _ = run(capsys, "status", "--address", known, "--json")
    assert [(job["id"], job["status"]) for job in json.loads(out)] == [(first, "stopped"), (second, "succeeded")]


def states(store):
    opened = Store(store)
    return [opened.state(run_id) for run_id in opened.run_ids()]


@pytest.mark.slow
def test_a_log_is_followed_over_a_line_that_breaks(known):
    client = head.connect(known)
    lines = 'for i in 1 2 3 4 5 6 7 8 9; do echo "line $i of nine"; sleep 0.7; done'
    line, said, heard = Line(known), [], []
    job = Job(line.url, client.submit_job(entrypoint=lines))
    for text in follow(job, say=said.append):
        heard.append(text)
        if "line 3" in text:
            line.break_off(cut=False)
        if "line 6" in text:
            line.break_off(cut=True)
            threading.Timer(1.5, line.break_off, kwargs={"cut": False}).start()
    text = "".join(heard)
    assert [text.count(f"line {i} of nine") for i in range(1, 10)] == [1] * 9
    assert text == Job(known, job.id).logs()
    assert len([sentence for sentence in said if sentence.startswith("lost contact")]) == 2
    assert len([sentence for sentence in said if sentence.endswith("again")]) == 2

    job = Job(line.url, client.submit_job(entrypoint="echo begun; sleep 30"))
    pieces = follow(job, patience=2)
    while "begun\n" not in next(pieces):
        pass
    line.break_off(cut=True)
    with pytest.raises(LostContactError, match=f"job {job.id} may run on"):
        list(pieces)
    assert Job(known, job.id).stop().status == "stopped"


@pytest.mark.slow
def test_a_token_is_asked_for_and_an_unknown_job_is_said(capsys, address, recipe):
    for token, sentence in (("wrong", "refused the token"), (None, "asks for a token and none was given")):
        with token_mode(token):
            for arguments in (["submit", recipe, "--store", "/x"], ["status"], ["logs", "j", "-f"], ["stop", "j"]):
                status, _, err = run(capsys, *arguments, "--address", address)
                assert status == 2
                assert sentence in err, arguments
                assert "RAY_AUTH_TOKEN" in err
                assert err.count("\n") == 1
    with token_mode(TOKEN):
        for arguments in (["status", "j"], ["logs", "j"], ["logs", "j", "-f"], ["stop", "j"]):
            status, _, err = run(capsys, *arguments, "--address", address)
            assert status == 2
            assert "job='j' is unknown to" in err, arguments


@pytest.mark.slow
def test_the_head_nodes_own_interpreter_runs_the_job(known):
    found = head.interpreter(head.connect(known))
    assert Path(found).resolve() == Path(sys.executable).resolve()
    assert Path(found).parent == Path(sys.executable).parent  # of the environment, not of the Python below it
