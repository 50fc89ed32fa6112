"""Functions of the distance read off a table: quintic splines through their values at even knots.

A filter network has the distance alone as its input, and a batch has many more pairs than the network has features: on
knots it is evaluated a few hundred times a step, forward and once back, where pair by pair it is evaluated thousands of
times and differentiated twice. Splines of degree 5 have four continuous derivatives and are differentiated as they
stand, so that forces remain the slope of an energy.

Values V at knots become coefficients C = V / (1 + D / 4 + D^2 / 120), D the second difference: the sum of C over the
basis functions at a knot is (C[-2] + 26 C[-1] + 66 C[0] + 26 C[1] + C[2]) / 120 (Unser 1999, "Splines: a perfect fit
for signal and image processing"). The quotient is a power series in D.

Legend of shapes: pairs, knots, columns (of the table), 6 (basis functions that are not 0 at a distance).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag
from torch.utils.flop_counter import register_flop_formula

ORDER = 6  # of the spline, degree + 1: as many basis functions overlap
TERMS = 6  # of the power series in D; of smooth functions D is small, and the sixth power below rounding
# 120 times the basis functions, as polynomials of the place between two knots, 0 to 1: rows are powers.
PIECES = (
    (1, 26, 66, 26, 1, 0),
    (-5, -50, 0, 50, 5, 0),
    (10, 20, -60, 20, 10, 0),
    (-10, 20, 0, -20, 10, 0),
    (5, -20, 30, -20, 5, 0),
    (-1, 5, -10, 10, -5, 1),
)


class Places(NamedTuple):
    """Where distances lie in a table, and the same list by rows of the table.

    Attributes:
        rows: (pairs, 6) int64, rows of the table around each distance.
        order: (pairs * 6,) int64, entries of `rows` in ascending order.
        starts: (knots,) int64, where each row's entries begin in `order`.
    """

    rows: Tensor
    order: Tensor
    starts: Tensor


class Table(nn.Module):
    """Even knots from 0 to a cutoff, and what functions on them are between.

    Args:
        intervals: between 0 and the cutoff.
        cutoff: angstrom.
    """

    def __init__(self, intervals: int, cutoff: float) -> None:
        super().__init__()
        self.intervals = intervals
        self.step = cutoff / intervals  # angstrom
        self.pieces: Tensor
        self.register_buffer("pieces", torch.tensor(PIECES, dtype=torch.get_default_dtype()), persistent=False)

    def sites(self) -> Tensor:
        """Where a function is to be evaluated, some of it below 0 and beyond the cutoff: (sites,), angstrom, float64.

        Errors of values are divided by the distance of the knots in slopes: in float32 forces err five times as much.
        """
        beyond = TERMS + 2
        knots = torch.arange(-beyond, self.intervals + beyond + 1, dtype=torch.float64, device=self.pieces.device)
        return knots * self.step

    def places(self, distances: Tensor) -> tuple[Places, Tensor]:
        """Where distances lie, and (pairs, 6) weights of the rows there, which are differentiable."""
        steps = distances / self.step
        below = steps.detach().long().clamp(0, self.intervals - 1)
        rows = below[:, None] + torch.arange(ORDER, device=below.device)
        order = rows.flatten().argsort(stable=True)
        counts = rows.new_zeros(self.intervals + ORDER - 1).index_add_(0, rows.flatten(), torch.ones_like(order))
        between = (steps - below)[:, None]
        weights = self.pieces[-1].expand(distances.shape[0], ORDER)
        for piece in self.pieces[:-1].flip(0):
            weights = piece + weights * between
        return Places(rows, order, counts.cumsum(0) - counts), weights / 120.0

    def coefficients(self, values: Tensor) -> Tensor:
        """(sites, columns), a function at `sites()`, -> (knots, columns), the table of its spline."""
        found = SERIES[-1] * values
        for cut, factor in zip(range(1, TERMS + 1), reversed(SERIES[:-1]), strict=True):
            found = factor * values[cut : values.shape[0] - cut] + found.diff(n=2, dim=0)
        return found


def _series() -> tuple[float, ...]:
    """Of 1 / (1 + D / 4 + D^2 / 120)."""
    found = [1.0, -0.25]
    while len(found) <= TERMS:
        found.append(-found[-1] / 4 - found[-2] / 120)
    return tuple(found)


SERIES = _series()


def blended(table: Tensor, weights: Tensor, places: Places) -> Tensor:
    """What functions are at some distances: (knots, columns), (pairs, 6) -> (pairs, columns)."""
    return _blend(table, weights, *places)


# The sum over pairs, rows and columns of gradient * weight * table is linear in each of the three; the operations below
# are its slopes, so that the slope of each is one of the other two, however often they are differentiated.


@torch.library.custom_op("chemscale::blend", mutates_args=())
def _blend(table: Tensor, weights: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


@torch.library.custom_op("chemscale::blend_table", mutates_args=())
def _spread(grad: Tensor, weights: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    """(pairs, columns), (pairs, 6) -> (knots, columns)."""
    each = weights.flatten().index_select(0, order)
    return embedding_bag(order // ORDER, grad, starts, per_sample_weights=each, mode="sum")


@torch.library.custom_op("chemscale::blend_weights", mutates_args=())
def _overlap(grad: Tensor, table: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    """(pairs, columns), (knots, columns) -> (pairs, 6)."""
    firsts = torch.arange(0, rows.numel(), ORDER, device=rows.device)
    owners = torch.arange(rows.numel(), device=rows.device) // ORDER
    made = torch.ops.aten._embedding_bag_per_sample_weights_backward(grad, table, rows.flatten(), firsts, owners, 0)
    return made.view_as(rows)


@_blend.register_fake
def _(table: Tensor, weights: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return table.new_empty(rows.shape[0], table.shape[1])


@_spread.register_fake
def _(grad: Tensor, weights: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return grad.new_empty(starts.shape[0], grad.shape[1])


@_overlap.register_fake
def _(grad: Tensor, table: Tensor, rows: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return grad.new_empty(rows.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _slope_of_blend(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    table, weights, *places = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    by_table = _spread(grad, weights, *places) if wanted[0] else None
    by_weights = _overlap(grad, table, *places) if wanted[1] else None
    return by_table, by_weights, None, None, None


def _slope_of_spread(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    other, weights, *places = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    by_other = _blend(grad, weights, *places) if wanted[0] else None
    by_weights = _overlap(other, grad, *places) if wanted[1] else None
    return by_other, by_weights, None, None, None


def _slope_of_overlap(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    other, table, *places = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    by_other = _blend(table, grad, *places) if wanted[0] else None
    by_table = _spread(other, grad, *places) if wanted[1] else None
    return by_other, by_table, None, None, None


_blend.register_autograd(_slope_of_blend, setup_context=_keep)
_spread.register_autograd(_slope_of_spread, setup_context=_keep)
_overlap.register_autograd(_slope_of_overlap, setup_context=_keep)


@register_flop_formula([torch.ops.chemscale.blend, torch.ops.chemscale.blend_table, torch.ops.chemscale.blend_weights])
def _flops(first: tuple[int, ...], second: tuple[int, ...], rows: tuple[int, ...], *_: Any, **__: Any) -> int:
    """A product and a sum for each pair, row and column."""
    return 2 * rows[0] * rows[1] * first[1]
