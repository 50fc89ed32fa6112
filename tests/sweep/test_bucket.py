"""A sweep whose store is a bucket: killed, gone on with, equal to one on a disk, and readable by every verb."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from chemscale.cli import main
from chemscale.records.schema import POINTS, RUNS, equal
from chemscale.records.store import Store
from chemscale.spec import Resources
from chemscale.sweep.preparation import prepare
from chemscale.train.session import train_in_store
from tests.records import servers
from tests.sweep.test_tune import text_grid

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from chemscale.sweep.drive import sweep
from tests.sweep.test_tune import text_grid
from chemscale.spec import Resources
sweep(text_grid(sys.argv[1], widths=(4,), updates=60), store=sys.argv[2], on=Resources(checkpoint_seconds=0.1))
"""


def drive(molecules, store, folder):
    env = {**os.environ, "RAY_TMPDIR": folder, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", DRIVER, molecules, str(store)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def measured(url):
    try:
        return len(Store(url).points())
    except (ValueError, OSError):
        return 0


def test_a_sweep_in_a_bucket_survives_a_kill(molecules, tmp_path, short_folder, capsys):
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    with servers.s3() as bucket:
        url = servers.below(bucket, "runs")
        driver = drive(molecules, url, short_folder)
        while driver.poll() is None and not measured(url):
            time.sleep(0.1)
        assert driver.poll() is None, driver.stderr.read().decode()
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        again = drive(molecules, url, short_folder)
        assert again.wait(240) == 0, again.stderr.read().decode()
        store, disk = Store(url), Store(tmp_path / "calm", create=True)
        runs = prepare(text_grid(molecules, widths=(4,), updates=60).runs(), None)
        disk.enlist("sweep", runs)
        for run in runs:  # alone, in this process
            train_in_store(run, disk.url, resources=Resources())
        assert store.runs()["status"].to_pylist() == ["finished"] * 2
        assert equal(store.runs(), disk.runs(), RUNS)
        assert equal(store.points(), disk.points(), POINTS)
        assert any(n.startswith("events.out") for n in _files(store.place, "tensorboard"))
        assert not [n for n in _files(store.place, "checkpoints") if n == "state.pt"]

        assert main(["status", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["counts"] == {"finished": 2}
        assert main(["generate", url, "--n", "2", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2
        assert main(["report", url, "--out", str(tmp_path / "page")]) == 0
        assert (tmp_path / "page" / "index.html").stat().st_size > 10_000
        arguments = ["fit", url, "--data", "molecules", "--loss", "nats_per_molecule", "--form", "power", "--json"]
        assert main(arguments) == 2  # too few runs for a law, but they were read
        assert "the table gives 2 runs" in capsys.readouterr().err


def _files(place, folder):
    for name in place.names(folder):
        below = f"{folder}/{name}"
        if place.names(below):
            yield from _files(place, below)
        else:
            yield name
