"""A piece of work killed by SIGKILL before one after the other of its operations on files, each time in a new process.

Python reports every opening, renaming, making and removing of files to its audit hooks; the n-th of a child process
that names something in a folder is where it dies.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

MOST = 2_000  # operations; more of them mean that the work never ends


def killed_at_each(work: Callable[[], object], folder: Path, every: int = 1) -> Iterator[int]:
    """Yields after each kill how many operations were let through, until the work is done without one."""
    for allowed in range(0, MOST, every):
        status = _run(work, str(folder), allowed)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the work failed before it was killed"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield allowed
    raise AssertionError(f"the work was not done after {MOST} operations")


def _run(work: Callable[[], object], folder: str, allowed: int) -> int:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        sys.addaudithook(_killer(folder, allowed))
        work()
        code = 0
    finally:
        os._exit(code)


def _killer(folder: str, allowed: int) -> Callable[[str, tuple], None]:
    left = [allowed]

    def hook(event: str, given: tuple) -> None:
        if event.startswith(("os.", "open", "shutil.")) and any(folder in str(g) for g in given):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    return hook
