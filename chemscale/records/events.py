"""TensorBoard's event files, written in the calling thread: a writer with a thread of its own costs a small run more
than its measurements do.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RGBA = 4  # how `Summary.Image` counts channels


def proto(name: str) -> Any:
    """A module of TensorBoard's messages, e.g. "compat.proto.event_pb2"; generated, so no type checker sees into it."""
    return importlib.import_module(f"tensorboard.{name}")


class EventFile:
    """One more event file of a folder; what it holds replaces what older files of the folder hold from a step on.

    TensorBoard reads a folder's files by name. A session that starts at step `since` hides what was read before at that
    step and later, of every tag, in TensorBoard's Python reader; its data server hides, tag by tag, what lies at or
    beyond a step that comes again. Whoever goes on after a kill with tags whose steps count different things therefore
    starts at 0 and writes the earlier points once more, before new ones.
    """

    def __init__(self, folder: Path, since: int = 0):
        from tensorboard.summary.writer.record_writer import RecordWriter  # loaded only where events are written

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():019d}.{socket.gethostname()}"
        messages = proto("compat.proto.event_pb2")
        self._event, self._values = messages.Event, proto("compat.proto.summary_pb2").Summary
        self._records = RecordWriter(open(folder / name, "xb"))  # noqa: SIM115  # closed by `close`
        self._add(file_version="brain.Event:2")
        self._add(session_log=messages.SessionLog(status=messages.SessionLog.START), step=since)

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float | None = None) -> None:
        """Numbers (stored as float32) at one step, by tag."""
        written = [self._values.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(summary=self._values(value=written), step=step, wall_time=wall_time)

    def image(self, tag: str, png: bytes, width: int, height: int, step: int) -> None:
        """A PNG of so many pixels."""
        drawn = self._values.Image(encoded_image_string=png, width=width, height=height, colorspace=RGBA)
        self._add(summary=self._values(value=[self._values.Value(tag=tag, image=drawn)]), step=step)

    def summaries(self, summaries: Iterable[Any]) -> None:
        """Whole `Summary` messages that have no step, such as hyperparameters."""
        for summary in summaries:
            self._add(summary=summary, step=0)

    def flush(self) -> None:
        """Let readers see what has been written."""
        self._records.flush()

    def close(self) -> None:
        """Flush and close; a second time does nothing."""
        if not self._records.closed:
            self._records.close()

    def _add(self, *, wall_time: float | None = None, **what: Any) -> None:
        event = self._event(wall_time=wall_time or time.time(), **what)
        self._records.write(event.SerializeToString())
