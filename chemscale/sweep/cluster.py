"""Ray for the length of a sweep: join the cluster that is there, or start one on this machine and end it again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from chemscale.train.environment import environment

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store is the record; Tune's own files cost more than tiny cells
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # progress reports between measurements carry no metric
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nobody resumes from Tune's snapshots, which grow with the trials
    "TUNE_MAX_PENDING_TRIALS_PG": "8",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "0",  # `fit` reads from Tune's handler whether Ctrl-C was pressed
}

CONNECT_SECONDS = 10.0  # a firewall that drops packets would else hold the caller for minutes


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster: an initialised one, the one that RAY_ADDRESS names, or a new one on this machine.

    Raises:
        ValueError: RAY_ADDRESS names a cluster that cannot be reached.
    """
    import ray

    with environment(QUIET), _quiet_log("ray.tune"):
        started = not ray.is_initialized()
        if started:
            _start()
        try:
            yield
        finally:
            if started:
                ray.shutdown()


def fit(tuner: Any) -> None:
    """Fit a Tuner; Ctrl-C ends its trials and is a KeyboardInterrupt, as everywhere else.

    Tune returns from it as if all were done, and otherwise leaves its own handler behind, which swallows the next one.
    """
    in_thread = threading.current_thread() is not threading.main_thread()
    if in_thread or os.environ.get("TUNE_DISABLE_SIGINT_HANDLER", "0") != "0":
        tuner.fit()  # Tune handles no signals there, and none that the user keeps from it
        return
    before = signal.getsignal(signal.SIGINT)
    tuner.fit()
    pressed = signal.getsignal(signal.SIGINT) is before  # Tune gives its place back when it is called
    signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def join(address: str, field: str) -> None:
    """Join the Ray cluster at an address: "auto", HOST:PORT or ray://HOST:PORT.

    Args:
        field: what named the address, for the sentence.

    Raises:
        ValueError: nobody answers there.
    """
    import ray

    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # where nobody listens Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")  # pyright: ignore[reportArgumentType]
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{field}={address!r} cannot be reached ({error}); start that cluster, or leave it out."
        ) from None


def _start() -> None:
    import ray

    if address := os.environ.get("RAY_ADDRESS"):
        return join(address, "RAY_ADDRESS")
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")  # pyright: ignore[reportArgumentType]
    return None


@contextlib.contextmanager
def _quiet_log(name: str) -> Iterator[None]:
    """Tune prints a traceback for every failed trial; the store keeps the reason and the display says it."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def hidden(names: Iterable[str]) -> Iterator[None]:
    """Take environment variables away for a while."""
    there = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(there)
