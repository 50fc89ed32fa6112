"""Folders that are written whole or not at all, and folders for scratch; what killed processes left is swept up.

A folder is written beside its place under the name .building-HOST-PROCESS-RANDOM. Whoever writes one next looks for
those of this machine whose process is gone, and removes them.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STAGING = ".building"


class OccupiedError(OSError):
    """Somebody else has filled the place meanwhile."""


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `final`, which is absent or an empty folder, at the end.

    Raises:
        OccupiedError: `final` holds something by then; the temporary folder is gone.
        OSError: nothing can be written there.
    """
    with scratch_folder(final.parent) as folder:
        yield folder
        try:
            os.rename(folder, final)
        except OSError as error:
            if final.is_dir() and any(final.iterdir()):
                raise OccupiedError(f"{final} was filled by another process") from error
            raise


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """A temporary path that takes the name `final` at the end; a failure leaves no part of the file.

    Raises:
        OSError: nothing can be written there; it names `final`.
    """
    staged = final.with_name(f".{final.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield staged
        os.replace(staged, final)
    except BaseException as error:
        staged.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(final)) from error
        raise


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder that is gone at the end, or, where this process is killed, once the next one is made in `parent`."""
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    folder = parent / f"{_STAGING}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard_parts(building: Path, name: str) -> None:
    """Delete the parts of a build that is there under this name: one that was killed at its very end leaves them."""
    for folder in building.glob(f"{glob.escape(name)}-[0-9]*"):
        if folder.is_dir():  # not its .lock
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed processes of this machine left, and nothing of another one whose name begins like its own."""
    own = re.compile(rf"{re.escape(f'{_STAGING}-{socket.gethostname()}')}-(\d+)-[0-9a-f]+")
    for folder in parent.glob(f"{_STAGING}-*"):
        found = own.fullmatch(folder.name)
        if found is not None and not alive(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
