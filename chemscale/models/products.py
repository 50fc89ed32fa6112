"""What linear layers multiply in: the type of their tensors, or a narrower one with sums and results in float32.

Rounding the two factors of a product alone, and keeping everything between products in float32, is what processors with
matrix units for bfloat16 gain from: their products are several times faster, all else in bfloat16 is slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PRODUCTS: ContextVar[torch.dtype | None] = ContextVar("products", default=None)


@contextlib.contextmanager
def products_in(dtype: torch.dtype) -> Iterator[None]:
    """Linear layers called within multiply in `dtype`, in their backward pass too."""
    token = PRODUCTS.set(dtype)
    try:
        yield
    finally:
        PRODUCTS.reset(token)


def rounded_product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b with both rounded to `dtype`; the result in the type of `a`."""
    return torch.mm(a.to(dtype), b.to(dtype)).to(a.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear` in the type of `products_in`, if any."""
    return linear_in(PRODUCTS.get(), x, weight, bias)


def linear_in(dtype: torch.dtype | None, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`, multiplied in `dtype`; None is the tensors' own."""
    if dtype is None:
        return functional.linear(x, weight, bias)
    made: Any = _Rounded.apply(x.flatten(0, -2), weight, dtype)
    return made.unflatten(0, x.shape[:-1]) if bias is None else made.unflatten(0, x.shape[:-1]) + bias


class Linear(nn.Linear):
    """torch's layer, whose product is made in the type that it is told: a compiler sees arguments, no context."""

    def forward(self, input: Tensor, products: torch.dtype | None = None) -> Tensor:
        return linear_in(products, input, self.weight, self.bias)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.dtype = dtype
        return rounded_product(x, weight.t(), dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return rounded_product(grad, weight, ctx.dtype), rounded_product(grad.t(), x, ctx.dtype), None
