"""Some records of a file, in words: `FILE`, `FILE@SLICE`, or `@SLICE` of the source itself.

Slices are written as in Python and in ASE's file names (`train.xyz@-50:` are the last fifty frames).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(\d+))?")


@dataclass(frozen=True)
class Portion:
    """Records of a file; `path` "" stands for the source itself, `slice` "" for all records.

    Raises:
        ValueError: `text` is no portion.
    """

    path: str
    slice: str = ""

    @classmethod
    def read(cls, name: str, text: str) -> Portion:
        """What is written; `name` is the field that says it."""
        path, which = text, ""
        if "@" in text and not Path(text).expanduser().exists():
            path, _, which = text.rpartition("@")
        found = _SLICE.fullmatch(which)
        if not text or (path != text and (found is None or found[3] == "0")):
            raise ValueError(
                f"{name}={text!r} is not allowed: it must be a file, records of one ('valid.xyz@:100'), or of the "
                "source itself ('@-50:' are its last fifty); write slices as in Python, with a step above 0."
            )
        return cls(path, which)

    def places(self, records: int) -> range:
        """Which of so many records it takes."""
        found = _SLICE.fullmatch(self.slice)
        bounds = (None, None, None) if found is None else (int(part) if part else None for part in found.groups())
        return range(*slice(*bounds).indices(records))
