"""Molecules of a file -> canonical SMILES -> SELFIES or SMILES tokens -> ids on disk.

Every molecule is read once, in parallel: its canonical SMILES tells duplicates, its group key (`groups`)
decides its split. The alphabet comes from the whole training split, never from a subset and never from
held-out molecules, so that losses compare across sizes of data; a token met only in held-out molecules
becomes the unknown token and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from chemscale.batch import Manifest, TextManifest
from chemscale.data import parallel, readers
from chemscale.data.encoding import BY_GROUP, HELD_OUT, Encoded, Task, encode_lines, joined
from chemscale.data.moses import read_embedded
from chemscale.data.sources import Source
from chemscale.data.store import BUILDER, Rejected, counted, offsets_of, publish, refuse_empty_splits
from chemscale.data.subsets import SPLITS, digest, split_of_groups
from chemscale.data.tokens import SPECIALS, UNKNOWN, split_string

_CHUNK = 1000  # records per task: about a second of work


def build_molecules(
    source: Source, folder: Path, representation: str, processes: int | None, progress: bool | None
) -> Manifest:
    """Build a source of molecules into `folder`, whole or not at all.

    Raises:
        ValueError: the source holds no molecule, or leaves one of the three splits empty.
    """
    parts = list(_parts(source, representation, processes, progress))
    rejected = [record for part in parts for record in part.rejected]
    everything = joined(parts)
    if not len(everything.lengths):
        raise ValueError(f"Data.source={source.name!r} holds no molecule that can be read; {_first_reason(rejected)}.")
    kept, dropped = _selected(everything)
    refuse_empty_splits(source.name, "molecules", kept.split, kept.group, "more different molecules")
    return _write(source, folder, representation, kept, dropped, rejected)


def _parts(source: Source, representation: str, processes: int | None, progress: bool | None) -> Iterator[Encoded]:
    for split, path in source.files:
        if source.name == "moses":
            yield _ready_made(path, str(split), representation)
        else:
            mark = _mark(split)
            for part in _encoded_file(path, representation, processes, progress):
                yield replace(part, split=np.full(len(part.lengths), mark, dtype=np.uint8))


def _mark(split: str | None) -> int:
    if split is None:
        return BY_GROUP
    return HELD_OUT if split == "held-out" else SPLITS.index(split)


def _encoded_file(path: Path, representation: str, processes: int | None, progress: bool | None) -> Iterator[Encoded]:
    chunks = parallel.in_chunks(readers.read_strings(path), _CHUNK)
    tasks = (Task(representation, lines) for lines in chunks)
    total = None if progress is False else readers.count_lines(path)
    with parallel.progress_bar(total, f"encoding {path.name}", progress) as shown:
        for part in parallel.in_processes(encode_lines, tasks, processes):
            shown.advance(len(part.lengths) + len(part.rejected))
            yield part


def _ready_made(path: Path, split: str, representation: str) -> Encoded:
    """Package data: canonical SMILES, each a group of its own, with their SELFIES tokens beside them."""
    smiles, alphabet, tokens, lengths = read_embedded(path)
    if representation != "selfies":
        rows = [split_string(s, representation) for s in smiles]
        alphabet = tuple(dict.fromkeys(token for row in rows for token in row))
        ids = {token: i for i, token in enumerate(alphabet)}
        tokens = np.fromiter((ids[token] for row in rows for token in row), dtype=np.uint16)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
    member = np.fromiter((digest(s) for s in smiles), dtype=np.uint64)
    mark = np.full(len(smiles), _mark(split), dtype=np.uint8)
    return Encoded(alphabet, tokens.astype(np.uint16), lengths, member, member, mark)


def _selected(data: Encoded) -> tuple[Encoded, dict[str, int]]:
    """Without repeated molecules and without held-out twins of training molecules; splits decided."""
    order = np.lexsort((np.arange(len(data.member)), data.split, data.member))  # training copies come first
    first = np.ones(len(order), dtype=bool)
    first[1:] = data.member[order][1:] != data.member[order][:-1]
    unique = np.sort(order[first])
    split = _decided(data.split[unique], data.group[unique])
    twins = (split != 0) & np.isin(data.group[unique], data.group[unique][split == 0])
    keep = unique[~twins]
    dropped = {"duplicate": len(order) - len(unique), "twin of a training molecule": int(twins.sum())}
    return _taken(data, keep, split[~twins]), {reason: n for reason, n in dropped.items() if n}


def _decided(split: np.ndarray, group: np.ndarray) -> np.ndarray:
    by_group = split_of_groups(group)
    held_out = split_of_groups(group, (0.0, 0.5, 0.5))
    return np.where(split == BY_GROUP, by_group, np.where(split == HELD_OUT, held_out, split)).astype(np.uint8)


def _taken(data: Encoded, keep: np.ndarray, split: np.ndarray) -> Encoded:
    mask = np.zeros(len(data.lengths), dtype=bool)
    mask[keep] = True
    return Encoded(
        alphabet=data.alphabet,
        tokens=data.tokens[np.repeat(mask, data.lengths)],
        lengths=data.lengths[keep],
        member=data.member[keep],
        group=data.group[keep],
        split=split,
    )


def _write(
    source: Source,
    folder: Path,
    representation: str,
    data: Encoded,
    dropped: dict[str, int],
    bad: Iterable[Rejected],
) -> Manifest:
    vocabulary, tokens, unknown = _with_alphabet(data)
    group_digest, group = np.unique(data.group, return_inverse=True)
    train = data.split == 0
    bad = list(bad)
    manifest = TextManifest(
        source=source.name,
        family="text",
        content="",
        builder=BUILDER,
        counts={name: int(np.sum(data.split == i)) for i, name in enumerate(SPLITS)},
        totals={"tokens": int(np.sum(data.lengths[train] + 1)), "groups": len(np.unique(data.group[train]))},
        rejected=counted(bad) | dropped,
        licence=source.licence,
        citation=source.citation,
        notes={"origin": source.origin, "units": source.units, "unknown_tokens": unknown},
        vocabulary=vocabulary,
        longest=int(data.lengths.max()) + 2,
        representation=representation,
    )
    arrays = {
        "tokens": tokens,
        "offsets": offsets_of(data.lengths),
        "split": data.split,
        "group": group.astype(np.int64),
        "group_digest": group_digest,
        "member_digest": data.member,
    }
    return publish(folder, manifest, arrays, bad)


def _with_alphabet(data: Encoded) -> tuple[tuple[str, ...], np.ndarray, int]:
    """The alphabet of the training split, all tokens in its ids, and how many of them it does not know."""
    in_training = np.repeat(data.split == 0, data.lengths)
    seen = np.flatnonzero(np.bincount(data.tokens[in_training], minlength=len(data.alphabet)))
    vocabulary = (*SPECIALS, *sorted(data.alphabet[i] for i in seen))
    place = {token: i for i, token in enumerate(vocabulary)}
    dtype = np.uint8 if len(vocabulary) <= 256 else np.uint16
    tokens = np.array([place.get(t, UNKNOWN) for t in data.alphabet], dtype=dtype)[data.tokens]
    return vocabulary, tokens, int(np.sum(tokens == UNKNOWN))


def _first_reason(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return "the file is empty"
    return f"line {rejected[0].line}: {rejected[0].reason}"
