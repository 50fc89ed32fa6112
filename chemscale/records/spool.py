"""A place in front of a place: while the one behind cannot be reached, writes wait in a local folder, in order.

Training goes on meanwhile. Reads and claims wait, since their answer is needed. An outage that outlasts the bound, in
seconds or in bytes, ends in one `StoreUnreachableError`; what was spooled stays where the message says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from chemscale.records.place import LocalPlace, Place, place_at
from chemscale.spec import Resources

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries, doubled from the first to the longest

Answer = TypeVar("Answer")


class StoreUnreachableError(OSError):
    """A store could not be reached for longer than a run may wait."""


class Spooling(Place):
    """Writes through to another place, or into a spool while that place raises OSError.

    Args:
        behind: the place.
        seconds: how long an outage may last.
        spool_bytes: how much may wait.
        waiting: called at least every second while a read waits, e.g. to tell a scheduler that the run lives.

    Raises:
        StoreUnreachableError: from any method, once an outage has outlasted a bound.
    """

    def __init__(self, behind: Place, *, seconds: float, spool_bytes: float, waiting: Callable[[], Any] = lambda: None):
        self._behind, self._folder = behind, ""
        self._spool = _Spool(behind, seconds, spool_bytes, waiting)
        self.url = behind.url

    def __reduce__(self) -> Any:
        bounds = (self._spool.seconds, self._spool.spool_bytes)
        return _again, (self._spool.root, self._folder, *bounds)  # another process has a spool of its own

    def at(self, folder: str) -> Spooling:
        below = object.__new__(Spooling)
        below._spool, below._folder = self._spool, self._full(folder)
        below._behind = self._behind.at(folder)
        below.url = below._behind.url
        return below

    def anchored(self, name: str) -> Spooling:
        self._spool.root = self._spool.root.anchored(name)
        self._behind = self._behind.anchored(name)
        return self

    def local(self) -> LocalPlace | None:
        return self._behind.local()

    def write(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        if self._spool.empty:
            try:
                self._behind.write(name, write)
                return self._spool.reached()
            except OSError as error:
                self._spool.failed(error)
        return self._spool.put(self._full(name), write)

    def remove(self, name: str) -> None:
        if self._spool.empty:
            try:
                self._behind.remove(name)
                return self._spool.reached()
            except OSError as error:
                self._spool.failed(error)
        return self._spool.put(self._full(name), None)

    def create(self, name: str, content: bytes) -> bool:
        return self._spool.wait_for(lambda: self._behind.create(name, content))

    def open(self, name: str) -> BinaryIO | None:
        return self._spool.wait_for(lambda: self._behind.open(name))

    def read(self, name: str) -> bytes | None:
        return self._spool.wait_for(lambda: self._behind.read(name))

    def names(self, folder: str = "") -> list[str]:
        return self._spool.wait_for(lambda: self._behind.names(folder))

    def exists(self, name: str) -> bool:
        return self._spool.wait_for(lambda: self._behind.exists(name))

    def files(self, folder: str = "") -> Iterator[tuple[str, int]]:
        yield from self._spool.wait_for(lambda: list(self._behind.files(folder)))

    def tidy(self, folder: str) -> None:
        if self._spool.empty:
            with contextlib.suppress(OSError):  # an empty folder does no harm
                self._behind.tidy(folder)

    def settle(self) -> None:
        if not self._spool.empty:
            self._spool.wait_for(lambda: None)

    def _full(self, name: str) -> str:
        return "/".join(part for part in (self._folder, name) if part)


def patient(store: str | Path, on: Resources, waiting: Callable[[], Any] = lambda: None) -> Spooling:
    """The place of a store that is there, waited for as long as `on` says where it cannot be found."""
    place = place_at(store).anchored("store.json")
    return Spooling(place, seconds=on.patience, spool_bytes=on.spool_bytes, waiting=waiting)


def _again(root: Place, folder: str, seconds: float, spool_bytes: float) -> Spooling:
    place = Spooling(root, seconds=seconds, spool_bytes=spool_bytes)
    return place.at(folder) if folder else place


class _Spool:
    """What waits for a place, oldest first, and the thread that brings it there; there is one only in an outage."""

    def __init__(self, root: Place, seconds: float, spool_bytes: float, waiting: Callable[[], Any]):
        self.root, self.seconds, self.spool_bytes, self.waiting = root, seconds, spool_bytes, waiting
        self._queue: dict[str, int] = {}  # name -> serial of its newest change; the spooled file, or none for a removal
        self._serial = 0
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._since: float | None = None
        self._error: OSError | None = None
        self._replaying, self._putting = False, 0

    @property
    def empty(self) -> bool:
        return not self._queue

    def failed(self, error: OSError) -> None:
        """Note that the place could not be reached just now."""
        self._error = error
        if self._since is None:
            self._since = time.monotonic()

    def reached(self) -> None:
        self._since = self._error = None

    def put(self, name: str, write: Callable[[BinaryIO], Any] | None) -> None:
        """Spool a file, or its removal where `write` is None."""
        self._require_patience()
        with self._lock:
            self._putting += 1  # the folder stays while it is written to
            folder = self._folder = self._folder or Path(tempfile.mkdtemp(prefix="chemscale-spool-"))
        try:
            if write is not None:
                LocalPlace(folder).write(f".new/{name}", write)
            self._enqueue(folder, name, removal=write is None)
        except OSError as error:
            raise self._gone(f"and the spool cannot be written ({error.strerror})") from None
        finally:
            self._putting -= 1

    def _enqueue(self, folder: Path, name: str, *, removal: bool) -> None:
        with self._lock:
            if removal:
                LocalPlace(folder).remove(name)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / ".new" / name, folder / name)
            self._queue.pop(name, None)  # the newest change of a name is the one that counts, and goes last
            self._serial += 1
            self._queue[name] = self._serial
            if not self._replaying:
                self._replaying = True
                threading.Thread(target=self._replay, daemon=True, name="chemscale-spool").start()

    def wait_for(self, ask: Callable[[], Answer]) -> Answer:
        """The answer of the place, once all that was spooled before has arrived there."""
        pause, due = FIRST_PAUSE, 0.0
        while True:
            if self.empty and time.monotonic() >= due:
                try:
                    answer = ask()
                except OSError as error:
                    self.failed(error)
                    due, pause = time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE)
                else:
                    self.reached()
                    return answer
            self._require_patience()
            self.waiting()
            time.sleep(0.2)

    def _replay(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._lock:
                if not self._queue:
                    self._finish()
                    return
                name, serial = next(iter(self._queue.items()))
                assert self._folder is not None
                spooled = self._folder / name
            try:
                self._bring(name, spooled)
            except OSError as error:
                self.failed(error)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            with self._lock:
                if self._queue.get(name) == serial:
                    del self._queue[name]
                    spooled.unlink(missing_ok=True)

    def _bring(self, name: str, spooled: Path) -> None:
        try:
            content = spooled.open("rb")
        except FileNotFoundError:
            self.root.remove(name)
            return
        with content:

            def copy(file: BinaryIO) -> None:
                content.seek(0)
                shutil.copyfileobj(content, file)

            self.root.write(name, copy)

    def _finish(self) -> None:
        self._replaying = False
        self.reached()
        if self._folder is not None and not self._putting:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _require_patience(self) -> None:
        if self._since is not None and time.monotonic() - self._since > self.seconds:
            raise self._gone(f"longer than Resources.patience={self.seconds:g} allows")
        folder = self._folder  # the thread that replays may take it away
        if folder is not None and (size := _size(folder)) > self.spool_bytes:
            raise self._gone(f"and {size:,} bytes wait, more than Resources.spool_bytes={self.spool_bytes:g} allows")

    def _gone(self, why: str) -> StoreUnreachableError:
        since = 0.0 if self._since is None else time.monotonic() - self._since
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - since))
        reason = (self._error.strerror or str(self._error)) if self._error is not None else "unknown"
        kept = "" if self.empty else f" What the run wrote meanwhile lies in {self._folder}."
        return StoreUnreachableError(
            f"{self.root.url} has not been reachable since {began} ({reason}), {why}; make it reachable and give the "
            f"same command again.{kept}"
        )


def _size(folder: Path) -> int:
    """Bytes of the files in a folder that others empty meanwhile."""
    total = 0
    for above, _, names in os.walk(folder):  # skips what has gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(above, name)).st_size
    return total
