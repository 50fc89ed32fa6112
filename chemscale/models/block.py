"""A transformer's block on a processor, as one step of autograd: forward and backward written out in torch's kernels.

What a processor loses in a block made of layers is time between the products: SDPA takes three times as long as four
batched products at a few dozen tokens, the tanh of GPT-Neo's gelu four times as long as a sigmoid, and each layer
allocates. Here tokens lie end to end without padding, and only attention sees them as a grid of molecules x length.
Measured, one thread of an AVX2 processor, 32 strings of 64 tokens, width 128 in 16 heads, forward and backward:
attention 34 -> 16 ms, gelu_new 8 -> 3 ms. In float32, where a C compiler is found, `block_native` takes the place of
the grids and of both activations.

Shapes: tokens (of all strings), width, heads, head (width of one head), cells (strings x longest).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from chemscale.models.grid import Part, Plan
from chemscale.models.products import rounded_product

aten = torch.ops.aten

GELU_SLOPE = 2 * math.sqrt(2 / math.pi)  # gelu_new: x/2 (1 + tanh z) is x sigmoid(2z), z = sqrt(2/pi)(x + 0.044715 x^3)
GELU_CUBIC = 0.044715  # Hendrycks & Gimpel 2016
NARROW_HEAD = 8  # up to here products with few columns are 2 to 3 times faster transposed; from 16 on they are not
CACHED_SHARES = 2**18  # 1 MB in float32: forward of 512 heads of 64 tokens 6.2 -> 4.7 ms on a processor with 0.5 MB L2


class Block(torch.autograd.Function):
    """`x + branch * attention(norm(x))`, then the same with the feed-forward part: (tokens, width) each."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, window: int | None, x: Tensor, *weights: Tensor) -> Tensor:  # type: ignore[override]
        """The block's output, (tokens, width); what its gradient needs is kept."""
        g1, b1, wqkv, wo, bo, g2, b2, wi, bi, wf, bf = weights
        width = x.shape[1]
        h1, mean1, rstd1 = aten.native_layer_norm(x, (width,), g1, b1, plan.eps)
        mixed, attended = _mix(plan, window, h1, wqkv)
        x1 = _add_product(plan, x, mixed, wo.t(), bo)
        h2, mean2, rstd2 = aten.native_layer_norm(x1, (width,), g2, b2, plan.eps)
        active, slope = _activate(plan, _product(plan, h2, wi.t()), bi)
        ctx.plan, ctx.window = plan, window
        kept = (x, h1, mean1, rstd1, mixed, x1, h2, mean2, rstd2, active, slope)
        ctx.save_for_backward(*kept, *weights, *attended)
        return _add_product(plan, x1, active, wf.t(), bf)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # type: ignore[override]
        """Gradients of the input and of every weight, in the order of `forward`."""
        plan: Plan = ctx.plan
        x, h1, mean1, rstd1, mixed, x1, h2, mean2, rstd2, active, slope, *more = ctx.saved_tensors
        g1, b1, wqkv, wo, _, g2, b2, wi, _, wf, _, *attended = more
        (grad,) = grads
        width, every = x.shape[1], [True, True, True]
        branch = grad if plan.branch == 1 else grad * plan.branch
        d_bf, d_wf = branch.sum(0), _product(plan, branch.t(), active)
        d_inner = _activate_backward(plan, _product(plan, branch, wf), slope)
        d_bi, d_wi = d_inner.sum(0), _product(plan, d_inner.t(), h2)
        d_h2 = _product(plan, d_inner, wi)
        d_x1, d_g2, d_b2 = aten.native_layer_norm_backward(d_h2, x1, (width,), mean2, rstd2, g2, b2, every)
        d_x1 += grad
        branch = d_x1 if plan.branch == 1 else d_x1 * plan.branch
        d_bo, d_wo = branch.sum(0), _product(plan, branch.t(), mixed)
        d_qkv = _mix_backward(plan, ctx.window, mixed, attended, branch, wo)
        d_wqkv = _product(plan, d_qkv.t(), h1)
        d_h1 = _product(plan, d_qkv, wqkv)
        d_x, d_g1, d_b1 = aten.native_layer_norm_backward(d_h1, x, (width,), mean1, rstd1, g1, b1, every)
        d_x += d_x1
        return None, None, d_x, d_g1, d_b1, d_wqkv, d_wo, d_bo, d_g2, d_b2, d_wi, d_bi, d_wf, d_bf


