"""What a file of strings holds, told before anything is built: coverage, lengths, elements, duplicates, bad lines.

Records are read and encoded as a build would, in parallel; only counts stay in memory, and digests, which tell
duplicates, lie on disk.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.data import parallel
from chemscale.data.buckets import Buckets, bucket_of
from chemscale.data.encoding import Collected, Task
from chemscale.data.files import count_lines
from chemscale.data.molecules import READY_MADE, numbered_tasks, ready_made, writings
from chemscale.data.moses import read_embedded
from chemscale.data.sources import Source
from chemscale.data.splits import BY_GROUP, markings
from chemscale.data.staging import scratch_folder
from chemscale.data.store import Rejected
from chemscale.data.tokens import SMILES_TOKEN
from chemscale.data.vocabulary import Vocabulary, vocabulary_of
from chemscale.home import home
from chemscale.spec import Reading

_BUCKETS = 256  # files of digests: 4 million a file at a billion examples
_AT_A_TIME = 1 << 20  # digests that wait in memory
_SHOWN_LINES = 20  # rejected records that are shown
_SMILES = re.compile(SMILES_TOKEN)
_ELEMENT = re.compile(r"\[?\d*([A-Z][a-z]?|se|as|te|[bcnops])")


@dataclass
class Seen:
    """Counts over some records.

    Attributes:
        tokens: how often each token occurs.
        lengths: (length + 1,) examples of each number of tokens, without start and end.
        elements: molecules that hold each element.
        not_known: examples with a token that the vocabulary does not know as a whole.
        removed: what the form of molecules took off.
        reasons: rejected records by reason.
        rejected: the first rejected records.
        member, group: (examples,) uint64 digests.
    """

    tokens: Counter[str] = field(default_factory=Counter)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    elements: Counter[str] = field(default_factory=Counter)
    not_known: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)
    member: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    group: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

    @property
    def records(self) -> int:
        """Records looked at."""
        return int(self.lengths.sum()) + sum(self.reasons.values())

    def add(self, other: Seen) -> None:
        """Count another one's records too; its digests are left to who keeps them."""
        for name in ("tokens", "elements", "removed", "reasons"):
            getattr(self, name).update(getattr(other, name))
        longest = max(len(self.lengths), len(other.lengths))
        self.lengths = _padded(self.lengths, longest) + _padded(other.lengths, longest)
        self.not_known += other.not_known
        self.rejected = sorted([*self.rejected, *other.rejected], key=lambda r: r.line)[:_SHOWN_LINES]


def survey(
    source: Source,
    representation: str,
    reading: Reading,
    sample: int | None,
    processes: int | None,
    progress: bool | None,
) -> dict[str, Any]:
    """What a source of strings holds.

    Returns:
        "records" looked at and how many there are in all; "examples"; "rejected" by reason, and the first of them;
        "duplicates" and "groups"; "lengths" in tokens with start and end; "tokens" by count; "elements" by the number
        of molecules that hold them; "removed" by the form; and of a vocabulary its "coverage".

    Raises:
        ValueError: a file is written in another notation than it is read in, cannot be read or holds no record, or
            `sample` is not positive.
    """
    if sample is not None and sample < 1:
        raise ValueError(f"report(sample={sample}) is not allowed: it must be an integer above 0, or None for all.")
    if source.name == READY_MADE:  # its tokens lie beside it, so that all of it is looked at in a moment
        sample = None
    vocabulary = vocabulary_of(reading, representation)
    whole = Seen()
    with scratch_folder(home() / "building") as folder:
        distinct = {name: _Distinct(folder / name) for name in ("member", "group")}
        for seen in _all(source, representation, reading, vocabulary, sample, processes, progress):
            whole.add(seen)
            for name, counted in distinct.items():
                counted.add(getattr(seen, name))
        if not whole.records:
            raise ValueError(f"Data.source={source.name!r} holds no record; there is nothing to report.")
        members, groups = (counted.count() for counted in distinct.values())
    return _told(source, representation, reading, vocabulary, whole, members, groups, sample)


def look(task: Task) -> Seen:
    """Count what some records hold; the work of one process."""
    collected, seen = Collected(task.writing), Seen()
    vocabulary = task.writing.vocabulary
    known: dict[str, bool] = {}
    elements: dict[str, str | None] = {}
    for example in collected.take(task.records, task.marks):
        seen.tokens.update(example.tokens)
        if vocabulary is not None:
            seen.not_known += not all(_knows(vocabulary, t, known) for t in set(example.tokens))
        if task.writing.representation != "protein":
            seen.elements.update(_elements(example.key, elements))
    encoded = collected.encoded()
    seen.lengths = np.bincount(encoded.lengths, minlength=1)
    seen.removed.update(encoded.counts)
    seen.reasons.update(record.kind for record in encoded.rejected)
    seen.rejected = list(encoded.rejected[:_SHOWN_LINES])
    seen.member, seen.group = encoded.member, encoded.group
    return seen


