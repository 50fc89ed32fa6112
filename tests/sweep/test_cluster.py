"""Ctrl-C around a Tuner: Ray's own handler of signals in a Tuner that does nothing else."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from chemscale.sweep.cluster import QUIET, fit, hidden
from chemscale.train.environment import environment


@pytest.fixture(autouse=True)
def quiet():
    """As inside `cluster`, whose settings let Tune handle Ctrl-C."""
    with environment(QUIET):
        yield


@pytest.fixture(autouse=True)
def handlers():
    """This process's handlers before the test, and after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def tuner(press):
    """Sets signals up as `Tuner.fit` does, then perhaps Ctrl-C is pressed."""
    from ray.tune.tune import _setup_signal_catching

    fitted = []

    def run():
        interrupted = _setup_signal_catching()
        if press:
            os.kill(os.getpid(), signal.SIGINT)
        fitted.append(interrupted.is_set())

    return SimpleNamespace(fit=run, fitted=fitted)


def test_ctrl_c_is_a_keyboard_interrupt_after_the_trials_have_ended(handlers):
    pressed = tuner(press=True)
    with pytest.raises(KeyboardInterrupt):
        fit(pressed)
    assert pressed.fitted == [True]
    assert signal.getsignal(signal.SIGINT) is handlers[signal.SIGINT]


def test_a_sweep_that_ends_by_itself_leaves_the_handler_as_it_was(handlers):
    left_alone = tuner(press=False)
    fit(left_alone)
    assert left_alone.fitted == [False]
    assert signal.getsignal(signal.SIGINT) is handlers[signal.SIGINT]


def test_where_the_user_keeps_tune_from_handling_ctrl_c_it_is_pythons_own(monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    left_alone = tuner(press=False)
    fit(left_alone)
    assert left_alone.fitted == [False]
    pressed = tuner(press=True)
    with pytest.raises(KeyboardInterrupt):
        fit(pressed)
    assert pressed.fitted == []


def test_in_a_thread_tune_handles_no_signals(handlers):
    left_alone = tuner(press=False)
    thread = threading.Thread(target=fit, args=[left_alone])
    thread.start()
    thread.join()
    assert left_alone.fitted == [False]
    assert signal.getsignal(signal.SIGINT) is handlers[signal.SIGINT]


def test_variables_are_hidden_for_a_while(monkeypatch):
    monkeypatch.setenv("CHEMSCALE_SEEN", "1")
    with hidden(["CHEMSCALE_SEEN", "CHEMSCALE_UNKNOWN"]):
        assert "CHEMSCALE_SEEN" not in os.environ
    assert os.environ["CHEMSCALE_SEEN"] == "1"
    assert "CHEMSCALE_UNKNOWN" not in os.environ
