"""Event files beside a store: a board outlives a full disk, and reaches a bucket, where no file can be appended to."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from chemscale.records.place import Place

COPY_SECONDS = 30.0  # least time between two copies of a growing file


class KeptBoard:
    """A board that is opened anew, and told again what it missed, after it could not be written.

    Args:
        make: a board that writes into a folder.
        place: where its files shall lie in the end.
    """

    def __init__(self, make: Callable[[Path], Any], place: Place):
        self._make, self._place = make, place
        self._scratch = None if place.local() else Path(tempfile.mkdtemp(prefix="chemscale-events-"))
        self._rows: list[Mapping[str, Any]] = []
        self._board: Any = None
        self._copied: dict[str, int] = {}
        self._copy_due = 0.0
        with contextlib.suppress(OSError):
            self._opened()

    def point(self, row: Mapping[str, Any]) -> None:
        """One measurement."""
        self._rows.append(row)
        self._write(lambda board: board.point(row), telling=True)
        if time.monotonic() >= self._copy_due:
            self._copy()
            self._copy_due = time.monotonic() + COPY_SECONDS

    def close(self, row: Mapping[str, Any] | None = None) -> None:
        """The terminal row, if there is one; nothing can be added afterwards."""
        self._write(lambda board: board.close(row))
        self._copy()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _write(self, write: Callable[[Any], None], *, telling: bool = False) -> None:
        """Events are copies of points: what cannot be written now is told again, and never stops a run."""
        try:
            if self._board is None:
                board = self._opened()
                for row in self._rows:
                    board.point(row)
                if telling:
                    return
            write(self._board)
        except OSError:
            self._board = None

    def _opened(self) -> Any:
        local = self._place.local()
        folder = self._scratch if local is None else local.path
        if local is not None:
            local.exists("")  # raises where the store's disk is away: no folder may be made in its stead
        assert folder is not None
        self._board = self._make(folder)
        return self._board

    def _copy(self) -> None:
        if self._scratch is None:
            return
        for file in (f for f in self._scratch.rglob("*") if f.is_file()):
            name, size = file.relative_to(self._scratch).as_posix(), file.stat().st_size
            if self._copied.get(name) != size:
                self._place.write(name, lambda out, file=file: _copied(file, out))
                self._copied[name] = size


@contextlib.contextmanager
def written_below(place: Place) -> Iterator[Path]:
    """A folder for files that shall lie at a place: the place itself on a disk, else one that is copied at the end."""
    local = place.local()
    if local is not None:
        yield local.path
        return
    with tempfile.TemporaryDirectory(prefix="chemscale-events-") as scratch:
        yield Path(scratch)
        for file in (f for f in Path(scratch).rglob("*") if f.is_file()):
            place.write(file.relative_to(scratch).as_posix(), lambda out, file=file: _copied(file, out))


def _copied(file: Path, out: BinaryIO) -> None:
    with file.open("rb") as content:
        shutil.copyfileobj(content, out)
