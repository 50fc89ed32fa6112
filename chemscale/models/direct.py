"""Heads that predict forces without differentiating an energy, so that training needs no double backward.

Such forces do not conserve energy (Bigi et al. 2025, arXiv 2412.11569); they turn with the structure all the same,
since they are scalars times vectors. Legend of shapes: atoms, pairs, basis, width (channels, always last).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from chemscale.models.potential import READOUT_GAIN, dense


class PairForces(nn.Module):
    """Along pairs, for invariant models: `F_i = sum_j w . silu(A h_i + B h_j + C rho(r_ij)) fade(r_ij) r_ij/|r_ij|`.

    The form is GemNet's direct head (Gasteiger et al. 2021, arXiv 2106.08903) with a message of one layer. The
    two atoms of a pair weigh it differently, so that forces need not cancel.

    Args:
        width: channels of the atoms' features.
        basis: radial functions.
    """

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.ends = dense(width, 2 * width)  # A and B
        self.radial = dense(basis, width, bias=False)  # C
        self.weigh = dense(width, 1, bias=False)
        with torch.no_grad():
            self.weigh.weight.mul_(READOUT_GAIN)

    def forward(self, h: Tensor, basis: Tensor, fade: Tensor, unit: Tensor, pairs: Tensor) -> Tensor:
        """(atoms, width), (pairs, basis), (pairs, 1), (pairs, 3), (2, pairs) -> (atoms, 3)."""
        own, other = self.ends(h).chunk(2, -1)  # (atoms, width) each
        radial, along = self.radial(basis), fade * unit  # (pairs, width), (pairs, 3)
        out = h.new_zeros(h.shape[0], 3)
        for (here, there), sign in ((pairs, 1), (pairs.flip(0), -1)):
            mixed = silu(own.index_select(0, here) + other.index_select(0, there) + radial)  # (pairs, width)
            out.index_add_(0, here, self.weigh(mixed) * along, alpha=sign)
        return out


class VectorForces(nn.Module):
    """From l = 1 features: each atom's vectors, gated by its scalars and summed over channels.

    The gate is that of PaiNN's equivariant output block (Schütt et al. 2021), once.

    Args:
        width: channels of scalars and of vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(dense(width, width), nn.SiLU(), dense(width, width))
        with torch.no_grad():
            self.gate[-1].weight.mul_(READOUT_GAIN)  # type: ignore[operator]

    def forward(self, s: Tensor, v: Tensor) -> Tensor:
        """(atoms, width), (atoms, 3, width) -> (atoms, 3)."""
        return (v * self.gate(s)[:, None]).sum(-1)
