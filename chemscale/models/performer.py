"""Softmax attention in time linear in atoms, by positive random features (Choromanski et al., ICLR 2021, 2009.14794).

Legend of shapes: atoms, structures, width (channels), features (random features).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FLOOR = 1e-30  # keeps a denominator of underflown weights from 0; nothing beside any other


class Performer(nn.Module):
    """Attention of each atom to all atoms of its own structure, `softmax(q k / sqrt(width)) v`, by FAVOR+.

    The kernel `exp(q k / sqrt(width))` is the mean of `phi(q) phi(k)` over Gaussian directions w,
    `phi(x) = exp(w x / width^(1/4) - |x|^2 / (2 sqrt(width)))`, drawn orthogonal in blocks once,
    with the module, and kept with its weights. What is subtracted from exponents for safety cancels in the ratio, so
    that the output is smooth; the paper's added constant, with which it does not cancel, is left out.

    Args:
        width: channels of queries, keys and values.
        features: random directions.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.width = width
        self.directions: Tensor
        self.register_buffer("directions", orthogonal_gaussian(features, width).T.contiguous())  # (width, features)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, owner: Tensor, structures: int) -> Tensor:
        """(atoms, width) three times, (atoms,) -> (atoms, width)."""
        queries = self._projected(q)
        queries = torch.exp(queries - queries.detach().amax(1, keepdim=True))  # (atoms, features)
        keys = self._projected(k) - k.square().sum(1, keepdim=True) / (2 * math.sqrt(self.width))
        largest = keys.new_full((structures,), -math.inf).scatter_reduce(0, owner, keys.detach().amax(1), "amax")
        keys = torch.exp(keys - largest.index_select(0, owner)[:, None])  # (atoms, features)
        total = keys.new_zeros(structures, keys.shape[1]).index_add_(0, owner, keys)
        carried = keys.new_zeros(structures, keys.shape[1], v.shape[1])
        carried.index_add_(0, owner, keys[:, :, None] * v[:, None])  # (structures, features, width)
        weight = (queries * total.index_select(0, owner)).sum(1, keepdim=True) + FLOOR
        return (queries[:, None] @ carried.index_select(0, owner)).squeeze(1) / weight

    def _projected(self, x: Tensor) -> Tensor:
        return x @ (self.directions / self.width**0.25)


def orthogonal_gaussian(count: int, width: int) -> Tensor:
    """(count, width): rows as long as those of a Gaussian matrix, orthogonal within each block of `width`."""
    blocks = []
    for start in range(0, count, width):
        rotation, triangle = torch.linalg.qr(torch.randn(width, width))
        rotation = rotation * triangle.diagonal().sign()  # else not uniform (Mezzadri 2007), and the mean is biased
        blocks.append(rotation[: count - start])
    return torch.cat(blocks) * torch.randn(count, width).norm(dim=1, keepdim=True)
