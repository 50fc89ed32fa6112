"""Structures that lie at the same coordinates: within a build, across its splits, and across files.

Two structures are the same where elements in order, positions to 0.0001 angstrom and lattice agree (`Frame.digest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.buckets import Buckets, bucket_of
from chemscale.data.store import open_arrays
from chemscale.data.subsets import SPLITS

SHOWN = 20  # pairs of records that a report lists
_LATE = [("place", "i8"), ("split", "u1"), ("first", "u1")]
LATE = np.dtype(_LATE)  # a structure of which an earlier split, `first`, holds a copy
_BUCKET = 1 << 20  # structures that are compared at a time, about 30 MB
_AT_A_TIME = 1 << 18


class Duplicates:
    """Finds structures with equal digests, however many there are.

    Args:
        folder: scratch, which must not exist.
        structures: about how many there will be.
    """

    def __init__(self, folder: Path, structures: int) -> None:
        self._count = max(1, -(-structures // _BUCKET))
        fields = [("key", "u8"), ("index", "i8"), ("split", "u1"), ("source", "u4")]
        self._buckets = Buckets(folder, fields, self._count)

    def add(self, digests: np.ndarray, index: np.ndarray, split: np.ndarray, source: int = 0) -> None:
        """Add structures: their digests, places in their file, splits, and the number of the file."""
        self._buckets.add(
            bucket_of(digests, self._count), key=digests, index=index, split=split,
            source=np.full(len(digests), source, dtype=np.uint32),
        )  # fmt: skip

    def runs(self) -> Iterator[np.ndarray]:
        """The records of each set of structures at the same coordinates, in the order of files and places."""
        for number in range(self._count):
            rows = self._buckets.take(number)
            rows = rows[np.lexsort((rows["index"], rows["source"], rows["key"]))]
            edges = np.flatnonzero(np.concatenate([[True], rows["key"][1:] != rows["key"][:-1], [True]]))
            for place in np.flatnonzero(np.diff(edges) > 1):
                yield rows[edges[place] : edges[place + 1]]

    def within(self) -> dict[str, Any]:
        """What one build repeats: "repeated" structures after the first at their coordinates, "across_splits" by pair
        of splits (held-out structures that another split has too), and the first records concerned."""
        repeated, across, shown = 0, {}, []
        for rows in self.runs():
            repeated += len(rows) - 1
            splits = np.unique(rows["split"])
            for i, one in enumerate(splits):
                for other in splits[i + 1 :]:
                    name = f"{SPLITS[other]} in {SPLITS[one]}"
                    across[name] = across.get(name, 0) + int(np.sum(rows["split"] == other))
            if len(shown) < SHOWN:
                shown.append(rows["index"].tolist())
        return {"repeated": repeated, "across_splits": across, "first": sorted(shown)}


class Copies:
    """Finds structures of which an earlier split holds a copy, in training before validation before test.

    Args:
        folder: scratch, which must not exist.
        structures: about how many there will be.
    """

    def __init__(self, folder: Path, structures: int) -> None:
        self._folder, self._structures = folder, structures
        self._count = max(1, -(-structures // _BUCKET))
        self._buckets = Buckets(folder / "all", [("key", "u8"), ("place", "i8"), ("split", "u1")], self._count)

    def add(self, digests: np.ndarray, place: np.ndarray, split: np.ndarray) -> None:
        """Add structures: their digests, places and splits."""
        self._buckets.add(bucket_of(digests, self._count), key=digests, place=place, split=split)

    def late(self, block: int) -> Buckets:
        """The copies (`LATE`), sorted by blocks of so many places."""
        found = Buckets(self._folder / "late", _LATE, max(1, -(-self._structures // block)))
        for number in range(self._count):
            rows = self._buckets.take(number)
            rows = rows[np.lexsort((rows["split"], rows["key"]))]
            begins = np.concatenate([[True], rows["key"][1:] != rows["key"][:-1]])[: len(rows)]
            first = rows["split"][begins][np.cumsum(begins) - 1]
            late, earlier = rows[rows["split"] > first], first[rows["split"] > first]
            found.add(late["place"] // block, place=late["place"], split=late["split"], first=earlier)
        return found


def shared(folders: Sequence[Path], names: Sequence[str], scratch: Path) -> dict[str, Any]:
    """What built files have in common.

    Returns:
        "files": structures of each; "shared": for each pair of files that share any, how many structures of either lie
        at coordinates that the other has too, by split, and the first pairs of places (in the order of the built
        examples, from 0).
    """
    arrays = [open_arrays(folder) for folder in folders]
    sizes = [len(a["member_digest"]) for a in arrays]
    found = Duplicates(scratch, sum(sizes))
    for number, held in enumerate(arrays):
        for start in range(0, sizes[number], _AT_A_TIME):
            stop = min(start + _AT_A_TIME, sizes[number])
            index = np.arange(start, stop)
            found.add(held["member_digest"][start:stop], index, held["split"][start:stop], number)
    pairs: dict[tuple[int, int], dict[str, Any]] = {}
    for rows in found.runs():
        there = np.unique(rows["source"])
        for i, one in enumerate(there.tolist()):
            for other in there[i + 1 :].tolist():
                _count(pairs.setdefault((one, other), _nothing(names, one, other)), rows, one, other)
    return {
        "files": dict(zip(names, sizes, strict=True)),
        "shared": [pairs[key] for key in sorted(pairs)],
    }


def _nothing(names: Sequence[str], one: int, other: int) -> dict[str, Any]:
    return {"files": [names[one], names[other]], "structures": [0, 0], "splits": {}, "first": []}


def _count(pair: dict[str, Any], rows: np.ndarray, one: int, other: int) -> None:
    first, second = rows[rows["source"] == one], rows[rows["source"] == other]
    pair["structures"] = [pair["structures"][0] + len(first), pair["structures"][1] + len(second)]
    for a in np.unique(first["split"]):
        for b in np.unique(second["split"]):
            name = f"{SPLITS[b]} of the second in {SPLITS[a]} of the first"
            pair["splits"][name] = pair["splits"].get(name, 0) + int(np.sum(second["split"] == b))
    if len(pair["first"]) < SHOWN:
        pair["first"].append([int(first["index"][0]), int(second["index"][0])])
