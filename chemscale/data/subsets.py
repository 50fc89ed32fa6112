"""Hash-ordered nested subsets and splits by group: pure functions of digests, the same on every machine.

A group (a molecule with its tautomers, stereoisomers and conformers) and each of its members have a 64-bit
digest. A keyed permutation of those digests orders groups, and members within a group; a subset is a prefix
of that order, so the small one is contained in the large one. Splits come from a threshold on an
independent permutation, so that adding groups never moves another group to a different split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

ORDER_RULE = 1  # part of a data set's content; rises when any function of this file changes an order or a split
SPLITS = ("train", "valid", "test")
SHARES = (0.8, 0.1, 0.1)


def digest(item: bytes | str) -> int:
    """64-bit BLAKE2b of bytes or of text in UTF-8; among 10^7 items two agree with a chance of 3e-6."""
    data = item.encode() if isinstance(item, str) else item
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def digests(items: Iterable[bytes | str]) -> np.ndarray:
    """(items,) uint64, the `digest` of each."""
    return np.fromiter((digest(item) for item in items), dtype=np.uint64)


def permuted(values: np.ndarray, purpose: str, key: int = 0) -> np.ndarray:
    """A keyed pseudo-random permutation of 64-bit words: distinct values stay distinct.

    Two rounds of the finaliser of SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195),
    each after mixing in one 64-bit word of BLAKE2b(purpose, key).

    Args:
        values: (n,) uint64 digests.
        purpose: names the use ("order", "split" …), so that two uses are independent.
        key: an integer of at least 0.
    """
    words = np.frombuffer(hashlib.blake2b(f"{purpose}:{key}".encode(), digest_size=16).digest(), dtype="<u8")
    return _finalised(_finalised(values.astype(np.uint64) ^ words[0]) + words[1])


def split_of_groups(group_digest: np.ndarray, shares: tuple[float, ...] = SHARES) -> np.ndarray:
    """(groups,) uint8, the index into `SPLITS` of each group; depends on nothing but the group's own digest."""
    uniform = (permuted(group_digest, "split") >> np.uint64(11)).astype(np.float64) * 2.0**-53  # in [0, 1)
    return np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right").astype(np.uint8)


def nested_order(
    ids: np.ndarray,
    group: np.ndarray,
    group_digest: np.ndarray,
    member_digest: np.ndarray,
    key: int,
    per_group: int | None = None,
    count: int | None = None,
) -> np.ndarray:
    """The ids in the order of which every subset is a prefix: group after group, each group's members
    together.

    Args:
        ids: (n,) int64 examples to order.
        group: (examples,) int64 group of each example of the whole data set.
        group_digest: (groups,) uint64.
        member_digest: (examples,) uint64.
        key: which of the orders.
        per_group: at most so many members of a group, the first ones of its order; None keeps all.
        count: how many are asked for: the first ones, without sorting the rest; fewer where there are fewer.
    """
    place = permuted(group_digest[group[ids]], "order", key)
    if per_group is None and count is not None and 0 < count < len(ids):
        near = place <= np.partition(place, count - 1)[count - 1]
        ids, place = ids[near], place[near]
    member = permuted(member_digest[ids], "member", key)
    by_place = np.lexsort((ids, member, place))
    if per_group is not None:
        by_place = by_place[_rank_in_run(place[by_place]) < per_group]
    return ids[by_place][:count]


def scattered_order(ids: np.ndarray, member_digest: np.ndarray, purpose: str) -> np.ndarray:
    """The ids in a fixed hash order of their own, so that a prefix touches as many groups as it can."""
    return ids[np.lexsort((ids, permuted(member_digest[ids], purpose)))]


def _rank_in_run(values: np.ndarray) -> np.ndarray:
    """Position of each element within its run of equal neighbours: [7, 7, 4, 4, 4] -> [0, 1, 0, 1, 2]."""
    index = np.arange(len(values))
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = values[1:] != values[:-1]
    return index - np.maximum.accumulate(np.where(starts, index, 0)) if len(values) else index


def _finalised(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
