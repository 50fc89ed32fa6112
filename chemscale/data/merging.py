"""Parts of a build -> the arrays on disk, with bounded memory whatever the number of examples.

Three passes over the parts. Duplicates are found among examples with neighbouring digests, group by group the split is
decided and held-out twins of training examples are left out, and what is kept is written in the order of the file. What
a pass finds out about an example reaches the next one through `Buckets`, sorted by the block of examples that it is
about; nothing is ever as long as the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chemscale.data.buckets import Buckets, bucket_of
from chemscale.data.parts import Parts
from chemscale.data.splits import BY_GROUP, decided
from chemscale.data.store import ArrayFile
from chemscale.data.subsets import SPLITS
from chemscale.data.tokens import SPECIALS, UNKNOWN
from chemscale.data.vocabulary import Vocabulary

BLOCK_EXAMPLES, BLOCK_TOKENS = 1 << 20, 1 << 24  # about 200 MB while a block is worked on
BUCKET_EXAMPLES = 1 << 20  # about 100 MB while a bucket is


@dataclass(frozen=True)
class Block:
    """Consecutive parts that are worked on together: their numbers, and how many examples come before and in them."""

    parts: tuple[int, ...]
    first: int
    examples: int


@dataclass
class Merged:
    """What merging finds out.

    Attributes:
        counts: examples of each split.
        groups: groups in all, and in training.
        dropped: examples left out, by reason.
        changed: what encoding counted.
        vocabulary: entries by id.
        unknown: tokens that are no entry, by their text.
        train_counts: (vocabulary,) tokens of the training split.
        train_tokens: targets of the training split, end tokens counted.
        longest: tokens of the longest example, start and end counted.
        sums: checksum of each array.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(SPLITS))
    groups: int = 0
    train_groups: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    vocabulary: tuple[str, ...] = ()
    unknown: dict[str, int] = field(default_factory=dict)
    train_counts: tuple[int, ...] = ()
    train_tokens: int = 0
    longest: int = 0
    sums: dict[str, str] = field(default_factory=dict)


