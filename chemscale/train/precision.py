"""What a run's precision means: the type of its parameters, and the types in which it computes.

"float32" and "float64" are one type for everything. "bfloat16_linears" keeps parameters, gradients and all between
products in float32 and rounds the factors of linear layers' products, forward and backward. "bfloat16" keeps parameters
and optimiser in float32 and computes under torch's autocast.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import torch

from chemscale.models.products import products_in

MALLOPT_TRIM, MALLOPT_MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
KEPT_BYTES, KEPT_BLOCK = 2**31 - 1, 2**30


def parameter_type(precision: str) -> torch.dtype:
    """The floating type of parameters, gradients and optimiser."""
    return torch.float64 if precision == "float64" else torch.float32


def arithmetic(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Around a forward pass: what it computes in."""
    if precision == "bfloat16_linears":
        return products_in(torch.bfloat16)
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, up to 2 GB: it gave every step's activations back to the
    system and had 36,000 pages a step cleared anew, 0.1 of 1.4 s at 24 layers of width 128 and 2,048 tokens."""
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no `mallopt`, or no such thresholds
        library = ctypes.CDLL(None)
        library.mallopt(MALLOPT_MMAP, KEPT_BLOCK)
        library.mallopt(MALLOPT_TRIM, KEPT_BYTES)
