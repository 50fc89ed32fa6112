"""Tanimoto similarities of many fingerprints: nearest neighbours, and diversity within a set.

Shapes: molecules, others (of the set that is compared with), bits (8 to a byte in packed rows).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

BLOCK = 4096  # rows of one block: 67 MB of similarities
POWERS = (1, 2)


def nearest_similarity(fingerprints: np.ndarray, others: np.ndarray) -> float:
    """Mean over molecules of the highest Tanimoto similarity to any of the others (SNN); both (rows, bytes) uint8."""
    total = 0.0
    for rows in _blocks(fingerprints):
        best = torch.zeros(len(rows))
        for columns in _blocks(others):
            best = torch.maximum(best, _tanimoto(rows, columns).amax(1))
        total += float(best.double().sum())
    return total / len(fingerprints)


def internal_diversity(fingerprints: np.ndarray) -> tuple[float, float]:
    """IntDiv1 and IntDiv2: 1 - mean over molecules of (mean over all of T^p)^(1/p), for p = 1 and 2.

    Each molecule counts itself among all, as in the published figures.
    """
    number, total = len(fingerprints), np.zeros(len(POWERS))
    for rows in _blocks(fingerprints):
        sums = torch.zeros(len(POWERS), len(rows), dtype=torch.float64)
        for columns in _blocks(fingerprints):
            similarity = _tanimoto(rows, columns)
            sums += torch.stack([(similarity if p == 1 else similarity**p).sum(1) for p in POWERS])
        total += [float(((s / number) ** (1 / p)).sum()) for s, p in zip(sums, POWERS, strict=True)]
    one, two = 1 - total / number
    return float(one), float(two)


def _blocks(packed: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(packed), BLOCK):
        yield torch.from_numpy(np.unpackbits(packed[start : start + BLOCK], axis=1)).float()


def _tanimoto(rows: Tensor, columns: Tensor) -> Tensor:
    """(rows, columns) of shared bits over bits of either; two empty fingerprints are alike."""
    shared = rows @ columns.T
    either = (rows.sum(1)[:, None] + columns.sum(1)).sub_(shared)
    return shared.div_(either).nan_to_num_(1.0)
