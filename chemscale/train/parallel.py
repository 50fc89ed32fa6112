"""One model on the workers of a run: whole on one, a copy on each (DDP), or a share on each (FSDP2).

All that differs between the three is here; the loop says the same words to each. Checkpoints are whole in every layout
(`state` and `load`), so that a run goes on with another number of workers, or with another layout. What only several
workers or a checkpoint need of torch is imported there: it takes seconds, and most trials do without.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from chemscale.spec import Resources
from chemscale.train.optim import Optimisers
from chemscale.train.ranks import Ranks

Weights = dict[str, Any]  # name -> tensor, as `nn.Module.state_dict` names them


class Whole:
    """The model in one process.

    Attributes:
        module: the module itself, for states and measuring. model: what training calls.
        copies: workers whose gradients the exchange averages.
    """

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        self.module = module.to(ranks.device)
        self.model: nn.Module = self.module
        self.ranks = ranks

    @property
    def copies(self) -> int:
        return self.ranks.world

    def exchange(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around forward and backward of one micro-batch; workers exchange gradients in the last one of a step."""
        return contextlib.nullcontext()

    def clip(self, limit: float) -> float:
        """Scale the gradients to a norm of at most `limit`; returns the norm before, of the whole model."""
        norm = nn.utils.clip_grad_norm_([p for p in self.module.parameters() if p.requires_grad], limit)
        return float(_whole(norm))

    # -- weights on the way -------------------------------------------------------------------------------------------

    def snapshot(self) -> Weights:
        """A copy of the weights as they lie on this worker."""
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def restore(self, snapshot: Weights) -> None:
        """Put a snapshot back."""
        self.module.load_state_dict(snapshot)

    def gather(self, snapshot: Weights | None = None) -> Weights:
        """Whole plain tensors of a snapshot, or of the weights as they are, in the processor's memory.

        Every worker calls it; rank 0 gets them, the others nothing.
        """
        values = self.module.state_dict() if snapshot is None else snapshot
        whole = ((name, _whole(value)) for name, value in values.items())
        return {name: value.detach().cpu() for name, value in whole if self.ranks.first}

    # -- states -------------------------------------------------------------------------------------------------------

    def state(self, optimiser: Optimisers) -> dict[str, Any]:
        """Whole states of model and optimiser by parameter name; every worker calls it, rank 0 has them."""
        from torch.distributed.checkpoint import state_dict as states

        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return {
            "model": states.get_model_state_dict(self.module, options=options),
            "optimiser": states.get_optimizer_state_dict(self.module, optimiser.parts, options=options),
        }

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Take over whole weights that rank 0 has; the others give nothing."""
        from torch.distributed.checkpoint import state_dict as states

        states.set_model_state_dict(self.module, dict(weights), options=self._from_first())

    def load(self, optimiser: Optimisers, state: Mapping[str, Any]) -> None:
        """Take over a `state` that rank 0 has; the others give empty ones."""
        self.load_weights(state.get("model", {}))
        from torch.distributed.checkpoint import state_dict as states

        given = state.get("optimiser", {})
        states.set_optimizer_state_dict(self.module, optimiser.parts, given, options=self._from_first())

    def _from_first(self) -> Any:
        from torch.distributed.checkpoint.state_dict import StateDictOptions

        return StateDictOptions(full_state_dict=True, broadcast_from_rank0=self.ranks.world > 1)


class Copies(Whole):
    """A copy on each worker: DistributedDataParallel."""

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        from torch.nn.parallel import DistributedDataParallel

        super().__init__(module, ranks)
        self.model = self._wrapped = DistributedDataParallel(self.module)

    def exchange(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if last else self._wrapped.no_sync()


class Shards(Whole):
    """A share of every parameter on each worker: FSDP2 on the blocks that the model names, then on what is left.

    A module names its blocks by a method `blocks()`; without it the whole module is one unit, gathered at once.
    """

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        for block in getattr(module, "blocks", list)():
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)  # in place; it also moves the parameters to their device
        super().__init__(module, ranks)

    def exchange(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        sharded: Any = self.module  # `fully_shard` made it a `torch.distributed.fsdp.FSDPModule`
        sharded.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def clip(self, limit: float) -> float:
        lost = [name for name, p in self.module.named_parameters() if p.requires_grad and p.grad is None]
        if lost:
            raise ValueError(
                f"Resources.sharding='fsdp' gave no gradient to {len(lost)} parameters of this model ({lost[0]}, ...): "
                "its forward must use every parameter and return tensors, or tuples or dictionaries of them; "
                "set sharding='ddp'."
            )
        return super().clip(limit)


def spread(module: nn.Module, ranks: Ranks, on: Resources) -> Whole:
    """Lay a freshly initialised module, the same on every worker, out over the workers and onto their devices.

    Raises:
        ValueError: the module cannot recompute its activations, be compiled or use kernels, as it is asked to.
    """
    if on.compile == "step":
        from chemscale.train.compiled import compile_step

        compile_step(module)
    if on.kernels != "plain":
        from chemscale.train.kernels import use_kernels

        use_kernels(module, ranks.device)
    if on.activations == "recomputed":  # around what is compiled: made again by the same code
        recompute(module)
    if ranks.world == 1:
        return Whole(module, ranks)
    return Shards(module, ranks) if on.sharding == "fsdp" else Copies(module, ranks)


def recompute(module: nn.Module) -> None:
    """Let every block forget its activations and make them again in the backward pass.

    A block's `forward` is replaced, not the block: names stay, and so does the order in which FSDP2 gathers around it.

    Raises:
        ValueError: the module names no blocks.
    """
    from torch.utils.checkpoint import checkpoint

    blocks = getattr(module, "blocks", list)()
    if not blocks:
        raise ValueError(
            f"Resources.activations='recomputed' needs the blocks of a model, and {type(module).__name__} names none; "
            "set activations='kept', or give its module a method blocks()."
        )
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def _whole(value: Any) -> torch.Tensor:
    """A tensor, gathered where every worker holds a share of it (`torch.distributed.tensor.DTensor`)."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
