"""The log of a job as it grows, over connections that may break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

from chemscale.sweep import head
from chemscale.sweep.jobs import ENDED, Job

PATIENCE_SECONDS = 60.0  # without contact, before following gives up
SILENCE_SECONDS = 60.0  # a connection without a word for so long is opened anew: it may be dead without telling
RETRY_SECONDS = 1.0


class LostContactError(RuntimeError):
    """The head node could not be reached for too long; the job may run on."""


def follow(
    job: Job, *, patience: float = PATIENCE_SECONDS, say: Callable[[str], Any] = lambda sentence: None
) -> Iterator[str]:
    """Pieces of a job's log until the job ends; a broken connection is opened again, and nothing is said twice.

    Args:
        patience: seconds without contact before giving up.
        say: told in a sentence when contact is lost and found again.

    Raises:
        ValueError: no such job, no such head node at the start, or a refused token.
        LostContactError: no contact for `patience` seconds.
    """
    job.state()  # a wrong address, token or job is a mistake, not a lost connection
    said, lost = 0, None
    while True:
        try:
            for position, text in _unsaid(job, said):
                if lost is not None:
                    say(f"in contact with {job.address} again")
                said, lost = max(said, position), None
                if text:
                    yield text
            if job.state().status in ENDED:
                return
        except (head.UnreachableError, OSError):
            if lost is None:
                say(f"lost contact with {job.address}; trying again for {patience:.0f} s")
                lost = time.monotonic()
            if time.monotonic() - lost > patience:
                raise LostContactError(
                    f"no contact with {job.address} for {patience:.0f} s; job {job.id} may run on: `chemscale status "
                    f"{job.id} --address {job.address}` tells once the head node answers."
                ) from None
        time.sleep(RETRY_SECONDS)


def _unsaid(job: Job, said: int) -> Iterator[tuple[int, str]]:
    """(characters of the log so far, those of them beyond `said` that are new) as they come over one connection."""
    position = 0
    with contextlib.closing(_pieces(job)) as pieces:
        for piece in pieces:
            before, position = position, position + len(piece)
            yield position, piece[max(0, said - before) :]


def _pieces(job: Job) -> Generator[str, None, None]:
    """One connection's pieces of the log, from its first line on.

    Raises:
        OSError: the connection broke.
    """
    import aiohttp

    client = head.connect(job.address)
    loop = asyncio.new_event_loop()
    tail: AsyncGenerator[str, None] = client.tail_job_logs(job.id)
    try:
        while True:
            try:
                yield loop.run_until_complete(asyncio.wait_for(anext(tail), SILENCE_SECONDS))
            except (TimeoutError, StopAsyncIteration):
                return
            except (aiohttp.ClientError, RuntimeError) as error:  # Ray says RuntimeError of a connection cut short
                raise OSError(str(error)) from None
    finally:
        with contextlib.suppress(Exception):
            loop.run_until_complete(tail.aclose())
        loop.close()
