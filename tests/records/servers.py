"""A real server of the S3 protocol, a process of its own on a free port."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

running: dict[int, subprocess.Popen] = {}  # port -> the newest server there
ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_s3(port: int) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.records.s3_server", str(port)],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None and server.stderr is not None
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError(server.stderr.read().decode())
    running[port] = server
    return server


def stop(server: subprocess.Popen) -> None:
    server.kill()
    server.wait()
    for pipe in (server.stdout, server.stderr):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def s3(port: int | None = None) -> Iterator[str]:
    """URL of a bucket, with the keys for it in the environment."""
    port = port or free_port()
    start_s3(port)
    before = {name: os.environ.get(name) for name in ACCESS}
    os.environ.update(ACCESS)
    try:
        yield f"s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:{port}"
    finally:
        stop(running.pop(port))
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def as_gcs(url: str) -> str:
    """The same server as one of Google's protocol, whose XML interface is S3's but for the conditional header."""
    return f"gs://bucket?endpoint={url.split('endpoint=')[1]}"


def below(url: str, folder: str) -> str:
    """The URL of a folder of a bucket."""
    where, _, options = url.partition("?")
    return f"{where}/{folder}?{options}"