class Merger:
    """Merges all parts of a build.

    Args:
        parts: what was encoded.
        scratch: a folder for what one pass leaves to the next.
        duplicates: "dropped" or "kept".
        vocabulary: given from outside; None makes an alphabet of the training split.
    """

    def __init__(self, parts: Parts, scratch: Path, duplicates: str, vocabulary: Vocabulary | None) -> None:
        self.parts, self.scratch = parts, scratch
        self.duplicates, self.given = duplicates, vocabulary
        self.found = Merged()
        self.alphabet: dict[str, int] = {}
        self.blocks = list(self._blocks())
        self.starts = np.array([block.first for block in self.blocks], dtype=np.int64)
        self.examples = sum(block.examples for block in self.blocks)
        self._buckets = max(1, -(-self.examples // BUCKET_EXAMPLES))

    def decide(self, folder: Path) -> Merged:
        """Find duplicates, splits and groups; writes the array of group digests into the folder."""
        repeated = self._repeated() if self.duplicates == "dropped" else None
        self._split(folder, repeated)
        return self.found

    def write(self, folder: Path) -> Merged:
        """Write all other arrays, after `decide`."""
        self._spell()
        self._write(folder)
        return self.found

    def _blocks(self) -> Iterator[Block]:
        first = examples = tokens = 0
        numbers: list[int] = []
        for number in sorted(self.parts.done):
            facts = self.parts.facts(number)
            self.found.changed.update(facts.counts)
            for text in facts.alphabet:
                self.alphabet.setdefault(text, len(self.alphabet))
            full = examples + facts.examples > BLOCK_EXAMPLES or tokens + facts.tokens > BLOCK_TOKENS
            if numbers and full:
                yield Block(tuple(numbers), first, examples)
                first, examples, tokens, numbers = first + examples, 0, 0, []
            numbers.append(number)
            examples, tokens = examples + facts.examples, tokens + facts.tokens
        if numbers:
            yield Block(tuple(numbers), first, examples)

    def _arrays(self, block: Block, *names: str) -> list[np.ndarray]:
        rows = [self.parts.arrays(number, *names) for number in block.parts]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def _block_of(self, index: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, index, side="right") - 1

    def _repeated(self) -> Buckets:
        """Indices of examples whose digest came before, those of earlier splits first where splits are given; by
        block."""
        fields = [("key", "u8"), ("index", "i8"), ("split", "u1")]
        by_key = Buckets(self.scratch / "members", fields, self._buckets)
        for block in self.blocks:
            member, mark, group = self._arrays(block, "member", "mark", "group")
            index = np.arange(block.first, block.first + block.examples)
            by_key.add(bucket_of(member, self._buckets), key=member, index=index, split=_before(mark, group))
        repeated = Buckets(self.scratch / "repeated", [("index", "i8")], len(self.blocks))
        for number in range(self._buckets):
            rows = by_key.take(number)
            rows = rows[np.lexsort((rows["index"], rows["split"], rows["key"]))]
            again = rows["index"][1:][rows["key"][1:] == rows["key"][:-1]]
            repeated.add(self._block_of(again), index=again)
            self.found.dropped["duplicate"] += len(again)
        return repeated

    def _split(self, folder: Path, repeated: Buckets | None) -> None:
        fields = [("key", "u8"), ("index", "i8"), ("mark", "u1")]
        by_group = Buckets(self.scratch / "groups", fields, self._buckets)
        for number, block in enumerate(self.blocks):
            group, mark = self._arrays(block, "group", "mark")
            kept = np.ones(block.examples, dtype=bool)
            if repeated is not None:
                kept[repeated.take(number)["index"] - block.first] = False
            index = np.flatnonzero(kept) + block.first
            by_group.add(bucket_of(group[kept], self._buckets), key=group[kept], index=index, mark=mark[kept])
        self.placed = Buckets(
            self.scratch / "placed", [("index", "i8"), ("group", "i8"), ("split", "u1")], len(self.blocks)
        )
        digests = self.scratch / "digests"
        with digests.open("wb") as handle:
            for number in range(self._buckets):
                self._placed(by_group.take(number)).tofile(handle)
        self._write_digests(folder, digests)

    def _placed(self, rows: np.ndarray) -> np.ndarray:
        """Decide about all examples of some groups; the digests of groups that stay, ascending."""
        split = decided(rows["mark"], rows["key"])
        twins = (split != 0) & np.isin(rows["key"], rows["key"][split == 0])
        rows, split = rows[~twins], split[~twins]
        digests, group = np.unique(rows["key"], return_inverse=True)
        found = self.found
        self.placed.add(self._block_of(rows["index"]), index=rows["index"], group=group + found.groups, split=split)
        found.dropped["twin of a training molecule"] += int(twins.sum())
        found.counts = [count + int(np.sum(split == i)) for i, count in enumerate(found.counts)]
        found.groups += len(digests)
        found.train_groups += len(np.unique(group[split == 0]))
        return digests

    def _write_digests(self, folder: Path, digests: Path) -> None:
        with ArrayFile(folder / "group_digest.npy", np.uint64, self.found.groups) as out, digests.open("rb") as handle:
            while len(some := np.fromfile(handle, dtype=np.uint64, count=BLOCK_EXAMPLES)):
                out.append(some)
        self.found.sums["group_digest"] = out.checksum

    def _kept(self, number: int) -> np.ndarray:
        rows = self.placed.read(number)
        return rows[np.argsort(rows["index"])]

    def _tokens(self, block: Block) -> np.ndarray:
        """Tokens of a block as ids of the joint alphabet."""
        rows = []
        for number in block.parts:
            ids = np.array([self.alphabet[text] for text in self.parts.facts(number).alphabet], dtype=np.uint16)
            tokens = self.parts.arrays(number, "tokens")[0]
            rows.append(ids[tokens] if len(tokens) else tokens)
        return np.concatenate(rows)

    def _spell(self) -> None:
        """Count the tokens that are kept, and give each its id."""
        train, everything = np.zeros((2, len(self.alphabet)), dtype=np.int64)
        for number, block in enumerate(self.blocks):
            rows = self._kept(number)
            (lengths,) = self._arrays(block, "lengths")
            inside = rows["index"] - block.first
            split = np.full(block.examples, len(SPLITS), dtype=np.uint8)
            split[inside] = rows["split"]
            owner, tokens = np.repeat(split, lengths), self._tokens(block)
            train += np.bincount(tokens[owner == 0], minlength=len(train))
            everything += np.bincount(tokens[owner < len(SPLITS)], minlength=len(train))
            self.found.longest = max(self.found.longest, int(lengths[inside].max(initial=0)) + 2)
            self.found.train_tokens += int(np.sum(lengths[split == 0] + 1))
        texts = list(self.alphabet)
        own = sorted(text for text, count in zip(texts, train, strict=True) if count)
        entries = self.given.entries if self.given else (*SPECIALS, *own)
        ids = {text: i for i, text in enumerate(entries)}
        unknown = self.given.special_ids["unknown"] if self.given else UNKNOWN
        self.ids = np.array([ids.get(text, unknown) for text in texts], dtype=np.int64)
        self.total = int(everything.sum())
        odd = {text: int(n) for text, n in zip(texts, everything, strict=True) if n and text not in ids}
        self.found.vocabulary = entries
        self.found.unknown = dict(sorted(odd.items(), key=lambda item: (-item[1], item[0])))
        self.found.train_counts = tuple(int(n) for n in np.bincount(self.ids, weights=train, minlength=len(entries)))

    def _write(self, folder: Path) -> None:
        kept = sum(self.found.counts)
        dtype = np.uint8 if len(self.found.vocabulary) <= 256 else np.uint16
        files = {
            "tokens": ArrayFile(folder / "tokens.npy", dtype, self.total),
            "offsets": ArrayFile(folder / "offsets.npy", np.int64, kept + 1),
            "split": ArrayFile(folder / "split.npy", np.uint8, kept),
            "group": ArrayFile(folder / "group.npy", np.int64, kept),
            "member_digest": ArrayFile(folder / "member_digest.npy", np.uint64, kept),
        }
        files["offsets"].append(np.zeros(1, dtype=np.int64))
        end = 0
        for number, block in enumerate(self.blocks):
            rows = self._kept(number)
            inside = rows["index"] - block.first
            lengths, member = self._arrays(block, "lengths", "member")
            mask = np.zeros(block.examples, dtype=bool)
            mask[inside] = True
            ends = end + np.cumsum(lengths[inside])
            end = int(ends[-1]) if len(ends) else end
            files["tokens"].append(self.ids.astype(dtype)[self._tokens(block)[np.repeat(mask, lengths)]])
            files["offsets"].append(ends)
            files["split"].append(rows["split"])
            files["group"].append(rows["group"])
            files["member_digest"].append(member[inside])
        for name, file in files.items():
            file.__exit__()
            self.found.sums[name] = file.checksum


def _before(mark: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(n,) uint8, whose copy stays: of the first split that is given; of the first in the file where none is."""
    return np.where(mark == BY_GROUP, np.uint8(0), decided(mark, group))
