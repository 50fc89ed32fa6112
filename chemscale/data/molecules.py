"""Molecules or proteins of a file -> tokens -> ids on disk, in parallel, with bounded memory, going on where it was.

Every record is read once: its canonical SMILES (or its sequence) tells duplicates, its group key decides its split. The
alphabet comes from the whole training split, never from a subset and never from held-out molecules, so that losses
compare across sizes of data; a token met only in held-out molecules becomes the unknown token and is counted. A
vocabulary made elsewhere stands in for the alphabet where one is asked for.

The file is encoded in parts of `_CHUNK` records, each kept on disk until the build is whole: a build that is killed
goes on with the parts that are missing. `merging` then writes the arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from chemscale.batch import Manifest, TextManifest
from chemscale.data import parallel, readers
from chemscale.data.encoding import Encoded, Task, Writing, encode
from chemscale.data.files import count_lines
from chemscale.data.merging import Merged, Merger
from chemscale.data.moses import read_embedded
from chemscale.data.notation import refuse_other_notation
from chemscale.data.parts import Parts, claimed, discard
from chemscale.data.sources import Source
from chemscale.data.splits import LABELLED, LEFT_OUT, Marking, given, markings, refuse_empty, told
from chemscale.data.store import (
    BUILDER,
    MANIFEST_FILE,
    Rejected,
    complete,
    counted,
    read_manifest,
    refuse_empty_counts,
    staged,
)
from chemscale.data.subsets import SPLITS, digest
from chemscale.data.tokens import split_string
from chemscale.data.vocabulary import Vocabulary, vocabulary_of
from chemscale.home import home
from chemscale.spec import Reading

_CHUNK = 10_000  # records of one part: a few seconds of work, which is what a killed build loses per processor
READY_MADE = "moses"  # the one source whose molecules ship with their tokens beside them
_UNKNOWN_SHOWN = 100  # unknown tokens that a manifest names


def build_molecules(
    source: Source,
    folder: Path,
    representation: str,
    reading: Reading,
    processes: int | None,
    progress: bool | None,
) -> Manifest:
    """Build a source of strings into `folder`, whole or not at all.

    Raises:
        ValueError: the source holds no string that can be used, or leaves one of the three splits empty.
    """
    vocabulary = vocabulary_of(reading, representation)
    parts_folder = home() / "building" / f"{folder.name}-{_CHUNK}"
    with claimed(parts_folder):
        if (folder / MANIFEST_FILE).is_file():
            return read_manifest(folder)
        try:
            parts = Parts(parts_folder)
            for number, part in _encoded(source, representation, reading, vocabulary, parts, processes, progress):
                parts.put(number, part)
            manifest = _merged(source, folder, representation, reading, vocabulary, parts)
        except ValueError:
            discard(parts_folder)  # the same file would be refused again
            raise
        discard(parts_folder)
        return manifest


def writings(
    source: Source, representation: str, reading: Reading, vocabulary: Vocabulary | None
) -> Iterator[tuple[Path, readers.Layout, Writing, Marking]]:
    """How to read and write each file of a source, and which splits its records belong to.

    Raises:
        ValueError: a file cannot be written in this representation, or is written in another notation than expected; or
            splits are given that cannot be (`splits.markings`).
    """

    def records(path: Path) -> int:
        return sum(1 for _ in readers.read_records(path, readers.layout_of(path, reading, representation)))

    for path, marking in markings(source, reading, records):
        of_file = reading if marking.rest == LABELLED else replace(reading, splits=None)
        layout = readers.layout_of(path, of_file, representation)
        refuse_other_notation(source.name, path, layout)
        writing = Writing(representation, layout.notation, reading.form, vocabulary, reading.longest, reading.splits)
        yield path, layout, writing, marking


def ready_made(path: Path, mark: int, representation: str, vocabulary: Vocabulary | None) -> Encoded:
    """Package data of one mark: canonical SMILES, each a group of its own, with their SELFIES tokens beside them."""
    smiles, alphabet, tokens, lengths = read_embedded(path)
    if representation != "selfies" or vocabulary is not None:
        return _rewritten(smiles, alphabet, tokens, lengths, representation, vocabulary, mark)
    member = np.fromiter((digest(s) for s in smiles), dtype=np.uint64)
    marks = np.full(len(smiles), mark, dtype=np.uint8)
    return Encoded(alphabet, tokens.astype(np.uint16), lengths, member, member, marks)


def _rewritten(
    smiles: list[str],
    alphabet: tuple[str, ...],
    tokens: np.ndarray,
    lengths: np.ndarray,
    representation: str,
    vocabulary: Vocabulary | None,
    mark: int,
) -> Encoded:
    """Package data in another representation or vocabulary."""
    ends = np.cumsum(lengths).tolist()
    spelled = [(vocabulary.spelled(t) if vocabulary else None) or (t,) for t in alphabet]
    ids: dict[str, int] = {}
    rows = []
    for text, end, length in zip(smiles, ends, lengths.tolist(), strict=True):
        if representation == "selfies":
            entries = [entry for i in tokens[end - length : end].tolist() for entry in spelled[i]]
        else:
            entries = split_string(text, representation)
            if vocabulary:
                entries = [e for token in entries for e in vocabulary.spelled(token) or (token,)]
        rows.append([ids.setdefault(entry, len(ids)) for entry in entries])
    member = np.fromiter((digest(s) for s in smiles), dtype=np.uint64)
    return Encoded(
        alphabet=tuple(ids),
        tokens=np.array([i for row in rows for i in row], dtype=np.uint16),
        lengths=np.array([len(row) for row in rows], dtype=np.int64),
        member=member,
        group=member,
        mark=np.full(len(rows), mark, dtype=np.uint8),
    )


def _encoded(
    source: Source,
    representation: str,
    reading: Reading,
    vocabulary: Vocabulary | None,
    parts: Parts,
    processes: int | None,
    progress: bool | None,
) -> Iterator[tuple[int, Encoded]]:
    """The parts that are not done yet."""
    if source.name == READY_MADE:
        for number, (path, marking) in enumerate(markings(source, reading, count_lines)):
            if number not in parts.done:
                yield number, ready_made(path, marking.rest, representation, vocabulary)
        return
    number = 0
    for path, layout, writing, marking in writings(source, representation, reading, vocabulary):
        tasks = numbered_tasks(path, layout, writing, marking, number)
        total = None if progress is False else count_lines(path)
        with parallel.progress_bar(total, f"encoding {path.name}", progress) as shown:
            number += yield from _missing(tasks, parts, shown, processes)


def numbered_tasks(
    path: Path, layout: readers.Layout, writing: Writing, marking: Marking, first: int = 0
) -> Iterator[Task]:
    """The records of a file, `_CHUNK` at a time, without those that are left out."""
    for i, records in enumerate(parallel.in_chunks(readers.read_records(path, layout), _CHUNK)):
        marks = marking.marks(i * _CHUNK, len(records)).tolist()
        if LEFT_OUT in marks:
            records = [record for record, mark in zip(records, marks, strict=True) if mark != LEFT_OUT]
            marks = [mark for mark in marks if mark != LEFT_OUT]
        yield Task(first + i, writing, records, marks)


def _missing(
    tasks: Iterator[Task], parts: Parts, shown: parallel.Progress, processes: int | None
) -> Iterator[tuple[int, Encoded]]:
    """Encode the parts that are not done; returns how many parts there are."""
    count = 0

    def todo() -> Iterator[Task]:
        nonlocal count
        for task in tasks:
            count += 1
            if task.number in parts.done:
                shown.advance(len(task.records))
            else:
                yield task

    for number, part in parallel.mapped(encode, todo(), processes):
        shown.advance(len(part.lengths) + len(part.rejected))
        yield number, part
    return count


def _merged(
    source: Source,
    folder: Path,
    representation: str,
    reading: Reading,
    vocabulary: Vocabulary | None,
    parts: Parts,
) -> Manifest:
    what = "proteins" if representation == "protein" else "molecules"
    with staged(folder) as room:
        merger = Merger(parts, room / "scratch", reading.duplicates, vocabulary)
        if not merger.examples:
            why = _first_reason(parts)
            raise ValueError(f"Data.source={source.name!r} holds no {what[:-1]} that can be read; {why}.")
        found = merger.decide(room)
        if given(reading):
            refuse_empty(source.name, what, dict(zip(SPLITS, found.counts, strict=True)), reading)
        refuse_empty_counts(source.name, what, found.counts, found.groups, f"more different {what}")
        found = merger.write(room)
        discard(room / "scratch")
        manifest = _manifest(source, representation, reading, vocabulary, found, counted(_rejected(parts)))
        return complete(room, manifest, found.sums, _rejected(parts))


def _manifest(
    source: Source,
    representation: str,
    reading: Reading,
    vocabulary: Vocabulary | None,
    found: Merged,
    rejected: dict[str, int],
) -> TextManifest:
    notes = {"origin": source.origin, "units": source.units, "unknown_tokens": sum(found.unknown.values())}
    if found.unknown:
        notes["unknown"] = dict(list(found.unknown.items())[:_UNKNOWN_SHOWN])
    if given(reading):
        notes["splits"] = told(reading)
    if any(found.changed.values()):
        notes["removed"] = {kind: n for kind, n in found.changed.items() if n}
    if vocabulary is not None:
        notes |= {"vocabulary": vocabulary.name, "train_counts": list(found.train_counts)}
    if reading != Reading():
        notes["reading"] = {k: v for k, v in vars(reading).items() if v != getattr(Reading(), k)}
    manifest = TextManifest(
        source=source.name,
        family="text",
        content="",
        builder=BUILDER,
        counts=dict(zip(SPLITS, found.counts, strict=True)),
        totals={"tokens": found.train_tokens, "groups": found.train_groups},
        rejected=rejected | {reason: n for reason, n in found.dropped.items() if n},
        licence=source.licence,
        citation=source.citation,
        notes=notes,
        vocabulary=found.vocabulary,
        longest=found.longest,
        representation=representation,
    )
    return manifest if vocabulary is None else replace(manifest, **vocabulary.special_ids)


def _rejected(parts: Parts) -> Iterator[Rejected]:
    for number in sorted(parts.done):
        yield from parts.facts(number).rejected


def _first_reason(parts: Parts) -> str:
    first = next(_rejected(parts), None)
    return "the file is empty" if first is None else f"line {first.line}: {first.reason}"
