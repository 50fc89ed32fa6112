"""Causal attention over strings laid end to end, each of which sees only itself.

Three ways to the same numbers: a grid of strings x longest for SDPA, which every device and type has; kernels for
strings of varying length, on GPUs in half precision; and one dense mask over all tokens, slow and plain, to hold the
others against.

Shapes: tokens (of all strings), heads, head (width of one head).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from chemscale.models.grid import Grid, hidden_tokens


@dataclass(frozen=True)
class Strings:
    """How strings lie end to end.

    Attributes:
        fed: (strings,) int64, tokens of each.
        positions: (tokens,) int64, place of each token in its string.
        longest: tokens of the longest string.
        products: what linear layers multiply in; None is the tensors' type.
    """

    fed: Tensor
    positions: Tensor
    longest: int
    products: torch.dtype | None = None

    @cached_property
    def starts(self) -> Tensor:
        """(strings + 1,) int32, where each string starts, and where the last ends."""
        return functional.pad(self.fed.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def grid(self) -> Grid:
        """The cells in which the tokens stand when the strings are padded to the longest."""
        return Grid.of(self.fed, self.positions, self.longest)

    def prepare(self, x: Tensor) -> None:
        """Make what every layer looks up, once for all and outside of what is compiled; `x` has device and type."""
        _ = self.starts if x.is_cuda else None
        _ = self.grid

    @cached_property
    def owner(self) -> Tensor:
        """(tokens,) int64, the string of each token."""
        return torch.repeat_interleave(self.fed, output_size=len(self.positions))


def attend(query: Tensor, key: Tensor, value: Tensor, strings: Strings, *, scale: float, window: int | None) -> Tensor:
    """Values mixed by the fastest way that the device and the type have: (tokens, heads, head) each.

    Args:
        scale: factor on the logits.
        window: tokens that each sees back, its own included; None: all.
    """
    half = query.dtype in (torch.bfloat16, torch.float16)
    way = by_length if query.is_cuda and half and query.shape[-1] % 8 == 0 else in_grid
    return way(query, key, value, strings, scale, window)


def in_grid(query: Tensor, key: Tensor, value: Tensor, strings: Strings, scale: float, window: int | None) -> Tensor:
    """SDPA on strings padded to the longest; the causal mask hides what stands on the right."""
    grid = strings.grid
    shape = (grid.strings, grid.longest, *query.shape[1:])
    blank = query.new_zeros(1, *query.shape[1:])
    cells = [torch.cat((part, blank)).index_select(0, grid.token).view(shape) for part in (query, key, value)]
    parts = [part.transpose(1, 2) for part in cells]  # (strings, heads, longest, head)
    mask = None
    if window is not None and grid.longest > window:
        mask = hidden_tokens(grid.longest, window, query)
    mixed = functional.scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=mask is None, scale=scale)
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, grid.cell)


def by_length(query: Tensor, key: Tensor, value: Tensor, strings: Strings, scale: float, window: int | None) -> Tensor:
    """Flash attention for strings of varying length: CUDA, bfloat16 or float16, heads of a multiple of 8."""
    from torch.nn.attention.varlen import varlen_attn

    back = -1 if window is None else window - 1
    starts, longest = strings.starts, strings.longest
    mixed = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scale, window_size=(back, 0))
    assert isinstance(mixed, Tensor)
    return mixed


def by_mask(query: Tensor, key: Tensor, value: Tensor, strings: Strings, scale: float, window: int | None) -> Tensor:
    """All tokens against all, with a mask that is open on the diagonal's blocks, below the diagonal."""
    place = torch.arange(len(strings.positions), device=query.device)
    apart = place[:, None] - place  # (tokens, tokens)
    seen = (strings.owner[:, None] == strings.owner) & (apart >= 0)
    if window is not None:
        seen &= apart < window
    logits = torch.einsum("qhd,khd->hqk", query, key).mul(scale).masked_fill(~seen, -math.inf)
    return torch.einsum("hqk,khd->qhd", logits.softmax(-1), value)
