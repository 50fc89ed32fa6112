"""The same kernels in C (`kernels.c`), compiled for this processor and shape where a C compiler is found.

Four layers of width 64 write 1.7 times as many strings a second with them
as with torch's operations; attention of 512 lines, 4 heads of 16, to 17 and 40 tokens takes 0.8 and 1.5 ms, there 1.2
and 2.7 at best. `torch.compile` of a whole block took 25 s and gave 2.6 ms for 3.7 at 17 tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chemscale.models.causal import NORM_EPS
from chemscale.models.machine import compiled, shared

SOURCE = Path(__file__).with_name("kernels.c")


@cache
def native(heads: int, head: int) -> Callable[[str], Native] | None:
    """What makes the kernels of this shape, by the activation's name; None where they cannot be compiled here."""
    library = compiled(SOURCE, HEADS=heads, HEAD=head)
    return None if library is None else lambda activation: Native(library, activation)


class Native:
    """Calls the compiled kernels, lines shared out over torch's threads. Tensors are float32 and contiguous."""

    layout: tuple[int, ...] = (0, 1, 4, 2, 3, 5)  # a line's past lies together

    def __init__(self, library: Any, activation: str) -> None:
        lines, numbers, number = [ctypes.c_int64] * 2, ctypes.c_void_p, ctypes.c_int64
        self._normal, self._attend, self._activate = library.normal, library.attend, getattr(library, activation)
        self._normal.argtypes = [*lines, *[numbers] * 3, ctypes.c_float]
        self._attend.argtypes = [*lines, *[numbers] * 5, *[number] * 3]
        self._activate.argtypes = [*lines, *[numbers] * 2, number]
        self._copy = library.copy
        self._copy.argtypes = [*[numbers] * 4, *[number] * 7]
        for call in (self._normal, self._attend, self._activate, self._copy):
            call.restype = None

    def normal(self, x: Tensor, bias: Tensor) -> Tensor:
        made = torch.empty_like(x)
        _shared(self._normal, x, x.data_ptr(), bias.data_ptr(), made.data_ptr(), NORM_EPS)
        return made

    def attend(self, projected: Tensor, bias: Tensor, memory: Tensor, at: int, first: int) -> Tensor:
        keys, values = memory
        mixed = projected.new_empty(len(projected), projected.shape[1] // 3)
        pointers = (t.data_ptr() for t in (projected, bias, keys, values, mixed))
        _shared(self._attend, projected, *pointers, keys.stride(2), first, at)
        return mixed

    def activate(self, hidden: Tensor, bias: Tensor) -> Tensor:
        _shared(self._activate, hidden, hidden.data_ptr(), bias.data_ptr(), hidden.shape[1])
        return hidden

    def copy(self, source: Tensor, lines: Tensor, target: Tensor, places: Tensor, tokens: int) -> None:
        layers, two, _, head, _, heads = source.shape
        lines, places = lines.contiguous(), places.contiguous()
        pointers = (t.data_ptr() for t in (source, target, lines, places))
        strides = (t.stride(axis) for axis in (1, 4) for t in (source, target))  # layers follow on one another
        self._copy(*pointers, len(lines), layers * two, *strides, tokens * head * heads)


def _shared(call: Callable[..., None], rows: Tensor, *arguments: Any) -> None:
    shared(call, len(rows), rows.numel(), *arguments)
