"""Protein sequences out of FASTA files, and the groups that they belong to."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from chemscale.data.subsets import digest

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWYBJOUXZ"  # IUPAC-IUB 1983, with B, J, X, Z for what is not known exactly
_STRANGE = re.compile(f"[^{AMINO_ACIDS}]")


@dataclass(frozen=True)
class Members:
    """Which group an id belongs to: 16 bytes for each, in memory.

    Attributes:
        ids: (n,) uint64 digests of ids, ascending.
        groups: (n,) uint64 digests of their groups.
    """

    ids: np.ndarray
    groups: np.ndarray

    def group_of(self, name: str) -> str | None:
        """The group of an id in hexadecimal; None where the table does not have it."""
        place = int(np.searchsorted(self.ids, np.uint64(digest(name))))
        found = place < len(self.ids) and int(self.ids[place]) == digest(name)
        return f"{int(self.groups[place]):016x}" if found else None


def read(
    path: Path, handle: IO[str], key: str | None, members: Members | None, splits: str | None = None
) -> Iterator[tuple[int, str, str | None, str | None]]:
    """Each sequence with the line of its header, its group (the value of `key` there, or what `members` says) and its
    split (the value of `splits`, or None).

    Raises:
        ValueError: the file does not begin with a header, or a header has no such key or id.
    """
    where, head, lines = 0, "", []
    found, said = (_pattern(name) if name else None for name in (key, splits))

    def record() -> tuple[int, str, str | None, str | None]:
        split = said.search(head) if said else None
        return where, "".join(lines), _group(path, where, head, found, members), split.group(1) if split else None

    for number, line in enumerate(handle, start=1):
        line = line.strip()
        if line.startswith(">"):
            if where:
                yield record()
            where, head, lines = number, line[1:], []
        elif line and not where:
            raise ValueError(
                f"Data.source={str(path)!r} is no FASTA file: line {number} comes before any '>'; "
                "give a FASTA file, or a table with a column 'sequence'."
            )
        elif line:
            lines.append(line)
    if where:
        yield record()


def _pattern(key: str) -> re.Pattern[str]:
    """`key=value` in a header, where blanks, bars and semicolons part one from the next."""
    return re.compile(rf"(?:^|[\s|;]){re.escape(key)}=([^\s|;]+)")


def read_members(path: Path) -> Members:
    """The groups of a table of two columns separated by tabs or commas.

    A first line that names a column `id` (and another one) says which is which; without it the columns are group and
    id, as MMseqs2 writes clusters (representative, member).

    Raises:
        ValueError: a line has not two columns.
    """
    ids, groups = [], []
    with path.open(newline="") as handle:
        rows = csv.reader(handle, delimiter="," if path.suffix == ".csv" else "\t")
        place = 1
        for number, row in enumerate(rows, start=1):
            if not row:
                continue
            if len(row) != 2:
                raise ValueError(f"{path}, line {number} has {len(row)} columns; give two, an id and its group.")
            if number == 1 and "id" in row:
                place = row.index("id")
                continue
            ids.append(digest(row[place]))
            groups.append(digest(row[1 - place]))
    order = np.argsort(np.array(ids, dtype=np.uint64), kind="stable")
    return Members(np.array(ids, dtype=np.uint64)[order], np.array(groups, dtype=np.uint64)[order])


def residues(text: str) -> str:
    """A sequence in upper case without the stop at its end.

    Raises:
        ValueError: it is empty, or holds what is no amino acid; the message is the reason to reject it.
    """
    sequence = text.upper().removesuffix("*")
    if not sequence:
        raise ValueError("empty sequence")
    strange = _STRANGE.search(sequence)
    if strange:
        raise ValueError(f"not an amino acid: {strange.group()!r} at position {strange.start() + 1}")
    return sequence


def _group(path: Path, line: int, head: str, key: re.Pattern[str] | None, members: Members | None) -> str | None:
    if members is not None:
        name = head.split(maxsplit=1)[0] if head else ""
        group = members.group_of(name)
        if group is None:
            raise ValueError(f"the table of groups has no id {name!r} ({path.name}, line {line}); add it.")
        return group
    if key is None:
        return None
    found = key.search(head)
    if found is None:
        raise ValueError(
            f"the header on line {line} of {path.name} has no group of that name ({head[:60]!r}); "
            "name a key that every header has, e.g. groups='cluster' for '>id cluster=7'."
        )
    return found.group(1)
