"""What the splits of built data have in common: held-out examples that are trained on too, and groups in two splits.

Two examples are the same where the digests of what they hold agree: of canonical SMILES, or of elements, positions to
0.0001 angstrom and lattice. A build keeps its groups in one split, so it leaks where two groups hold the same example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemscale.data.store import open_arrays
from chemscale.data.subsets import SPLITS

_AT_A_TIME = 1 << 20  # examples looked at together; the held-out ones stay in memory, 8 bytes each


@dataclass(frozen=True)
class Overlap:
    """counts: split -> its examples; shared: (split, other) -> examples of the first that the other has too; groups:
    how many lie in more than one split."""

    counts: Mapping[str, int]
    shared: Mapping[tuple[str, str], int]
    groups: int


def overlap_of(folder: Path) -> Overlap:
    """What the splits of a built folder share; reads its digests, splits and groups, and no example."""
    arrays = open_arrays(folder)
    split, digest, group = arrays["split"], arrays["member_digest"], arrays["group"]
    held = {k: np.unique(digest[np.flatnonzero(split == k)]) for k in range(1, len(SPLITS))}
    own = {k: np.asarray(digest[np.flatnonzero(split == k)]) for k in held}
    found = {k: np.zeros(len(values), bool) for k, values in held.items()}  # which of them are trained on
    where = np.zeros(int(group.max(initial=-1)) + 1, np.uint8)  # a bit for each split that a group lies in
    for start in range(0, len(split), _AT_A_TIME):
        part = slice(start, start + _AT_A_TIME)
        np.bitwise_or.at(where, group[part], np.left_shift(1, split[part]).astype(np.uint8))
        trained = digest[part][split[part] == 0]
        for k, values in held.items():
            found[k] |= np.isin(values, trained)
    shared = {(SPLITS[k], SPLITS[0]): int(np.isin(own[k], values[found[k]]).sum()) for k, values in held.items()}
    first, *others = held
    shared |= {(SPLITS[k], SPLITS[first]): int(np.isin(own[k], held[first]).sum()) for k in others}
    counts = {name: int(np.sum(split == k)) for k, name in enumerate(SPLITS)}
    return Overlap(counts, shared, int(np.sum(np.bitwise_count(where) > 1)))
