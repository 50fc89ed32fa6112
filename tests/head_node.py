"""A real head node of a test's own, started as people start one and ended by the processes that it started."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PORTS = (
    "port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
START_SECONDS = 180


@contextlib.contextmanager
def head_node(folder, *more, port=None, **environment):
    """`ray start --head` with two processors; yields (URL of its dashboard, its GCS address)."""
    ports = dict(zip((*PORTS, "dashboard-port"), free_ports(len(PORTS) + 1), strict=True))
    ports["port"] = port or ports["port"]
    numbered = [f"--{name}={port}" for name, port in ports.items()]
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--temp-dir={folder}", *numbered,
        "--num-cpus=2", "--include-dashboard=true", "--dashboard-host=127.0.0.1", "--object-store-memory=100000000",
        "--disable-usage-stats", *more,
    ]  # fmt: skip
    log = Path(folder) / "start.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: answers(ports["dashboard-port"]), START_SECONDS, lambda: log.read_text()[-2000:])
        yield f"http://127.0.0.1:{ports['dashboard-port']}", f"127.0.0.1:{ports['port']}"
    finally:
        end(process.pid)
        process.wait()


def free_ports(count):
    """Ports that nobody listens on, held together so that no two are the same."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def answers(port):
    """Whether the dashboard of a head node speaks HTTP."""
    import requests

    try:
        return requests.get(f"http://127.0.0.1:{port}/api/version", timeout=2).status_code in (200, 401)
    except requests.exceptions.RequestException:
        return False


def wait_until(true, seconds, why=lambda: ""):
    """Ask until it is true; what `why` says goes with the failure."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)


def end(pid):
    """End a process and all that it started."""
    try:
        top = psutil.Process(pid)
        family = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return
    top.terminate()
    psutil.wait_procs([top], timeout=10)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)
