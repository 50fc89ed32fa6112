"""What a person sees while a sweep runs: one live line on a terminal, plain lines when piped."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from chemscale.records.store import Store
from chemscale.sweep.progress import Cell, Watch, cells_of, duration

LIVE_SECONDS, PIPED_SECONDS = 1.0, 20.0
SHARE = 0.02  # of the time goes into looking at most: a look at thousands of cells takes a while


class Display:
    """Shows the progress of some cells of a store, in a thread of its own, for the length of a `with` block.

    Args:
        cells: what to show; for a search, whose runs come one by one, give `study` and `total` instead.
    """

    def __init__(self, store: Store, cells: Sequence[Cell], *, study: str | None = None, total: int | None = None):
        self._store, self._study, self._total = store, study, total
        self._watch = Watch(store, tuple(cells))
        self._console = Console(file=sys.stderr, highlight=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True, name="chemscale-display")
        self._said = ""
        self._lost: float | None = None  # since when the store cannot be read

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()
        self._final()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True)

    def line(self) -> str:
        """The progress now, or for how long the store could not be read."""
        try:
            line = self._progress_line()
        except OSError:
            self._lost = self._lost or time.monotonic()
            return f"store {self._store.url} unreachable since {duration(time.monotonic() - self._lost)}"
        self._lost = None
        return line

    def _progress_line(self) -> str:
        if self._study is not None:
            self._watch.cells = cells_of(self._store, [self._study])
        progress = self._watch.look()
        if self._total is None:
            return progress.line()
        return " · ".join([f"{progress.ended}/{self._total} samples", *progress.notes()])

    def _show(self) -> None:
        if self._console.is_terminal:
            with Live(Text(""), console=self._console, refresh_per_second=2, transient=True) as live:
                self._repeat(LIVE_SECONDS, lambda: live.update(Text(self.line())))
        else:
            self._repeat(PIPED_SECONDS, lambda: self._say_once(self.line()))

    def _repeat(self, seconds: float, look: Callable[[], None]) -> None:
        pause = seconds
        while not self._stop.wait(pause):
            begin = time.thread_time()
            look()
            pause = max(seconds, (time.thread_time() - begin) / SHARE)

    def _final(self) -> None:
        self._watch = Watch(self._store, self._watch.cells)  # the last look takes nothing from earlier ones
        self._say_once(self.line())
        with contextlib.suppress(OSError):
            for label, reason in self._watch.look().trouble:
                self.say(f"  {label}: {reason}")

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self.say(line)
