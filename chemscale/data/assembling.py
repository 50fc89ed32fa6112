"""Parts of structures -> the arrays on disk, with bounded memory whatever their number.

Three passes over the parts. The first one finds the elements of the training split, the second decides about every
structure and numbers the groups, the third writes what is kept in the order of the source and gathers what reference
energies and scale need. What a pass finds out about a structure reaches the next one through `Buckets`, sorted by the
block of structures that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chemscale.data.assembled import LATER, Assembled, Gathered, StructureFiles
from chemscale.data.buckets import Buckets, bucket_of
from chemscale.data.duplicates import LATE, Copies, Duplicates
from chemscale.data.frame_parts import FrameParts
from chemscale.data.splits import decided, given, refuse_empty
from chemscale.data.store import ArrayFile, Rejected, refuse_empty_counts
from chemscale.data.subsets import SPLITS
from chemscale.spec import Reading

BLOCK = 1 << 17  # structures whose groups and splits are in memory together, about 3 MB
BUCKET = 1 << 20  # structures whose groups are numbered together, about 50 MB
_MORE = "structures of more molecules"
_STRANGE = "held-out structure with an element that no training structure has"


class Assembler:
    """Assembles all parts of a build.

    Args:
        source: its name, for errors.
        parts: what was read.
        scratch: a folder for what one pass leaves to the next; it must not exist.
        lone: energies of isolated atoms from outside, by atomic number.
        reading: which splits are given, and what becomes of structures in two of them.
    """

    def __init__(self, source: str, parts: FrameParts, scratch: Path, lone: dict[int, float], reading: Reading) -> None:
        self.source, self.parts, self.scratch, self.reading = source, parts, scratch, reading
        self.found = Assembled()
        self.lone = dict(lone)
        self.numbers = sorted(parts.done)
        self.sizes = np.array([len(parts.arrays(n, "lengths")[0]) for n in self.numbers], dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes  # of each part, counting all its structures
        self.structures = int(self.sizes.sum())

    def check(self) -> None:
        """Find the elements of the training split, and refuse a split without a structure; nothing is written.

        Raises:
            ValueError: a split is left empty.
        """
        self.known = self._known_species()
        self._refuse_empty(None)

    def assemble(self, folder: Path) -> Assembled:
        """Write all arrays into the folder, after `check`.

        Raises:
            ValueError: a split is left empty.
        """
        self._group(folder, self.known)
        self._refuse_empty(self.found.groups)
        self._write(folder)
        return self.found

    def _each(self, *names: str) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(place of the first structure, arrays) of each part."""
        for number, start in zip(self.numbers, self.starts.tolist(), strict=True):
            yield start, list(self.parts.arrays(number, *names))

    def _known_species(self) -> np.ndarray:
        """(256,) bool, the elements of the training split; counts the splits on its way."""
        known = np.zeros(256, dtype=bool)
        for _, (species, lengths, group, mark, isolated, energy) in self._each(
            "species", "lengths", "group", "mark", "isolated", "energy"
        ):
            split = decided(mark, group)
            train = (split == 0) & ~isolated
            known[species[np.repeat(train, lengths)]] = True
            for i in range(len(SPLITS)):
                self.found.counts[i] += int(np.sum((split == i) & ~isolated))
            first = np.cumsum(lengths) - lengths
            for place in np.flatnonzero(isolated):
                self.lone[int(species[first[place]])] = float(energy[place])
        return known

    def _refuse_empty(self, groups: int | None) -> None:
        counts = self.found.counts
        if given(self.reading):
            refuse_empty(self.source, "structures", dict(zip(SPLITS, counts, strict=True)), self.reading)
        if groups is None and not all(counts):
            keys = (group[~isolated] for _, (group, isolated) in self._each("group", "isolated"))
            groups = len(set().union(*(set(some.tolist()) for some in keys)))  # of a set that is small or odd
        refuse_empty_counts(self.source, "structures", counts, groups or 0, _MORE)

    def _group(self, folder: Path, known: np.ndarray) -> None:
        """Decide what is kept, number its groups, and look for duplicates."""
        count = max(1, -(-self.structures // BUCKET))
        by_group = Buckets(self.scratch / "groups", [("key", "u8"), ("place", "i8"), ("split", "u1")], count)
        copies = Duplicates(self.scratch / "members", self.structures)
        for (start, arrays), late in zip(
            self._each("species", "lengths", "group", "mark", "isolated", "member", "index"), self._late(), strict=True
        ):
            species, lengths, group, mark, isolated, member, index = arrays
            split = decided(mark, group)
            owner = np.repeat(np.arange(len(lengths)), lengths)
            strange = (np.bincount(owner, weights=~known[species], minlength=len(lengths)) > 0) & ~isolated
            self._reject(species, lengths, index, strange)
            kept = ~strange & ~isolated
            copies.add(member[kept], index[kept], split[kept])
            late = late[kept[late["place"]]]  # the others are told of already
            self._reject_late(index, late)
            kept[late["place"]] = False
            place = np.flatnonzero(kept) + start
            by_group.add(bucket_of(group[kept], count), key=group[kept], place=place, split=split[kept])
        self.found.duplicates = copies.within()
        self._number(folder, by_group, count)

    def _late(self) -> Iterator[np.ndarray]:
        """Of each part, which structures an earlier split holds too; none where groups decide, or copies are kept."""
        if not given(self.reading) or self.reading.duplicates == "kept":
            return (np.empty(0, dtype=LATE) for _ in self.numbers)
        copies = Copies(self.scratch / "copies", self.structures)
        for start, (group, mark, isolated, member) in self._each("group", "mark", "isolated", "member"):
            place = np.flatnonzero(~isolated)
            copies.add(member[place], place + start, decided(mark, group)[place])
        return (rows for _, rows in self._by_part(copies.late(BLOCK)))

    def _reject_late(self, index: np.ndarray, late: np.ndarray) -> None:
        for place, split, first in late.tolist():
            reason = f"at coordinates of another split: {SPLITS[split]}, and in {SPLITS[first]} too"
            self.found.left_out.append(Rejected(int(index[place]), reason, ""))

    def _reject(self, species: np.ndarray, lengths: np.ndarray, index: np.ndarray, strange: np.ndarray) -> None:
        ends = np.cumsum(lengths)
        for place in np.flatnonzero(strange):
            numbers = sorted(set(species[ends[place] - lengths[place] : ends[place]].tolist()))
            text = f"atomic numbers {' '.join(map(str, numbers))}"
            self.found.left_out.append(Rejected(int(index[place]), _STRANGE, text))

    def _number(self, folder: Path, by_group: Buckets, count: int) -> None:
        """Number the groups by their digests, ascending."""
        blocks = max(1, -(-self.structures // BLOCK))
        self.placed = Buckets(self.scratch / "placed", [("place", "i8"), ("group", "i8"), ("split", "u1")], blocks)
        found, digests = self.found, self.scratch / "digests"
        found.counts = [0] * len(SPLITS)
        with digests.open("wb") as handle:
            for number in range(count):
                rows = by_group.take(number)
                keys, group = np.unique(rows["key"], return_inverse=True)
                split = rows["split"]
                self.placed.add(rows["place"] // BLOCK, place=rows["place"], group=group + found.groups, split=split)
                found.counts = [n + int(np.sum(split == i)) for i, n in enumerate(found.counts)]
                found.train_groups += len(np.unique(group[split == 0]))
                found.groups += len(keys)
                keys.tofile(handle)
        with ArrayFile(folder / "group_digest.npy", np.uint64, found.groups) as out, digests.open("rb") as handle:
            while len(some := np.fromfile(handle, dtype=np.uint64, count=BLOCK)):
                out.append(some)
        found.sums["group_digest"] = out.checksum

    def _decisions(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number, decisions) of each part: places within the part, groups and splits of what is kept."""
        return self._by_part(self.placed)

    def _by_part(self, buckets: Buckets) -> Iterator[tuple[int, np.ndarray]]:
        """(number, rows) of each part, of rows about structures that are sorted by block; places within the part."""
        block, rows = -1, np.empty(0, dtype=buckets.dtype)
        for number, start, size in zip(self.numbers, self.starts.tolist(), self.sizes.tolist(), strict=True):
            taken = []
            for wanted in range(start // BLOCK, max(start, start + size - 1) // BLOCK + 1):
                if wanted != block:
                    block, rows = wanted, np.sort(buckets.read(wanted), order="place")
                taken.append(rows[(rows["place"] >= start) & (rows["place"] < start + size)])
            some = np.concatenate(taken)
            some["place"] -= start
            yield number, some

    def _write(self, folder: Path) -> None:
        gathered = Gathered(self.found)
        files = StructureFiles(folder, sum(self.found.counts), self._atoms(), self._later())
        for number, rows in self._decisions():
            part = self.parts.part(number)
            gathered.add(part, rows)
            files.add(part, rows)
        self.found.sums |= files.close()
        if self.lone:
            self._write_isolated(folder)
        self.found.reference = gathered.compositions.of_isolated(self.lone)
        self.found.scale = gathered.scale

    def _atoms(self) -> int:
        return sum(
            int(self.parts.arrays(number, "lengths")[0][rows["place"]].sum()) for number, rows in self._decisions()
        )

    def _later(self) -> tuple[str, ...]:
        """Which of the arrays of `LATER` hold anything."""
        return tuple(name for name in LATER if any(some.any() for _, (some,) in self._each(name)))

    def _write_isolated(self, folder: Path) -> None:
        """Energies of isolated atoms; they move the labels, so they belong to the content."""
        rows = np.array([[z, e] for z, e in self.lone.items()], dtype=np.float64)
        with ArrayFile(folder / "isolated.npy", np.float64, len(rows), (2,)) as out:
            out.append(rows)
        self.found.sums["isolated"] = out.checksum
