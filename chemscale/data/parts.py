"""Encoded parts of a build on disk: a killed build finds those that were done, and makes only the others."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemscale.data.encoding import Encoded
from chemscale.data.staging import whole_file
from chemscale.data.store import Rejected


class Parts:
    """Numbered `Encoded` values in a folder, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        names = (file.name.split(".") for file in folder.glob("[0-9]*.npz"))
        self.done = {int(number): int(records) for number, records, _ in names}

    def put(self, number: int, part: Encoded) -> None:
        """Write a part; its records can be told without opening it."""
        records = len(part.lengths) + len(part.rejected)
        facts = {
            "alphabet": part.alphabet,
            "rejected": [(r.line, r.reason, r.text) for r in part.rejected],
            "counts": dict(part.counts),
        }
        narrow = np.uint8 if len(part.alphabet) <= 256 else np.uint16
        arrays = {
            "tokens": part.tokens.astype(narrow), "lengths": part.lengths.astype(np.int32),
            "member": part.member, "group": part.group, "mark": part.mark,
        }  # fmt: skip
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
        with whole_file(self._file(number, records)) as staged, staged.open("wb") as handle:
            np.savez(handle, **arrays)
        self.done[number] = records

    def arrays(self, number: int, *names: str) -> tuple[np.ndarray, ...]:
        """Some arrays of a part, the others left on disk."""
        with np.load(self._file(number, self.done[number])) as held:
            return tuple(held[name] for name in names)

    def facts(self, number: int) -> PartFacts:
        """What a part says of itself."""
        with np.load(self._file(number, self.done[number])) as held:
            facts = _facts(held)
            sizes = held["lengths"]
        rejected = tuple(Rejected(*row) for row in facts["rejected"])
        return PartFacts(tuple(facts["alphabet"]), rejected, facts["counts"], len(sizes), int(sizes.sum()))

    def _file(self, number: int, records: int) -> Path:
        return self.folder / f"{number:08d}.{records}.npz"


@dataclass(frozen=True)
class PartFacts:
    """A part without its arrays; `examples` and `tokens` are how many it holds."""

    alphabet: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    counts: dict[str, int]
    examples: int
    tokens: int


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The right to fill a folder, which one process of this machine has at a time; others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process builds {folder.name}; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):  # it holds parts for the next build, or is gone
                folder.rmdir()


def discard(folder: Path) -> None:
    """Delete the parts of a build that is finished, or that can never be."""
    shutil.rmtree(folder, ignore_errors=True)


def _facts(held: np.lib.npyio.NpzFile) -> dict:
    return json.loads(held["facts"].tobytes())