class _Distinct:
    """Counts different digests, however many there are; files only where they are more than memory should hold."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buckets: Buckets | None = None
        self._waiting: list[np.ndarray] = []
        self._count = 0

    def add(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        self._count += len(values)
        if self._count >= _AT_A_TIME:
            self._write()

    def count(self) -> int:
        if self._buckets is None:
            return len(np.unique(np.concatenate(self._waiting))) if self._waiting else 0
        self._write()
        return sum(len(np.unique(self._buckets.take(i)["key"])) for i in range(_BUCKETS))

    def _write(self) -> None:
        self._buckets = self._buckets or Buckets(self._folder, [("key", "u8")], _BUCKETS)
        values = np.concatenate([*self._waiting, np.zeros(0, dtype=np.uint64)])
        self._buckets.add(bucket_of(values, _BUCKETS), key=values)
        self._waiting, self._count = [], 0


def _all(
    source: Source,
    representation: str,
    reading: Reading,
    vocabulary: Vocabulary | None,
    sample: int | None,
    processes: int | None,
    progress: bool | None,
) -> Iterator[Seen]:
    if source.name == READY_MADE:
        for path, _ in markings(source, reading, count_lines):
            yield _look_at_ready_made(path, representation, vocabulary)
        return
    for path, layout, writing, marking in writings(source, representation, reading, vocabulary):
        total = count_lines(path) if sample is not None or progress is not False else None
        tasks = numbered_tasks(path, layout, writing, marking)
        if sample is not None:
            assert total is not None
            tasks, total = _sampled(tasks, total, sample), min(sample, total)
        with parallel.progress_bar(total, f"reading {path.name}", progress) as shown:
            for seen in parallel.mapped(look, tasks, processes):
                shown.advance(seen.records)
                yield seen


def _sampled(tasks: Iterator[Task], total: int, sample: int) -> Iterator[Task]:
    """The tasks with about `sample` of their records, spread evenly at random and the same every time."""
    chosen = np.random.default_rng(0).random
    share = min(1.0, sample / max(total, 1))
    for task in tasks:
        picked = np.flatnonzero(chosen(len(task.records)) < share)
        records, marks = [task.records[i] for i in picked], [task.marks[i] for i in picked]
        yield Task(task.number, task.writing, records, marks)


def _look_at_ready_made(path: Path, representation: str, vocabulary: Vocabulary | None) -> Seen:
    """The counts of package data, which are encoded already."""
    plain = ready_made(path, BY_GROUP, representation, None)
    counts = np.bincount(plain.tokens, minlength=len(plain.alphabet)).tolist()
    seen = Seen(tokens=Counter(dict(zip(plain.alphabet, counts, strict=True))))
    encoded = plain if vocabulary is None else ready_made(path, BY_GROUP, representation, vocabulary)
    seen.lengths = np.bincount(encoded.lengths, minlength=1)
    known: dict[str, bool] = {}
    if vocabulary is not None:
        odd = np.array([not _knows(vocabulary, token, known) for token in plain.alphabet])[plain.tokens]
        seen.not_known = len(np.unique(np.repeat(np.arange(len(plain.lengths)), plain.lengths)[odd]))
    elements: dict[str, str | None] = {}
    for smiles in read_embedded(path)[0]:
        seen.elements.update(_elements(smiles, elements))
    seen.member, seen.group = plain.member, plain.group
    return seen


def _knows(vocabulary: Vocabulary, token: str, known: dict[str, bool]) -> bool:
    if token not in known:
        known[token] = len(vocabulary.spelled(token) or ()) == 1
    return known[token]


def _elements(smiles: str, known: dict[str, str | None]) -> set[str]:
    found = set()
    for token in set(_SMILES.findall(smiles)):
        if token not in known:
            match = _ELEMENT.match(token)
            known[token] = match.group(1).capitalize() if match else None
        if (element := known[token]) is not None:
            found.add(element)
    return found


def _told(
    source: Source,
    representation: str,
    reading: Reading,
    vocabulary: Vocabulary | None,
    seen: Seen,
    members: int,
    groups: int,
    sample: int | None,
) -> dict[str, Any]:
    examples = int(seen.lengths.sum())
    return {
        "source": source.name,
        "representation": representation,
        "records": seen.records,
        "sample": sample,
        "examples": examples,
        "rejected": dict(seen.reasons.most_common()),
        "first_rejected": [{"line": r.line, "reason": r.reason, "text": r.text[:200]} for r in seen.rejected],
        "duplicates": examples - members,
        "groups": groups,
        "removed": {kind: n for kind, n in seen.removed.items() if n},
        "lengths": _lengths(seen.lengths),
        "elements": dict(seen.elements.most_common()),
        "tokens": dict(seen.tokens.most_common()),
        "coverage": None if vocabulary is None else _coverage(vocabulary, seen),
    }


def _lengths(histogram: np.ndarray) -> dict[str, Any] | None:
    """Of examples in tokens, start and end counted; None where there is no example."""
    examples = int(histogram.sum())
    if not examples:
        return None
    reached = np.cumsum(histogram)
    quantiles = {f"q{q}": int(np.searchsorted(reached, q / 100 * examples)) + 2 for q in (50, 90, 99)}
    mean = float(histogram @ np.arange(len(histogram))) / examples + 2
    return {"mean": mean, **quantiles, "longest": len(np.trim_zeros(histogram, "b")) + 1, "unit": "tokens"}


def _coverage(vocabulary: Vocabulary, seen: Seen) -> dict[str, Any]:
    """How much of the tokens and examples a vocabulary knows; both lists of tokens go by count."""
    spelled = {token: vocabulary.spelled(token) for token in seen.tokens}
    unknown = {token: n for token, n in seen.tokens.most_common() if spelled[token] is None}
    pieces = {token: n for token, n in seen.tokens.most_common() if len(spelled[token] or ()) > 1}
    tokens, examples = sum(seen.tokens.values()), int(seen.lengths.sum())
    missed = sum(unknown.values()) + sum(pieces.values())
    used = {entry for entries in spelled.values() for entry in entries or ()}
    return {
        "vocabulary": vocabulary.name,
        "entries": len(vocabulary.entries),
        "used": len(used),
        "tokens_known": 1 - missed / tokens if tokens else None,
        "examples_known": 1 - seen.not_known / examples if examples else None,
        "unknown": unknown,
        "in_pieces": pieces,
    }


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)))
