"""A training step whose blocks are fused kernels: torch compiles one block, and its code serves all that are alike.

Compiling a model of twenty-four layers as one would take as many times longer. Sizes are left open, so that strings of
other lengths need no code of their own. What a compiler made is held against the uncompiled block at its first call,
and given up where it differs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from chemscale.models.products import PRODUCTS

# Relative, of what a block gives and of its gradients. Rounding alone gives 1e-6 and 1e-14; half types round each
# number to 4e-3, at other places where operations are fused.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
HALF_TOLERANCE = 5e-2
BACKEND = "inductor"  # torch's compiler


class CompiledBlocks:
    """A module's forward, whose blocks run compiled wherever gradients are recorded.

    The blocks' `forward` is replaced, not the blocks: names stay, and so do the places where FSDP2 gathers.

    Attributes:
        seconds: that the compilation took, its check included; None before it.
        differs: why the model goes on uncompiled; None where it does not.
    """

    def __init__(self, module: nn.Module, blocks: Iterable[nn.Module]) -> None:
        import torch._dynamo

        # DistributedDataParallel's own compiler cuts graphs at its buckets; a block lies within a bucket's forward.
        torch._dynamo.config.optimize_ddp = False
        self.module, self.plain = module, module.forward
        self.seconds: float | None = None
        self.differs: str | None = None
        self._layers = getattr(module, "in_layers", nullcontext)
        self._blocks = [_Block(block, self) for block in blocks]

    def __call__(self, batch: Any) -> Any:
        if self.differs:  # from the next step on: one block goes the same way in both passes of a step
            for block in self._blocks:
                block.fast = False
        if self.differs or not torch.is_grad_enabled():
            return self.plain(batch)
        with self._layers():
            return self.plain(batch)

    def agrees(self, block: _Block, arguments: tuple[Any, ...]) -> bool:
        """Whether a block gives and learns compiled what it does uncompiled; compiles it."""
        if self.differs:
            return False
        begin = time.perf_counter()
        try:
            self.differs = _difference(block, arguments)
        except Exception as error:  # whatever a compiler may raise: the run goes on without it
            self.differs = reason(error)
        self.seconds = (self.seconds or 0.0) + time.perf_counter() - begin
        if self.differs:
            give_up(self.module, self.differs)
        return self.differs is None


class _Block:
    """One block's forward. `fast`: whether it runs compiled; None before its first call with gradients."""

    def __init__(self, block: nn.Module, owner: CompiledBlocks) -> None:
        self.block, self.owner, self.plain = block, owner, block.forward
        self.compiled: Callable[..., Any] = torch.compile(self.plain, backend=BACKEND, dynamic=True, fullgraph=True)
        self.fast: bool | None = None
        block.forward = self  # type: ignore[method-assign]

    def __call__(self, *arguments: Any) -> Any:
        if torch.is_grad_enabled():
            if self.fast is None:
                self.fast = self.owner.agrees(self, arguments)
            if self.fast:
                return self.compiled(*arguments)
        return self.plain(*arguments)


def _difference(block: _Block, arguments: tuple[Any, ...]) -> str | None:
    """In what the compiled block differs from the plain one, on the same input; None where it does not."""
    expected, found = (_made(run, block.block, arguments) for run in (block.plain, block.compiled))
    limit = HALF_TOLERANCE if _halved(expected[0]) else TOLERANCE.get(expected[0].dtype, HALF_TOLERANCE)
    for name, one, other in zip(("output", "gradients"), expected, found, strict=True):
        error = float((one - other).norm() / one.norm().clamp(min=torch.finfo(one.dtype).tiny))
        if not error <= limit:
            return f"a block's {name} differ by {error:.1e} of their size, where rounding allows {limit:.0e}"
    return None


def _made(run: Callable[..., Any], block: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """What a block gives, and the gradient of its mean square in its inputs and parameters, each flat."""
    given = [a.detach().requires_grad_() if _learns(a) else a for a in arguments]
    wanted = [a for a in given if _learns(a)] + [p for p in block.parameters() if p.requires_grad]
    with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):  # not those that recompute activations
        out = run(*given)
        slopes = torch.autograd.grad(out.square().mean(), wanted, allow_unused=True)
    flat = [(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(slopes, wanted, strict=True)]
    return out.detach().flatten(), torch.cat(flat)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _learns(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _halved(made: Tensor) -> bool:
    return PRODUCTS.get() is not None or torch.is_autocast_enabled(made.device.type)


def reason(error: Exception) -> str:
    """A compiler's error as one line: of what it raised itself, not of what passed it on."""
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"


def give_up(module: nn.Module, why: str) -> None:
    """Say that a run goes on uncompiled."""
    warnings.warn(
        f"Resources.compile='step' is given up for this {type(module).__name__}, which trains uncompiled: {why}.",
        RuntimeWarning,
        stacklevel=3,
    )
