"""Ray for the length of a sweep: join the cluster that is there, or start one on this machine and end it again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
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


def _start() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    where = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level="ERROR")  # pyright: ignore[reportArgumentType]
    except ConnectionError as error:
        raise ValueError(
            f"RAY_ADDRESS={address!r} cannot be reached ({error}); start that cluster or unset RAY_ADDRESS."
        ) from None


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
