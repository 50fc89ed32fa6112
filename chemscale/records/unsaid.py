"""Words for a store that may neither be lost nor block: tried again, in order, while the store is out of reach."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from chemscale.records.spool import FIRST_PAUSE, LONGEST_PAUSE, StoreUnreachableError


class Unsaid:
    """Writes to a store that a driver makes between other work.

    Args:
        url: of the store, for messages.
        seconds: how long an outage may last.
    """

    def __init__(self, url: str, seconds: float):
        self._url, self._seconds = url, seconds
        self._words: deque[Callable[[], None]] = deque()
        self._since: float | None = None
        self._due, self._pause = 0.0, FIRST_PAUSE

    def say(self, word: Callable[[], None]) -> None:
        """Call `word` now, or once the store can be reached again.

        It may be called again after it has written what it says: one that marks a run brings its token from outside.

        Raises:
            StoreUnreachableError: an outage has outlasted the bound.
        """
        self._words.append(word)
        self.retry()

    def retry(self) -> None:
        """Try what is still unsaid; costs nothing where all has been said."""
        while self._words and time.monotonic() >= self._due:
            try:
                self._words[0]()
            except OSError as error:
                self._wait(error)
            else:
                self._words.popleft()
                self._since, self._pause = None, FIRST_PAUSE

    def settle(self) -> None:
        """Return once all has been said."""
        while self._words:
            self.retry()
            time.sleep(0.1 if self._words else 0.0)

    def _wait(self, error: OSError) -> None:
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > self._seconds:
            raise StoreUnreachableError(
                f"{self._url} could not be reached for {now - self._since:.0f} s ({error.strerror or error}), longer "
                f"than Resources.patience={self._seconds:g} allows; make it reachable and give the same command again."
            ) from None
        self._due, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
