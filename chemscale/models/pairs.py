"""Sums over neighbours in which each pair of atoms is listed once and its filter serves both directions.

Legend of shapes: atoms, pairs, width (channels, always last); dots stand for Cartesian components, 1 or 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def neighbour_sum(messages: Tensor, filters: Tensor, pairs: Tensor, parity: int = 1) -> Tensor:
    """Sum over neighbours of filter times message.

    `out_i = sum over pairs (i, j) of f_ij m_j + parity * sum over pairs (j, i) of f_ji m_i`: a radial filter is the same
    in both directions (parity 1), one along the pair's direction changes its sign (parity -1).

    Args:
        messages: (atoms, ..., width).
        filters: (pairs, ..., width); messages and filters broadcast against each other behind the first dimension.
        pairs: (2, pairs), each pair once.
        parity: 1 or -1.

    Returns:
        (atoms, ..., width), differentiable any number of times.
    """
    return _Spread.apply(messages, filters, pairs, parity)  # type: ignore[no-any-return]


class _Spread(torch.autograd.Function):
    """Bilinear, and its derivatives are itself and `_Gather`, so no gathered copy is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, filters: Tensor, pairs: Tensor, parity: int) -> Tensor:
        ctx.save_for_backward(messages, filters, pairs)
        ctx.parity = parity
        first, second = pairs
        product = _times(messages.index_select(0, second), filters)
        out = product.new_zeros(len(messages), *product.shape[1:]).index_add_(0, first, product)
        product = _times(messages.index_select(0, first), filters)
        return out.index_add_(0, second, product, alpha=parity)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        messages, filters, pairs = ctx.saved_tensors
        (grad,) = grads
        to_messages = to_filters = None
        if ctx.needs_input_grad[0]:
            to_messages = _like(messages, ctx.parity * _Spread.apply(grad, filters, pairs, ctx.parity))
        if ctx.needs_input_grad[1]:
            to_filters = _like(filters, _Gather.apply(grad, messages, pairs, ctx.parity))
        return to_messages, to_filters, None, None


class _Gather(torch.autograd.Function):
    """`a_i b_j + parity * a_j b_i` for each pair: (atoms, ..., width) twice -> (pairs, ..., width)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, pairs: Tensor, parity: int) -> Tensor:
        ctx.save_for_backward(a, b, pairs)
        ctx.parity = parity
        first, second = pairs
        out = _times(a.index_select(0, first), b.index_select(0, second))
        back = _times(a.index_select(0, second), b.index_select(0, first))
        return out.add_(back, alpha=parity)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, pairs = ctx.saved_tensors
        (grad,) = grads
        to_a = to_b = None
        if ctx.needs_input_grad[0]:
            to_a = _like(a, _Spread.apply(b, grad, pairs, ctx.parity))
        if ctx.needs_input_grad[1]:
            to_b = _like(b, ctx.parity * _Spread.apply(a, grad, pairs, ctx.parity))
        return to_a, to_b, None, None


def _times(gathered: Tensor, factor: Tensor) -> Tensor:
    """Their product, in the first one's memory where it fits: these copies are the bulk of a model's traffic."""
    return gathered.mul_(factor) if gathered.shape == factor.shape or factor.shape[1] == 1 else gathered * factor


def _like(tensor: Tensor, grad: Tensor) -> Tensor:
    return grad.sum_to_size(tensor.shape)
