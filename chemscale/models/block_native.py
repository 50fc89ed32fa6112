"""What stands between the products of a block in training, in C (`block.c`), for short strings in float32.

Measured beside torch's operations (`block`, `grid`), one thread of an AVX2 processor, 32 strings of 64 tokens, width
128 in 16 heads: attention 7 -> 2.4 ms forward and 7 -> 3.5 ms backward, gelu_new 3.3 -> 1.4 ms in all. Nothing is
padded, and a few calls take the place of some sixty operations, which counts most where a batch is small.

Shapes: tokens (of all strings), width, heads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chemscale.models.machine import compiled, shared

SOURCE = Path(__file__).with_name("block.c")
ROOM = 128  # tokens of the longest string that the kernels take; what they keep of one stays in a nearest cache
ALL = 2**40  # tokens back that a query without a window sees


@cache
def block_kernels(heads: int, head: int) -> BlockKernels | None:
    """The kernels of this shape; None where they cannot be compiled here."""
    library = compiled(SOURCE, HEADS=heads, HEAD=head, ROOM=ROOM)
    return None if library is None else BlockKernels(library, heads)


class BlockKernels:
    """Calls the compiled kernels. Tensors are float32, contiguous and on the processor."""

    def __init__(self, library: Any, heads: int) -> None:
        part, numbers, number = [ctypes.c_int64] * 2, ctypes.c_void_p, ctypes.c_int64
        self.heads = heads
        self._attend, self._attend_back = library.attend, library.attend_backward
        self._attend.argtypes = [*part, *[numbers] * 4, number, ctypes.c_float]
        self._attend_back.argtypes = [*part, *[numbers] * 6, number, ctypes.c_float]
        self._active = {name: getattr(library, name) for name in ("gelu", "gelu_new")}
        self._slope = {name: getattr(library, f"{name}_backward") for name in self._active}
        for call in self._active.values():
            call.argtypes = [*part, *[numbers] * 3, number]
        for call in self._slope.values():
            call.argtypes = [*part, *[numbers] * 2, number]
        for call in (self._attend, self._attend_back, *self._active.values(), *self._slope.values()):
            call.restype = None

    def attend(self, projected: Tensor, starts: Tensor, window: int | None, scale: float) -> tuple[Tensor, Tensor]:
        """Mixed values, (tokens, width), and logarithms of the sums behind the shares, (tokens, heads).

        Args:
            projected: (tokens, 3 x width), queries, keys and values.
            starts: (strings + 1,) int64, where each string begins, and where the last ends.
        """
        tokens, columns = projected.shape
        mixed, sums = projected.new_empty(tokens, columns // 3), projected.new_empty(tokens, self.heads)
        pointers = (t.data_ptr() for t in (projected, starts, mixed, sums))
        shared(self._attend, len(starts) - 1, projected.numel(), *pointers, window or ALL, scale)
        return mixed, sums

    def attend_backward(
        self,
        projected: Tensor,
        starts: Tensor,
        mixed: Tensor,
        sums: Tensor,
        grad: Tensor,
        window: int | None,
        scale: float,
    ) -> Tensor:
        """Gradient of queries, keys and values, (tokens, 3 x width), from that of the mixed values."""
        made = torch.empty_like(projected)
        pointers = (t.data_ptr() for t in (projected, starts, mixed, sums, grad, made))
        shared(self._attend_back, len(starts) - 1, projected.numel(), *pointers, window or ALL, scale)
        return made

    def activate(self, name: str, inner: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """ "gelu" or "gelu_new" of inner + bias, (tokens, inner width), and inner + bias, in the place of inner."""
        made = torch.empty_like(inner)
        pointers = (t.data_ptr() for t in (inner, bias, made))
        shared(self._active[name], len(inner), inner.numel(), *pointers, inner.shape[1])
        return made, inner

    def activate_backward(self, name: str, grad: Tensor, inner: Tensor) -> Tensor:
        """The gradient of inner, in the place of the one given."""
        shared(self._slope[name], len(grad), grad.numel(), inner.data_ptr(), grad.data_ptr(), grad.shape[1])
        return grad
