"""Which split each record of a source belongs to: by its group, or as a reading says, by file, place or label.

A record carries a mark: the index of a split, or a number that leaves it to the record's group (`decided`), to its
label, or leaves the record out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data.sources import Source, family_of, user_file
from chemscale.data.subsets import SHARES, SPLITS, split_of_groups
from chemscale.spec import Portion, Reading

BY_GROUP, HELD_OUT, NO_VALID, NO_TEST, LABELLED, LEFT_OUT = 255, 254, 253, 252, 251, 250
_OPEN = {  # shares of the splits among groups
    BY_GROUP: SHARES,
    HELD_OUT: (0.0, 0.5, 0.5),
    NO_VALID: (8 / 9, 0.0, 1 / 9),  # eight to one, as without a given validation split
    NO_TEST: (8 / 9, 1 / 9, 0.0),
}
_LABELS = {
    "train": 0, "training": 0,
    "valid": 1, "val": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip


def decided(mark: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n,) uint8, the split of each example: as marked, or as its group's digest says."""
    split = np.array(mark, dtype=np.uint8)
    for number, shares in _OPEN.items():
        open_ones = mark == number
        if open_ones.any():
            split[open_ones] = split_of_groups(group[open_ones], shares)
    return split


def mark_of_label(label: Any, key: str | None) -> int:
    """The mark that a record's label says.

    Raises:
        ValueError: there is no label, or none that is known; the message is the reason to reject the record.
    """
    if label is None:
        raise ValueError(f"missing split: no {key!r}")
    found = _LABELS.get(str(label).strip().lower())
    if found is None:
        raise ValueError(f"unknown split: {str(label)[:40]!r} under {key!r}, which says train, valid or test")
    return found


@dataclass(frozen=True)
class Marking:
    """Marks of the records of a file: that of `ranges` by their place in it, and `rest` for all others."""

    rest: int = BY_GROUP
    ranges: tuple[tuple[int, range], ...] = ()

    def marks(self, first: int, count: int) -> np.ndarray:
        """(count,) uint8, of the records from `first` on."""
        places = np.arange(first, first + count)
        marks = np.full(count, self.rest, dtype=np.uint8)
        for mark, taken in self.ranges:
            inside = (places >= taken.start) & (places < taken.stop) & ((places - taken.start) % taken.step == 0)
            marks[inside] = mark
        return marks


def given(reading: Reading) -> bool:
    """Whether a reading says which split records belong to."""
    return bool(reading.portions) or reading.splits is not None


def markings(source: Source, reading: Reading, count: Callable[[Path], int]) -> tuple[tuple[Path, Marking], ...]:
    """The files to read, those of the source first, and how their records are marked.

    Args:
        count: records of a file; asked only of files of which a part is taken.

    Raises:
        ValueError: the source has splits of its own, a portion is not there or empty, or two of them overlap.
    """
    if not given(reading):
        return tuple((path, Marking(_mark_of_file(split))) for split, path in source.files)
    _refuse_fixed(source)
    rest = LABELLED if reading.splits is not None else _rest(reading)
    rests = {path.resolve(): rest for _, path in source.files}
    ranges: dict[Path, list[tuple[int, range]]] = {}
    for name, portion in reading.portions.items():
        mark = SPLITS.index(name)
        for path in portion_files(source, name, portion):
            if not portion.slice and path.resolve() not in rests:
                rests[path.resolve()] = mark
                continue
            rests.setdefault(path.resolve(), LEFT_OUT)
            taken = portion.places(records := count(path))
            if not taken:
                asked = f"Reading.{name}={getattr(reading, name)!r}"
                raise ValueError(f"{asked} takes no record of {path.name}, which has {records:,}; give others.")
            ranges.setdefault(path.resolve(), []).append((mark, taken))
    for path, taken in ranges.items():
        _refuse_overlap(path, rests[path], taken)
    return tuple((path, Marking(mark, tuple(ranges.get(path, ())))) for path, mark in rests.items())


def portion_files(source: Source, split: str, portion: Portion) -> list[Path]:
    """The files that a portion of `Reading.valid` or `Reading.test` is taken of.

    Raises:
        ValueError: there are none of the source's family, or several where a part of one is asked for.
    """
    field = f"Reading.{split}"
    own = not portion.path
    files = [path for _, path in (source if own else user_file(portion.path, field=field)).files]
    if not own and (family := family_of(files[0], field)) != source.family:
        raise ValueError(
            f"{field}={portion.path!r} holds {family} where {source.family} are needed; give another file."
        )
    if portion.slice and len(files) > 1:
        raise ValueError(
            f"{field}='{portion.path}@{portion.slice}' counts the records of one file, and there are {len(files)}; "
            f"name the file, e.g. {files[-1]}@{portion.slice}"
        )
    return files


def refuse_empty(source: str, what: str, counts: Mapping[str, int], reading: Reading) -> None:
    """Refuse splits, as given, of which one is without an example.

    Raises:
        ValueError: with the count of each.
    """
    if all(counts.values()):
        return
    found = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    raise ValueError(
        f"Data.source={source!r} leaves a split empty: {found} {what}, with {told(reading)}; give records of each that "
        "can be used and that the other splits have not."
    )


def told(reading: Reading) -> str:
    """In words, which split records belong to; "by group" where the reading does not say."""
    parts = [f"{name} = {_portion_told(getattr(reading, name))}" for name in reading.portions]
    if reading.splits is not None:
        return "; ".join([f"as {reading.splits!r} of each record says", *parts])
    if not parts:
        return "by group"
    left = {1: "train and test by group", 2: "train and valid by group"}
    rest = "train" if len(parts) == 2 else left[SPLITS.index(next(iter(reading.portions)))]
    return "; ".join([*parts, f"the rest {rest}"])


def _portion_told(text: str) -> str:
    return f"{text} of the source" if text.startswith("@") else Path(text).name


def _mark_of_file(split: str | None) -> int:
    if split is None:
        return BY_GROUP
    return HELD_OUT if split == "held-out" else SPLITS.index(split)


def _rest(reading: Reading) -> int:
    if reading.valid is not None and reading.test is not None:
        return SPLITS.index("train")
    return NO_TEST if reading.valid is None else NO_VALID


def _refuse_fixed(source: Source) -> None:
    if any(split is not None for split, _ in source.files):
        raise ValueError(
            f"Data.source={source.name!r} comes with its splits; leave out Reading.valid, test and splits, or give a "
            "file of your own."
        )


def _refuse_overlap(path: Path, rest: int, ranges: list[tuple[int, range]]) -> None:
    shared = len(ranges) == 2 and set(ranges[0][1]) & set(ranges[1][1])
    if shared or rest in (SPLITS.index("valid"), SPLITS.index("test")):
        raise ValueError(f"Reading.valid and Reading.test both take records of {path.name}; give each of them its own.")
