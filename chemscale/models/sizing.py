"""The width that a budget of parameters or of FLOPs buys, counted on the module itself; one way for every potential."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models import cost

Config = TypeVar("Config")

SPECIES = (1, 6, 7, 8)  # parameters are counted without embeddings, so that the elements of the data hardly matter
ATOMS, PAIRS = 27, 226  # a molecule of 3BPA within 5 angstrom: what "FLOPs of a training step" are meant for
WIDEST = 1 << 14


def of_size(make: Callable[[int], Config], width: int | None, params: float | None, flops: float | None) -> Config:
    """The model of a given width, or the one whose count lies nearest to a budget, as a ratio.

    Args:
        make: the configuration of an even width.
        width: the width itself.
        params: trainable parameters without embeddings.
        flops: matrix FLOPs of energies, forces and the gradient of both for one structure of 27 atoms and 226 pairs.

    Raises:
        ValueError: not exactly one of the three is given, or the narrowest model is far above the budget, or the widest
            far below.
    """
    given = {"width": width, "params": params, "flops": flops}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(f"sized() was given {', '.join(named) or 'no size'}; give one of width, params and flops.")
    if width is not None:
        return make(width)
    ((name, budget),) = named.items()
    count = _parameters if name == "params" else _training_flops
    return _nearest(make, lambda config: count(config), name, float(budget))


def _nearest(make: Callable[[int], Any], count: Callable[[Any], int], name: str, budget: float) -> Any:
    """Among even widths; counts grow nearly as powers of the width, so that few need to be made."""
    low, high = 2, 32
    least = count(make(low))
    if least > 2 * budget:
        raise ValueError(
            f"{type(make(low)).__name__}.sized({name}={budget:g}) is too small: the narrowest, of width 2, has "
            f"{least:,}; raise {name}, or lower depth or degree."
        )
    while (most := count(make(high))) < budget and high < WIDEST:
        low, high = high, 4 * high
    if 2 * most < budget:
        raise ValueError(
            f"{type(make(low)).__name__}.sized({name}={budget:g}) is too large: a width of {high:,} has {most:,}; "
            f"lower {name}, or raise depth or degree."
        )
    while high - low > 2:
        ends = [math.log(count(make(width)) / budget) for width in (low, high)]
        share = min(max(ends[0] / (ends[0] - ends[1]), 0.0), 1.0) if ends[0] < ends[1] else 0.5
        middle = 2 * round(low * (high / low) ** share / 2)
        for width in (middle - 2, middle, middle + 2):  # close in from both sides
            if low < width < high:
                low, high = (width, high) if count(make(width)) < budget else (low, width)
    return min(make(low), make(high), key=lambda config: abs(math.log(count(config) / budget)))


@cache
def _parameters(config: Any) -> int:
    return cost.parameters(cost.built(config, MANIFEST, "meta"))["non_embedding"]


@cache
def _training_flops(config: Any) -> int:
    """What one more structure adds to a step: the work that a batch does once is left out."""
    where = "cpu" if _parameters(config) <= cost.SMALL else "meta"  # no numbers; slower, but for what computes for long
    module = cost.built(config, MANIFEST, where)
    counts = [cost.count_flops(lambda n=n: _train(module, n)).matrix for n in (1, 2)]
    return counts[1] - counts[0]


MANIFEST = AtomicManifest("sizing", "structures", "", 1, {}, {}, species=SPECIES)


def _train(module: nn.Module, structures: int) -> None:
    with torch.device(next(module.parameters()).device):
        batch: AtomicBatch = cost.PROBES["structures"].batch(
            MANIFEST, structures, structures * ATOMS, structures * PAIRS
        )
    predicted = module(batch)
    (predicted.energy.square().sum() + predicted.forces.square().sum()).backward()
