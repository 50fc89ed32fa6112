"""The processes that share a run: who this one is, what device it has, what they may share, and a full memory named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist

from chemscale.records.provenance import processor
from chemscale.spec import Resources, RunSpec
from chemscale.train.objectives import objective_of

T = TypeVar("T")

MICRO_BATCH = {"cpu": 64, "cuda": 512}  # examples of one forward pass


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the run."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: T) -> T:
        """What rank 0 has; a plain value that pickles."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def visible_device(gpus: float) -> torch.device:
    """The device of this process: the GPU that Ray or the user made visible, else the processor.

    Raises:
        ValueError: a GPU is asked for and none is visible.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
        raise ValueError(f"Resources.gpus={gpus} but torch sees no GPU (CUDA_VISIBLE_DEVICES {seen}); set gpus=0.")
    return torch.device("cuda", torch.cuda.current_device())


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def require_sharding(run: RunSpec, resources: Resources) -> None:
    """Refuse to shard a model whose loss holds a gradient: FSDP2 loses part of a double backward without a word.

    Raises:
        ValueError: with the objective, and what to set instead.
    """
    objective = objective_of(run)
    if resources.sharding == "fsdp" and getattr(objective, "second_order", True):
        raise ValueError(
            f"Resources.sharding='fsdp' cannot train {run.model.architecture} with {objective.name!r}, whose loss "
            f"holds a gradient (double backward), which FSDP2 loses in part; set sharding='ddp'."
        )


@contextlib.contextmanager
def memory_limit_named(run: RunSpec, resources: Resources, ranks: Ranks) -> Iterator[None]:
    """Turn an allocator's error into a MemoryError that names the model and the size of the forward pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        allocator = "can't allocate memory" in text or "DefaultCPUAllocator" in text
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or allocator):
            raise
        micro = min(run.optim.batch, resources.micro_batch or MICRO_BATCH[ranks.device.type])
        raise MemoryError(
            f"out of memory: {run.model.architecture} of width {run.model.width} and depth {run.model.depth} with "
            f"{micro} examples in a forward pass on {ranks.device}; set Resources.micro_batch below {micro} "
            f"or use a smaller model."
        ) from error
