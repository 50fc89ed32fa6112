"""What stands between the matrix products of a transformer's block, for one new token of many lines, in torch.

Attention to one new token is many tiny products, and calling a matrix routine for each costs more than its arithmetic.
Here lines and heads are the innermost axes of the cache, so that scores and mixtures are elementwise work along them.
At 512 lines, 4 heads of 16 and 20 tokens that takes 0.56 ms on an AVX2 processor; batched products on a cache that is
contiguous for each head take 3.0 ms, SDPA 1.2, blocks of few tokens that stay in the second cache 0.65 to 1.0.

Shapes: lines, room (tokens a line may have for now), head (width of one head), heads, width (ordered head, heads),
inner (width of the feed-forward part).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from chemscale.models.causal import NORM_EPS


class Kernels(Protocol):
    """Attributes: `layout`, the axes (layers, 2, room, head, places, heads) of a memory in the order of its numbers."""

    layout: tuple[int, ...]

    def normal(self, x: Tensor, bias: Tensor) -> Tensor:
        """Add `bias` to x, (lines, width), in place; its layer norm without gain and shift."""
        ...

    def attend(self, projected: Tensor, bias: Tensor, memory: Tensor, at: int, first: int) -> Tensor:
        """Mixture of the values of tokens `first` to `at`, (lines, width).

        `projected` + `bias`, (lines, 3 width), is query, key and value of token `at`; memory, (2, room, head, lines,
        heads), takes the last two in. May write over `projected`.
        """
        ...

    def activate(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """The activation of `hidden` + `bias`, (lines, inner). May write over `hidden`."""
        ...

    def copy(self, source: Tensor, lines: Tensor, target: Tensor, places: Tensor, tokens: int) -> None:
        """The first `tokens` tokens of lines of one memory into places of another, or of the same."""
        ...


class Plain:
    """In torch's own operations: on any machine, in any precision."""

    layout: tuple[int, ...] = (0, 1, 2, 3, 4, 5)

    def __init__(self, activation: str) -> None:
        self.activation = _gelu_tanh if activation == "gelu_new" else functional.gelu

    def normal(self, x: Tensor, bias: Tensor) -> Tensor:
        return functional.layer_norm(x.add_(bias), x.shape[-1:], eps=NORM_EPS)

    def attend(self, projected: Tensor, bias: Tensor, memory: Tensor, at: int, first: int) -> Tensor:
        """See `Kernels.attend`; one product over all lines and heads at a time."""
        _, _, head, lines, heads = memory.shape
        parts = _wide(projected.add_(bias).view(lines, 3, head, heads)).permute(1, 2, 0, 3)  # (3, head, lines, heads)
        _wide(memory)[:, at] = parts[1:]
        query = parts[0].contiguous().view(projected.dtype)  # (head, lines, heads)
        keys, values = memory[:, first : at + 1]  # (seen, head, lines, heads)
        scores = (keys * query).sum(1)  # (seen, lines, heads)
        weights = scores.sub_(scores.amax(0)).exp_()
        mixed = (values * weights[:, None]).sum(0).div_(weights.sum(0))  # (head, lines, heads)
        return _wide(mixed).permute(1, 0, 2).contiguous().view(mixed.dtype).view(lines, -1)

    def activate(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return self.activation(hidden.add_(bias))

    def copy(self, source: Tensor, lines: Tensor, target: Tensor, places: Tensor, tokens: int) -> None:
        _wide(target)[:, :, :tokens, :, places] = _wide(source)[:, :, :tokens, :, lines]


def _wide(numbers: Tensor) -> Tensor:
    """The same memory with a few numbers of the last axis taken as one, so that moving them about takes fewer steps."""
    size = numbers.shape[-1] * numbers.element_size()
    kinds = (torch.complex128, torch.complex64)  # 16 and 8 bytes
    kind = next((kind for kind in kinds if size % kind.itemsize == 0), None)
    return numbers if kind is None or kind.itemsize < numbers.element_size() else numbers.view(kind)


def _gelu_tanh(x: Tensor) -> Tensor:
    """gelu by tanh (Hendrycks and Gimpel 2016), as x sigmoid(2 u): torch's own takes twice as long on a processor."""
    doubled = 1.5957691216057308  # 2 sqrt(2 / pi)
    u = (x * x).mul_(0.044715 * doubled).add_(doubled).mul_(x)
    return u.sigmoid_().mul_(x)