# -- products ---------------------------------------------------------------------------------------------------------


def _product(plan: Plan, a: Tensor, b: Tensor) -> Tensor:
    """a @ b, multiplied in the plan's type and added in float32."""
    return torch.mm(a, b) if plan.products is None else rounded_product(a, b, plan.products)


def _add_product(plan: Plan, x: Tensor, a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """x + branch * (a @ b + bias)."""
    if plan.products is None:
        return torch.addmm(x, a, b, alpha=plan.branch).add_(bias, alpha=plan.branch)
    return _product(plan, a, b).add_(bias).mul_(plan.branch).add_(x)


def _with_blank(plan: Plan, a: Tensor, b: Tensor) -> Tensor:
    """a @ b with a row of zeros below, which empty cells read: (tokens + 1, columns)."""
    out = a.new_empty(a.shape[0] + 1, b.shape[1])
    out[-1].zero_()
    if plan.products is None:
        torch.mm(a, b, out=out[:-1])
    else:
        out[:-1].copy_(rounded_product(a, b, plan.products))
    return out


# -- attention --------------------------------------------------------------------------------------------------------


def _mix(plan: Plan, window: int | None, x: Tensor, wqkv: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Mixed values, (tokens, width), of what stands before attention, and what the backward pass needs of it."""
    if plan.kernels is not None and plan.starts is not None:
        projected = _product(plan, x, wqkv.t())
        mixed, sums = plan.kernels.attend(projected, plan.starts, window, plan.scale)
        return mixed, [projected, sums]
    table = _with_blank(plan, x, wqkv.t())
    heads = [_to_cells(plan, part, table, 0) for part in plan.parts]
    made = [_attend(plan, part, window, cells) for part, cells in zip(plan.parts, heads, strict=True)]
    return _end_to_end([one[0] for one in made]), [*heads, *(one[1] for one in made)]


def _mix_backward(
    plan: Plan, window: int | None, mixed: Tensor, attended: list[Tensor], grad: Tensor, wo: Tensor
) -> Tensor:
    """Gradient of queries, keys and values, (tokens, 3 x width), from that behind attention's output matrix."""
    if plan.kernels is not None and plan.starts is not None:
        projected, sums = attended
        d_mixed = _product(plan, grad, wo)
        return plan.kernels.attend_backward(projected, plan.starts, mixed, sums, d_mixed, window, plan.scale)
    table, count = _with_blank(plan, grad, wo), len(plan.parts)
    each = zip(plan.parts, attended[:count], attended[count:], strict=True)
    return _end_to_end([_attend_backward(plan, p, h, s, _to_cells(plan, p, table, 1)) for p, h, s in each])


def _end_to_end(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _to_cells(plan: Plan, part: Part, table: Tensor, which: int) -> Tensor:
    """(tokens + 1, tables x width) to (tables, strings x heads, longest, head); `which`: 0 is three tables, 1 one."""
    tables, grid = (3, 1)[which], part.grid
    head = table.shape[1] // tables // plan.heads
    rows = table.view(-1, head).index_select(0, part.inward[which])
    return rows.view(tables, grid.strings * plan.heads, grid.longest, head)


def _to_tokens(plan: Plan, part: Part, cells: Tensor, which: int) -> Tensor:
    """(tables, strings x heads, longest, head) back to (tokens, tables x width)."""
    rows = cells.view(-1, cells.shape[3]).index_select(0, part.outward[which])
    return rows.view(len(part.grid.cell), -1)


def _upright(plan: Plan, part: Part, cells: Tensor, which: int) -> Tensor:
    """(tables, strings x heads, head, longest) to (tokens, tables x width)."""
    grid, tables, head = part.grid, cells.shape[0], cells.shape[2]
    table = cells.view(tables, grid.strings, plan.heads, head, grid.longest).permute(1, 4, 0, 2, 3)
    return table.reshape(len(grid.token), -1).index_select(0, grid.cell)


def _slices(heads: Tensor) -> list[slice]:
    """Cuts of strings x heads, so that what passes between the kernels of one cut stays in a processor's cache."""
    count, longest = heads.shape[1:3]
    size = max(1, CACHED_SHARES // longest**2)
    return [slice(start, start + size) for start in range(0, count, size)]


def _attend(plan: Plan, part: Part, window: int | None, heads: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed values, (tokens, width), and the share of each token in each, (strings x heads, longest, longest)."""
    _, count, longest, head = heads.shape
    narrow = head <= NARROW_HEAD
    shares = heads.new_empty(count, longest, longest)
    mixed = heads.new_empty(1, count, head, longest) if narrow else heads.new_empty(1, count, longest, head)
    for cut in _slices(heads):
        query, key, value = heads[:, cut].unbind(0)
        logits = torch.baddbmm(part.hidden[window], query, key.transpose(1, 2), alpha=plan.scale)
        share = torch.softmax(logits, -1, out=shares[cut])
        factors = (value.transpose(1, 2), share.transpose(1, 2)) if narrow else (share, value)
        torch.bmm(*factors, out=mixed[0, cut])
    return (_upright if narrow else _to_tokens)(plan, part, mixed, 1), shares


def _attend_backward(plan: Plan, part: Part, heads: Tensor, shares: Tensor, grad: Tensor) -> Tensor:
    """Gradient of queries, keys and values, (tokens, 3 x width), from that of the mixed values in cells."""
    _, count, longest, head = heads.shape
    narrow = head <= NARROW_HEAD
    made = heads.new_empty(3, count, head, longest) if narrow else torch.empty_like(heads)
    for cut in _slices(heads):
        query, key, value = heads[:, cut].unbind(0)
        out, share, d_query, d_key, d_value = grad[0, cut], shares[cut], *made[:, cut].unbind(0)
        d_shares = torch.bmm(out, value.transpose(1, 2))
        d_logits = aten._softmax_backward_data(d_shares, share, -1, share.dtype)
        if narrow:
            torch.bmm(key.transpose(1, 2), d_logits.transpose(1, 2), out=d_query)
            torch.bmm(query.transpose(1, 2), d_logits, out=d_key)
            torch.bmm(out.transpose(1, 2), share, out=d_value)
        else:
            torch.bmm(d_logits, key, out=d_query)
            torch.bmm(d_logits.transpose(1, 2), query, out=d_key)
            torch.bmm(share.transpose(1, 2), out, out=d_value)
    if plan.scale != 1:
        made[:2] *= plan.scale
    return (_upright if narrow else _to_tokens)(plan, part, made, 0)


# -- activations: inner -> what comes out, what the backward pass needs; (gradient, that) -> gradient of inner -------


def _activate(plan: Plan, inner: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if plan.kernels is not None:
        return plan.kernels.activate(plan.activation, inner, bias)
    return ACTIVATED[plan.activation](inner.add_(bias))


def _activate_backward(plan: Plan, grad: Tensor, slope: Tensor) -> Tensor:
    if plan.kernels is not None:
        return plan.kernels.activate_backward(plan.activation, grad, slope)
    return SLOPED[plan.activation](grad, slope)


def _gelu(inner: Tensor) -> tuple[Tensor, Tensor]:
    return functional.gelu(inner), inner


def _gelu_back(grad: Tensor, inner: Tensor) -> Tensor:
    return aten.gelu_backward(grad, inner)


def _gelu_new(x: Tensor) -> tuple[Tensor, Tensor]:
    """gelu_new and its slope: with s = sigmoid(a x + b x^3), y = x s and y' = s + y (1 - s)(a + 3 b x^2)."""
    square = x * x
    share = (square * (GELU_SLOPE * GELU_CUBIC)).add_(GELU_SLOPE).mul_(x).sigmoid_()
    active = x * share
    square.mul_(3 * GELU_SLOPE * GELU_CUBIC).add_(GELU_SLOPE)
    slope = torch.addcmul(active, active, share, value=-1).mul_(square).add_(share)
    return active, slope


ACTIVATED: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"gelu": _gelu, "gelu_new": _gelu_new}
SLOPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": _gelu_back,
    "gelu_new": lambda grad, slope: grad.mul_(slope),
}
