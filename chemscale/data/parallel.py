"""One function over many tasks in worker processes or on a Ray cluster, in order, and a progress display.

Where this process is connected to a Ray cluster, its processors do the work. Else workers are plain child interpreters
fed over pipes: no fork of a process that holds threads, no import of the caller's `__main__`, so a build may start from
any script. A child whose parent dies reads end-of-file and ends.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_CHILD = "from chemscale.data.parallel import serve; serve()"
_LIKELY = {-9: " (killed, as by a system short of memory)"}
_PLAIN_EVERY = 5.0  # seconds between two lines of progress when the output is no terminal


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[T], R], tasks: Iterable[T], processes: int | None) -> Iterator[R]:
    """`map(function, tasks)` over worker processes, results in the order of the tasks.

    A single task, or `processes=1`, runs in this process. At most two tasks per worker are read ahead.

    Raises:
        ValueError: the function raised one.
        RuntimeError: a worker died, or the function raised anything else there.
    """
    tasks = iter(tasks)
    head = list(islice(tasks, 2))
    workers = available_processors() if processes is None else processes
    if workers <= 1 or len(head) < 2:
        yield from map(function, chain(head, tasks))
        return
    yield from _mapped(function, chain(head, tasks), workers)


def mapped(function: Callable[[T], R], tasks: Iterable[T], processes: int | None) -> Iterator[R]:
    """`map(function, tasks)` in order: as Ray tasks where a Ray cluster is connected and has a free processor, else in
    processes of this machine.

    Args:
        function: a function of a module, which the cluster's nodes can import.
        tasks: read ahead by at most two for each processor.
        processes: how many of this machine; None for the cluster, or for all of this machine.

    Raises:
        ValueError: the function raised one.
        RuntimeError: a worker died, or the function raised anything else there.
    """
    ray = sys.modules.get("ray")
    connected = ray is not None and processes is None and ray.is_initialized()
    if ray is not None and connected and ray.available_resources().get("CPU", 0) >= 1:
        return _in_ray(ray, function, iter(tasks))
    return in_processes(function, tasks, processes)


def in_chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last one may be shorter."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def progress_bar(total: int | None, label: str, progress: bool | None) -> Progress:
    """A bar on a terminal, a line every few seconds elsewhere, nothing for `progress=False`."""
    if progress is False:
        return Progress()
    return _RichProgress(total, label) if sys.stderr.isatty() else _PlainProgress(total, label)


class Progress:
    """Counts what is done; as a context manager it closes the display."""

    def advance(self, count: int) -> None:
        """`count` more records are done."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


class _PlainProgress(Progress):
    def __init__(self, total: int | None, label: str) -> None:
        self.total, self.label = total, label
        self.done, self.started = 0, time.monotonic()
        self.printed = self.started

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.printed > _PLAIN_EVERY:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        rate = self.done / max(self.printed - self.started, 1e-9)
        left = f" of {self.total:,}, {(self.total - self.done) / max(rate, 1e-9):.0f} s left" if self.total else ""
        print(f"{self.label}: {self.done:,}{left} ({rate:,.0f} a second)", file=sys.stderr, flush=True)


class _RichProgress(Progress):
    def __init__(self, total: int | None, label: str) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        self.bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(label, total=total)

    def advance(self, count: int) -> None:
        self.bar.advance(self.task, count)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def serve() -> None:
    """Body of a worker: answers pickled tasks on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    module, name = pickle.load(sys.stdin.buffer)
    function = getattr(importlib.import_module(module), name)
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answer(function, task), answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _answer(function: Callable[[Any], Any], task: Any) -> tuple[str, Any]:
    try:
        return "done", function(task)
    except ValueError as error:  # of the caller's making, wherever it is found out
        return "refused", str(error)
    except Exception as error:  # carried to the caller, who raises it
        return "failed", f"{type(error).__name__}: {error}"


def _in_ray(ray: Any, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[R]:
    remote = ray.remote(num_cpus=1, max_retries=3)(function)  # a lost node's tasks run again elsewhere
    ahead = 2 * max(1, int(ray.cluster_resources()["CPU"]))
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(remote.remote(task))
            if len(waiting) >= ahead:
                yield _fetched(ray, waiting.popleft())
        while waiting:
            yield _fetched(ray, waiting.popleft())
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _fetched(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(cause := error.cause, ValueError):
            raise ValueError(str(cause)) from error
        raise RuntimeError(f"a task of the build failed on the Ray cluster: {error}") from error
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"a task of the build failed on the Ray cluster: {error}") from error


class _Worker:
    def __init__(self, function: Callable[..., Any]) -> None:
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=pipe, stdout=pipe, env=env)
        self._send((function.__module__, function.__qualname__))

    def __call__(self, task: Any) -> Any:
        try:
            self._send(task)
            outcome, value = pickle.load(self.process.stdout)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            status = self.process.wait()
            raise RuntimeError(
                f"a worker process died with exit status {status}{_LIKELY.get(status, '')}; run it again, with fewer "
                "processes if memory is short."
            ) from error
        if outcome == "refused":
            raise ValueError(value)
        if outcome == "failed":
            raise RuntimeError(f"a worker process failed: {value}")
        return value

    def _send(self, value: Any) -> None:
        assert self.process.stdin is not None
        pickle.dump(value, self.process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


def _mapped(function: Callable[[T], R], tasks: Iterator[T], workers: int) -> Iterator[R]:
    idle: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker(function) for _ in range(workers)]
    for worker in started:
        idle.put(worker)

    def run(task: T) -> R:
        worker = idle.get()
        try:
            return worker(task)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(run, task))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for worker in started:
            worker.close()
        pool.shutdown(wait=True, cancel_futures=True)
